//! Vectors to search and to search with, and what a plain loop finds.

use std::path::Path;

use rayon::prelude::*;

/// Rows of unit vectors, one after the other.
pub struct Vectors {
    pub dimension: usize,
    pub values: Vec<f32>,
}

impl Vectors {
    /// Reads little-endian f32 rows.
    pub fn read(path: &Path, dimension: usize) -> std::io::Result<Self> {
        let bytes = std::fs::read(path)?;
        let mut values: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        values.truncate(values.len() / dimension * dimension);
        Ok(Self { dimension, values })
    }

    pub fn len(&self) -> usize {
        self.values.len() / self.dimension
    }

    pub fn row(&self, at: usize) -> &[f32] {
        &self.values[at * self.dimension..][..self.dimension]
    }

    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.dimension)
    }

    /// Takes `count` rows, evenly spread, out of these: queries that are not in the index.
    pub fn hold_out(self, count: usize) -> (Self, Self) {
        let step = (self.len() / count).max(1);
        let (mut kept, mut held) = (Vec::new(), Vec::new());
        for (at, row) in self.rows().enumerate() {
            let to = if at % step == 0 && held.len() < count * self.dimension { &mut held } else { &mut kept };
            to.extend_from_slice(row);
        }
        let dimension = self.dimension;
        (Self { dimension, values: kept }, Self { dimension, values: held })
    }

    /// Returns `count` rows of [`Self::grown`].
    pub fn grown_to(&self, count: usize) -> Self {
        let mut values = vec![0.0; count * self.dimension];
        let rows = values.par_chunks_exact_mut(self.dimension).enumerate();
        rows.for_each(|(at, out)| out.copy_from_slice(&self.grown(at)));
        Self { dimension: self.dimension, values }
    }

    /// Returns row `at` of an endless set: these as far as they go, then these moved by 0.7 of the normalised difference of
    /// two others, which keeps the spectrum of real vectors.
    pub fn grown(&self, at: usize) -> Vec<f32> {
        let n = self.len();
        let base = self.row(at % n);
        if at < n {
            return base.to_vec();
        }
        let pick = |salt: usize| self.row((at.wrapping_mul(0x9e37_79b1) ^ salt.wrapping_mul(0x85eb_ca77)) % n);
        let (left, right) = (pick(at / n), pick(at / n + 1_000));
        let difference: Vec<f32> = left.iter().zip(right).map(|(a, b)| a - b).collect();
        let step = 0.7 / norm(&difference).max(1e-6);
        let moved: Vec<f32> = base.iter().zip(&difference).map(|(b, d)| b + step * d).collect();
        let length = norm(&moved);
        moved.iter().map(|v| v / length).collect()
    }

    /// Returns for each query the rows of its `limit` nearest among those that `keep` lets pass, by a plain loop.
    pub fn nearest(&self, queries: &Self, limit: usize, keep: impl Fn(usize) -> bool + Sync) -> Vec<Vec<u64>> {
        let rows: Vec<&[f32]> = queries.rows().collect();
        rows.par_iter()
            .map(|query| {
                let scores = self.rows().enumerate().filter(|(at, _)| keep(*at));
                let mut scored: Vec<(f32, u64)> = scores.map(|(at, row)| (dot(query, row), at as u64)).collect();
                let cut = limit.min(scored.len());
                if cut < scored.len() {
                    scored.select_nth_unstable_by(cut, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
                }
                scored[..cut].iter().map(|(_, id)| *id).collect()
            })
            .collect()
    }
}

/// Returns the share of the true neighbours that were found.
pub fn recall(found: &[Vec<u64>], truth: &[Vec<u64>]) -> f64 {
    let hits: usize = found.iter().zip(truth).map(|(f, t)| t.iter().filter(|id| f.contains(id)).count()).sum();
    hits as f64 / truth[..found.len()].iter().map(Vec::len).sum::<usize>() as f64
}

pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, b) = (a.as_chunks::<16>().0, b.as_chunks::<16>().0);
    let mut sums = [0.0f32; 16];
    for (x, y) in a.iter().zip(b) {
        for lane in 0..16 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum()
}

fn norm(v: &[f32]) -> f32 {
    v.iter().map(|x| x * x).sum::<f32>().sqrt()
}
