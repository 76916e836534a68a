//! A search as asked.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Deadline, DocumentId, Filter, Vector};

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
    /// How candidates are found; the configured way when `None`.
    pub retrieval: Option<RetrievalMode>,
    /// How two lists become one; the configured way when `None`.
    pub fusion: Option<Fusion>,
    /// The dense list's share, in [0, 1]; as configured when `None`.
    pub dense_weight: Option<f32>,
    /// How the words of the query are read.
    pub lexical_syntax: LexicalSyntax,
    /// How sure to be that nothing nearer was missed.
    pub accuracy: Accuracy,
    /// How they are put in order; as configured when `None`.
    pub rerank: Option<RerankMode>,
    /// Time that reranking may take; what the deadline leaves when `None`.
    pub rerank_time_max: Option<Duration>,
    /// What a hit carries beside its names.
    pub include: Include,
    /// When the caller stops waiting.
    pub deadline: Deadline,
}

impl Query {
    /// Returns a query for a text with everything else left to its default.
    pub fn text(text: impl Into<String>) -> Self {
        Self::of(Target::Text(text.into()))
    }

    /// Returns a query for a target with everything else left to its default.
    pub fn of(target: Target) -> Self {
        Self {
            target,
            limit: super::limits::LIMIT_DEFAULT,
            candidates: None,
            score_min: None,
            filter: Filter::default(),
            retrieval: None,
            fusion: None,
            dense_weight: None,
            lexical_syntax: LexicalSyntax::default(),
            accuracy: Accuracy::default(),
            rerank: None,
            rerank_time_max: None,
            include: Include::default(),
            deadline: Deadline::NONE,
        }
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetrievalMode {
    /// By the cosine of embeddings.
    Dense,
    /// By the words in common (BM25).
    Lexical,
    /// Both, fused.
    #[default]
    Hybrid,
}

/// How the two lists of a hybrid search become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fusion {
    /// The weighted sum of both scores, each brought to [0, 1] (Bruch et al., arXiv:2210.11934).
    #[default]
    Convex,
    /// The weighted sum of 1 / (60 + rank) (Cormack et al., SIGIR 2009), scaled to [0, 1].
    Rrf,
}

/// How the words of a query are read by lexical retrieval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LexicalSyntax {
    /// Words and nothing else: a passage with any of them is found.
    #[default]
    Words,
    /// An FTS5 expression.
    Fts5,
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

/// How candidates are put in their final order. The words after «alias» are those of Amalfa's predecessor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RerankMode {
    /// As they were found.
    #[default]
    None,
    /// MaxSim over token vectors (ColBERT, arXiv:2004.12832), with the embedding model itself.
    LateInteraction,
    /// A model that reads query and passage together.
    #[serde(alias = "bge-m3")]
    CrossEncoder,
    /// A language model puts the list in order.
    #[serde(alias = "sonar")]
    Llm,
    /// Late interaction or cross-encoder over all candidates, then the language model over the best of them.
    #[serde(alias = "hybrid")]
    Cascade,
}

impl RerankMode {
    /// Returns the word for it, as in metrics, JSON and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::LateInteraction => "late_interaction",
            Self::CrossEncoder => "cross_encoder",
            Self::Llm => "llm",
            Self::Cascade => "cascade",
        }
    }
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
    /// Passages of the document after the best one, at most; under
    /// [`limits::HIT_PASSAGES_MAX`](super::limits::HIT_PASSAGES_MAX).
    pub further_passages: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rerank_modes_are_known_by_their_words_and_by_the_predecessors() {
        use RerankMode::{Cascade, CrossEncoder, LateInteraction, Llm, None};
        for mode in [None, LateInteraction, CrossEncoder, Llm, Cascade] {
            assert_eq!(serde_json::to_value(mode).unwrap(), mode.as_str());
            assert_eq!(serde_json::from_value::<RerankMode>(mode.as_str().into()).unwrap(), mode);
        }
        for (alias, mode) in [("bge-m3", CrossEncoder), ("sonar", Llm), ("hybrid", Cascade)] {
            assert_eq!(serde_json::from_value::<RerankMode>(alias.into()).unwrap(), mode);
        }
    }
}
