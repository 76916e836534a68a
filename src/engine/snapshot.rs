//! One state of the index: what every search that holds it sees, whatever is written meanwhile.

use std::path::PathBuf;
use std::sync::Arc;

use rayon::prelude::*;

use super::originals::Originals;
use super::rotation::Rotation;
use super::segment::{Entry, Segment, high};
use super::{Change, EngineStats, IdSet};

/// 4,096 vectors of 384 coordinates, 6 MB, or the sketches of 100,000 such: 0.4 ms each way, the longest that an async
/// thread may be held.
const COORDINATES_HERE_MAX: (usize, usize) = (4_096 * 384, 100_000 * 384);

/// How vectors are laid out.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Coordinates of a vector.
    pub dimension: usize,
    /// Vectors in one segment at most.
    pub segment_rows_max: usize,
    /// Vectors from which a segment has a sketch; smaller ones are compared exactly.
    pub sketch_rows_min: usize,
    /// Coordinates of all vectors up to which a search runs on its caller's thread: going to another and back would take
    /// longer than the search, and more of the processor. For a search that compares them all, and for one that estimates.
    pub coordinates_here_max: (usize, usize),
    /// Before sketching.
    pub rotation: Arc<Rotation>,
    /// Where the originals of large segments are mapped into files; in memory when not given.
    pub mapped_folder: Option<PathBuf>,
}

/// Segments in the order they were made. Cloning copies handles, not vectors.
#[derive(Debug, Clone)]
pub struct Snapshot {
    layout: Layout,
    segments: Vec<Segment>,
    vectors: usize,
}

impl Layout {
    /// Returns the layout for vectors of `dimension` coordinates: at 384 a segment is 12.6 MB, which bounds what one
    /// change copies.
    pub fn new(dimension: usize) -> Self {
        Self {
            dimension,
            segment_rows_max: 8_192,
            sketch_rows_min: 256,
            coordinates_here_max: COORDINATES_HERE_MAX,
            rotation: Arc::new(Rotation::new(dimension)),
            mapped_folder: None,
        }
    }

    /// Puts the coordinates of a segment where they belong. Segments under half their size soon merge into others and stay
    /// in memory.
    pub fn place(&self, values: Vec<f32>) -> Originals {
        let large = values.len() * 2 >= self.segment_rows_max * self.dimension;
        match &self.mapped_folder {
            Some(folder) if large => Originals::mapped_in(folder, values),
            _ => Originals::in_memory(values),
        }
    }
}

impl Snapshot {
    /// Returns an empty index.
    pub fn empty(layout: Layout) -> Self {
        Self { layout, segments: Vec::new(), vectors: 0 }
    }

    /// Returns how vectors are laid out.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns the segments.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Returns the number of vectors that a search can find.
    pub fn vectors(&self) -> usize {
        self.vectors
    }

    /// Returns the number of coordinates of them all.
    pub fn coordinates(&self) -> usize {
        self.vectors.saturating_mul(self.layout.dimension)
    }

    /// Returns the ids held.
    pub fn ids(&self) -> IdSet {
        let mut ids = IdSet::new();
        for segment in &self.segments {
            ids.extend(segment.entries().map(|(id, _)| id));
        }
        ids
    }

    /// Returns what is held and what it costs.
    pub fn stats(&self) -> EngineStats {
        let segments: usize = self.segments.iter().map(Segment::bytes).sum();
        let bytes = segments + self.segments.capacity() * size_of::<Segment>();
        EngineStats { vectors: self.vectors as u64, bytes: bytes as u64 }
    }

