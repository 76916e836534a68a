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

/// Of this many rows a filter has to leave one, or the rest is compared exactly: cheaper than estimating whole blocks.
const ESTIMATE_ROWS_PER_SELECTED: usize = 32;

/// How many standard deviations above its estimate a cosine is thought possible.
const DEVIATIONS: f32 = 3.0;

/// Blocks visited before the rest is cut down to what may still matter, per vector wanted.
const FIRST_BLOCKS_PER_LIMIT: usize = 2;

/// Vectors on their way from memory while others are compared: a miss takes as long as three comparisons.
const PREFETCH_ROWS: usize = 8;

/// Requests that share one pass: a segment's codes stay in the cache while each of them is aimed at it.
const GROUP: usize = 8;

/// Returns for each request the nearest vectors of a snapshot, spread over the current pool when nobody else needs it.
///
/// # Errors
///
/// What the ticket says when it is no longer valid, or a request's deadline.
pub fn search(snapshot: &Snapshot, requests: &[Request], ticket: &Ticket) -> Result<Vec<Found>> {
    let mut found = Vec::with_capacity(requests.len());
    for group in requests.chunks(GROUP) {
        let scans: Vec<Scan<'_>> = group.iter().map(|request| Scan::new(snapshot, request, ticket)).collect();
        found.extend(pass(snapshot, &scans, ticket.alone() && worth_sharing(snapshot, group))?);
    }
    Ok(found)
}

fn worth_sharing(snapshot: &Snapshot, requests: &[Request]) -> bool {
    let exact = requests.iter().any(|request| request.accuracy == Accuracy::Exact);
    snapshot.vectors() * requests.len() >= if exact { PARALLEL_ROWS_MIN_EXACT } else { PARALLEL_ROWS_MIN }
}

/// Takes a group of requests through both passes.
fn pass(snapshot: &Snapshot, scans: &[Scan<'_>], parallel: bool) -> Result<Vec<Found>> {
    let look = |segment| scans.iter().map(|scan| scan.view(segment)).collect();
    let seen: Result<Vec<Vec<View<'_>>>> = match parallel {
        true => snapshot.segments().par_iter().map(look).collect(),
        false => snapshot.segments().iter().map(look).collect(),
    };
    let mut by_request: Vec<Vec<View<'_>>> = scans.iter().map(|_| Vec::new()).collect();
    for views in seen? {
        by_request.iter_mut().zip(views).for_each(|(request, view)| request.push(view));
    }
    match parallel && scans.len() > 1 {
        true => scans.par_iter().zip(by_request).map(|(scan, views)| scan.finish(views)).collect(),
        false => scans.iter().zip(by_request).map(|(scan, views)| scan.finish(views)).collect(),
    }
}

/// A request on its way.
struct Scan<'a> {
    kernels: &'static Kernels,
    request: &'a Request,
    rotated: Vec<f32>,
    limit: usize,
    ticket: Ticket,
}

/// What the first pass saw of a segment.
struct View<'a> {
    segment: &'a Segment,
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
    sketch: &'a Sketch,
    probe: Probe,
    selected: RowSet,
    maxima: Vec<f32>,
    margin: f32,
}

/// A block and the largest cosine that it may hold.
struct Bound<'a> {
    most: f32,
    segment: &'a Segment,
    estimated: &'a Estimated<'a>,
    block: usize,
}

/// A vector and the largest cosine that it may have.
struct Candidate<'a> {
    most: f32,
    segment: &'a Segment,
    row: usize,
}

impl<'a> Scan<'a> {
    fn new(snapshot: &Snapshot, request: &'a Request, ticket: &Ticket) -> Self {
        let rotated = snapshot.layout().rotation.apply(request.vector.as_slice());
        let limit = request.limit.min(snapshot.vectors());
        Self { kernels: Kernels::best(), request, rotated, limit, ticket: ticket.until(request.deadline) }
    }

