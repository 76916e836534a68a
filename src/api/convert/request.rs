//! Requests to domain types: the one place where limits on them are checked.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::api::proto;
use crate::domain::{
    Accuracy, Condition, Deadline, Document, DocumentId, Filter, Fusion, Include, LexicalSyntax, Query, RerankMode,
    RetrievalMode, Target, Test, Vector, limits,
};
use crate::error::{Error, Result};
use crate::search::{Purpose, RerankItem, Reranking};

use super::json::{from_struct, from_value};

/// Checks a search against every limit.
///
/// # Errors
///
/// `Invalid` naming the field and what is accepted.
pub fn query(request: proto::SearchRequest, dimension: usize, deadline: Deadline) -> Result<Query> {
    let limit = limit(request.limit, limits::LIMIT_DEFAULT, limits::LIMIT_MAX)?;
    let candidates = match request.candidates.map(|candidates| candidates as usize) {
        Some(candidates) if candidates < limit || candidates > limits::CANDIDATES_MAX => {
            let message = format!("is {candidates}; between limit ({limit}) and {}", limits::CANDIDATES_MAX);
            return Err(Error::invalid("candidates", message));
        }
        candidates => candidates,
    };
    if request.min_score.is_some_and(f32::is_nan) {
        return Err(Error::invalid("min_score", "is not a number"));
    }
    let include = include(&request)?;
    let target = target(request.query, dimension)?;
    let is_text = matches!(target, Target::Text(_));
    let retrieval = retrieval_mode(request.retrieval_mode)?;
    if !is_text && matches!(retrieval, Some(RetrievalMode::Lexical | RetrievalMode::Hybrid)) {
        return Err(Error::invalid("retrieval_mode", "LEXICAL and HYBRID need a text query"));
    }
    let rerank = rerank_mode(request.rerank_mode)?;
    if !is_text && rerank.is_some_and(|mode| mode != RerankMode::None) {
        return Err(Error::invalid("rerank_mode", "needs a text query: rerankers read words"));
    }
    if request.dense_weight.is_some_and(|weight| !(0.0..=1.0).contains(&weight)) {
        return Err(Error::invalid("dense_weight", "is outside of [0, 1]"));
    }
    Ok(Query {
        target,
        limit,
        candidates,
        score_min: request.min_score,
        filter: filter(request.filter)?,
        retrieval,
        fusion: fusion(request.fusion)?,
        dense_weight: request.dense_weight,
        lexical_syntax: lexical_syntax(request.lexical_syntax)?,
        accuracy: accuracy(request.accuracy)?,
        rerank,
        rerank_time_max: rerank_time_max(request.rerank_time_max)?,
        include,
        deadline,
    })
}

fn include(request: &proto::SearchRequest) -> Result<Include> {
    let passages = request.passages.unwrap_or(1) as usize;
    if !(1..=limits::HIT_PASSAGES_MAX).contains(&passages) {
        let message = format!("is {passages}; between 1 and {}", limits::HIT_PASSAGES_MAX);
        return Err(Error::invalid("passages", message));
    }
    Ok(Include {
        text: request.include_text,
        snippet: request.include_snippet.unwrap_or(true),
        explain: request.explain,
        further_passages: passages - 1,
    })
}

fn target(query: Option<proto::search_request::Query>, dimension: usize) -> Result<Target> {
    use proto::search_request::Query::{DocumentId as Id, Text, Vector as Values};
    match query {
        None => Err(Error::invalid("query", "one of text, vector and document_id must be set")),
        Some(Text(text)) => Ok(Target::Text(query_text("query.text", text)?)),
        Some(Values(vector)) => Ok(Target::Vector(query_vector(vector.values, dimension)?)),
        Some(Id(id)) => Ok(Target::Document(DocumentId::parse("query.document_id", id)?)),
    }
}

fn query_text(field: &str, text: String) -> Result<String> {
    if text.trim().is_empty() {
        return Err(Error::invalid(field, "is empty"));
    }
    if text.len() > limits::QUERY_BYTES_MAX {
        return Err(Error::invalid(field, format!("has {} bytes; at most {}", text.len(), limits::QUERY_BYTES_MAX)));
    }
    Ok(text)
}

fn query_vector(values: Vec<f32>, dimension: usize) -> Result<Vector> {
    if values.len() != dimension {
        let message = format!("has {} values; the model's vectors have {dimension}", values.len());
        return Err(Error::invalid("query.vector", message));
    }
    Vector::normalise("query.vector", values)?
        .ok_or_else(|| Error::invalid("query.vector", "has no direction: its length is 0"))
}

fn limit(limit: Option<u32>, default: usize, max: usize) -> Result<usize> {
    match limit.map(|limit| limit as usize) {
        None => Ok(default),
        Some(limit) if (1..=max).contains(&limit) => Ok(limit),
        Some(limit) => Err(Error::invalid("limit", format!("is {limit}; between 1 and {max}"))),
    }
}

