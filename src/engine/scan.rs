//! A search over one snapshot, in two passes.
//!
//! The first estimates every vector from its sketch and keeps the best of each block of 32. The second visits blocks in
//! falling order of how near their best vector may be, compares exactly what may be among the nearest, and ends at the
//! first block that can hold nothing better than what was found. So an easy query compares a few dozen vectors exactly and
//! a set of near duplicates as many as it takes: never more than an exact search.

use std::collections::VecDeque;

use rayon::prelude::*;

use super::kernels::{self, Kernels};
use super::pool::Ticket;
use super::segment::{BLOCK_ROWS, RowSet, Segment};
use super::sketch::{Probe, Sketch};
use super::snapshot::Snapshot;
use super::top::Top;
use super::{Accuracy, Found, Request, Scored};
use crate::domain::ChunkId;
use crate::error::Result;

/// Blocks compared exactly between two looks at the ticket: 256 vectors, some 30 µs at 384 coordinates.
const CHECK_BLOCKS: usize = 8;

/// Vectors from which a search that is alone uses every thread; below, waking them costs more than it saves.
const PARALLEL_ROWS_MIN: usize = 262_144;

/// The same for exact searches, which read 30 times as many bytes.
const PARALLEL_ROWS_MIN_EXACT: usize = 8_192;

/// Of this many rows a filter has to leave one, or what it leaves is compared exactly: aiming at a segment costs as much as
/// a dozen comparisons, estimating a block half of one.
const ESTIMATE_ROWS_PER_SELECTED: usize = 512;

/// How many standard deviations above its estimate a cosine is thought possible. The deviation is that of a segment's worst
/// vector: with 2.5 of them all of 19,900 true neighbours of 1,990 real queries were found, with 2.0 all but 3.
const DEVIATIONS: f32 = 2.5;

/// The same for vectors of few coordinates, whose errors are not bell-shaped: with up to 10 the largest error possible is
/// under 3 deviations.
const DEVIATIONS_NARROW: (usize, f32) = (128, 3.0);

/// Blocks visited before the rest is cut down to what may still matter, per vector wanted.
const FIRST_BLOCKS_PER_LIMIT: usize = 2;

/// Vectors on their way from memory while others are compared: a miss takes as long as three comparisons.
const PREFETCH_ROWS: usize = 8;

/// A request and the right to work on it.
pub type Task = (Request, Ticket);

/// Returns for each task the nearest vectors of a snapshot. The tasks share one pass: a segment's codes stay in the cache
/// while each of them is aimed at it. With `parallel`, a pass that is worth it spreads over the current pool.
///
/// A task fails with what its ticket says when it is no longer valid; the others go on.
pub fn search(snapshot: &Snapshot, tasks: &[Task], parallel: bool) -> Vec<Result<Found>> {
    let scans: Vec<Scan<'_>> = tasks.iter().map(|task| Scan::new(snapshot, task)).collect();
    let parallel = parallel && worth_sharing(snapshot, tasks);
    let look = |segment| scans.iter().map(|scan| scan.view(segment)).collect();
    let seen: Vec<Vec<Result<View<'_>>>> = match parallel {
        true => snapshot.segments().par_iter().map(look).collect(),
        false => snapshot.segments().iter().map(look).collect(),
    };
    let mut by_task: Vec<Result<Vec<View<'_>>>> = scans.iter().map(|_| Ok(Vec::with_capacity(seen.len()))).collect();
    for views in seen {
        by_task.iter_mut().zip(views).for_each(|(task, view)| collect(task, view));
    }
    let finish = |(scan, views): (&Scan<'_>, Result<Vec<View<'_>>>)| scan.finish(views?);
    match parallel && scans.len() > 1 {
        true => scans.par_iter().zip(by_task).map(finish).collect(),
        false => scans.iter().zip(by_task).map(finish).collect(),
    }
}

fn collect<'a>(views: &mut Result<Vec<View<'a>>>, view: Result<View<'a>>) {
    match (views.as_mut(), view) {
        (Ok(views), Ok(view)) => views.push(view),
        (Ok(_), Err(error)) => *views = Err(error),
        (Err(_), _) => {}
    }
}

fn worth_sharing(snapshot: &Snapshot, tasks: &[Task]) -> bool {
    let exact = tasks.iter().any(|(request, _)| request.accuracy == Accuracy::Exact);
    snapshot.vectors() * tasks.len() >= if exact { PARALLEL_ROWS_MIN_EXACT } else { PARALLEL_ROWS_MIN }
}

/// A request on its way.
struct Scan<'a> {
    kernels: &'static Kernels,
    request: &'a Request,
    rotated: Vec<f32>,
    limit: usize,
    ticket: &'a Ticket,
}

