//! Requests to domain types: the one place where limits on them are checked.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::api::proto;
use crate::domain::{
    Accuracy, Condition, Deadline, Document, DocumentId, Filter, Include, Query, RerankMode, RetrievalMode, Target,
    Test, Vector, limits,
};
use crate::error::{Error, Result};
use crate::search::{Purpose, RerankItem};

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
    let target = target(request.query, dimension)?;
    let rerank = rerank_mode(request.rerank_mode, RerankMode::None)?;
    if rerank != RerankMode::None && !matches!(target, Target::Text(_)) {
        return Err(Error::invalid("rerank_mode", "needs a text query: token vectors are made of words"));
    }
    let snippet = request.include_snippet.unwrap_or(true);
    Ok(Query {
        target,
        limit,
        candidates,
        score_min: request.min_score,
        filter: filter(request.filter)?,
        retrieval: retrieval_mode(request.retrieval_mode)?,
        accuracy: accuracy(request.accuracy)?,
        rerank,
        include: Include { text: request.include_text, snippet, explain: request.explain },
        deadline,
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

fn retrieval_mode(mode: i32) -> Result<RetrievalMode> {
    use proto::RetrievalMode::{Dense, Unspecified};
    match proto::RetrievalMode::try_from(mode) {
        Ok(Unspecified | Dense) => Ok(RetrievalMode::Dense),
        Err(_) => Err(Error::invalid("retrieval_mode", format!("{mode} is not a mode of this server"))),
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

fn rerank_mode(mode: i32, default: RerankMode) -> Result<RerankMode> {
    match proto::RerankMode::try_from(mode) {
        Ok(proto::RerankMode::Unspecified) => Ok(default),
        Ok(proto::RerankMode::None) => Ok(RerankMode::None),
        Ok(proto::RerankMode::LateInteraction) => Ok(RerankMode::LateInteraction),
        Err(_) => Err(Error::invalid("rerank_mode", format!("{mode} is not a mode of this server"))),
    }
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

/// Checks a rerank; returns its query, candidates and limit.
///
/// # Errors
///
/// `Invalid` naming the field and what is accepted.
pub fn rerank(request: proto::RerankRequest) -> Result<(String, Vec<RerankItem>, usize)> {
    let query = query_text("query", request.query)?;
    count("documents", request.documents.len(), limits::RERANK_DOCUMENTS_MAX)?;
    if rerank_mode(request.rerank_mode, RerankMode::LateInteraction)? == RerankMode::None {
        return Err(Error::invalid("rerank_mode", "NONE leaves nothing to do; leave it unset or name a reranker"));
    }
    let limit = limit(request.limit, request.documents.len(), limits::RERANK_DOCUMENTS_MAX)?;
    let items = request.documents.into_iter().enumerate().map(|(at, document)| rerank_item(at, document));
    Ok((query, items.collect::<Result<_>>()?, limit))
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
        assert_eq!((query.limit, query.candidates, query.rerank), (10, None, RerankMode::None));
        assert!(query.include.snippet && !query.include.text);
    }

    #[test]
    fn every_limit_names_its_field() {
        type Change = fn(&mut proto::SearchRequest);
        let cases: [(&str, Change); 13] = [
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
            ("rerank_mode", |r| r.rerank_mode = 99),
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
