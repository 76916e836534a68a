//! A few thousand vectors in one piece: immutable but for marks on what was removed.

use std::sync::Arc;

use super::IdSet;
use super::originals::Originals;
use super::sketch::Sketch;
use super::snapshot::Layout;

/// Rows per word of a [`RowSet`].
pub const BLOCK_ROWS: usize = 32;

/// Where a filter's runs are shorter than this, its next [`SINGLES`] ids are taken one by one: finding the end of a run
/// costs as much as a few single ids.
const SHORT_RUN: u32 = 16;
const SINGLES: usize = 128;

/// Vectors in rising order of id, never changed once made.
///
/// Ids share their upper half, as the partitions of an [`IdSet`] do, so that a row's id costs four bytes.
#[derive(Debug)]
struct Rows {
    dimension: usize,
    high: u32,
    low: Box<[u32]>,
    values: Originals,
    sketch: Option<Sketch>,
}

/// Shared rows and the marks of those removed. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Segment {
    rows: Arc<Rows>,
    removed: Option<Arc<RowSet>>,
    live: usize,
}

/// A set of rows of one segment, one bit each.
#[derive(Debug, Clone)]
pub struct RowSet(Box<[u32]>);

/// A vector on its way into a segment.
pub type Entry<'a> = (u64, &'a [f32]);

/// Returns the half of an id that a segment's rows share.
pub fn high(id: u64) -> u32 {
    (id >> 32) as u32
}

impl Segment {
    /// Returns a segment of `entries`, which rise strictly by id and share [`high`].
    pub fn new(layout: &Layout, entries: &[Entry<'_>]) -> Self {
        let dimension = layout.dimension;
        let mut values = Vec::with_capacity(entries.len() * dimension);
        entries.iter().for_each(|(_, vector)| values.extend_from_slice(vector));
        let sketched = entries.len() >= layout.sketch_rows_min;
        let rows = Rows {
            dimension,
            sketch: sketched.then(|| Sketch::new(&layout.rotation, dimension, &values)),
            high: entries.first().map_or(0, |(id, _)| high(*id)),
            low: entries.iter().map(|(id, _)| *id as u32).collect(),
            values: layout.place(values),
        };
        Self { rows: Arc::new(rows), removed: None, live: entries.len() }
    }

    /// Returns the number of vectors that a search can find.
    pub fn live(&self) -> usize {
        self.live
    }

    /// Returns the number of rows, removed ones included.
    pub fn len(&self) -> usize {
        self.rows.low.len()
    }

    /// Returns the half that all ids share.
    pub fn high(&self) -> u32 {
        self.rows.high
    }

    /// Returns the id of a row.
    pub fn id(&self, row: usize) -> u64 {
        u64::from(self.rows.high) << 32 | u64::from(self.rows.low[row])
    }

    /// Returns the vector of a row.
    pub fn vector(&self, row: usize) -> &[f32] {
        let dimension = self.rows.dimension;
        &self.rows.values.as_slice()[row * dimension..][..dimension]
    }

    /// Returns the sketch; small segments have none.
    pub fn sketch(&self) -> Option<&Sketch> {
        self.rows.sketch.as_ref()
    }

    /// Returns the smallest and the largest id, removed ones included.
    pub fn range(&self) -> std::ops::RangeInclusive<u64> {
        self.id(0)..=self.id(self.len() - 1)
    }

    /// Returns the row of an id, `None` when it is not here or was removed.
    pub fn find(&self, id: u64) -> Option<usize> {
        if high(id) != self.rows.high {
            return None;
        }
        let row = self.rows.low.binary_search(&(id as u32)).ok()?;
        self.is_live(row).then_some(row)
    }

    /// Returns the vectors that a search can find, in rising order of id.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        (0..self.len()).filter(|row| self.is_live(*row)).map(|row| (self.id(row), self.vector(row)))
    }

    /// Returns the segment without `ids`, which rise strictly; the same rows when none of them is here.
    pub fn without(&self, ids: &[u64]) -> Self {
        let rows: Vec<usize> = ids.iter().filter_map(|id| self.find(*id)).collect();
        if rows.is_empty() {
            return self.clone();
        }
        let mut removed = self.removed.as_deref().cloned().unwrap_or_else(|| RowSet::none(self.len()));
        rows.iter().for_each(|row| removed.insert(*row));
        Self { rows: Arc::clone(&self.rows), removed: Some(Arc::new(removed)), live: self.live - rows.len() }
    }

