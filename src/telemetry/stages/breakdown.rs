//! Where the time went, in parts that add up.
//!
//! Each moment of a request belongs to one stage, or to none and then to `other`. Of stages that ran at the same time a
//! moment belongs to the one that ended last: it is what the request waited for.

use std::time::{Duration, Instant};

use super::Stage;

/// The time of one stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageTime {
    /// Which.
    pub stage: Stage,
    /// Its part of the whole.
    pub duration: Duration,
}

/// Where the time went: the stages, `other` last, add up to the total exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breakdown {
    /// The whole.
    pub total: Duration,
    /// Its parts, in the order in which they began.
    pub stages: Vec<StageTime>,
}

/// When a stage ran.
#[derive(Debug, Clone, Copy)]
pub(super) struct Interval {
    pub stage: Stage,
    pub started: Instant,
    pub ended: Instant,
}

impl Breakdown {
    /// Divides the time from `started` to `now`.
    pub(super) fn of(started: Instant, now: Instant, mut intervals: Vec<Interval>) -> Self {
        let total = now.saturating_duration_since(started);
        intervals.sort_by_key(|interval| interval.started);
        let mut stages = shares(started, now, &intervals);
        let inside = stages.iter().map(|time| time.duration).sum();
        stages.push(StageTime { stage: Stage::Other, duration: total.saturating_sub(inside) });
        Self { total, stages }
    }

    /// Returns the time of no stage.
    pub(super) fn other(&self) -> Duration {
        self.stages.last().map_or(self.total, |time| time.duration)
    }
}

/// Returns each interval's part, in their order.
///
/// They are looked at from the one that ended last. Before its end, those looked at earlier cover all from their earliest
/// beginning on, so what is left for it is what lies before that.
fn shares(started: Instant, now: Instant, intervals: &[Interval]) -> Vec<StageTime> {
    let mut parts: Vec<_> =
        intervals.iter().map(|interval| StageTime { stage: interval.stage, duration: Duration::ZERO }).collect();
    let mut latest_first: Vec<_> = (0..intervals.len()).collect();
    latest_first.sort_by_key(|at| std::cmp::Reverse(intervals[*at].ended));
    let mut covered_from = now;
    for at in latest_first {
        let begin = intervals[at].started.max(started);
        let end = intervals[at].ended.min(covered_from);
        parts[at].duration = end.saturating_duration_since(begin);
        covered_from = covered_from.min(begin);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// Makes an interval from milliseconds after a start.
    fn interval(start: Instant, stage: Stage, from: u32, to: u32) -> Interval {
        Interval { stage, started: start + MILLISECOND * from, ended: start + MILLISECOND * to }
    }

    fn milliseconds(breakdown: &Breakdown) -> Vec<(&'static str, u128)> {
        breakdown.stages.iter().map(|time| (time.stage.as_str(), time.duration.as_millis())).collect()
    }

    #[test]
    fn gaps_are_other() {
        let start = Instant::now();
        let intervals = vec![interval(start, Stage::Embed, 1, 4), interval(start, Stage::Retrieve, 5, 6)];
        let breakdown = Breakdown::of(start, start + MILLISECOND * 8, intervals);
        assert_eq!(milliseconds(&breakdown), [("embed", 3), ("retrieve", 1), ("other", 4)]);
    }

    #[test]
    fn a_moment_of_two_stages_belongs_to_the_one_that_was_waited_for() {
        let start = Instant::now();
        let at = |lexical_end| {
            let beside = interval(start, Stage::Filter, 0, lexical_end);
            let intervals = vec![interval(start, Stage::Embed, 0, 5), interval(start, Stage::Retrieve, 5, 7), beside];
            milliseconds(&Breakdown::of(start, start + MILLISECOND * 10, intervals))
        };
        assert_eq!(at(3), [("embed", 5), ("filter", 0), ("retrieve", 2), ("other", 3)]);
        assert_eq!(at(9), [("embed", 0), ("filter", 9), ("retrieve", 0), ("other", 1)]);
    }

    proptest! {
        #[test]
        fn the_parts_add_up_whatever_ran_at_once(
            spans in prop::collection::vec((0..Stage::ALL.len(), 0..2_000_000_u64, 0..1_000_000_u64), 0..40),
            total in 0..3_000_000_u64,
        ) {
            let start = Instant::now();
            let nanoseconds = |count| Duration::from_nanos(count);
            let intervals: Vec<_> = spans.iter().map(|(stage, from, length)| Interval {
                stage: Stage::ALL[*stage],
                started: start + nanoseconds(*from),
                ended: start + nanoseconds(from + length),
            }).collect();
            let now = start + nanoseconds(total);
            let breakdown = Breakdown::of(start, now, intervals.clone());
            prop_assert_eq!(breakdown.stages.iter().map(|time| time.duration).sum::<Duration>(), breakdown.total);
            prop_assert_eq!(breakdown.total, nanoseconds(total));
            // A moment is other's exactly when no stage ran: counted one by one at the ends of what ran.
            let mut ends: Vec<_> = intervals.iter().flat_map(|i| [i.started, i.ended]).chain([start, now]).collect();
            ends.retain(|end| *end <= now);
            ends.sort();
            let idle = ends.windows(2).filter(|pair| !intervals.iter().any(|i| i.started <= pair[0] && i.ended >= pair[1]));
            prop_assert_eq!(breakdown.other(), idle.map(|pair| pair[1] - pair[0]).sum::<Duration>());
        }
    }
}
