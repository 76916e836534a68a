//! `search`, `rerank` and `stats`: on the database itself, or on a running server with `--server`.

use std::io::{IsTerminal, Read};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use prost_types::value::Kind;

use super::output;
use crate::api::{self, Client, Ranking, Timed, proto};
use crate::app::Core;
use crate::config::Config;
use crate::domain::Deadline;
use crate::error::{Error, Result};
use crate::telemetry::{Breakdown, Timeline};

/// How results are put in order; the aliases are the words of Amalfa's predecessor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Mode {
    /// As they were found
    None,
    /// MaxSim over token vectors
    LateInteraction,
    /// A model that reads query and passage together
    #[value(alias = "bge-m3")]
    CrossEncoder,
    /// A language model
    #[value(alias = "sonar")]
    Llm,
    /// Late interaction or cross-encoder, then the language model for the best
    #[value(alias = "hybrid")]
    Cascade,
}

impl Mode {
    fn to_proto(mode: Option<Self>) -> i32 {
        let mode = match mode {
            None => proto::RerankMode::Unspecified,
            Some(Self::None) => proto::RerankMode::None,
            Some(Self::LateInteraction) => proto::RerankMode::LateInteraction,
            Some(Self::CrossEncoder) => proto::RerankMode::CrossEncoder,
            Some(Self::Llm) => proto::RerankMode::Llm,
            Some(Self::Cascade) => proto::RerankMode::Cascade,
        };
        mode.into()
    }
}

/// How candidates are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Retrieval {
    /// By meaning
    Dense,
    /// By words in common
    Lexical,
    /// Both, fused
    Hybrid,
}

impl Retrieval {
    fn to_proto(retrieval: Option<Self>) -> i32 {
        let mode = match retrieval {
            None => proto::RetrievalMode::Unspecified,
            Some(Self::Dense) => proto::RetrievalMode::Dense,
            Some(Self::Lexical) => proto::RetrievalMode::Lexical,
            Some(Self::Hybrid) => proto::RetrievalMode::Hybrid,
        };
        mode.into()
    }
}

/// How two lists become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum FusionMethod {
    /// The weighted sum of both scores
    Convex,
    /// Reciprocal ranks
    Rrf,
}

impl FusionMethod {
    fn to_proto(fusion: Option<Self>) -> i32 {
        let fusion = match fusion {
            None => proto::Fusion::Unspecified,
            Some(Self::Convex) => proto::Fusion::Convex,
            Some(Self::Rrf) => proto::Fusion::Rrf,
        };
        fusion.into()
    }
}

/// Searches the index
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  amalfa search 'how do I configure relabeling'
  amalfa search --rerank late_interaction --limit 5 --filter type=guide,brief --filter 'date>=2026-01-01' 'ownership'
  amalfa search --like docs/guide.md --json")]
pub(super) struct Search {
    /// What to look for
    #[arg(required_unless_present = "like")]
    text: Option<String>,
    /// More like this document, instead of a text
    #[arg(long, value_name = "ID", conflicts_with = "text")]
    like: Option<String>,
    /// Hits wanted, 1 to 1000 [default: 10]
    #[arg(long, short = 'n')]
    limit: Option<u32>,
    /// Passages that are retrieved and reranked
    #[arg(long)]
    candidates: Option<u32>,
    /// Leave out hits under this score
    #[arg(long, allow_negative_numbers = true)]
    min_score: Option<f32>,
    /// FIELD=VALUE[,VALUE], FIELD>=VALUE or FIELD<=VALUE; fields: id, source, title, date, type, domain, metadata.KEY
    #[arg(long = "filter", value_name = "CONDITION")]
    filters: Vec<String>,
    /// How candidates are found [default: search.retrieval]
    #[arg(long, value_enum)]
    retrieval: Option<Retrieval>,
    /// How the lists of a hybrid search become one [default: search.fusion]
    #[arg(long, value_enum)]
    fusion: Option<FusionMethod>,
    /// The dense list's share in a hybrid search, 0 to 1 [default: search.dense_weight]
    #[arg(long)]
    dense_weight: Option<f32>,
    /// Read the text as an FTS5 expression
    #[arg(long)]
    fts5: bool,
    /// How hits are put in order [default: search.rerank]
    #[arg(long, value_enum)]
    rerank: Option<Mode>,
    /// Milliseconds that reranking may take
    #[arg(long, value_name = "MS")]
    rerank_time_max: Option<u64>,
    /// Compare every vector in full
    #[arg(long)]
    exact: bool,
    /// Passages that a hit shows, 1 to 4 [default: 1]
    #[arg(long)]
    passages: Option<u32>,
    /// Show the whole passage
    #[arg(long)]
    text_whole: bool,
    /// Show how each hit came to its place
    #[arg(long)]
    explain: bool,
    /// Ask this server instead of opening the database
    #[arg(long, value_name = "HOST:PORT")]
    server: Option<String>,
    /// Print JSON: {"hits": […], "rerank_steps": […], "timings": {…}}
    #[arg(long)]
    json: bool,
}

