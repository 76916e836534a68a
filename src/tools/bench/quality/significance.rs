//! Whether a difference between two runs is more than the luck of the queries: the paired bootstrap.
//!
//! Queries are drawn with replacement as often as there are; the spread of the mean difference over many such draws is what
//! another set of queries of this kind would show (Efron and Tibshirani, «An Introduction to the Bootstrap», 1993; for
//! retrieval: Sakai, SIGIR 2006).

use serde::Serialize;

/// Draws: enough to tell p = .05 from .055, a tenth of a second for a thousand queries.
const RESAMPLES: usize = 10_000;
/// The same for every comparison, so that a figure can be had again.
const SEED: u64 = 42;

/// The difference of two runs over the same queries, in one measure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The run that the other is compared to.
    pub to: String,
    /// Queries that both have.
    pub queries: usize,
    /// Queries where this run is better.
    pub better: usize,
    /// Queries where this run is worse.
    pub worse: usize,
    /// The mean difference of nDCG@10, above 0 when this run is better.
    pub ndcg_at_10: f64,
    /// The 95 % confidence interval of it: the percentiles 2.5 and 97.5 of the draws.
    pub interval: [f64; 2],
    /// Two-sided: the share of draws, moved to have no difference in the mean, whose difference is at least this large.
    pub p_value: f64,
}

impl Difference {
    /// Compares paired figures, `(to, this)` for each query.
    pub fn of(to: &str, pairs: &[(f64, f64)]) -> Self {
        let differences: Vec<f64> = pairs.iter().map(|(to, this)| this - to).collect();
        let mean = mean(&differences);
        let mut draws = draws(&differences);
        draws.sort_unstable_by(f64::total_cmp);
        // A sum in another order differs in the last bits; that is not «larger».
        let as_large = draws.iter().filter(|draw| (**draw - mean).abs() >= mean.abs() - 1e-12).count();
        let last = draws.len() - 1;
        let at = |share: f64| draws[(share * last as f64).round() as usize];
        Self {
            to: to.to_owned(),
            queries: pairs.len(),
            better: differences.iter().filter(|difference| **difference > 0.0).count(),
            worse: differences.iter().filter(|difference| **difference < 0.0).count(),
            ndcg_at_10: mean,
            interval: [at(0.025), at(0.975)],
            // Plus one: the data as they are, are a draw too, and no test by draws can show p = 0.
            p_value: (as_large + 1) as f64 / (RESAMPLES + 1) as f64,
        }
    }
}

/// Returns the mean difference of each draw.
fn draws(differences: &[f64]) -> Vec<f64> {
    let count = differences.len() as u64;
    let mut state = SEED;
    let mut draw = |_| {
        let sum: f64 = (0..count).map(|_| differences[below(&mut state, count)]).sum();
        sum / count.max(1) as f64
    };
    (0..RESAMPLES).map(&mut draw).collect()
}

/// Returns a number below `count`, which is not 0: the high half of a product, less than 2⁻⁴⁰ off uniform for 10 million
/// queries.
fn below(state: &mut u64, count: u64) -> usize {
    ((u128::from(splitmix(state)) * u128::from(count)) >> 64) as usize
}

/// Returns the next number of SplitMix64 (Steele et al., OOPSLA 2014).
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

fn mean(figures: &[f64]) -> f64 {
    figures.iter().sum::<f64>() / figures.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Figures in [0, 1) that differ from query to query.
    fn figures(seed: u64, count: usize) -> Vec<f64> {
        let mut state = seed;
        (0..count).map(|_| (splitmix(&mut state) >> 11) as f64 / (1u64 << 53) as f64).collect()
    }

    fn shifted(shift: f64) -> Vec<(f64, f64)> {
        figures(1, 300).into_iter().zip(figures(2, 300)).map(|(a, b)| (a, a + (b - 0.5) * 0.2 + shift)).collect()
    }

    #[test]
    fn equal_runs_do_not_differ() {
        let same: Vec<_> = figures(3, 50).into_iter().map(|figure| (figure, figure)).collect();
        let difference = Difference::of("a", &same);
        assert_eq!((difference.ndcg_at_10, difference.p_value), (0.0, 1.0));
        assert_eq!((difference.interval, difference.better, difference.worse), ([0.0, 0.0], 0, 0));
        assert_eq!(Difference::of("a", &[]).p_value, 1.0);
    }

    #[test]
    fn a_clear_difference_is_significant_and_noise_is_not() {
        assert!(Difference::of("a", &shifted(0.05)).p_value < 0.001);
        let noise = Difference::of("a", &shifted(0.0));
        assert!(noise.p_value > 0.05 && noise.interval[0] < 0.0 && noise.interval[1] > 0.0, "{noise:?}");
    }

    #[test]
    fn the_interval_is_that_of_the_normal_law_for_many_queries() {
        let pairs = shifted(0.02);
        let difference = Difference::of("a", &pairs);
        let deviations = pairs.iter().map(|(a, b)| (b - a - difference.ndcg_at_10).powi(2));
        let error = (deviations.sum::<f64>() / 300.0).sqrt() / 300f64.sqrt();
        for (bound, sign) in difference.interval.into_iter().zip([-1.96, 1.96]) {
            assert!((bound - difference.ndcg_at_10 - sign * error).abs() < 0.1 * error, "{difference:?} ± {error}");
        }
    }

    #[test]
    fn swapping_the_runs_mirrors_the_difference() {
        let pairs = shifted(0.01);
        let swapped: Vec<_> = pairs.iter().map(|(a, b)| (*b, *a)).collect();
        let (one, other) = (Difference::of("a", &pairs), Difference::of("b", &swapped));
        assert_eq!(one.p_value, other.p_value);
        assert!((one.interval[0] + other.interval[1]).abs() < 1e-9);
        assert_eq!((one.better, one.worse), (other.worse, other.better));
    }
}
