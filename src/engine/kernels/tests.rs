//! Every implementation against the plain loop.

use proptest::prelude::*;

use super::*;

/// What this machine runs, and NEON, real or modelled.
fn all() -> Vec<Kernels> {
    let mut all = Kernels::available();
    all.push(neon::KERNELS);
    all
}

/// Any block: codes, tables within the limit on their sum, factors as they occur.
fn aims() -> impl Strategy<Value = (Vec<Column>, Vec<Table>, Vec<f32>, u32)> {
    (1usize..60, 1usize..4).prop_flat_map(|(tables, blocks)| {
        (
            prop::collection::vec(prop::array::uniform32(any::<u8>()).prop_map(Column), tables * blocks),
            prop::collection::vec(prop::array::uniform32(0..=ENTRY_MAX).prop_map(Table), tables),
            prop::collection::vec(-1.0f32..1.0, 2 * blocks * BLOCK_ROWS),
            any::<u32>(),
        )
    })
}

proptest! {
    #[test]
    fn every_kernel_equals_the_plain_loop((columns, tables, factors, selected) in aims()) {
        let (scale, shift) = factors.split_at(factors.len() / 2);
        let aim = Aim {
            columns: &columns, scale, shift, tables: &tables, step: 0.01, base: -3.0, offset: 0.5,
        };
        let blocks = scale.len() / BLOCK_ROWS;
        let words: Vec<u32> = (0..blocks as u32).map(|block| selected.rotate_left(7 * block)).collect();
        for kernels in all() {
            let mut maxima = vec![0.0; blocks];
            kernels.maxima(&aim, &words, &mut maxima);
            for block in 0..blocks {
                let sums = portable::sums(aim.block(block), &tables);
                let mut largest = f32::NEG_INFINITY;
                for (row, estimate) in kernels.estimate(&aim, block).into_iter().enumerate() {
                    let at = block * BLOCK_ROWS + row;
                    let plain = 0.5 + shift[at] + scale[at] * (0.01 * f32::from(sums[row]) - 3.0);
                    prop_assert!((estimate - plain).abs() < 1e-4, "{}: {estimate} for {plain}", kernels.name);
                    if words[block] >> row & 1 == 1 {
                        largest = largest.max(estimate);
                    }
                }
                prop_assert_eq!(maxima[block], largest, "{}", kernels.name);
            }
        }
    }

    #[test]
    fn dot_is_the_sum_of_products(pairs in prop::collection::vec((-1.0f32..1.0, -1.0f32..1.0), 0..200)) {
        let (a, b): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
        let plain: f64 = pairs.iter().map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
        for kernels in all() {
            let dot = f64::from(kernels.dot(&a, &b));
            prop_assert!((dot - plain).abs() < 1e-4, "{}: {dot} for {plain}", kernels.name);
        }
    }
}

#[test]
fn the_largest_sums_do_not_overflow() {
    let columns = vec![Column([0xff; BLOCK_ROWS]); 512];
    let tables = vec![Table([ENTRY_MAX; 32]); 512];
    let factors = vec![1.0; BLOCK_ROWS];
    let aim = Aim {
        columns: &columns,
        scale: &factors,
        shift: &[0.0; BLOCK_ROWS],
        tables: &tables,
        step: 1.0,
        base: 0.0,
        offset: 0.0,
    };
    for kernels in all() {
        assert_eq!(kernels.estimate(&aim, 0), [1024.0 * 63.0; BLOCK_ROWS], "{}", kernels.name);
    }
}
