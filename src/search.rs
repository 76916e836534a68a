//! A search, one straight line: filter → retrieve → hydrate → rerank → cut; retrieval is by the embedding, by words, or both.

mod candidate;
mod catalogue;
mod fuse;
mod late;
mod rank;
mod rerank;
mod retrieve;

use std::sync::Arc;

use futures::future::try_join_all;
use serde::{Deserialize, Serialize};

use self::candidate::passage_text;
pub use self::catalogue::IndexStats;
pub use self::rerank::{Config as RerankConfig, RerankItem, Reranked, Rerankers, Reranking};
use crate::domain::{Answer, Deadline, DocumentId, Fusion, Query, RerankMode, RetrievalMode, Target, Vector};
use crate::engine::{TokenCoder, VectorEngine};
use crate::error::{Error, Result};
use crate::model::{Embedded, Model};
use crate::store::Store;
use crate::telemetry::{Stage, Timeline};

/// What a search does when it does not say.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How candidates are found for a text: `dense`, `lexical` or `hybrid`.
    pub retrieval: RetrievalMode,
    /// How two lists become one: `convex` or `rrf`.
    pub fusion: Fusion,
    /// The dense list's share in a hybrid search, in [0, 1]; the lexical list has the rest.
    pub dense_weight: f32,
    /// How hits are put in order: `none`, `late_interaction`, `cross_encoder`, `llm` or `cascade`.
    pub rerank: RerankMode,
}

impl Default for Config {
    fn default() -> Self {
        Self { retrieval: RetrievalMode::Hybrid, fusion: Fusion::Convex, dense_weight: 0.5, rerank: RerankMode::None }
    }
}

/// Answers searches; a cheap clone of handles.
#[derive(Clone)]
pub struct Searcher {
    config: Config,
    store: Store,
    engine: Arc<dyn VectorEngine>,
    model: Model,
    rerankers: Rerankers,
    /// Reads token codes; `None` for a model of no dimension that has some.
    token_coder: Option<TokenCoder>,
}

impl Searcher {
    /// Returns a searcher over these parts, which must be in step.
    ///
    /// # Errors
    ///
    /// `Invalid` for a weight outside of [0, 1].
    pub fn new(config: &Config, store: Store, engine: Arc<dyn VectorEngine>, model: Model) -> Result<Self> {
        if !(0.0..=1.0).contains(&config.dense_weight) {
            return Err(Error::invalid("search.dense_weight", format!("is {}; in [0, 1]", config.dense_weight)));
        }
        let token_coder = TokenCoder::new(model.identity().dimension);
        let rerankers = Rerankers::default();
        Ok(Self { config: config.clone(), store, engine, model, rerankers, token_coder })
    }

    /// Returns the searcher with rerankers beside the embedding model.
    #[must_use]
    pub fn with_rerankers(self, rerankers: Rerankers) -> Self {
        Self { rerankers, ..self }
    }

    /// Finds the documents that answer the query best, best first.
    ///
    /// A rerank that is not done in full leaves what it did not come to in the order of retrieval and says so in the
    /// answer.
    ///
    /// # Errors
    ///
    /// `Invalid` for a wrong dimension or a text without direction, `NotFound` for an unknown document, `Overloaded`,
    /// `Deadline`.
    pub async fn search(&self, query: Query, timeline: &mut Timeline) -> Result<Answer> {
        let allowed = match query.filter.is_empty() {
            true => None,
            false => Some(timeline.timed(Stage::Filter, self.store.matching(query.filter.clone())).await?),
        };
        let (found, retrieval) = self.retrieve(&query, allowed, timeline).await?;
        let (ordered, rerank_steps) = match (self.rerank_mode(&query), &query.target) {
            (RerankMode::None, _) => (found, Vec::new()),
            (mode, Target::Text(text)) => {
                timeline.timed(Stage::Rerank, self.rerank_candidates(mode, text, found, &query)).await?
            }
            (_, _) => return Err(Error::invalid("rerank_mode", "needs a text query")),
        };
        Ok(Answer { hits: rank::cut(ordered, &query), rerank_steps, retrieval })
    }

    /// Embeds texts, as queries or as passages, in their order.
    pub async fn embed(
        &self,
        texts: Vec<String>,
        purpose: Purpose,
        deadline: Deadline,
        timeline: &mut Timeline,
    ) -> Result<Vec<Embedded>> {
        let embedding = async {
            match purpose {
                Purpose::Passage => self.model.embed_passages(texts).await,
                Purpose::Query => {
                    let queries = try_join_all(texts.into_iter().map(|t| self.model.embed_query(t, deadline))).await?;
                    Ok(queries.iter().map(|query| query.embedded.clone()).collect())
                }
            }
        };
        timeline.timed(Stage::Embed, embedding).await
    }

    /// Returns how a query is reranked; what is not a text is not, unless it says so.
    fn rerank_mode(&self, query: &Query) -> RerankMode {
        match (&query.target, query.rerank) {
            (_, Some(mode)) => mode,
            (Target::Text(_), None) => self.config.rerank,
            (_, None) => RerankMode::None,
        }
    }

    /// Returns the vector to be near to; `None` for a text that has no direction for the model.
    async fn target_vector(&self, query: &Query) -> Result<Option<Vector>> {
        match &query.target {
            Target::Vector(vector) => Ok(Some(vector.clone())),
            Target::Text(text) => {
                let query = self.model.embed_query(text.clone(), query.deadline).await?;
                Ok(query.embedded.vector.clone())
            }
            Target::Document(id) => mean(&self.store.document_vectors(id.clone()).await?, id).map(Some),
        }
    }
}

/// What a text is, where the model treats the two differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To be found.
    Passage,
    /// To find others with.
    Query,
}

/// Returns the direction that vectors have in common.
fn mean(vectors: &[Vector], id: &DocumentId) -> Result<Vector> {
    let Some(first) = vectors.first() else {
        return Err(Error::not_found("document", id.as_str()));
    };
    let mut sum = vec![0.0; first.dimension()];
    for vector in vectors {
        sum.iter_mut().zip(vector.as_slice()).for_each(|(s, v)| *s += v);
    }
    Vector::normalise("query.document_id", sum)?
        .ok_or_else(|| Error::invalid("query.document_id", "the document's passages have no direction in common"))
}
