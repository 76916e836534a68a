//! The arithmetic of a scan, in the widest instructions that the machine has. The only unsafe code of the crate.
//!
//! A sketch (`super::sketch`) holds one bit per coordinate. The coordinates of 32 vectors are taken four at a time: a nibble
//! picks one of 16 sums of the query's four values from a table that fits a register, so one shuffle instruction looks up
//! 16 to 64 vectors at once (Fast Scan: André et al., VLDB 2015). It needs no population count, and the query keeps six
//! bits where bit planes would pay for each.
#![allow(unsafe_code)] // vector loads, and calls of functions compiled for instructions that were found first

use std::sync::LazyLock;

use super::segment::BLOCK_ROWS;

#[cfg(any(target_arch = "aarch64", test))]
mod neon;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

/// The largest table entry: four of them fit a byte, so that sums are widened once for two bytes of code.
pub const ENTRY_MAX: u8 = 63;

/// Tables of a query: for one byte of code 16 sums for its low and 16 for its high nibble.
#[derive(Debug, Clone, Copy)]
#[repr(align(32))]
pub struct Table(pub [u8; 32]);

/// A column of codes: one byte, that is eight coordinates, of each of 32 vectors. Aligned, so that no load spans two lines
/// of the cache.
#[derive(Debug, Clone, Copy)]
#[repr(align(32))]
pub struct Column(pub [u8; BLOCK_ROWS]);

/// Coded vectors and a query aimed at them: the estimate of row `r` is
/// `offset + shift[r] + scale[r] * (step * sum[r] + base)`, with `sum[r]` looked up in the tables.
#[derive(Debug, Clone, Copy)]
pub struct Aim<'a> {
    /// Blocks of `tables.len()` columns.
    pub columns: &'a [Column],
    /// Per row.
    pub scale: &'a [f32],
    /// Per row.
    pub shift: &'a [f32],
    /// The query; the sum of each table's largest entries is below 2^16.
    pub tables: &'a [Table],
    /// Per query.
    pub step: f32,
    /// Per query.
    pub base: f32,
    /// Per query.
    pub offset: f32,
}

/// One implementation of the arithmetic.
#[derive(Clone, Copy)]
pub struct Kernels {
    /// The instructions it uses.
    pub name: &'static str,
    dot: fn(&[f32], &[f32]) -> f32,
    estimate: fn(&Aim<'_>, usize) -> [f32; BLOCK_ROWS],
    maxima: fn(&Aim<'_>, &[u32], &mut [f32]),
}

impl Kernels {
    /// Returns the fastest implementation that this machine runs.
    pub fn best() -> &'static Self {
        static BEST: LazyLock<Kernels> = LazyLock::new(|| Kernels::available()[0]);
        &BEST
    }

    /// Returns what this machine runs, fastest first; never empty.
    pub fn available() -> Vec<Self> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        found.extend(x86::available());
        #[cfg(target_arch = "aarch64")]
        found.push(neon::KERNELS);
        found.push(portable::KERNELS);
        found
    }

    /// Returns the dot product of two slices of the same length; the longer one is cut.
    ///
    /// The order of additions depends on the length only, so equal vectors score equally wherever they lie.
    #[inline]
    pub fn dot(&self, a: &[f32], b: &[f32]) -> f32 {
        (self.dot)(a, b)
    }

    /// Returns the estimates of one block.
    #[inline]
    pub fn estimate(&self, aim: &Aim<'_>, block: usize) -> [f32; BLOCK_ROWS] {
        (self.estimate)(aim, block)
    }

    /// Writes the largest estimate among the `selected` rows of each block, -∞ where none is.
    #[inline]
    pub fn maxima(&self, aim: &Aim<'_>, selected: &[u32], out: &mut [f32]) {
        (self.maxima)(aim, selected, out);
    }
}

/// Asks for a vector that will be read soon.
#[inline]
pub fn prefetch(vector: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    x86::prefetch(vector);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = vector;
}

impl<'a> Aim<'a> {
    #[inline(always)]
    fn block(&self, block: usize) -> &'a [Column] {
        &self.columns[block * self.tables.len()..][..self.tables.len()]
    }

    /// Turns looked-up sums into estimates. Inlined into functions of every instruction set, whose vectors it then uses.
    #[inline(always)]
    fn finish(&self, block: usize, sums: &[u16; BLOCK_ROWS]) -> [f32; BLOCK_ROWS] {
        let scale = &self.scale[block * BLOCK_ROWS..][..BLOCK_ROWS];
        let shift = &self.shift[block * BLOCK_ROWS..][..BLOCK_ROWS];
        let mut estimates = [0.0; BLOCK_ROWS];
        for row in 0..BLOCK_ROWS {
            let product = self.step * f32::from(sums[row]) + self.base;
            estimates[row] = self.offset + shift[row] + scale[row] * product;
        }
        estimates
    }
}

/// Returns the largest of the estimates whose bit is set.
#[inline(always)]
fn largest(estimates: &[f32; BLOCK_ROWS], selected: u32) -> f32 {
    let mut best = [f32::NEG_INFINITY; 8];
    for (at, estimates) in estimates.as_chunks::<8>().0.iter().enumerate() {
        for (lane, (best, estimate)) in best.iter_mut().zip(estimates).enumerate() {
            // Almost always all of them: worth a branch, for the masks cost as much as the rest.
            let excluded = selected != u32::MAX && selected >> (8 * at + lane) & 1 == 0;
            *best = larger(*best, if excluded { f32::NEG_INFINITY } else { *estimate });
        }
    }
    let half: [f32; 4] = std::array::from_fn(|lane| larger(best[lane], best[lane + 4]));
    larger(larger(half[0], half[2]), larger(half[1], half[3]))
}

/// `f32::max` would spend instructions on NaN, which cannot occur.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// Writes `maxima` with `sums` for one block's look-ups.
#[inline(always)]
fn maxima_with(
    aim: &Aim<'_>,
    selected: &[u32],
    out: &mut [f32],
    sums: impl Fn(&[Column], &[Table]) -> [u16; BLOCK_ROWS],
) {
    for (block, (word, out)) in selected.iter().zip(out).enumerate() {
        *out = match *word {
            0 => f32::NEG_INFINITY,
            word => largest(&aim.finish(block, &sums(aim.block(block), aim.tables)), word),
        };
    }
}

#[cfg(test)]
mod tests;