impl Search {
    pub async fn run(self, config: Config) -> Result<ExitCode> {
        let (json, explain, server) = (self.json, self.explain, self.server.clone());
        let request = self.request()?;
        let found = match server {
            Some(server) => Client::connect(&server).await?.search(request).await?,
            None => search_here(&config, request).await?,
        };
        output::answer(&found, json, explain)?;
        Ok(ExitCode::SUCCESS)
    }

    fn request(self) -> Result<proto::SearchRequest> {
        use proto::search_request::Query;
        let all = self.filters.iter().map(|text| condition(text)).collect::<Result<_>>()?;
        Ok(proto::SearchRequest {
            query: self.text.map(Query::Text).or(self.like.map(Query::DocumentId)),
            limit: self.limit,
            candidates: self.candidates,
            min_score: self.min_score,
            filter: Some(proto::Filter { all }),
            retrieval_mode: Retrieval::to_proto(self.retrieval),
            fusion: FusionMethod::to_proto(self.fusion),
            dense_weight: self.dense_weight,
            lexical_syntax: if self.fts5 { proto::LexicalSyntax::Fts5.into() } else { 0 },
            rerank_mode: Mode::to_proto(self.rerank),
            rerank_time_max: duration(self.rerank_time_max),
            accuracy: self.exact.then_some(proto::search_request::Accuracy::Exact(true)),
            include_text: self.text_whole,
            explain: self.explain,
            passages: self.passages,
            ..proto::SearchRequest::default()
        })
    }
}

async fn search_here(config: &Config, request: proto::SearchRequest) -> Result<Timed> {
    let core = Core::open(config).await?;
    let query = api::query(request, core.searcher.dimension(), Deadline::NONE)?;
    let mut timeline = Timeline::start();
    let answer = core.searcher.search(query, &mut timeline).await?;
    let timed = Timed { answer, timings: timings(&timeline) };
    core.close().await?;
    Ok(timed)
}

fn duration(milliseconds: Option<u64>) -> Option<prost_types::Duration> {
    Duration::from_millis(milliseconds?).try_into().ok()
}

fn timings(timeline: &Timeline) -> Vec<(String, Duration)> {
    let Breakdown { total, stages } = timeline.breakdown();
    let stages = stages.iter().map(|s| (s.stage.as_str().to_owned(), s.duration));
    stages.chain([("total".to_owned(), total)]).collect()
}

/// Reads a condition as people write it.
fn condition(text: &str) -> Result<proto::Condition> {
    use proto::condition::Test;
    let parts = ["<=", ">=", "="].iter().find_map(|op| text.split_once(op).map(|(field, value)| (field, *op, value)));
    let Some((field, operator, value)) = parts else {
        return Err(Error::invalid("--filter", format!("{text:?} has none of =, >= and <=")));
    };
    let test = match operator {
        ">=" => Test::Range(proto::Range { from: Some(scalar(value)), to: None }),
        "<=" => Test::Range(proto::Range { from: None, to: Some(scalar(value)) }),
        _ => Test::AnyOf(proto::AnyOf { values: value.split(',').map(scalar).collect() }),
    };
    Ok(proto::Condition { field: field.trim().to_owned(), test: Some(test) })
}

fn scalar(text: &str) -> prost_types::Value {
    let text = text.trim();
    let kind = match (text.parse::<f64>(), text.parse::<bool>()) {
        (Ok(number), _) => Kind::NumberValue(number),
        (_, Ok(truth)) => Kind::BoolValue(truth),
        _ => Kind::StringValue(text.to_owned()),
    };
    prost_types::Value { kind: Some(kind) }
}

/// Puts texts, or documents of the index, in order of their worth for a query
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  amalfa rerank 'what is ownership' --document 'a set of rules …' --document 'a fruit'
  amalfa rerank 'what is ownership' --id rust-book/src/ch04-01-what-is-ownership.md --id README.md
  cat candidates.txt | amalfa rerank 'what is ownership'     # one candidate a line")]
pub(super) struct Rerank {
    /// The question
    query: String,
    /// A candidate's text; repeatable
    #[arg(long = "document", value_name = "TEXT")]
    documents: Vec<String>,
    /// A document of the index; repeatable
    #[arg(long = "id", value_name = "ID")]
    ids: Vec<String>,
    /// Results wanted [default: all]
    #[arg(long, short = 'n')]
    limit: Option<u32>,
    /// What scores
    #[arg(long, value_enum, default_value = "late_interaction")]
    mode: Mode,
    /// Milliseconds that it may take
    #[arg(long, value_name = "MS")]
    time_max: Option<u64>,
    /// Ask this server instead of opening the database
    #[arg(long, value_name = "HOST:PORT")]
    server: Option<String>,
    /// Print JSON: {"results": […], "rerank_steps": […], "timings": {…}}
    #[arg(long)]
    json: bool,
}