    /// The first pass over one segment.
    fn view(&self, segment: &'a Segment) -> Result<View<'a>> {
        self.ticket.check()?;
        let selected = segment.selected(self.request.filter.as_ref());
        let scanned = selected.count();
        let worth_estimating = scanned * ESTIMATE_ROWS_PER_SELECTED > segment.len();
        let seen = match segment.sketch() {
            Some(sketch) if worth_estimating && self.request.accuracy != Accuracy::Exact => {
                Seen::Estimated(self.estimate(sketch, selected))
            }
            _ => Seen::Exactly(self.compare_all(segment, &selected)?),
        };
        Ok(View { segment, scanned, seen })
    }

    fn estimate(&self, sketch: &'a Sketch, selected: RowSet) -> Estimated<'a> {
        let probe = sketch.probe(&self.rotated);
        let mut maxima = vec![0.0; selected.words().len()];
        self.kernels.maxima(&sketch.aim(&probe), selected.words(), &mut maxima);
        Estimated { sketch, margin: probe.margin(DEVIATIONS), probe, selected, maxima }
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
        for View { segment, scanned, seen } in views {
            match seen {
                Seen::Exactly(top) => {
                    best.top.absorb(top);
                    compared_all += scanned;
                }
                Seen::Estimated(seen) => estimated.push((segment, seen)),
            }
        }
        let mut bounds: Vec<Bound<'_>> = estimated.iter().flat_map(|(segment, seen)| seen.bounds(segment)).collect();
        let first = (self.limit * FIRST_BLOCKS_PER_LIMIT).min(bounds.len());
        if first < bounds.len() {
            bounds.select_nth_unstable_by(first, Bound::most_first);
        }
        let mut rest = bounds.split_off(first);
        self.visit(bounds, &mut best)?;
        // Now that the floor is high, few of the rest remain to be sorted.
        rest.retain(|bound| bound.most >= best.top.floor());
        self.visit(rest, &mut best)?;
        Ok(Found { scored: best.top.into_sorted(), scanned, compared: (compared_all + best.compared) as u64 })
    }

    /// Compares exactly what may be among the nearest, block by block, most promising first.
    fn visit(&self, mut bounds: Vec<Bound<'_>>, best: &mut Best) -> Result<()> {
        bounds.sort_unstable_by(Bound::most_first);
        let mut waiting = VecDeque::with_capacity(PREFETCH_ROWS + BLOCK_ROWS);
        for (at, bound) in bounds.iter().enumerate() {
            if at % CHECK_BLOCKS == 0 {
                self.ticket.check()?;
            }
            if bound.most < best.top.floor() || best.compared + waiting.len() >= best.compared_max {
                break;
            }
            self.candidates(bound, best.top.floor(), &mut waiting);
            while waiting.len() > PREFETCH_ROWS {
                waiting.pop_front().into_iter().for_each(|candidate| self.settle(&candidate, best));
            }
        }
        waiting.iter().for_each(|candidate| self.settle(candidate, best));
        Ok(())
    }

    /// Queues the vectors of a block that may be among the nearest and has them fetched from memory meanwhile.
    fn candidates<'b>(&self, bound: &Bound<'b>, floor: f32, waiting: &mut VecDeque<Candidate<'b>>) {
        let Estimated { sketch, probe, selected, margin, .. } = bound.estimated;
        let estimates = self.kernels.estimate(&sketch.aim(probe), bound.block);
        for bit in bits(selected.words()[bound.block]) {
            let most = estimates[bit] + margin;
            if most >= floor {
                let (segment, row) = (bound.segment, bound.block * BLOCK_ROWS + bit);
                kernels::prefetch(segment.vector(row));
                waiting.push_back(Candidate { most, segment, row });
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
    fn bounds<'a>(&'a self, segment: &'a Segment) -> impl Iterator<Item = Bound<'a>> {
        let selected = self.maxima.iter().enumerate().filter(|(_, most)| **most > f32::NEG_INFINITY);
        selected.map(|(block, most)| Bound { most: most + self.margin, segment, estimated: self, block })
    }
}

impl Bound<'_> {
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
