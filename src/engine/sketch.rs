//! One bit per coordinate of each vector of a segment: enough to tell which few vectors are worth an exact comparison.
//!
//! RaBitQ (Gao and Long, SIGMOD 2024) for dot products. A vector `o` is kept as the signs `s` of its rotated difference `r`
//! from the segment's mean `c`, and two numbers. For a query `q`, with `q' = q - c`,
//!
//! ```text
//! ⟨o,q⟩ = ⟨c,q⟩ + ⟨r,c⟩ + ⟨r,q'⟩,   ⟨r,q'⟩ ≈ scale · ⟨s,q'⟩,   scale = |r|² / Σ|rᵢ|
//! ```
//!
//! is unbiased, with a standard deviation of `|q'| · √((w · scale² - |r|²) / (w - 1))` over rotations, `w` coordinates wide.
//! The mean belongs to the segment: it is made with it and never goes stale.

use super::kernels::{Aim, Column};
use super::lookup::{BYTE, Lookup};
use super::rotation::Rotation;
use super::segment::BLOCK_ROWS;

/// Covers the rounding of an estimate where the spread is zero, as among equal vectors.
const ROUNDING: f32 = 1e-5;

/// The codes of a segment's vectors: at 384 coordinates 56 bytes each.
#[derive(Debug)]
pub struct Sketch {
    centre: Box<[f32]>,
    columns: Box<[Column]>,
    scale: Box<[f32]>,
    shift: Box<[f32]>,
    scale_max: f32,
    /// The largest standard deviation of an estimate, for `|q'|` = 1.
    spread: f32,
}

/// A query aimed at one segment's sketch.
#[derive(Debug)]
pub struct Probe {
    lookup: Lookup,
    offset: f32,
    deviation: f32,
}

/// What is kept of one vector besides its signs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Factors {
    /// What a product with the signs is multiplied by.
    pub scale: f32,
    shift: f32,
    variance: f32,
}

impl Sketch {
    /// Returns the sketch of `values`, vectors of `dimension` coordinates one after the other.
    pub fn new(rotation: &Rotation, dimension: usize, values: &[f32]) -> Self {
        let centre = rotation.apply(&mean(dimension, values));
        let bytes = rotation.width() / BYTE;
        let blocks = values.len().div_ceil(dimension * BLOCK_ROWS);
        let mut columns = vec![Column([0; BLOCK_ROWS]); blocks * bytes].into_boxed_slice();
        let mut factors = vec![Factors::default(); blocks * BLOCK_ROWS];
        let mut rotated = vec![0.0; rotation.width()];
        for (row, vector) in values.chunks_exact(dimension).enumerate() {
            rotation.apply_into(vector, &mut rotated);
            let block = &mut columns[row / BLOCK_ROWS * bytes..][..bytes];
            factors[row] = encode(&mut rotated, &centre, block, row % BLOCK_ROWS);
        }
        let largest = |of: fn(&Factors) -> f32| factors.iter().map(of).fold(0.0, f32::max);
        Self {
            scale_max: largest(|f| f.scale),
            spread: largest(|f| f.variance).sqrt(),
            scale: factors.iter().map(|f| f.scale).collect(),
            shift: factors.iter().map(|f| f.shift).collect(),
            centre: centre.into_boxed_slice(),
            columns,
        }
    }

    /// Returns a rotated query aimed at this sketch.
    pub fn probe(&self, rotated: &[f32]) -> Probe {
        let residual: Vec<f32> = rotated.iter().zip(&self.centre).map(|(q, c)| q - c).collect();
        let lookup = Lookup::new(&residual);
        let length_squared: f32 = residual.iter().map(|v| v * v).sum();
        let quantisation = self.scale_max * self.scale_max * lookup.variance();
        Probe {
            lookup,
            offset: self.centre.iter().zip(rotated).map(|(c, q)| c * q).sum(),
            deviation: (self.spread * self.spread * length_squared + quantisation).sqrt(),
        }
    }

    /// Returns what the kernels need.
    pub fn aim<'a>(&'a self, probe: &'a Probe) -> Aim<'a> {
        Aim {
            columns: &self.columns,
            scale: &self.scale,
            shift: &self.shift,
            tables: &probe.lookup.tables,
            step: probe.lookup.step,
            base: probe.lookup.base,
            offset: probe.offset,
        }
    }

    /// Returns the heap bytes held.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.centre) + size_of_val(&*self.columns) + size_of_val(&*self.scale) + size_of_val(&*self.shift)
    }
}