impl Rerank {
    pub async fn run(mut self, config: Config) -> Result<ExitCode> {
        if self.documents.is_empty() && self.ids.is_empty() && !std::io::stdin().is_terminal() {
            self.documents = lines_from_stdin()?;
        }
        let labels: Vec<_> = self.documents.iter().chain(&self.ids).cloned().collect();
        let (json, server) = (self.json, self.server.clone());
        let request = self.request();
        let ranking = match server {
            Some(server) => Client::connect(&server).await?.rerank(request).await?,
            None => rerank_here(&config, request).await?,
        };
        output::ranking(&ranking, json, |index| labels[index].chars().take(100).collect())?;
        Ok(ExitCode::SUCCESS)
    }

    fn request(self) -> proto::RerankRequest {
        use proto::rerank_document::Document::{Id, Text};
        let documents = self.documents.into_iter().map(Text).chain(self.ids.into_iter().map(Id));
        let documents = documents.map(|document| proto::RerankDocument { document: Some(document) }).collect();
        proto::RerankRequest {
            query: self.query,
            documents,
            rerank_mode: Mode::to_proto(Some(self.mode)),
            limit: self.limit,
            rerank_time_max: duration(self.time_max),
        }
    }
}

fn lines_from_stdin() -> Result<Vec<String>> {
    let mut text = String::new();
    let limit = crate::domain::limits::MESSAGE_BYTES_MAX as u64;
    std::io::stdin()
        .take(limit)
        .read_to_string(&mut text)
        .map_err(|e| Error::invalid("standard input", e.to_string()))?;
    Ok(text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect())
}

async fn rerank_here(config: &Config, request: proto::RerankRequest) -> Result<Ranking> {
    let core = Core::open(config).await?;
    let ids: Vec<_> = request.documents.iter().map(document_id).collect();
    let reranking = api::rerank(request, Deadline::NONE)?;
    let mut timeline = Timeline::start();
    let (ranked, steps) = core.searcher.rerank(reranking, &mut timeline).await?;
    let results = ranked.into_iter().map(|r| (r.index, r.score, ids[r.index].clone())).collect();
    let ranking = Ranking { results, steps, timings: timings(&timeline) };
    core.close().await?;
    Ok(ranking)
}

fn document_id(document: &proto::RerankDocument) -> String {
    match &document.document {
        Some(proto::rerank_document::Document::Id(id)) => id.clone(),
        _ => String::new(),
    }
}

/// Prints counts, sizes and the model's identity
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  amalfa stats --json")]
pub(super) struct Stats {
    /// Ask this server instead of opening the database
    #[arg(long, value_name = "HOST:PORT")]
    server: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Stats {
    pub async fn run(self, config: Config) -> Result<ExitCode> {
        let stats = match &self.server {
            Some(server) => Client::connect(server).await?.stats().await?,
            None => stats_here(&config).await?,
        };
        match self.json {
            true => output::json(&stats)?,
            false => print_tree("", &stats),
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn stats_here(config: &Config) -> Result<serde_json::Value> {
    let core = Core::open(config).await?;
    let stats = core.searcher.stats().await?;
    let warning = core.model.self_test().warning.clone();
    let degradations: Vec<_> = warning.iter().map(|m| serde_json::json!({"part": "model", "message": m})).collect();
    core.close().await?;
    let mut value = serde_json::to_value(stats).map_err(|e| Error::internal("cannot write the statistics", e))?;
    value["version"] = env!("CARGO_PKG_VERSION").into();
    value["degradations"] = degradations.into();
    Ok(value)
}

fn print_tree(prefix: &str, value: &serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                print_tree(&key, value);
            }
        }
        leaf => output::line(format_args!("{prefix:<28} {leaf}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::condition::Test;

    #[test]
    fn the_predecessors_words_name_modes() {
        for (alias, mode) in [("bge-m3", Mode::CrossEncoder), ("sonar", Mode::Llm), ("hybrid", Mode::Cascade)] {
            assert_eq!(Mode::from_str(alias, false), Ok(mode));
        }
    }

    #[test]
    fn conditions_read_as_people_write_them() {
        let range = condition("date>=2026-01-01").unwrap();
        assert!(matches!(range.test, Some(Test::Range(proto::Range { from: Some(_), to: None }))));
        let list = condition("metadata.tags = rust, grpc").unwrap();
        assert_eq!(list.field, "metadata.tags");
        assert!(matches!(list.test, Some(Test::AnyOf(list)) if list.values.len() == 2));
        assert!(condition("type").is_err());
    }
}
