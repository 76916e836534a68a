//! What a search finds, and an account of how.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{DocumentId, Fusion, RerankMode, RetrievalMode};

/// The answer to a search.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// Best first, one per document.
    pub hits: Vec<Hit>,
    /// What each step of the rerank came to, in order.
    pub rerank_steps: Vec<RerankStep>,
    /// How the candidates were found.
    pub retrieval: RetrievalExplanation,
}

/// What one step of a rerank came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RerankStep {
    /// What scored.
    pub mode: RerankMode,
    /// Passages that it was given.
    pub candidates: u32,
    /// Passages that it scored: all of them, but for a cascade's language model, which names the best few.
    pub covered: u32,
    /// Why it did not do all of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub degraded: Option<Degradation>,
}

/// Why a step was not done in full.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Degradation {
    /// For programs.
    pub reason: DegradationReason,
    /// For people. Never holds a text of a query or document.
    pub message: String,
}

/// Why a step was not done in full, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DegradationReason {
    /// Time ran out.
    Deadline,
    /// The server has no such reranker.
    NotConfigured,
    /// The reranker cannot be reached or has too much to do.
    Unavailable,
    /// The reranker answered with an error.
    Failed,
    /// The reranker's answer makes no sense.
    InvalidAnswer,
    /// The reranker has failed so often that it is left alone for a while.
    CircuitOpen,
}

impl DegradationReason {
    /// Every reason.
    pub const ALL: [Self; 6] =
        [Self::Deadline, Self::NotConfigured, Self::Unavailable, Self::Failed, Self::InvalidAnswer, Self::CircuitOpen];

    /// The words for them.
    pub const WORDS: [&'static str; Self::ALL.len()] = {
        let (mut words, mut at) = ([""; Self::ALL.len()], 0);
        while at < words.len() {
            words[at] = Self::ALL[at].as_str();
            at += 1;
        }
        words
    };

    /// Returns the word for it, as in responses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deadline => "DEADLINE",
            Self::NotConfigured => "NOT_CONFIGURED",
            Self::Unavailable => "UNAVAILABLE",
            Self::Failed => "FAILED",
            Self::InvalidAnswer => "INVALID_ANSWER",
            Self::CircuitOpen => "CIRCUIT_OPEN",
        }
    }
}

/// How the candidates were found.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RetrievalExplanation {
    /// What was done.
    pub mode: RetrievalMode,
    /// How two lists became one; `None` when there was one.
    pub fusion: Option<Fusion>,
    /// The dense list's share, in [0, 1].
    pub dense_weight: f32,
    /// Passages of the index that have a vector.
    pub passages: u64,
    /// Passages that the filter left; `None` when there was no filter.
    pub passages_allowed: Option<u64>,
    /// Passages that the dense list brought.
    pub dense_candidates: u32,
    /// Passages that the lexical list brought.
    pub lexical_candidates: u32,
}

/// One document found, by its best passage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hit {
    /// The document.
    pub id: DocumentId,
    /// How good, in [0, 1], never rising down the list: what the last step said that scored the passage.
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
    /// The document's next best passages among the candidates, best first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub further_passages: Vec<FurtherPassage>,
}

/// A passage of a hit after its best one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FurtherPassage {
    /// Its place in the document, from 0.
    pub chunk: u32,
    /// How good, as the hit's score.
    pub score: f32,
    /// The headings above it, outermost first.
    pub heading_path: Vec<String>,
    /// Its beginning, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snippet: Option<String>,
    /// The whole of it, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// How a hit came to its place.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Explanation {
    /// By dense retrieval: the cosine of query and passage, in [-1, 1]. Its rank is 0 where only words found the passage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dense: Option<Placement>,
    /// By lexical retrieval: BM25, 0 or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lexical: Option<Placement>,
    /// After fusion, in [0, 1].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fused: Option<Placement>,
    /// By each step of the rerank that scored the passage, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reranked: Vec<RerankPlacement>,
    /// The document's place in the answer, from 1.
    pub rank: u32,
    /// Passages of this document among the candidates.
    pub passages: u32,
}

/// A passage's score and place in one list.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Placement {
    /// As that list measures.
    pub score: f32,
    /// Its place, from 1; 0 where the list lacks it and its score was found out for fusion.
    pub rank: u32,
}

/// What one step of a rerank made of a passage.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RerankPlacement {
    /// What scored.
    pub mode: RerankMode,
    /// Its score: mean MaxSim in [-1, 1], a cross-encoder's logit, a language model's grade in [0, 1].
    pub score: f32,
    /// The passage's place before the step, from 1.
    pub rank_before: u32,
    /// Its place after it, from 1.
    pub rank_after: u32,
}
