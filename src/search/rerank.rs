//! Putting candidates in their final order, in steps, within a time.
//!
//! A rerank never fails as a whole: what a step did not come to keeps its order behind what it did, and the step says how
//! far it came and why no further.

use std::num::NonZeroUsize;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::candidate::Candidate;
use super::{Searcher, passage_text};
use crate::domain::{ChunkId, Condition, Deadline, DocumentId, Filter, Passage, Query, RerankMode, RerankStep, Test};
use crate::error::{Error, Result};
use crate::model::{CrossEncoder, Llm};
use crate::telemetry::{Stage, Timeline};
use ranking::Ranking;

mod ranking;
mod steps;

/// What is left of a request's time when a rerank has used all that it may: for the cut, the conversion and the way back.
const RESERVE: (Duration, u32) = (Duration::from_millis(10), 20);

/// How reranks go about it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Passages that are sorted by length together; a batch of the best is begun before the next best.
    pub batch: NonZeroUsize,
    /// Passages that the first step of a cascade scores: the best of retrieval.
    pub cascade_candidates: NonZeroUsize,
    /// Passages that its language model sees: the best of the first step.
    pub cascade_llm_candidates: NonZeroUsize,
    /// Passages that the language model names, which go before the others: answers are paid for by their length.
    pub cascade_llm_hits: NonZeroUsize,
}

impl Default for Config {
    fn default() -> Self {
        let some = |number| NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN);
        Self {
            batch: some(16),
            cascade_candidates: some(50),
            cascade_llm_candidates: some(15),
            cascade_llm_hits: some(5),
        }
    }
}

/// What reranks beside the embedding model, which is always there.
#[derive(Debug, Clone, Default)]
pub struct Rerankers {
    /// How.
    pub config: Config,
    /// The cross-encoder.
    pub cross_encoder: Option<CrossEncoder>,
    /// The language model.
    pub llm: Option<Llm>,
}

/// A candidate of a rerank: its text, or a document of the index.
#[derive(Debug, Clone)]
pub enum RerankItem {
    /// A text.
    Text(String),
    /// A document, by its best passage.
    Document(DocumentId),
}

/// What a rerank of given items is to do.
#[derive(Debug, Clone)]
pub struct Reranking {
    /// The question.
    pub query: String,
    /// What to put in order.
    pub items: Vec<RerankItem>,
    /// How; never [`RerankMode::None`].
    pub mode: RerankMode,
    /// Results wanted.
    pub limit: usize,
    /// Time that it may take; what the deadline leaves when `None`.
    pub time_max: Option<Duration>,
    /// When the caller stops waiting.
    pub deadline: Deadline,
}

/// A candidate's worth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reranked {
    /// Its place in the request, from 0.
    pub index: usize,
    /// How good, in [0, 1], never rising down the list; 0 when no step scored it.
    pub score: f32,
}

/// What a reranker reads.
#[derive(Debug, Clone)]
struct Text {
    text: String,
    /// The stored passage that it is; what is known of that need not be computed.
    chunk: Option<ChunkId>,
}

impl Text {
    fn of(passage: &Passage) -> Self {
        Self { text: passage_text(passage), chunk: Some(passage.chunk) }
    }
}

impl Searcher {
    /// Scores texts and documents against a query, best first, at most `limit` of them; returns what each step came to as
    /// well. Items that no step scored come last, in their order.
    ///
    /// # Errors
    ///
    /// `NotFound` for an unknown document; what becomes of the rerankers is in the steps.
    pub async fn rerank(
        &self,
        reranking: Reranking,
        timeline: &mut Timeline,
    ) -> Result<(Vec<Reranked>, Vec<RerankStep>)> {
        let Reranking { query, items, mode, limit, time_max, deadline } = reranking;
        let texts = timeline.timed(Stage::Hydrate, self.item_texts(items)).await?;
        let (owners, texts): (Vec<_>, Vec<_>) = texts.into_iter().unzip();
        let scoring = self.run(mode, &query, texts, budget(time_max, deadline));
        let (ranking, steps) = timeline.timed(Stage::Rerank, async { Ok(scoring.await) }).await?;
        Ok((best_per_item(&owners, &ranking, limit), steps))
    }

