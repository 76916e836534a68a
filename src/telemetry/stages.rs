//! The stages of a request and where its time went.

use std::future::Future;
use std::time::Instant;

use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use super::{context, metrics};
use crate::error::{Error, Result};
use breakdown::Interval;
pub use breakdown::{Breakdown, StageTime};
pub(super) use record::Record;

mod breakdown;
mod record;

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
    /// What is between the stages.
    Other,
}

impl Stage {
    /// Every stage, in the order of the path.
    pub const ALL: [Self; 10] = [
        Self::Embed,
        Self::Filter,
        Self::Retrieve,
        Self::Lexical,
        Self::Fuse,
        Self::Hydrate,
        Self::Rerank,
        Self::Commit,
        Self::Publish,
        Self::Other,
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
            Self::Other => "other",
        }
    }
}

/// Where the time of one request goes.
#[derive(Debug)]
pub struct Timeline {
    started: Instant,
    intervals: Vec<Interval>,
    /// How the latest stage ended; `other` counts as ended in the same way.
    outcome: &'static str,
    role: Role,
}

/// What a timeline is of.
#[derive(Debug)]
enum Role {
    /// A request, part of this call if it is of one.
    Request(Option<Record>),
    /// Work beside that of another timeline, which is told about it.
    Branch,
    /// Work that has timelines of its own inside.
    Around(Option<Record>),
}

impl Timeline {
    /// Starts the clock of a request.
    pub fn start() -> Self {
        Self::new(Role::Request(Record::current()))
    }

    /// Starts the clock around requests that have timelines of their own, all of one call: their stages are this one's.
    pub fn around() -> Self {
        Self::new(Role::Around(Record::current()))
    }

    /// Returns a timeline with the same start, for work beside this one's; give it to [`join`](Self::join).
    pub fn branch(&self) -> Self {
        Self { started: self.started, intervals: Vec::new(), outcome: "ok", role: Role::Branch }
    }

    /// Adds the stages of a branch.
    pub fn join(&mut self, mut branch: Self) {
        self.intervals.append(&mut branch.intervals);
    }

    fn new(role: Role) -> Self {
        Self { started: Instant::now(), intervals: Vec::new(), outcome: "ok", role }
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
        let mut clock = Clock { timeline: self, stage, span, started: Instant::now(), outcome: "cancelled" };
        let result = work.instrument(clock.span.clone()).await;
        clock.outcome = outcome(&clock.span, &result);
        result
    }

    /// Returns where the time since the start went.
    pub fn breakdown(&self) -> Breakdown {
        let intervals = match &self.role {
            Role::Around(Some(record)) => record.intervals(),
            _ => self.intervals.clone(),
        };
        Breakdown::of(self.started, Instant::now(), intervals)
    }
}

/// Its end is the end of the request: then it is known what was spent between the stages.
impl Drop for Timeline {
    fn drop(&mut self) {
        let Role::Request(record) = &self.role else { return };
        if self.intervals.is_empty() {
            return; // refused before its first stage
        }
        metrics::stage(Stage::Other.as_str(), self.outcome, self.breakdown().other());
        if let Some(record) = record {
            record.add(&self.intervals);
        }
    }
}

/// A running stage: what it has to say it says when it is dropped, so that a cancelled one counts too.
struct Clock<'a> {
    timeline: &'a mut Timeline,
    stage: Stage,
    span: Span,
    started: Instant,
    outcome: &'static str,
}

impl Drop for Clock<'_> {
    fn drop(&mut self) {
        let Self { stage, started, outcome, .. } = *self;
        let ended = Instant::now();
        self.timeline.intervals.push(Interval { stage, started, ended });
        self.timeline.outcome = outcome;
        let duration = ended.saturating_duration_since(started);
        // Inside, so that the sample's exemplar is this very span.
        self.span.in_scope(|| metrics::stage(stage.as_str(), outcome, duration));
    }
}

fn outcome<T>(span: &Span, result: &Result<T>) -> &'static str {
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
    use crate::telemetry::metrics::prometheus_text as render;
    use std::future::{pending, ready};
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    fn counted(stage: &str, outcome: &str) -> bool {
        render().contains(&format!("amalfa_stage_duration_seconds_count{{stage=\"{stage}\",outcome=\"{outcome}\"}}"))
    }

    fn stages(timeline: &Timeline) -> Vec<Stage> {
        timeline.breakdown().stages.iter().map(|time| time.stage).collect()
    }

    #[tokio::test]
    async fn stages_are_kept_in_order_and_add_up_to_the_total() {
        let mut timeline = Timeline::start();
        timeline.timed(Stage::Embed, ready(Ok(1))).await.unwrap();
        timeline.timed(Stage::Retrieve, ready(Ok(2))).await.unwrap();
        let Breakdown { total, stages: times } = timeline.breakdown();
        assert_eq!(stages(&timeline), [Stage::Embed, Stage::Retrieve, Stage::Other]);
        assert_eq!(times.iter().map(|time| time.duration).sum::<Duration>(), total);
        drop(timeline);
        assert!(counted("embed", "ok") && counted("retrieve", "ok") && counted("other", "ok"));
    }

    #[tokio::test]
    async fn stages_beside_each_other_add_up_too() {
        let mut timeline = Timeline::start();
        let mut beside = timeline.branch();
        let both = tokio::join!(
            timeline.timed(Stage::Embed, async {
                tokio::task::yield_now().await;
                Ok(())
            }),
            beside.timed(Stage::Hydrate, async {
                tokio::task::yield_now().await;
                Ok(())
            }),
        );
        assert!(both.0.is_ok() && both.1.is_ok());
        timeline.join(beside);
        let Breakdown { total, stages: times } = timeline.breakdown();
        assert_eq!(stages(&timeline), [Stage::Embed, Stage::Hydrate, Stage::Other]);
        assert_eq!(times.iter().map(|time| time.duration).sum::<Duration>(), total);
    }

    #[tokio::test]
    async fn a_timeline_around_others_has_their_stages() {
        let record = Record::start();
        let around = record.scope(Timeline::around);
        for _ in 0..2 {
            record.scope(Timeline::start).timed(Stage::Embed, ready(Ok(()))).await.unwrap();
        }
        assert_eq!(stages(&around), [Stage::Embed, Stage::Embed, Stage::Other]);
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
        assert_eq!(stages(&timeline), [Stage::Rerank, Stage::Other]);
        assert!(counted("rerank", "cancelled"));
    }
}
