//! What a reranker made of some texts: one shape for all of them.

use std::num::NonZeroUsize;

use futures::{Stream, StreamExt};

use crate::domain::{Degradation, DegradationReason};
use crate::error::{Error, Result};

/// Scores as far as they go. A reranker never fails as a whole: what it did not come to has no score, and it says why.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// One per text, in the order in which they were given, as the reranker measures.
    pub scores: Vec<Option<f32>>,
    /// Why some lack that should not.
    pub degraded: Option<Degradation>,
}

impl Scored {
    /// Returns an answer without scores.
    pub fn nothing(texts: usize, reason: DegradationReason, message: impl Into<String>) -> Self {
        Self { scores: vec![None; texts], degraded: Some(Degradation { reason, message: message.into() }) }
    }

    /// Returns an answer without scores, because of an error.
    pub fn stopped(texts: usize, error: &Error) -> Self {
        Self { scores: vec![None; texts], degraded: Some(degradation(error)) }
    }

    /// Takes scores, each with its text's place, as they come; the first error ends it.
    pub(super) async fn collect(texts: usize, scored: impl Stream<Item = Result<(usize, f32)>>) -> Self {
        let mut scores = vec![None; texts];
        let mut scored = std::pin::pin!(scored);
        while let Some(next) = scored.next().await {
            match next {
                Ok((place, score)) => scores[place] = Some(score),
                Err(error) => return Self { scores, degraded: Some(degradation(&error)) },
            }
        }
        Self { scores, degraded: None }
    }
}

/// Says why a reranker stopped. The inside of a failure goes to the log and nowhere else.
pub(super) fn degradation(error: &Error) -> Degradation {
    let (reason, message) = match error {
        Error::Deadline { .. } => (DegradationReason::Deadline, "time ran out".to_owned()),
        Error::Overloaded { .. } | Error::Unavailable { .. } => (DegradationReason::Unavailable, error.to_string()),
        Error::Invalid { .. } | Error::Setup { .. } => (DegradationReason::NotConfigured, error.to_string()),
        _ => {
            tracing::warn!(error = error.chain(), "a reranker failed; the order before it stands");
            (DegradationReason::Failed, "the reranker failed; the server's log has the details".to_owned())
        }
    };
    Degradation { reason, message }
}

/// Returns the places of texts in the order in which to score them: batch after batch in the order of promise, so that
/// the best are scored when time runs out; the longest of a batch first, so that no thread begins a long one when the
/// others are done. Texts are never computed together, so no one is padded.
pub(super) fn schedule(texts: &[String], batch: NonZeroUsize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..texts.len()).collect();
    for batch in places.chunks_mut(batch.get()) {
        batch.sort_by_key(|place| std::cmp::Reverse(texts[*place].len()));
    }
    places
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    #[test]
    fn promise_goes_before_length_and_length_within_a_batch() {
        let texts = ["b", "bbb", "aaaa", "cc", "ccccc"].map(str::to_owned);
        assert_eq!(schedule(&texts, NonZeroUsize::new(2).unwrap()), [1, 0, 2, 3, 4]);
        assert_eq!(schedule(&texts, NonZeroUsize::new(9).unwrap()), [4, 2, 1, 3, 0]);
    }

    #[tokio::test]
    async fn what_was_scored_before_an_error_counts() {
        let parts = [Ok((2, 0.5)), Ok((0, 0.25)), Err(Error::Deadline { what: "a test" }), Ok((1, 1.0))];
        let scored = Scored::collect(3, stream::iter(parts)).await;
        assert_eq!(scored.scores, [Some(0.25), None, Some(0.5)]);
        assert_eq!(scored.degraded.unwrap().reason, DegradationReason::Deadline);
    }

    #[test]
    fn the_inside_of_a_failure_is_not_told() {
        let told = degradation(&Error::bug("secret"));
        assert_eq!(told.reason, DegradationReason::Failed);
        assert!(!told.message.contains("secret"));
    }
}