fn retrieval_mode(mode: i32) -> Result<Option<RetrievalMode>> {
    use proto::RetrievalMode::{Dense, Hybrid, Lexical, Unspecified};
    match proto::RetrievalMode::try_from(mode) {
        Ok(Unspecified) => Ok(None),
        Ok(Dense) => Ok(Some(RetrievalMode::Dense)),
        Ok(Lexical) => Ok(Some(RetrievalMode::Lexical)),
        Ok(Hybrid) => Ok(Some(RetrievalMode::Hybrid)),
        Err(_) => Err(Error::invalid("retrieval_mode", format!("{mode} is not a mode of this server"))),
    }
}

fn fusion(fusion: i32) -> Result<Option<Fusion>> {
    match proto::Fusion::try_from(fusion) {
        Ok(proto::Fusion::Unspecified) => Ok(None),
        Ok(proto::Fusion::Convex) => Ok(Some(Fusion::Convex)),
        Ok(proto::Fusion::Rrf) => Ok(Some(Fusion::Rrf)),
        Err(_) => Err(Error::invalid("fusion", format!("{fusion} is not a fusion of this server"))),
    }
}

fn lexical_syntax(syntax: i32) -> Result<LexicalSyntax> {
    use proto::LexicalSyntax::{Fts5, Unspecified, Words};
    match proto::LexicalSyntax::try_from(syntax) {
        Ok(Unspecified | Words) => Ok(LexicalSyntax::Words),
        Ok(Fts5) => Ok(LexicalSyntax::Fts5),
        Err(_) => Err(Error::invalid("lexical_syntax", format!("{syntax} is not a syntax of this server"))),
    }
}

fn accuracy(accuracy: Option<proto::search_request::Accuracy>) -> Result<Accuracy> {
    use proto::search_request::Accuracy::{Exact, Oversampling};
    match accuracy {
        None | Some(Exact(false)) => Ok(Accuracy::Default),
        Some(Exact(true)) => Ok(Accuracy::Exact),
        Some(Oversampling(times)) => match u16::try_from(times) {
            Ok(times @ 1..=limits::OVERSAMPLING_MAX) => Ok(Accuracy::Oversample(times)),
            _ => Err(Error::invalid("oversampling", format!("is {times}; between 1 and {}", limits::OVERSAMPLING_MAX))),
        },
    }
}

fn rerank_mode(mode: i32) -> Result<Option<RerankMode>> {
    use proto::RerankMode::{Cascade, CrossEncoder, LateInteraction, Llm, None as Unchanged, Unspecified};
    match proto::RerankMode::try_from(mode) {
        Ok(Unspecified) => Ok(None),
        Ok(Unchanged) => Ok(Some(RerankMode::None)),
        Ok(LateInteraction) => Ok(Some(RerankMode::LateInteraction)),
        Ok(CrossEncoder) => Ok(Some(RerankMode::CrossEncoder)),
        Ok(Llm) => Ok(Some(RerankMode::Llm)),
        Ok(Cascade) => Ok(Some(RerankMode::Cascade)),
        Err(_) => Err(Error::invalid("rerank_mode", format!("{mode} is not a mode of this server"))),
    }
}

fn rerank_time_max(time: Option<prost_types::Duration>) -> Result<Option<Duration>> {
    let positive = |time: prost_types::Duration| Duration::try_from(time).ok().filter(|time| !time.is_zero());
    time.map(|time| positive(time).ok_or_else(|| Error::invalid("rerank_time_max", "is not over 0"))).transpose()
}

/// Checks a filter.
pub(in crate::api) fn filter(filter: Option<proto::Filter>) -> Result<Filter> {
    let all = filter.unwrap_or_default().all.into_iter().map(condition).collect::<Result<_>>()?;
    Filter { all }.validate()
}

fn condition(condition: proto::Condition) -> Result<Condition> {
    use proto::condition::Test::{AnyOf, Exists, Range};
    let test = match condition.test {
        None => {
            let message = format!("{}: one of any_of, range and exists must be set", condition.field);
            return Err(Error::invalid("filter", message));
        }
        Some(AnyOf(list)) => Test::AnyOf(list.values.into_iter().map(from_value).collect()),
        Some(Range(range)) => Test::Range { from: range.from.map(from_value), to: range.to.map(from_value) },
        Some(Exists(exists)) => Test::Exists(exists),
    };
    Ok(Condition { field: condition.field, test })
}

/// Checks how many searches a batch has.
pub(in crate::api) fn search_batch(searches: &[proto::SearchRequest]) -> Result<()> {
    count("searches", searches.len(), limits::BATCH_MAX)
}

