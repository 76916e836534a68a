//! AVX2 and AVX-512.

use std::arch::x86_64::*;

use super::{Aim, Column, Kernels, Table, maxima_with};
use crate::engine::segment::BLOCK_ROWS;

/// Returns what this machine runs, fastest first.
pub fn available() -> impl Iterator<Item = Kernels> {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let avx512 = avx2 && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
    [(avx512, AVX512), (avx2, AVX2)].into_iter().filter_map(|(found, kernels)| found.then_some(kernels))
}

/// Asks for every line of the cache that `vector` lies in.
#[inline]
pub fn prefetch(vector: &[f32]) {
    for line in vector.chunks(16) {
        // SAFETY: a hint; the address is that of a value. SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
}

/// Defines the functions for one set of instructions, and the [`Kernels`] that call them.
macro_rules! kernels {
    ($kernels:ident, $module:ident, $name:literal, $features:literal, $sums:ident) => {
        const $kernels: Kernels = Kernels {
            name: $name,
            // SAFETY: `available` hands these out only after it has found the features.
            dot: |a, b| unsafe { dot_fma(a, b) },
            // SAFETY: as above.
            estimate: |aim, block| unsafe { $module::estimate(aim, block) },
            // SAFETY: as above.
            maxima: |aim, selected, out| unsafe { $module::maxima(aim, selected, out) },
        };

        mod $module {
            use super::*;

            #[target_feature(enable = $features)]
            pub fn estimate(aim: &Aim<'_>, block: usize) -> [f32; BLOCK_ROWS] {
                aim.finish(block, &$sums(aim.block(block), aim.tables))
            }

            #[target_feature(enable = $features)]
            pub fn maxima(aim: &Aim<'_>, selected: &[u32], out: &mut [f32]) {
                maxima_with(aim, selected, out, |columns, tables| $sums(columns, tables));
            }
        }
    };
}

kernels!(AVX2, avx2, "avx2", "avx2,fma", sums_avx2);
kernels!(AVX512, avx512, "avx512bw", "avx2,fma,avx512f,avx512bw", sums_avx512);

/// Four independent sums of eight lanes hide the latency of a fused multiply-add. Wider ones would not help: the vectors
/// come from memory.
#[target_feature(enable = "avx2,fma")]
fn dot_fma(a: &[f32], b: &[f32]) -> f32 {
    let (a_blocks, a_rest) = a.as_chunks::<32>();
    let (b_blocks, b_rest) = b.as_chunks::<32>();
    let mut sums = [_mm256_setzero_ps(); 4];
    for (x, y) in a_blocks.iter().zip(b_blocks) {
        for (part, sum) in sums.iter_mut().enumerate() {
            // SAFETY: a block has 4 × 8 values; these loads need no alignment.
            let (x, y) =
                unsafe { (_mm256_loadu_ps(x.as_ptr().add(8 * part)), _mm256_loadu_ps(y.as_ptr().add(8 * part))) };
            *sum = _mm256_fmadd_ps(x, y, *sum);
        }
    }
    let sum = _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]));
    let mut lanes = [0.0f32; 8];
    // SAFETY: `lanes` has room for eight values.
    unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), sum) };
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    lanes.iter().sum::<f32>() + rest
}

/// Looks up one byte of code of 32 rows: both nibbles, at most 2 × 63 per row.
#[inline]
#[target_feature(enable = "avx2")]
fn look_up_avx2(column: &Column, table: &Table) -> __m256i {
    let nibble = _mm256_set1_epi8(0x0f);
    // SAFETY: a column and a table have 32 bytes each; these loads need no alignment.
    let (codes, low, high) = unsafe {
        let table = table.0.as_ptr().cast::<__m128i>();
        let codes = _mm256_loadu_si256(column.0.as_ptr().cast());
        (codes, _mm_loadu_si128(table), _mm_loadu_si128(table.add(1)))
    };
    let (low, high) = (_mm256_broadcastsi128_si256(low), _mm256_broadcastsi128_si256(high));
    let low = _mm256_shuffle_epi8(low, _mm256_and_si256(codes, nibble));
    let high = _mm256_shuffle_epi8(high, _mm256_and_si256(_mm256_srli_epi16::<4>(codes), nibble));
    _mm256_add_epi8(low, high)
}