/// What the first pass saw of a segment.
struct View<'a> {
    scanned: usize,
    seen: Seen<'a>,
}

enum Seen<'a> {
    /// The nearest, compared exactly.
    Exactly(Top),
    /// The largest estimate of each block.
    Estimated(Estimated<'a>),
}

struct Estimated<'a> {
    segment: &'a Segment,
    sketch: &'a Sketch,
    probe: Probe,
    selected: RowSet,
    maxima: Vec<f32>,
    margin: f32,
}

/// A block of which some vector may be among the nearest.
#[derive(Clone, Copy)]
struct Bound {
    /// The largest cosine that it may hold.
    most: f32,
    /// Which of the segments that were estimated.
    segment: u32,
    block: u32,
    /// Rows that are compared already, one bit each.
    compared: u32,
}

/// A vector and the largest cosine that it may have.
struct Candidate<'a> {
    most: f32,
    segment: &'a Segment,
    row: usize,
}

impl<'a> Scan<'a> {
    fn new(snapshot: &Snapshot, (request, ticket): &'a Task) -> Self {
        let rotated = snapshot.layout().rotation.apply(request.vector.as_slice());
        let limit = request.limit.min(snapshot.vectors());
        Self { kernels: Kernels::best(), request, rotated, limit, ticket }
    }

    /// The first pass over one segment.
    fn view(&self, segment: &'a Segment) -> Result<View<'a>> {
        self.ticket.check()?;
        let selected = segment.selected(self.request.filter.as_ref());
        let scanned = selected.count();
        let worth_estimating = scanned * ESTIMATE_ROWS_PER_SELECTED > segment.len();
        let seen = match segment.sketch() {
            Some(sketch) if worth_estimating && self.request.accuracy != Accuracy::Exact => {
                Seen::Estimated(self.estimate(segment, sketch, selected))
            }
            _ => Seen::Exactly(self.compare_all(segment, &selected)?),
        };
        Ok(View { scanned, seen })
    }

    fn estimate(&self, segment: &'a Segment, sketch: &'a Sketch, selected: RowSet) -> Estimated<'a> {
        let probe = sketch.probe(&self.rotated);
        let mut maxima = vec![0.0; selected.words().len()];
        self.kernels.maxima(&sketch.aim(&probe), selected.words(), &mut maxima);
        Estimated { segment, sketch, margin: probe.margin(self.deviations()), probe, selected, maxima }
    }

    fn deviations(&self) -> f32 {
        let (narrow, deviations) = DEVIATIONS_NARROW;
        if self.rotated.len() < narrow { deviations } else { DEVIATIONS }
    }

    fn compare_all(&self, segment: &Segment, selected: &RowSet) -> Result<Top> {
        let mut top = Top::new(self.limit);
        let mut rows = Vec::with_capacity(CHECK_BLOCKS * BLOCK_ROWS);
        for (at, words) in selected.words().chunks(CHECK_BLOCKS).enumerate() {
            self.ticket.check()?;
            rows.clear();
            for (block, word) in words.iter().enumerate() {
                rows.extend(bits(*word).map(|bit| (at * CHECK_BLOCKS + block) * BLOCK_ROWS + bit));
            }
            for (next, row) in rows.iter().enumerate() {
                // What a filter leaves lies scattered, where the processor cannot foresee the next read.
                rows.get(next + PREFETCH_ROWS).into_iter().for_each(|row| kernels::prefetch(segment.vector(*row)));
                top.push(self.compare(segment, *row));
            }
        }
        Ok(top)
    }

    fn compare(&self, segment: &Segment, row: usize) -> Scored {
        let score = self.kernels.dot(segment.vector(row), self.request.vector.as_slice());
        Scored { id: ChunkId(segment.id(row)), score }
    }

    /// The second pass over all segments.
    fn finish(&self, views: Vec<View<'a>>) -> Result<Found> {
        let mut best = Best { top: Top::new(self.limit), compared: 0, compared_max: self.compared_max() };
        let mut compared_all = 0;
        let scanned = views.iter().map(|view| view.scanned as u64).sum();
        let mut estimated = Vec::new();
        for View { scanned, seen } in views {
            match seen {
                Seen::Exactly(top) => {
                    best.top.absorb(top);
                    compared_all += scanned;
                }
                Seen::Estimated(seen) => estimated.push(seen),
            }
        }
        let mut bounds: Vec<Bound> = (0..).zip(&estimated).flat_map(|(at, seen)| seen.bounds(at)).collect();
        self.compare_first(&mut bounds, &estimated, &mut best);
        // Now that the floor is high, few of them remain to be sorted.
        bounds.retain(|bound| bound.most >= best.top.floor());
        self.visit(bounds, &estimated, &mut best)?;
        Ok(Found { scored: best.top.into_sorted(), scanned, compared: (compared_all + best.compared) as u64 })
    }

