//! Late interaction with passages of the index: from their stored token codes in microseconds each, with the model where
//! there are none.
//!
//! An estimate from codes is a little higher than the exact score, so the two cannot be put in one order: beside stored
//! codes, passages without are coded on the fly.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use super::Searcher;
use crate::domain::{ChunkId, Deadline};
use crate::engine::{TokenCoder, TokenQuery};
use crate::error::{Error, Result};
use crate::model::{EmbeddedQuery, Scored, TokenVectors};
use crate::telemetry::metrics;

/// Passages whose codes are in memory at a time: 3 MB of 256 tokens each. More than a search reranks, as a rule.
const BATCH_PASSAGES: usize = 256;

/// A query, and what compares it with codes.
#[derive(Clone)]
struct Aim {
    coder: TokenCoder,
    query: Arc<TokenQuery>,
}

impl Searcher {
    /// Scores texts, which come best first, against a query, in [-1, 1]. `chunks` says which of them are stored passages.
    pub(super) async fn late_interaction(
        &self,
        query: &str,
        chunks: &[Option<ChunkId>],
        texts: Vec<String>,
        batch: NonZeroUsize,
        deadline: Deadline,
    ) -> Scored {
        let stored = async {
            let embedded = self.model.embed_query(query.to_owned(), deadline).await?;
            let scores = self.stored_scores(&embedded, chunks, deadline).await?;
            Ok((embedded, scores))
        };
        let (embedded, scores) = match stored.await {
            Ok(stored) => stored,
            Err(error) => return Scored::stopped(texts.len(), &error),
        };
        let lacking: Vec<usize> = (0..texts.len()).filter(|place| scores[*place].is_none()).collect();
        if lacking.is_empty() {
            return Scored { scores, degraded: None };
        }
        let without = lacking.iter().map(|place| texts[*place].clone()).collect();
        let aim = if lacking.len() < texts.len() { self.aim(&embedded) } else { None };
        let computed = match aim {
            Some(aim) => {
                let score = move |passage: &TokenVectors| aim.score_now(passage);
                self.model.score_passages(without, batch, deadline, score).await
            }
            None => self.model.late_interaction(query.to_owned(), without, batch, deadline).await,
        };
        metrics::late_interaction_passages("computed", computed.scores.iter().flatten().count() as u64);
        fill(scores, &lacking, computed)
    }

    /// Scores passages by their stored codes, in [-1, 1] and in their order; `None` where there are none, or damaged ones.
    ///
    /// # Errors
    ///
    /// `Deadline`; what reading the store returns.
    pub(super) async fn stored_scores(
        &self,
        query: &EmbeddedQuery,
        chunks: &[Option<ChunkId>],
        deadline: Deadline,
    ) -> Result<Vec<Option<f32>>> {
        let stored: Vec<ChunkId> = chunks.iter().copied().flatten().collect();
        let aim = if stored.is_empty() { None } else { self.aim(query) };
        let Some(aim) = aim else { return Ok(vec![None; chunks.len()]) };
        let mut scores = HashMap::with_capacity(stored.len());
        for batch in stored.chunks(BATCH_PASSAGES) {
            deadline.check("late interaction")?;
            let codes = self.store.token_codes(batch.to_vec()).await?;
            let aim = aim.clone();
            // 5 µs a passage: with some hundred too long for a thread that others' requests share.
            let scored = tokio::task::spawn_blocking(move || aim.scores(&codes)).await;
            scores
                .extend(scored.map_err(|error| Error::internal("the thread that compares token codes failed", error))?);
        }
        metrics::late_interaction_passages("stored", scores.len() as u64);
        Ok(chunks.iter().map(|chunk| scores.get(&(*chunk)?).copied()).collect())
    }

    /// Returns what compares a query with codes; `None` where its model gives no token vectors, or of another dimension.
    fn aim(&self, query: &EmbeddedQuery) -> Option<Aim> {
        let tokens = query.tokens.as_ref()?;
        let coder = self.token_coder.clone().filter(|coder| coder.dimension() == tokens.dimension())?;
        Some(Aim { query: Arc::new(coder.query(tokens.as_slice())), coder })
    }
}

impl Aim {
    /// Returns the scores of all codes that are sound.
    fn scores(&self, codes: &[(ChunkId, Vec<u8>)]) -> HashMap<ChunkId, f32> {
        let score = |(chunk, bytes): &(ChunkId, Vec<u8>)| Some((*chunk, self.score(bytes)?));
        let scores: HashMap<ChunkId, f32> = codes.iter().filter_map(score).collect();
        let damaged = codes.len() - scores.len();
        if damaged > 0 {
            metrics::token_codes_damaged(damaged as u64);
            tracing::warn!(damaged, "stored token codes are damaged; `amalfa reembed` makes them anew");
        }
        scores
    }

    /// Codes a passage and scores it.
    fn score_now(&self, passage: &TokenVectors) -> f32 {
        self.score(&self.coder.encode(passage.as_slice())).unwrap_or(0.0)
    }

    fn score(&self, bytes: &[u8]) -> Option<f32> {
        Some(self.query.score(&self.coder.decode(bytes)?))
    }
}

/// Puts what was computed where codes were lacking.
fn fill(mut scores: Vec<Option<f32>>, lacking: &[usize], computed: Scored) -> Scored {
    for (place, score) in lacking.iter().zip(computed.scores) {
        scores[*place] = score;
    }
    Scored { scores, degraded: computed.degraded }
}

#[cfg(test)]
mod tests;