    /// Returns the index after a change. What is both added and removed is not there.
    ///
    /// Copies at most one segment beyond what was added and what removals paid for, and each vector a logarithmic number of
    /// times over its life. A change of more than a segment uses the current pool.
    #[must_use]
    pub fn with(&self, change: &Change) -> Self {
        let mut removed: Vec<u64> = change.removed.iter().map(|id| id.0).collect();
        removed.sort_unstable();
        removed.dedup();
        let mut next = self.without(&removed);
        next.compact();
        let added = self.new_entries(change, &removed);
        for run in added.chunk_by(|a, b| high(a.0) == high(b.0)) {
            let (full, rest) = run.split_at(run.len() - run.len() % self.layout.segment_rows_max);
            next.prepend_full(full);
            next.append(rest);
        }
        next.vectors = next.segments.iter().map(Segment::live).sum();
        next
    }

    fn without(&self, removed: &[u64]) -> Self {
        let segments =
            self.segments.iter().map(|segment| segment.without(within(removed, segment, |id| *id))).collect();
        Self { segments, layout: self.layout.clone(), vectors: self.vectors }
    }

    /// Returns what a change really adds, in rising order of id.
    fn new_entries<'a>(&self, change: &'a Change, removed: &[u64]) -> Vec<Entry<'a>> {
        let mut entries: Vec<Entry<'a>> = change.added.iter().map(|(id, vector)| (id.0, vector.as_slice())).collect();
        entries.sort_by_key(|(id, _)| *id);
        entries.dedup_by_key(|(id, _)| *id);
        entries.retain(|(id, _)| removed.binary_search(id).is_err());
        let mut held: Vec<u64> = Vec::new();
        for segment in &self.segments {
            let near = within(&entries, segment, |(id, _)| *id);
            held.extend(near.iter().map(|(id, _)| *id).filter(|id| segment.find(*id).is_some()));
        }
        held.sort_unstable();
        entries.retain(|(id, _)| held.binary_search(id).is_err());
        entries
    }

    /// Gives up segments of which more than half is removed; what is left of them moves to the tail. Every vector moved
    /// was paid for by a removal.
    fn compact(&mut self) {
        let (sparse, kept): (Vec<Segment>, _) = self.segments.drain(..).partition(|s| s.live() * 2 < s.len());
        self.segments = kept;
        for segment in sparse.iter().filter(|segment| segment.live() > 0) {
            self.append(&segment.entries().collect::<Vec<_>>());
        }
    }

    /// Makes whole segments, each on a thread of the current pool. They go to the front, where no merge looks.
    fn prepend_full(&mut self, entries: &[Entry<'_>]) {
        // Without this an empty iterator would start rayon's global pool.
        if !entries.is_empty() {
            let chunks = entries.par_chunks(self.layout.segment_rows_max);
            let full: Vec<Segment> = chunks.map(|rows| Segment::new(&self.layout, rows)).collect();
            self.segments.splice(0..0, full);
        }
    }

    /// Appends at most a segment's worth of vectors, together with the tail's smaller segments. Each merge makes a vector's
    /// segment half as large again, so segments stay few and copies rare.
    fn append(&mut self, entries: &[Entry<'_>]) {
        let Some((id, _)) = entries.first() else { return };
        let mut keep = self.segments.len();
        let mut total = entries.len();
        while let Some(last) = keep.checked_sub(1).map(|at| &self.segments[at]) {
            if last.high() != high(*id)
                || last.live() >= 2 * total
                || last.live() + total > self.layout.segment_rows_max
            {
                break;
            }
            total += last.live();
            keep -= 1;
        }
        let tail = self.segments.split_off(keep);
        let mut merged: Vec<Entry<'_>> =
            tail.iter().flat_map(Segment::entries).chain(entries.iter().copied()).collect();
        merged.sort_by_key(|(id, _)| *id);
        self.segments.push(Segment::new(&self.layout, &merged));
    }
}

/// Returns the part of `sorted` whose ids may be in `segment`.
fn within<'a, T>(sorted: &'a [T], segment: &Segment, id: impl Fn(&T) -> u64) -> &'a [T] {
    let range = segment.range();
    let from = sorted.partition_point(|item| id(item) < *range.start());
    let to = sorted.partition_point(|item| id(item) <= *range.end());
    &sorted[from..to]
}
