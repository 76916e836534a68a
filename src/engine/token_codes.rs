//! One bit per coordinate of each token of a passage: late interaction without the model.
//!
//! A token's unit vector is kept as in `super::sketch`: the signs `s` of its rotated difference `r` from the passage's mean
//! token `c`, and one number. For a query's token `q`,
//!
//! ```text
//! ⟨t,q⟩ = ⟨c,q⟩ + ⟨r,q⟩,   ⟨r,q⟩ ≈ scale · ⟨s,q⟩,   scale = |r|² / Σ|rᵢ|
//! ```
//!
//! is unbiased, off by about 0.03 at 384 coordinates. That averages out over the tokens of a query, and largely cancels
//! between passages: the largest of many estimates is about as much too high in each. The mean takes a fifth off the error
//! for 3 bytes a token (on SciFact, rank correlation with exact scores .981 with it and .972 without).
//!
//! The stored form, for a width of `w` coordinates (the dimension, rounded up to 8) and `n` tokens:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | the version, 1 |
//! | 2 | the dimension; this and all that follows little-endian |
//! | 4 | `n` |
//! | 4 + 4 | the steps of the mean and of the scales, f32 |
//! | `w` | the rotated mean, in its steps, signed |
//! | `n` | the scales, in their steps |
//! | `n` · `w` / 8 | the signs, in blocks of 32 tokens: `w` / 8 columns with a byte of each token |
//!
//! At 384 coordinates 49 bytes a token and 399 a passage. What is cut short or of another kind is recognised; a flipped bit
//! in a sign or a scale is not, and moves a score by less than it is off anyway.

use std::sync::Arc;

use super::kernels::{Aim, Column, Kernels};
use super::lookup::{BYTE, Lookup};
use super::rotation::Rotation;
use super::segment::BLOCK_ROWS;
use super::sketch;

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 15;
/// Bytes of a token's scale.
const SCALE_BYTES: usize = 1;
/// A mean is at most 1 long and a difference 2: beyond this step there was never one.
const STEP_MAX: f32 = 0.01;

/// Makes and reads the codes of one dimension; a cheap clone.
#[derive(Debug, Clone)]
pub struct TokenCoder {
    rotation: Arc<Rotation>,
    dimension: u16,
}

/// A passage's tokens, read back.
#[derive(Debug)]
pub struct TokenCodes {
    tokens: usize,
    centre: Vec<f32>,
    /// Per block of 32 tokens one for each byte of code.
    columns: Vec<Column>,
    /// Per token, filled up to whole blocks.
    scales: Vec<f32>,
}

/// A query's tokens, ready to be compared with any passage's.
#[derive(Debug)]
pub struct TokenQuery(Vec<QueryToken>);

#[derive(Debug)]
struct QueryToken {
    rotated: Vec<f32>,
    lookup: Lookup,
}

impl TokenCoder {
    /// Returns the coder for token vectors of `dimension` coordinates; `None` for 0 and beyond 65,535, as no model has it.
    pub fn new(dimension: usize) -> Option<Self> {
        let dimension = u16::try_from(dimension).ok().filter(|dimension| *dimension > 0)?;
        Some(Self { rotation: Arc::new(Rotation::new(dimension.into())), dimension })
    }

    /// Returns the number of coordinates of a token vector.
    pub fn dimension(&self) -> usize {
        self.dimension.into()
    }