impl Probe {
    /// Returns how far above its estimate a cosine may lie, at `deviations` standard deviations.
    pub fn margin(&self, deviations: f32) -> f32 {
        deviations * self.deviation + ROUNDING
    }
}

/// Returns the mean of at least one vector.
pub(super) fn mean(dimension: usize, values: &[f32]) -> Vec<f32> {
    let mut sums = vec![0.0f32; dimension];
    for vector in values.chunks_exact(dimension) {
        sums.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value);
    }
    let count = (values.len() / dimension) as f32;
    sums.iter_mut().for_each(|sum| *sum /= count);
    sums
}

/// Writes one vector's signs into its place in a block and returns its factors. `rotated` becomes the difference.
pub(super) fn encode(rotated: &mut [f32], centre: &[f32], columns: &mut [Column], row: usize) -> Factors {
    let (mut squares, mut absolutes, mut shift) = (0.0f32, 0.0f32, 0.0f32);
    for (value, centre) in rotated.iter_mut().zip(centre) {
        *value -= centre;
        squares += *value * *value;
        absolutes += value.abs();
        shift += *value * centre;
    }
    for (column, byte) in columns.iter_mut().zip(rotated.as_chunks::<BYTE>().0) {
        column.0[row] = byte.iter().rev().fold(0, |code, value| code << 1 | u8::from(*value > 0.0));
    }
    // A vector equal to the mean has no signs worth reading: its estimate is the mean's.
    let scale = if absolutes > f32::MIN_POSITIVE { squares / absolutes } else { 0.0 };
    let width = rotated.len() as f32;
    Factors { scale, shift, variance: ((width * scale * scale - squares) / (width - 1.0)).max(0.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::kernels::Kernels;

    /// Unit vectors of some shape, without a random number generator.
    fn vectors(count: usize, dimension: usize, shape: impl Fn(f32, usize) -> f32) -> Vec<f32> {
        let mut values = Vec::new();
        for row in 0..count {
            let vector: Vec<f32> = (0..dimension).map(|at| shape((row * dimension + at) as f32, at)).collect();
            let norm = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
            values.extend(vector.iter().map(|v| v / norm));
        }
        values
    }

    fn noise(x: f32) -> f32 {
        (x * 12.9898).sin() * 43.5 % 1.0
    }

    /// Returns the errors of all estimates in standard deviations, for queries like the vectors.
    fn errors(dimension: usize, values: &[f32]) -> Vec<f32> {
        let rotation = Rotation::new(dimension);
        let sketch = Sketch::new(&rotation, dimension, values);
        let kernels = Kernels::best();
        let mut errors = Vec::new();
        for query in values.chunks_exact(dimension).step_by(7) {
            let probe = sketch.probe(&rotation.apply(query));
            for (row, vector) in values.chunks_exact(dimension).enumerate() {
                let estimate = kernels.estimate(&sketch.aim(&probe), row / BLOCK_ROWS)[row % BLOCK_ROWS];
                errors.push((kernels.dot(vector, query) - estimate) / probe.margin(1.0));
            }
        }
        errors
    }

    #[test]
    fn estimates_are_unbiased_and_within_their_margin() {
        let shapes: [(&str, Vec<f32>); 4] = [
            ("noise", vectors(200, 384, |x, _| noise(x))),
            ("a common mean", vectors(200, 384, |x, at| noise(x) + if at < 30 { 2.0 } else { 0.0 })),
            ("few coordinates", vectors(200, 384, |x, at| if at < 5 { noise(x) } else { 0.0 })),
            ("an odd width", vectors(200, 301, |x, _| noise(x))),
        ];
        for (name, values) in shapes {
            let errors = errors(if name == "an odd width" { 301 } else { 384 }, &values);
            let mean = errors.iter().sum::<f32>() / errors.len() as f32;
            let beyond = errors.iter().filter(|error| error.abs() > 3.0).count() as f32 / errors.len() as f32;
            assert!(mean.abs() < 0.2, "{name}: mean error {mean}");
            assert!(beyond < 0.01, "{name}: {beyond} beyond three deviations");
        }
    }

    #[test]
    fn equal_vectors_are_estimated_exactly() {
        let values = vectors(64, 384, |_, at| at as f32 + 1.0);
        assert!(errors(384, &values).iter().all(|error| error.abs() <= 1.0));
    }
}