fn count(field: &str, count: usize, max: usize) -> Result<()> {
    if (1..=max).contains(&count) {
        return Ok(());
    }
    Err(Error::invalid(field, format!("has {count} items; between 1 and {max}")))
}

fn text(field: String, text: String) -> Result<String> {
    if text.len() > limits::TEXT_BYTES_MAX {
        return Err(Error::invalid(field, format!("has {} bytes; at most {}", text.len(), limits::TEXT_BYTES_MAX)));
    }
    Ok(text)
}

/// Checks a rerank.
///
/// # Errors
///
/// `Invalid` naming the field and what is accepted.
pub fn rerank(request: proto::RerankRequest, deadline: Deadline) -> Result<Reranking> {
    let query = query_text("query", request.query)?;
    count("documents", request.documents.len(), limits::RERANK_DOCUMENTS_MAX)?;
    let mode = rerank_mode(request.rerank_mode)?.unwrap_or(RerankMode::LateInteraction);
    if mode == RerankMode::None {
        return Err(Error::invalid("rerank_mode", "NONE leaves nothing to do; leave it unset or name a reranker"));
    }
    let limit = limit(request.limit, request.documents.len(), limits::RERANK_DOCUMENTS_MAX)?;
    let items = request.documents.into_iter().enumerate().map(|(at, document)| rerank_item(at, document));
    let items = items.collect::<Result<_>>()?;
    Ok(Reranking { query, items, mode, limit, time_max: rerank_time_max(request.rerank_time_max)?, deadline })
}

fn rerank_item(at: usize, document: proto::RerankDocument) -> Result<RerankItem> {
    use proto::rerank_document::Document::{Id, Text};
    let field = format!("documents[{at}]");
    match document.document {
        None => Err(Error::invalid(field, "one of text and id must be set")),
        Some(Text(content)) => Ok(RerankItem::Text(text(field, content)?)),
        Some(Id(id)) => Ok(RerankItem::Document(DocumentId::parse(&field, id)?)),
    }
}

/// Checks an embedding request.
pub(in crate::api) fn embed(request: proto::EmbedRequest) -> Result<(Vec<String>, Purpose)> {
    use proto::EmbedPurpose::{Passage, Query, Unspecified};
    count("texts", request.texts.len(), limits::EMBED_TEXTS_MAX)?;
    let purpose = match proto::EmbedPurpose::try_from(request.purpose) {
        Ok(Unspecified | Passage) => Purpose::Passage,
        Ok(Query) => Purpose::Query,
        Err(_) => return Err(Error::invalid("purpose", format!("{} is not a purpose", request.purpose))),
    };
    let texts = request.texts.into_iter().enumerate().map(|(at, content)| text(format!("texts[{at}]"), content));
    Ok((texts.collect::<Result<_>>()?, purpose))
}