    /// Returns the stored form of token vectors, which are at most 1 long and lie one after the other.
    pub fn encode(&self, tokens: &[f32]) -> Vec<u8> {
        let count = tokens.len() / self.dimension();
        let (centre_step, levels) = self.centre(tokens);
        let centre: Vec<f32> = levels.iter().map(|level| f32::from(*level) * centre_step).collect();
        let (columns, scales) = self.signs(tokens, &centre);
        let scale_step = largest(&scales) / f32::from(u8::MAX);

        let mut bytes = Vec::with_capacity(HEADER_BYTES + levels.len() + count * (SCALE_BYTES + self.bytes()));
        bytes.push(VERSION);
        bytes.extend(self.dimension.to_le_bytes());
        bytes.extend(u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend(centre_step.to_le_bytes());
        bytes.extend(scale_step.to_le_bytes());
        bytes.extend(levels.iter().map(|level| level.cast_unsigned()));
        bytes.extend(scales.iter().map(|scale| (scale / scale_step).round() as u8));
        for (block, columns) in columns.chunks_exact(self.bytes()).enumerate() {
            columns.iter().for_each(|column| bytes.extend(&column.0[..rows(count, block)]));
        }
        bytes
    }

    /// Reads the stored form back; `None` when it is damaged or of another dimension or version.
    pub fn decode(&self, bytes: &[u8]) -> Option<TokenCodes> {
        let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        let [version, d0, d1, n0, n1, n2, n3, c0, c1, c2, c3, s0, s1, s2, s3] = *header;
        let steps = [[c0, c1, c2, c3], [s0, s1, s2, s3]].map(f32::from_le_bytes);
        let sound = version == VERSION
            && u16::from_le_bytes([d0, d1]) == self.dimension
            && steps.iter().all(|step| (0.0..=STEP_MAX).contains(step));
        let tokens = usize::try_from(u32::from_le_bytes([n0, n1, n2, n3])).ok()?;
        let wanted = tokens.checked_mul(SCALE_BYTES + self.bytes())?.checked_add(self.rotation.width())?;
        if !sound || rest.len() != wanted {
            return None;
        }
        let (centre, rest) = rest.split_at(self.rotation.width());
        let (scales, signs) = rest.split_at(tokens);
        let blocks = tokens.div_ceil(BLOCK_ROWS);
        let mut codes = TokenCodes {
            tokens,
            centre: centre.iter().map(|level| f32::from(level.cast_signed()) * steps[0]).collect(),
            columns: vec![Column([0; BLOCK_ROWS]); blocks * self.bytes()],
            scales: scales.iter().map(|level| f32::from(*level) * steps[1]).collect(),
        };
        codes.scales.resize(blocks * BLOCK_ROWS, 0.0);
        codes.fill(signs, self.bytes());
        Some(codes)
    }

    /// Returns a query's tokens, one vector after the other, ready for comparison.
    pub fn query(&self, tokens: &[f32]) -> TokenQuery {
        let rotated = tokens.chunks_exact(self.dimension()).map(|token| self.rotation.apply(token));
        TokenQuery(rotated.map(|rotated| QueryToken { lookup: Lookup::new(&rotated), rotated }).collect())
    }

    /// Returns the step and the levels of the mean token, rotated.
    fn centre(&self, tokens: &[f32]) -> (f32, Vec<i8>) {
        if tokens.is_empty() {
            return (0.0, vec![0; self.rotation.width()]);
        }
        let mean = self.rotation.apply(&sketch::mean(self.dimension(), tokens));
        let step = largest(&mean) / f32::from(i8::MAX);
        // Without a step there is nothing but zeros, and NaN is cast to 0.
        (step, mean.iter().map(|value| (value / step).round() as i8).collect())
    }

    /// Returns the signs of the tokens' differences from the mean, in whole blocks, and the tokens' scales.
    fn signs(&self, tokens: &[f32], centre: &[f32]) -> (Vec<Column>, Vec<f32>) {
        let count = tokens.len() / self.dimension();
        let mut columns = vec![Column([0; BLOCK_ROWS]); count.div_ceil(BLOCK_ROWS) * self.bytes()];
        let mut scales = Vec::with_capacity(count);
        let mut rotated = vec![0.0; self.rotation.width()];
        for (row, token) in tokens.chunks_exact(self.dimension()).enumerate() {
            self.rotation.apply_into(token, &mut rotated);
            let block = &mut columns[row / BLOCK_ROWS * self.bytes()..][..self.bytes()];
            scales.push(sketch::encode(&mut rotated, centre, block, row % BLOCK_ROWS).scale);
        }
        (columns, scales)
    }

    /// Returns the bytes of one token's signs.
    fn bytes(&self) -> usize {
        self.rotation.width() / BYTE
    }
}

impl TokenCodes {
    /// Takes the signs over from their stored form, in which the last block is only as wide as it has tokens.
    fn fill(&mut self, mut signs: &[u8], bytes: usize) {
        for (block, columns) in self.columns.chunks_exact_mut(bytes).enumerate() {
            let rows = rows(self.tokens, block);
            let (own, rest) = signs.split_at(rows * bytes);
            let stored = own.chunks_exact(rows);
            columns.iter_mut().zip(stored).for_each(|(column, stored)| column.0[..rows].copy_from_slice(stored));
            signs = rest;
        }
    }
}

impl TokenQuery {
    /// Returns the mean over the query's tokens of the largest estimated cosine with a passage's token, in [-1, 1]; 0
    /// without tokens.
    pub fn score(&self, passage: &TokenCodes) -> f32 {
        self.score_with(Kernels::best(), passage)
    }

    /// As [`Self::score`], with these instructions: for benchmarks and tests.
    #[doc(hidden)]
    pub fn score_with(&self, kernels: &Kernels, passage: &TokenCodes) -> f32 {
        if self.0.is_empty() || passage.tokens == 0 {
            return 0.0;
        }
        let blocks = passage.scales.len() / BLOCK_ROWS;
        let selected: Vec<u32> =
            (0..blocks).map(|block| u32::MAX >> (BLOCK_ROWS - rows(passage.tokens, block))).collect();
        let shift = vec![0.0; passage.scales.len()];
        let mut maxima = vec![0.0; blocks];
        let mut sum = 0.0;
        for QueryToken { rotated, lookup } in &self.0 {
            let aim = Aim {
                columns: &passage.columns,
                scale: &passage.scales,
                shift: &shift,
                tables: &lookup.tables,
                step: lookup.step,
                base: lookup.base,
                offset: kernels.dot(&passage.centre, rotated),
            };
            kernels.maxima(&aim, &selected, &mut maxima);
            sum += maxima.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        }
        (sum / self.0.len() as f32).clamp(-1.0, 1.0)
    }
}

/// Returns how many of `tokens` are in a block.
fn rows(tokens: usize, block: usize) -> usize {
    (tokens - block * BLOCK_ROWS).min(BLOCK_ROWS)
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest, value| largest.max(value.abs()))
}

#[cfg(test)]
mod tests;
