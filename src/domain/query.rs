//! A search as asked, and what it finds.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Deadline, DocumentId, Filter, Vector, limits};

/// A search whose every limit has been checked at the door.
#[derive(Debug, Clone)]
pub struct Query {
    /// What to be near to.
    pub target: Target,
    /// Hits wanted, 1 to [`limits::LIMIT_MAX`](super::limits::LIMIT_MAX).
    pub limit: usize,
    /// Passages that retrieval hands on, `limit` to [`limits::CANDIDATES_MAX`](super::limits::CANDIDATES_MAX); when
    /// `None`, as many as it takes to name `limit` documents.
    pub candidates: Option<usize>,
    /// Hits under this score are left out.
    pub score_min: Option<f32>,
    /// Which documents may be found.
    pub filter: Filter,
    /// How candidates are found.
    pub retrieval: RetrievalMode,
    /// How sure to be that nothing nearer was missed.
    pub accuracy: Accuracy,
    /// How they are put in order.
    pub rerank: RerankMode,
    /// What a hit carries beside its names.
    pub include: Include,
    /// When the caller stops waiting.
    pub deadline: Deadline,
}

impl Query {
    /// Returns whether anybody reads the texts of the passages found.
    pub fn needs_text(&self) -> bool {
        self.include.text || self.include.snippet || self.rerank != RerankMode::None
    }

    /// Returns how many passages retrieval begins with when the query does not say.
    ///
    /// Without a rerank, half as many again as hits are wanted: most documents have one passage among the best. With one,
    /// at least [`limits::CANDIDATES_DEFAULT`], since a rerank can only lift what it sees.
    pub fn candidates_default(&self) -> usize {
        let least = match self.rerank {
            RerankMode::None => 0,
            RerankMode::LateInteraction => limits::CANDIDATES_DEFAULT,
        };
        (self.limit + self.limit.div_ceil(2)).max(least).min(limits::CANDIDATES_MAX)
    }
}

/// What a search is near to.
#[derive(Debug, Clone)]
pub enum Target {
    /// A question or a phrase, embedded by the model. Never logged.
    Text(String),
    /// A vector of the model's dimension, made elsewhere.
    Vector(Vector),
    /// «More like this document»: the mean of its passages' vectors; the document itself is left out.
    Document(DocumentId),
}

/// How candidates are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RetrievalMode {
    /// By the cosine of embeddings.
    #[default]
    Dense,
}

/// How sure a search is that it missed nothing nearer. Scores are exact in every case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Accuracy {
    /// Compares exactly whatever may be among the nearest by an estimate with a bound on its error: more than 999 of 1,000
    /// true neighbours are found.
    #[default]
    Default,
    /// Compares every vector exactly.
    Exact,
    /// Like the default, but compares at most this many times `limit` vectors exactly: bounded work, less sure.
    Oversample(u16),
}

/// How candidates are put in their final order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RerankMode {
    /// As they were found.
    #[default]
    None,
    /// MaxSim over token vectors (ColBERT, arXiv:2004.12832), with the embedding model itself.
    LateInteraction,
}

/// What a hit carries beside its names.
#[derive(Debug, Clone, Copy, Default)]
pub struct Include {
    /// The whole text of the best passage.
    pub text: bool,
    /// Its beginning, at most [`limits::SNIPPET_CHARS`](super::limits::SNIPPET_CHARS) characters.
    pub snippet: bool,
    /// How it came to its place.
    pub explain: bool,
}

/// One document found, by its best passage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hit {
    /// The document.
    pub id: DocumentId,
    /// How good: cosine in [-1, 1] without a rerank, mean MaxSim in [-1, 1] with `late_interaction`. Never rising down
    /// the list.
    pub score: f32,
    /// The document's title.
    pub title: String,
    /// Where it came from.
    pub source: String,
    /// The day it is of.
    pub date: Option<jiff::civil::Date>,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// What it is about.
    pub domain: Option<String>,
    /// The headings above the best passage, outermost first.
    pub heading_path: Vec<String>,
    /// The best passage's place in its document, from 0.
    pub chunk: u32,
    /// The best passage's beginning, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snippet: Option<String>,
    /// The best passage, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The document's other metadata.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
    /// How it came to its place, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Explanation>,
}

/// How a hit came to its place.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// Cosine of the query and the passage.
    pub dense_score: f32,
    /// The passage's place after retrieval, from 1.
    pub dense_rank: u32,
    /// Mean MaxSim, where a rerank scored this passage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rerank_score: Option<f32>,
    /// The document's place in the answer, from 1.
    pub rank: u32,
    /// Passages of this document among the candidates.
    pub passages: u32,
}
