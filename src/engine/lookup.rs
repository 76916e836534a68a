//! A query's values as tables of sums, one for every four coordinates: what the kernels look codes of signs up in.

use super::kernels::{ENTRY_MAX, Table};

/// Coordinates in one table look-up, and in one byte of code.
pub const NIBBLE: usize = 4;
pub const BYTE: usize = 2 * NIBBLE;

/// 2^23: added to a small positive number it leaves the nearest integer in the lowest bits, far faster than a cast, which
/// has to mind numbers out of range.
const ROUND: f32 = 8_388_608.0;

/// Tables from which the product of the values and a row of signs is `step * sum + base`.
#[derive(Debug)]
pub struct Lookup {
    /// One for each byte of code.
    pub tables: Vec<Table>,
    /// What an entry counts in.
    pub step: f32,
    /// The product with the signs that are all against the values.
    pub base: f32,
}

impl Lookup {
    /// Returns the tables of `values`, a multiple of [`BYTE`] of them.
    pub fn new(values: &[f32]) -> Self {
        let (nibbles, _) = values.as_chunks::<NIBBLE>();
        let reaches: Vec<f32> = nibbles.iter().map(|nibble| nibble.iter().map(|v| v.abs()).sum()).collect();
        let reach_max = reaches.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
        // Every sum of entries has to fit 16 bits; more than 1,040 tables make them coarser.
        let entry_max = f32::from(ENTRY_MAX).min((f32::from(u16::MAX) / nibbles.len() as f32).floor());
        let step = 2.0 * reach_max / entry_max;
        Self { tables: tables(nibbles, &reaches, step), step, base: -reaches.iter().sum::<f32>() }
    }

    /// Returns the variance of a product that comes from rounding the entries: each is off by up to half a step.
    pub fn variance(&self) -> f32 {
        let nibbles = (BYTE / NIBBLE * self.tables.len()) as f32;
        self.step * self.step * nibbles / 12.0
    }
}

/// Returns for each byte of code the sums of the query's values under every choice of signs, in steps above the least sum.
fn tables(nibbles: &[[f32; NIBBLE]], reaches: &[f32], step: f32) -> Vec<Table> {
    let per_step = step.recip();
    let mut tables = vec![Table([0; 32]); nibbles.len() / 2];
    let halves = tables.iter_mut().flat_map(|table| table.0.as_chunks_mut::<16>().0);
    for ((entries, nibble), reach) in halves.zip(nibbles).zip(reaches) {
        let mut sums = [reach - nibble.iter().sum::<f32>(); 16];
        for (bit, value) in nibble.iter().enumerate() {
            for (code, sum) in sums.iter_mut().enumerate() {
                *sum += if code >> bit & 1 == 1 { 2.0 * value } else { 0.0 };
            }
        }
        for (entry, sum) in entries.iter_mut().zip(sums) {
            *entry = (sum * per_step + ROUND).to_bits() as u8;
        }
    }
    tables
}
