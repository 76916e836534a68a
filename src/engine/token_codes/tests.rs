//! Estimates against the exact arithmetic, and the stored form against damage.

use proptest::prelude::*;

use super::*;

const DIMENSION: usize = 384;

fn unit(values: &[f32]) -> Vec<f32> {
    let norm = values.iter().map(|v| v * v).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    values.iter().map(|v| v / norm).collect()
}

/// Unit vectors without structure, one after the other.
fn tokens(seed: usize, count: usize) -> Vec<f32> {
    let mut state = seed as u64;
    let mut noise = || {
        // PCG's generator; its upper bits are good enough.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).flat_map(|_| unit(&(0..DIMENSION).map(|_| noise()).collect::<Vec<_>>())).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// The exact score.
fn mean_max_sim(query: &[f32], passage: &[f32]) -> f32 {
    let best = |q| passage.chunks_exact(DIMENSION).map(|p| dot(q, p)).fold(f32::NEG_INFINITY, f32::max);
    query.chunks_exact(DIMENSION).map(best).sum::<f32>() / (query.len() / DIMENSION) as f32
}

/// What is stored, read back.
fn codes(coder: &TokenCoder, tokens: &[f32]) -> TokenCodes {
    coder.decode(&coder.encode(tokens)).unwrap()
}

fn coder() -> TokenCoder {
    TokenCoder::new(DIMENSION).unwrap()
}

proptest! {
    #[test]
    fn a_cosine_is_estimated_within_its_bound(
        pairs in prop::collection::vec((-1.0f32..1.0, -1.0f32..1.0), 16..600), mix in 0.0f32..1.0,
    ) {
        let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
        // From unrelated to equal.
        let b = unit(&a.iter().zip(&b).map(|(a, b)| mix * a + (1.0 - mix) * b).collect::<Vec<_>>());
        let a = unit(&a);
        let coder = TokenCoder::new(a.len()).unwrap();
        // Beside its opposite, whose cosine is the smaller one or the larger: the mean of the two says nothing.
        let opposite: Vec<f32> = b.iter().map(|value| -value).collect();
        let estimate = coder.query(&a).score(&codes(&coder, &[b.clone(), opposite].concat()));
        // Six standard deviations of a vector that the rotation has spread evenly, and the rounding of tables and scales.
        let bound = 6.0 * (0.6 / a.len() as f32).sqrt() + 0.03;
        let exact = dot(&a, &b).abs();
        prop_assert!((estimate - exact).abs() < bound, "{estimate} for {exact}, bound {bound}");
    }

    #[test]
    fn every_kernel_scores_as_the_plain_loop_does(seed in 0usize..1_000, asked in 1usize..20, count in 1usize..140) {
        let (coder, query) = (coder(), tokens(seed, asked));
        let codes = codes(&coder, &tokens(seed + 1, count));
        let aim = coder.query(&query);
        let estimate = |QueryToken { rotated, lookup }: &QueryToken, row: usize| {
            let columns = &codes.columns[row / BLOCK_ROWS * coder.bytes()..][..coder.bytes()];
            let entries = columns.iter().zip(&lookup.tables).map(|(column, table)| {
                let code = usize::from(column.0[row % BLOCK_ROWS]);
                f32::from(table.0[code & 15]) + f32::from(table.0[16 + (code >> 4)])
            });
            dot(&codes.centre, rotated) + codes.scales[row] * (lookup.step * entries.sum::<f32>() + lookup.base)
        };
        let best = |token| (0..count).map(|row| estimate(token, row)).fold(f32::NEG_INFINITY, f32::max);
        let plain = aim.0.iter().map(best).sum::<f32>() / asked as f32;
        for kernels in Kernels::available() {
            let score = aim.score_with(&kernels, &codes);
            prop_assert!((score - plain).abs() < 1e-4, "{}: {score} for {plain}", kernels.name);
        }
    }

    #[test]
    fn what_is_cut_short_or_of_another_kind_is_not_read(count in 0usize..70, cut in 0.0f64..1.0, other in 0u8..=255) {
        let coder = coder();
        let bytes = coder.encode(&tokens(1, count));
        prop_assert!(coder.decode(&bytes).is_some());
        prop_assert!(coder.decode(&bytes[..(bytes.len() as f64 * cut) as usize]).is_none());
        prop_assert!(coder.decode(&[&bytes[..], &[0]].concat()).is_none());
        for at in 0..7 {
            let mut changed = bytes.clone();
            changed[at] = other;
            prop_assert!(changed == bytes || coder.decode(&changed).is_none(), "byte {at} is {other}");
        }
    }
}

#[test]
fn a_passage_takes_as_many_bytes_as_the_table_says() {
    for count in [0, 1, 31, 32, 33, 64, 128] {
        assert_eq!(coder().encode(&tokens(5, count)).len(), 399 + 49 * count, "{count} tokens");
    }
}

#[test]
fn a_token_is_found_wherever_it_stands() {
    let coder = coder();
    for at in [0, 31, 32, 63, 64, 99] {
        let passage = tokens(3, 100);
        let query = coder.query(&passage[at * DIMENSION..][..DIMENSION]);
        let score = query.score(&codes(&coder, &passage));
        assert!(score > 0.95, "token {at} scores {score}");
    }
}

#[test]
fn passages_keep_the_order_of_their_exact_scores() {
    let coder = coder();
    let query = tokens(1, 12);
    let aim = coder.query(&query);
    // Passages that share ever more with the query.
    let passages: Vec<Vec<f32>> = (0..10)
        .map(|share| {
            let mut passage = tokens(100 + share, 128);
            for (own, asked) in passage.chunks_exact_mut(DIMENSION).zip(query.chunks_exact(DIMENSION)) {
                let weight = share as f32 / 10.0;
                let mixed: Vec<f32> = own.iter().zip(asked).map(|(p, q)| (1.0 - weight) * p + weight * q).collect();
                own.copy_from_slice(&unit(&mixed));
            }
            passage
        })
        .collect();
    let estimates: Vec<f32> = passages.iter().map(|passage| aim.score(&codes(&coder, passage))).collect();
    assert!(estimates.is_sorted(), "{estimates:?}");
    for (estimate, passage) in estimates.iter().zip(&passages) {
        let exact = mean_max_sim(&query, passage);
        assert!((estimate - exact).abs() < 0.06, "{estimate} for {exact}");
    }
}

#[test]
fn nothing_scores_zero_and_never_nan() {
    let coder = coder();
    let (some, none, zeros) = (tokens(1, 3), Vec::new(), vec![0.0; DIMENSION]);
    for (query, passage) in [(&some, &none), (&none, &some), (&some, &zeros), (&zeros, &some)] {
        let score = coder.query(query).score(&codes(&coder, passage));
        assert!(score.abs() < 1e-6, "{score}");
    }
}

#[test]
fn a_dimension_that_no_model_has_is_refused() {
    assert!(TokenCoder::new(0).is_none() && TokenCoder::new(1 << 16).is_none());
}