#[inline]
#[target_feature(enable = "avx2")]
fn sums_avx2(columns: &[Column], tables: &[Table]) -> [u16; BLOCK_ROWS] {
    let (column_pairs, column_rest) = columns.as_chunks::<2>();
    let (table_pairs, table_rest) = tables.as_chunks::<2>();
    let (mut even, mut odd) = (_mm256_setzero_si256(), _mm256_setzero_si256());
    let mut add = |bytes: __m256i| {
        // The odd rows spill into `even`'s upper bytes; `odd` takes them out again at the end, modulo 2^16.
        even = _mm256_add_epi16(even, bytes);
        odd = _mm256_add_epi16(odd, _mm256_srli_epi16::<8>(bytes));
    };
    for (columns, tables) in column_pairs.iter().zip(table_pairs) {
        let first = look_up_avx2(&columns[0], &tables[0]);
        add(_mm256_add_epi8(first, look_up_avx2(&columns[1], &tables[1])));
    }
    for (column, table) in column_rest.iter().zip(table_rest) {
        add(look_up_avx2(column, table));
    }
    in_order(_mm256_sub_epi16(even, _mm256_slli_epi16::<8>(odd)), odd)
}

/// Zips the sums of even and odd rows.
#[inline]
#[target_feature(enable = "avx2")]
fn in_order(even: __m256i, odd: __m256i) -> [u16; BLOCK_ROWS] {
    // Unpacking works within halves: rows 0–7 and 16–23, then 8–15 and 24–31.
    let (outer, inner) = (_mm256_unpacklo_epi16(even, odd), _mm256_unpackhi_epi16(even, odd));
    let mut sums = [0u16; BLOCK_ROWS];
    let out = sums.as_mut_ptr().cast::<__m256i>();
    // SAFETY: `sums` has 64 bytes; these stores need no alignment.
    unsafe {
        _mm256_storeu_si256(out, _mm256_permute2x128_si256::<0x20>(outer, inner));
        _mm256_storeu_si256(out.add(1), _mm256_permute2x128_si256::<0x31>(outer, inner));
    }
    sums
}

/// Looks up two bytes of code of 32 rows, the first in the lower half.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn look_up_avx512(columns: &[Column; 2], tables: &[Table; 2]) -> __m512i {
    let nibble = _mm512_set1_epi8(0x0f);
    // SAFETY: two columns and two tables have 64 bytes each; these loads need no alignment.
    let (codes, tables) =
        unsafe { (_mm512_loadu_si512(columns.as_ptr().cast()), _mm512_loadu_si512(tables.as_ptr().cast())) };
    // Quarters low, high, low, high: the low ones for the low nibbles, each for both halves of its 32 rows.
    let low = _mm512_shuffle_i64x2::<0b10_10_00_00>(tables, tables);
    let high = _mm512_shuffle_i64x2::<0b11_11_01_01>(tables, tables);
    let low = _mm512_shuffle_epi8(low, _mm512_and_si512(codes, nibble));
    let high = _mm512_shuffle_epi8(high, _mm512_and_si512(_mm512_srli_epi16::<4>(codes), nibble));
    _mm512_add_epi8(low, high)
}

#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw")]
fn sums_avx512(columns: &[Column], tables: &[Table]) -> [u16; BLOCK_ROWS] {
    let (column_pairs, column_rest) = columns.as_chunks::<2>();
    let (table_pairs, table_rest) = tables.as_chunks::<2>();
    let (mut even, mut odd) = (_mm512_setzero_si512(), _mm512_setzero_si512());
    for (columns, tables) in column_pairs.iter().zip(table_pairs) {
        let bytes = look_up_avx512(columns, tables);
        even = _mm512_add_epi16(even, bytes);
        odd = _mm512_add_epi16(odd, _mm512_srli_epi16::<8>(bytes));
    }
    let mut even = _mm256_add_epi16(_mm512_castsi512_si256(even), _mm512_extracti64x4_epi64::<1>(even));
    let mut odd = _mm256_add_epi16(_mm512_castsi512_si256(odd), _mm512_extracti64x4_epi64::<1>(odd));
    for (column, table) in column_rest.iter().zip(table_rest) {
        let bytes = look_up_avx2(column, table);
        even = _mm256_add_epi16(even, bytes);
        odd = _mm256_add_epi16(odd, _mm256_srli_epi16::<8>(bytes));
    }
    in_order(_mm256_sub_epi16(even, _mm256_slli_epi16::<8>(odd)), odd)
}