/// Checks a document.
pub(in crate::api) fn document(document: Option<proto::Document>) -> Result<Document> {
    let document = document.ok_or_else(|| Error::invalid("document", "is not set"))?;
    let id = DocumentId::parse("document.id", document.id)?;
    let source = if document.source.is_empty() { id.as_str().to_owned() } else { document.source };
    // A source has the bounds of an id.
    let source = DocumentId::parse("document.source", source)?.to_string();
    if document.text.len() > limits::DOCUMENT_BYTES_MAX {
        let message = format!("has {} bytes; at most {}", document.text.len(), limits::DOCUMENT_BYTES_MAX);
        return Err(Error::invalid("document.text", message));
    }
    let metadata = from_struct(document.metadata.unwrap_or_default());
    let bytes = serde_json::to_vec(&metadata).map_or(0, |json| json.len());
    if bytes > limits::METADATA_BYTES_MAX {
        let message = format!("has {bytes} bytes as JSON; at most {}", limits::METADATA_BYTES_MAX);
        return Err(Error::invalid("document.metadata", message));
    }
    Ok(Document {
        id,
        source,
        title: document.title,
        text: document.text,
        date: date(&document.date)?,
        kind: Some(document.r#type).filter(|text| !text.is_empty()),
        domain: Some(document.domain).filter(|text| !text.is_empty()),
        metadata,
    })
}

fn date(text: &str) -> Result<Option<jiff::civil::Date>> {
    if text.is_empty() {
        return Ok(None);
    }
    let date = text.parse().map_err(|_| Error::invalid("document.date", "is not a day as YYYY-MM-DD"))?;
    Ok(Some(date))
}

/// Returns the page size: unset is the default, too large is coerced (AIP-158).
pub(in crate::api) fn page_size(size: i32) -> Result<usize> {
    match usize::try_from(size) {
        Err(_) => Err(Error::invalid("page_size", format!("is {size}; 0 or more"))),
        Ok(0) => Ok(limits::PAGE_SIZE_DEFAULT),
        Ok(size) => Ok(size.min(limits::PAGE_SIZE_MAX)),
    }
}

/// Where a listing continues: the last id of the page before, bound to the filter by a hash.
pub(in crate::api) struct PageToken;

impl PageToken {
    /// Returns the token for the page after `id`.
    pub fn write(id: &DocumentId, filter: &Filter) -> String {
        format!("{:016x}.{id}", fingerprint(filter))
    }
}

/// Returns the id to continue after.
pub(in crate::api) fn page_token(token: &str, filter: &Filter) -> Result<Option<DocumentId>> {
    if token.is_empty() {
        return Ok(None);
    }
    let expected = format!("{:016x}.", fingerprint(filter));
    let id = token.strip_prefix(&expected).ok_or_else(|| {
        Error::invalid("page_token", "is not of this listing; use next_page_token with the same filter")
    })?;
    DocumentId::parse("page_token", id).map(Some)
}

fn fingerprint(filter: &Filter) -> u64 {
    let mut hasher = DefaultHasher::new();
    for condition in &filter.all {
        format!("{condition:?}").hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(change: impl FnOnce(&mut proto::SearchRequest)) -> Result<Query> {
        let mut request = proto::SearchRequest {
            query: Some(proto::search_request::Query::Text("a question".to_owned())),
            ..proto::SearchRequest::default()
        };
        change(&mut request);
        query(request, 3, Deadline::NONE)
    }

    fn vector(values: &[f32]) -> Option<proto::search_request::Query> {
        Some(proto::search_request::Query::Vector(proto::Vector { values: values.to_vec() }))
    }

    #[test]
    fn what_is_not_set_takes_its_default() {
        let query = search(|_| {}).unwrap();
        assert_eq!((query.limit, query.candidates, query.rerank), (10, None, None));
        assert!(query.include.snippet && !query.include.text);
    }

    #[test]
    fn every_limit_names_its_field() {
        type Change = fn(&mut proto::SearchRequest);
        let cases: [(&str, Change); 20] = [
            ("query", |r| r.query = None),
            ("query.text", |r| r.query = Some(proto::search_request::Query::Text(" \n".to_owned()))),
            ("query.text", |r| r.query = Some(proto::search_request::Query::Text("x".repeat(1 << 20)))),
            ("query.vector", |r| r.query = vector(&[1.0, f32::NAN, 0.0])),
            ("query.vector", |r| r.query = vector(&[1.0, 2.0])),
            ("query.vector", |r| r.query = vector(&[0.0, 0.0, 0.0])),
            ("limit", |r| r.limit = Some(0)),
            ("limit", |r| r.limit = Some(1_000_000)),
            ("candidates", |r| r.candidates = Some(9)),
            ("min_score", |r| r.min_score = Some(f32::NAN)),
            ("retrieval_mode", |r| r.retrieval_mode = 99),
            ("retrieval_mode", |r| {
                r.query = vector(&[1.0, 0.0, 0.0]);
                r.retrieval_mode = proto::RetrievalMode::Hybrid.into();
            }),
            ("passages", |r| r.passages = Some(0)),
            ("passages", |r| r.passages = Some(5)),
            ("rerank_mode", |r| r.rerank_mode = 99),
            ("fusion", |r| r.fusion = 99),
            ("lexical_syntax", |r| r.lexical_syntax = 99),
            ("dense_weight", |r| r.dense_weight = Some(f32::NAN)),
            ("rerank_time_max", |r| r.rerank_time_max = Some(prost_types::Duration { seconds: -1, nanos: 0 })),
            ("oversampling", |r| r.accuracy = Some(proto::search_request::Accuracy::Oversampling(0))),
        ];
        for (field, change) in cases {
            match search(change) {
                Err(Error::Invalid { field: named, .. }) => assert_eq!(named, field),
                other => panic!("{field}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_page_token_holds_for_its_filter_only() {
        let id = DocumentId::parse("id", "a/b.md").unwrap();
        let token = PageToken::write(&id, &Filter::default());
        assert_eq!(page_token(&token, &Filter::default()).unwrap(), Some(id));
        let other = Filter { all: vec![Condition { field: "type".to_owned(), test: Test::Exists(true) }] };
        assert!(page_token(&token, &other).is_err());
        assert!(page_token("nonsense", &Filter::default()).is_err());
        assert_eq!(page_token("", &other).unwrap(), None);
    }

    #[test]
    fn page_sizes_are_coerced_but_not_negative() {
        assert_eq!(page_size(0).unwrap(), limits::PAGE_SIZE_DEFAULT);
        assert_eq!(page_size(i32::MAX).unwrap(), limits::PAGE_SIZE_MAX);
        assert!(page_size(-1).is_err());
    }
}