    /// Compares the most promising vector of each of the most promising blocks: that puts the floor almost where it will
    /// be, at a fraction of what comparing those blocks would cost.
    fn compare_first(&self, bounds: &mut [Bound], estimated: &[Estimated<'_>], best: &mut Best) {
        let first = (self.limit * FIRST_BLOCKS_PER_LIMIT).min(bounds.len());
        if first < bounds.len() {
            bounds.select_nth_unstable_by(first, Bound::most_first);
        }
        let mut waiting = Vec::with_capacity(first);
        for bound in &mut bounds[..first] {
            let seen = &estimated[bound.segment as usize];
            let estimates = self.kernels.estimate(&seen.sketch.aim(&seen.probe), bound.block as usize);
            let rows = bits(seen.selected.words()[bound.block as usize]);
            let Some(bit) = rows.max_by(|a, b| estimates[*a].total_cmp(&estimates[*b])) else { continue };
            bound.compared = 1 << bit;
            waiting.push(seen.candidate(bound.block, bit, &estimates));
        }
        waiting.iter().for_each(|candidate| self.settle(candidate, best));
    }

    /// Compares exactly what may be among the nearest, block by block, most promising first.
    fn visit(&self, mut bounds: Vec<Bound>, estimated: &[Estimated<'_>], best: &mut Best) -> Result<()> {
        bounds.sort_unstable_by(Bound::most_first);
        let mut waiting = VecDeque::with_capacity(PREFETCH_ROWS + BLOCK_ROWS);
        for (at, bound) in bounds.iter().enumerate() {
            if at % CHECK_BLOCKS == 0 {
                self.ticket.check()?;
            }
            if bound.most < best.top.floor() || best.compared + waiting.len() >= best.compared_max {
                break;
            }
            self.candidates(bound, &estimated[bound.segment as usize], best.top.floor(), &mut waiting);
            while waiting.len() > PREFETCH_ROWS {
                waiting.pop_front().into_iter().for_each(|candidate| self.settle(&candidate, best));
            }
        }
        waiting.iter().for_each(|candidate| self.settle(candidate, best));
        Ok(())
    }

    /// Queues the vectors of a block that may be among the nearest and has them fetched from memory meanwhile.
    fn candidates<'b>(
        &self,
        bound: &Bound,
        seen: &'b Estimated<'b>,
        floor: f32,
        waiting: &mut VecDeque<Candidate<'b>>,
    ) {
        let estimates = self.kernels.estimate(&seen.sketch.aim(&seen.probe), bound.block as usize);
        for bit in bits(seen.selected.words()[bound.block as usize] & !bound.compared) {
            if estimates[bit] + seen.margin >= floor {
                waiting.push_back(seen.candidate(bound.block, bit, &estimates));
            }
        }
    }

    fn settle(&self, candidate: &Candidate<'_>, best: &mut Best) {
        // The floor may have risen while it waited.
        if candidate.most >= best.top.floor() && best.compared < best.compared_max {
            best.compared += 1;
            best.top.push(self.compare(candidate.segment, candidate.row));
        }
    }

    fn compared_max(&self) -> usize {
        match self.request.accuracy {
            Accuracy::Default | Accuracy::Exact => usize::MAX,
            Accuracy::Oversample(times) => self.limit.saturating_mul(usize::from(times).max(1)),
        }
    }
}

/// The nearest so far, and how many vectors the second pass compared and may compare.
struct Best {
    top: Top,
    compared: usize,
    compared_max: usize,
}

impl Estimated<'_> {
    /// Returns a bound for each block with a selected row; `segment` is the place of this one among the estimated.
    fn bounds(&self, segment: u32) -> impl Iterator<Item = Bound> {
        let selected = (0..).zip(&self.maxima).filter(|(_, most)| **most > f32::NEG_INFINITY);
        selected.map(move |(block, most)| Bound { most: most + self.margin, segment, block, compared: 0 })
    }

    /// Returns a row of a block, on its way from memory.
    fn candidate(&self, block: u32, bit: usize, estimates: &[f32; BLOCK_ROWS]) -> Candidate<'_> {
        let row = block as usize * BLOCK_ROWS + bit;
        kernels::prefetch(self.segment.vector(row));
        Candidate { most: estimates[bit] + self.margin, segment: self.segment, row }
    }
}

impl Bound {
    fn most_first(&self, other: &Self) -> std::cmp::Ordering {
        other.most.total_cmp(&self.most)
    }
}

/// Returns the positions of the bits set.
fn bits(mut word: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros() as usize;
        word &= word.wrapping_sub(1);
        (bit < BLOCK_ROWS).then_some(bit)
    })
}
