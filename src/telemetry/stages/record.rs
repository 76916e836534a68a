//! The stages of one call, from all of its timelines: what `server-timing` tells the caller.

use std::cell::RefCell;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use http::HeaderValue;

use super::Stage;
use super::breakdown::{Breakdown, Interval};

/// Stages of one call that are kept: a batch of the largest size has fewer. More would be told as `other`.
const INTERVALS_MAX: usize = 4_096;

thread_local! {
    /// The call that this thread works for at this moment.
    static CURRENT: RefCell<Option<Record>> = const { RefCell::new(None) };
}

/// What is known of a call's stages; a cheap clone of a handle.
#[derive(Debug, Clone)]
pub(in crate::telemetry) struct Record {
    started: Instant,
    intervals: Arc<Mutex<Vec<Interval>>>,
}

impl Record {
    /// Starts the record of a call.
    pub(in crate::telemetry) fn start() -> Self {
        Self { started: Instant::now(), intervals: Arc::default() }
    }

    /// Runs a part of the call: timelines that begin inside are part of its record.
    pub(in crate::telemetry) fn scope<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = CURRENT.replace(Some(self.clone()));
        let _restore = Restore(before);
        work()
    }

    /// Returns the record of the call that this thread works for.
    pub(super) fn current() -> Option<Self> {
        CURRENT.with_borrow(Clone::clone)
    }

    pub(super) fn add(&self, intervals: &[Interval]) {
        let mut all = self.intervals.lock().unwrap_or_else(PoisonError::into_inner);
        let room = INTERVALS_MAX - all.len();
        all.extend(intervals.iter().take(room));
    }

    pub(super) fn intervals(&self) -> Vec<Interval> {
        self.intervals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the value of `server-timing`: milliseconds by stage, `other` and `total` last; `None` without a stage.
    ///
    /// Source: W3C Server Timing, «The Server-Timing Header Field».
    pub(in crate::telemetry) fn server_timing(&self) -> Option<HeaderValue> {
        let intervals = self.intervals();
        if intervals.is_empty() {
            return None;
        }
        HeaderValue::try_from(text(&Breakdown::of(self.started, Instant::now(), intervals))).ok()
    }
}

struct Restore(Option<Record>);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

/// Writes whole microseconds; what is cut off goes to `other`, so that the printed parts add up too.
fn text(breakdown: &Breakdown) -> String {
    let mut sums: Vec<(Stage, u128)> = Vec::new();
    for time in breakdown.stages.iter().filter(|time| time.stage != Stage::Other) {
        match sums.iter_mut().find(|(stage, _)| *stage == time.stage) {
            Some((_, sum)) => *sum += time.duration.as_micros(),
            None => sums.push((time.stage, time.duration.as_micros())),
        }
    }
    let total = breakdown.total.as_micros();
    let inside: u128 = sums.iter().map(|(_, sum)| sum).sum();
    sums.push((Stage::Other, total.saturating_sub(inside)));
    let mut text = String::new();
    for (stage, sum) in sums {
        // Writing into a string does not fail.
        let _ = write!(text, "{};dur={}, ", stage.as_str(), milliseconds(sum));
    }
    text + "total;dur=" + &milliseconds(total)
}

fn milliseconds(microseconds: u128) -> String {
    format!("{}.{:03}", microseconds / 1_000, microseconds % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn stages_are_summed_and_the_printed_parts_add_up() {
        let start = Instant::now();
        let nanoseconds = |count| start + Duration::from_nanos(count);
        let at = |stage, from, to| Interval { stage, started: nanoseconds(from), ended: nanoseconds(to) };
        let intervals = vec![
            at(Stage::Embed, 0, 1_234_700),
            at(Stage::Retrieve, 1_234_700, 1_300_100),
            at(Stage::Retrieve, 1_400_000, 1_500_900),
        ];
        let breakdown = Breakdown::of(start, nanoseconds(2_000_999), intervals);
        assert_eq!(text(&breakdown), "embed;dur=1.234, retrieve;dur=0.165, other;dur=0.601, total;dur=2.000");
    }

    #[test]
    fn a_scope_ends() {
        let record = Record::start();
        record.scope(|| assert!(Record::current().is_some()));
        assert!(Record::current().is_none());
        assert!(record.server_timing().is_none());
    }
}