    /// Returns the rows that a search has to score: live and in the filter.
    pub fn selected(&self, filter: Option<&IdSet>) -> RowSet {
        let mut rows = match filter {
            Some(filter) => self.matching(filter),
            None => RowSet::all(self.len()),
        };
        if let Some(removed) = &self.removed {
            rows.subtract(removed);
        }
        rows
    }

    /// Returns the heap bytes held.
    pub fn bytes(&self) -> usize {
        let rows = size_of::<Rows>() + size_of_val(&*self.rows.low) + self.rows.values.heap_bytes();
        let sketch = self.rows.sketch.as_ref().map_or(0, Sketch::bytes);
        rows + sketch + self.removed.as_ref().map_or(0, |removed| size_of_val(&*removed.0))
    }

    fn is_live(&self, row: usize) -> bool {
        self.removed.as_ref().is_none_or(|removed| !removed.contains(row))
    }

    /// Walks the filter's ids and the rows side by side, so that a narrow filter costs little and a wide one little more.
    fn matching(&self, filter: &IdSet) -> RowSet {
        let mut rows = RowSet::none(self.len());
        let Some((_, ids)) = filter.bitmaps().find(|(high, _)| *high == self.rows.high) else { return rows };
        let mut ids = ids.iter();
        let mut row = 0;
        while row < self.len() {
            ids.advance_to(self.rows.low[row]);
            let Some(run) = ids.next_range() else { break };
            let first = self.lower_bound(row, *run.start());
            row = run.end().checked_add(1).map_or(self.len(), |end| self.lower_bound(first, end));
            (first..row).for_each(|row| rows.insert(row));
            if run.end() - run.start() < SHORT_RUN {
                row = self.insert_singly(ids.by_ref().take(SINGLES), row, &mut rows);
            }
        }
        rows
    }

    /// Marks the rows of single ids and returns the row at which to go on.
    fn insert_singly(&self, ids: impl Iterator<Item = u32>, from: usize, rows: &mut RowSet) -> usize {
        let mut row = from;
        for id in ids {
            row = self.lower_bound(row, id);
            match self.rows.low.get(row) {
                None => break,
                Some(low) if *low == id => rows.insert(row),
                Some(_) => {}
            }
        }
        row
    }

    /// Returns the first row at or after `from` whose id is at least `low`.
    fn lower_bound(&self, from: usize, low: u32) -> usize {
        let ids = &*self.rows.low;
        let (Some(first), Some(last), Some(next)) = (ids.first(), ids.last(), ids.get(from)) else { return from };
        if (last - first) as usize + 1 == ids.len() {
            // No gaps, as almost always: an id tells its row.
            return (low.saturating_sub(*first) as usize).min(ids.len());
        }
        // Ids rise by at least 1 a row, so `low` lies within this reach.
        let reach = from.saturating_add(low.saturating_sub(*next) as usize).min(ids.len());
        from + ids[from..reach].partition_point(|id| *id < low)
    }
}

impl RowSet {
    fn none(rows: usize) -> Self {
        Self(vec![0; rows.div_ceil(BLOCK_ROWS)].into_boxed_slice())
    }

    fn all(rows: usize) -> Self {
        let mut words = vec![u32::MAX; rows.div_ceil(BLOCK_ROWS)].into_boxed_slice();
        if let Some(last) = words.last_mut().filter(|_| !rows.is_multiple_of(BLOCK_ROWS)) {
            *last = (1 << (rows % BLOCK_ROWS)) - 1;
        }
        Self(words)
    }

    fn insert(&mut self, row: usize) {
        self.0[row / BLOCK_ROWS] |= 1 << (row % BLOCK_ROWS);
    }

    fn contains(&self, row: usize) -> bool {
        self.0[row / BLOCK_ROWS] >> (row % BLOCK_ROWS) & 1 == 1
    }

    fn subtract(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, removed)| *word &= !removed);
    }

    /// Returns the number of rows.
    pub fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Returns the words, bit `i` of word `w` for row `32 w + i`.
    pub fn words(&self) -> &[u32] {
        &self.0
    }
}
