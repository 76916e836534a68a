//! NEON, which every 64-bit ARM has. Elsewhere tests run it over a model of the few instructions that it uses.

#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::*;

#[cfg(not(target_arch = "aarch64"))]
use self::model::*;
use super::{Aim, Column, Kernels, Table, maxima_with, portable};
use crate::engine::segment::BLOCK_ROWS;

pub const KERNELS: Kernels = Kernels { name: "neon", dot: portable::dot, estimate, maxima };

fn estimate(aim: &Aim<'_>, block: usize) -> [f32; BLOCK_ROWS] {
    aim.finish(block, &sums(aim.block(block), aim.tables))
}

fn maxima(aim: &Aim<'_>, selected: &[u32], out: &mut [f32]) {
    maxima_with(aim, selected, out, sums);
}

#[inline]
fn sums(columns: &[Column], tables: &[Table]) -> [u16; BLOCK_ROWS] {
    let mut sums = [0u16; BLOCK_ROWS];
    // SAFETY: a column and a table have 32 bytes each, `sums` has 64; these loads and stores need no alignment.
    unsafe {
        let nibble = vdupq_n_u8(0x0f);
        let mut wide = [vdupq_n_u16(0); 4];
        for (column, table) in columns.iter().zip(tables) {
            let (low, high) = (vld1q_u8(table.0.as_ptr()), vld1q_u8(table.0.as_ptr().add(16)));
            for half in 0..2 {
                let codes = vld1q_u8(column.0.as_ptr().add(16 * half));
                let low = vqtbl1q_u8(low, vandq_u8(codes, nibble));
                let bytes = vaddq_u8(low, vqtbl1q_u8(high, vshrq_n_u8::<4>(codes)));
                wide[2 * half] = vaddw_u8(wide[2 * half], vget_low_u8(bytes));
                wide[2 * half + 1] = vaddw_high_u8(wide[2 * half + 1], bytes);
            }
        }
        for (part, wide) in wide.into_iter().enumerate() {
            vst1q_u16(sums.as_mut_ptr().add(8 * part), wide);
        }
    }
    sums
}

/// What the instructions do, said plainly, so that the kernel's logic is tested on every machine.
#[cfg(not(target_arch = "aarch64"))]
mod model {
    type Bytes = [u8; 16];
    type Words = [u16; 8];

    pub fn vdupq_n_u8(value: u8) -> Bytes {
        [value; 16]
    }

    pub fn vdupq_n_u16(value: u16) -> Words {
        [value; 8]
    }

    /// # Safety
    ///
    /// 16 bytes can be read.
    pub unsafe fn vld1q_u8(from: *const u8) -> Bytes {
        // SAFETY: said by the caller.
        unsafe { from.cast::<Bytes>().read_unaligned() }
    }

    /// # Safety
    ///
    /// 16 bytes can be written.
    pub unsafe fn vst1q_u16(to: *mut u16, words: Words) {
        // SAFETY: said by the caller.
        unsafe { to.cast::<Words>().write_unaligned(words) }
    }

    pub fn vandq_u8(a: Bytes, b: Bytes) -> Bytes {
        std::array::from_fn(|at| a[at] & b[at])
    }

    pub fn vaddq_u8(a: Bytes, b: Bytes) -> Bytes {
        std::array::from_fn(|at| a[at].wrapping_add(b[at]))
    }

    pub fn vshrq_n_u8<const BITS: i32>(a: Bytes) -> Bytes {
        a.map(|byte| byte >> BITS)
    }

    pub fn vqtbl1q_u8(table: Bytes, at: Bytes) -> Bytes {
        at.map(|at| table.get(usize::from(at)).copied().unwrap_or(0))
    }

    pub fn vget_low_u8(a: Bytes) -> [u8; 8] {
        std::array::from_fn(|at| a[at])
    }

    pub fn vaddw_u8(a: Words, b: [u8; 8]) -> Words {
        std::array::from_fn(|at| a[at].wrapping_add(u16::from(b[at])))
    }

    pub fn vaddw_high_u8(a: Words, b: Bytes) -> Words {
        std::array::from_fn(|at| a[at].wrapping_add(u16::from(b[at + 8])))
    }
}
