//! The plain loops: what every other implementation must equal, and what runs where none of them does.

use super::{Aim, Column, Kernels, Table, maxima_with};
use crate::engine::segment::BLOCK_ROWS;

pub const KERNELS: Kernels = Kernels { name: "portable", dot, estimate, maxima };

/// Independent sums of a dot product, so that the compiler may use vectors.
const LANES: usize = 16;

pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0f32; LANES];
    for (x, y) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + rest
}

fn estimate(aim: &Aim<'_>, block: usize) -> [f32; BLOCK_ROWS] {
    aim.finish(block, &sums(aim.block(block), aim.tables))
}

fn maxima(aim: &Aim<'_>, selected: &[u32], out: &mut [f32]) {
    maxima_with(aim, selected, out, sums);
}

/// Returns for each row the sum of the table entries that its nibbles pick.
pub fn sums(columns: &[Column], tables: &[Table]) -> [u16; BLOCK_ROWS] {
    let mut sums = [0u16; BLOCK_ROWS];
    for (column, table) in columns.iter().zip(tables) {
        for (sum, code) in sums.iter_mut().zip(&column.0) {
            let (low, high) = (usize::from(code & 0x0f), usize::from(code >> 4));
            *sum += u16::from(table.0[low]) + u16::from(table.0[16 + high]);
        }
    }
    sums
}
