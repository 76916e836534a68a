//! The stages of a request and where its time went.

use std::future::Future;
use std::time::{Duration, Instant};

use tracing::Instrument as _;
use tracing::field::Empty;

use super::{context, metrics};
use crate::error::{Error, Result};

/// A stage of a request: the only list of them. Metrics, spans, dashboards and response timings use these words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Text to vector, queueing for a session included.
    Embed,
    /// Filter to set of chunks.
    Filter,
    /// Vector to scored chunks.
    Retrieve,
    /// Words to scored chunks.
    Lexical,
    /// Two lists of scored chunks to one.
    Fuse,
    /// Scored chunks to passages.
    Hydrate,
    /// Passages to their final order.
    Rerank,
    /// Steps into one transaction.
    Commit,
    /// Committed vectors into the engine.
    Publish,
}

impl Stage {
    /// Every stage, in the order of the path.
    pub const ALL: [Self; 9] = [
        Self::Embed,
        Self::Filter,
        Self::Retrieve,
        Self::Lexical,
        Self::Fuse,
        Self::Hydrate,
        Self::Rerank,
        Self::Commit,
        Self::Publish,
    ];

    /// The words for them.
    pub(super) const WORDS: [&'static str; Self::ALL.len()] = {
        let (mut words, mut at) = ([""; Self::ALL.len()], 0);
        while at < words.len() {
            words[at] = Self::ALL[at].as_str();
            at += 1;
        }
        words
    };

    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Embed => "embed",
            Self::Filter => "filter",
            Self::Retrieve => "retrieve",
            Self::Lexical => "lexical",
            Self::Fuse => "fuse",
            Self::Hydrate => "hydrate",
            Self::Rerank => "rerank",
            Self::Commit => "commit",
            Self::Publish => "publish",
        }
    }
}

/// The time of one stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageTime {
    /// Which.
    pub stage: Stage,
    /// How long.
    pub duration: Duration,
}

/// Where the time of one request goes.
#[derive(Debug)]
pub struct Timeline {
    started: Instant,
    stages: Vec<StageTime>,
}

impl Timeline {
    /// Starts the clock of a request.
    pub fn start() -> Self {
        Self { started: Instant::now(), stages: Vec::new() }
    }

    /// Runs a stage inside a span and records its duration and outcome, also when it is dropped (`cancelled`).
    pub async fn timed<T>(&mut self, stage: Stage, work: impl Future<Output = Result<T>>) -> Result<T> {
        let span = context::span(|| {
            tracing::info_span!(
                target: "amalfa::stage",
                "stage",
                otel.name = stage.as_str(),
                otel.status_code = Empty,
                "error.type" = Empty,
            )
        });
        let mut clock = Clock { timeline: self, stage, started: Instant::now(), outcome: "cancelled" };
        let result = work.instrument(span.clone()).await;
        clock.outcome = outcome(&span, &result);
        result
    }

    /// Returns a timeline with the same start, for work beside this one's.
    pub fn branch(&self) -> Self {
        Self { started: self.started, stages: Vec::new() }
    }

    /// Adds the stages of a branch.
    pub fn join(&mut self, branch: Self) {
        self.stages.extend(branch.stages);
    }

    /// Returns the stages so far, in order; those of a branch may have run at the same time as others.
    pub fn stages(&self) -> &[StageTime] {
        &self.stages
    }

    /// Returns the time since the start.
    pub fn total(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A running stage: what it has to say it says when it is dropped, so that a cancelled one counts too.
struct Clock<'a> {
    timeline: &'a mut Timeline,
    stage: Stage,
    started: Instant,
    outcome: &'static str,
}

impl Drop for Clock<'_> {
    fn drop(&mut self) {
        let duration = self.started.elapsed();
        self.timeline.stages.push(StageTime { stage: self.stage, duration });
        metrics::stage(self.stage.as_str(), self.outcome, duration);
    }
}

fn outcome<T>(span: &tracing::Span, result: &Result<T>) -> &'static str {
    let Err(error) = result else { return "ok" };
    span.record("error.type", error.kind());
    if !matches!(error, Error::Invalid { .. } | Error::NotFound { .. } | Error::Cancelled) {
        span.record("otel.status_code", "ERROR");
    }
    error.kind()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::render;
    use std::future::{pending, ready};
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn counted(stage: &str, outcome: &str) -> bool {
        render().contains(&format!("amalfa_stage_duration_seconds_count{{stage=\"{stage}\",outcome=\"{outcome}\"}}"))
    }

    #[tokio::test]
    async fn stages_are_kept_in_order_and_fit_into_the_total() {
        let mut timeline = Timeline::start();
        timeline.timed(Stage::Embed, ready(Ok(1))).await.unwrap();
        timeline.timed(Stage::Retrieve, ready(Ok(2))).await.unwrap();
        let stages: Vec<_> = timeline.stages().iter().map(|time| time.stage).collect();
        assert_eq!(stages, [Stage::Embed, Stage::Retrieve]);
        assert!(timeline.stages().iter().map(|time| time.duration).sum::<Duration>() <= timeline.total());
        assert!(counted("embed", "ok") && counted("retrieve", "ok"));
    }

    #[tokio::test]
    async fn a_failed_stage_counts_under_the_kind_of_its_error() {
        let mut timeline = Timeline::start();
        let failed = timeline.timed(Stage::Filter, ready(Err::<(), _>(Error::not_found("document", "x")))).await;
        assert!(failed.is_err());
        assert!(counted("filter", "not_found"));
    }

    #[test]
    fn a_dropped_stage_counts_as_cancelled() {
        let mut timeline = Timeline::start();
        {
            let mut stage = pin!(timeline.timed(Stage::Rerank, pending::<Result<()>>()));
            assert!(matches!(stage.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
        }
        assert_eq!(timeline.stages().len(), 1);
        assert!(counted("rerank", "cancelled"));
    }
}