    /// Puts a search's candidates, which come best first, in order.
    pub(super) async fn rerank_candidates(
        &self,
        mode: RerankMode,
        text: &str,
        found: Vec<Candidate>,
        query: &Query,
    ) -> Result<(Vec<Candidate>, Vec<RerankStep>)> {
        let texts = found.iter().map(|c| Text::of(&c.passage)).collect();
        let (ranking, steps) = self.run(mode, text, texts, budget(query.rerank_time_max, query.deadline)).await;
        Ok((arrange(found, &ranking), steps))
    }

    /// Whether every thread of the rerankers is alive and none has panicked.
    pub fn rerankers_healthy(&self) -> bool {
        self.rerankers.cross_encoder.as_ref().is_none_or(CrossEncoder::healthy)
    }

    /// Returns the texts to score, each with the place of its item, the first of each item before the second of any: a step
    /// that takes only so many, or runs out of time, then has seen something of every item.
    async fn item_texts(&self, items: Vec<RerankItem>) -> Result<Vec<(usize, Text)>> {
        let mut texts = Vec::with_capacity(items.len());
        for (owner, item) in items.into_iter().enumerate() {
            match item {
                RerankItem::Text(text) => texts.push((0, (owner, Text { text, chunk: None }))),
                RerankItem::Document(id) => {
                    let passages = self.document_passages(id).await?;
                    texts.extend(passages.iter().map(|passage| (owner, Text::of(passage))).enumerate());
                }
            }
        }
        texts.sort_by_key(|(round, _)| *round);
        Ok(texts.into_iter().map(|(_, text)| text).collect())
    }

    async fn document_passages(&self, id: DocumentId) -> Result<Vec<Passage>> {
        let test = Test::AnyOf(vec![id.as_str().into()]);
        let filter = Filter { all: vec![Condition { field: "id".to_owned(), test }] };
        let chunks = self.store.matching(filter).await?;
        if chunks.is_empty() {
            return Err(Error::not_found("document", id.as_str()));
        }
        self.store.passages(chunks.iter().map(ChunkId).collect()).await
    }
}

/// Returns when a rerank must end: within its own time, and early enough for its request.
fn budget(time_max: Option<Duration>, deadline: Deadline) -> Deadline {
    let for_request = match deadline.remaining() {
        None => Deadline::NONE,
        Some(left) => Deadline::after(left.saturating_sub(RESERVE.0 + left / RESERVE.1)),
    };
    time_max.map_or(for_request, |time_max| for_request.at_most(time_max))
}

/// Puts candidates in the order of a ranking, each with what the steps made of it.
fn arrange(found: Vec<Candidate>, ranking: &Ranking) -> Vec<Candidate> {
    let mut found: Vec<_> = found.into_iter().map(Some).collect();
    let ordered = ranking.order().iter().filter_map(|&place| {
        let mut candidate = found[place].take()?;
        candidate.reranked = ranking.placements(place).to_vec();
        candidate.score = ranking.score(place).unwrap_or(candidate.score);
        Some(candidate)
    });
    ordered.collect()
}

/// Gives each item the place of its best text.
fn best_per_item(owners: &[usize], ranking: &Ranking, limit: usize) -> Vec<Reranked> {
    let mut seen = std::collections::HashSet::new();
    let mut least = 1.0f32;
    let first = ranking.order().iter().filter(|place| seen.insert(owners[**place]));
    let scored = first.map(|&place| {
        // Steps measure differently: what one scored may follow what another did.
        least = least.min(ranking.score(place).unwrap_or(0.0));
        Reranked { index: owners[place], score: least }
    });
    scored.take(limit).collect()
}

#[cfg(test)]
mod tests;
