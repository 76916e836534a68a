//! How good one ranking is, by the measures of trec_eval (github.com/usnistgov/trec_eval).

use serde::{Deserialize, Serialize};

use super::dataset::Grades;

/// Documents of a ranking that count; trec_eval's `map` over such a ranking is its `map_cut_100`.
pub const DEPTH: usize = 100;

/// The measures of a ranking, or their means over queries. All in [0, 1].
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    /// Normalised discounted cumulative gain of the first 10 (`ndcg_cut_10`): gain = grade, discount = log2(rank + 1), over
    /// the gain of the best order of all judged documents.
    pub ndcg_at_10: f64,
    /// Share of the relevant among the first 10 (`recall_10`).
    pub recall_at_10: f64,
    /// Share of the relevant among the first 100 (`recall_100`).
    pub recall_at_100: f64,
    /// Reciprocal rank of the first relevant among the first 10, else 0 (`recip_rank` of the first 10).
    pub mrr_at_10: f64,
    /// Mean over all relevant of the precision at the rank of each, 0 for one that is not found (`map`).
    pub map: f64,
}

impl Measures {
    /// Returns the measures of documents, best first and each once, by their grades.
    pub fn of<'r>(ranking: impl IntoIterator<Item = &'r str>, grades: &Grades) -> Self {
        let grade = |id| grades.get(id).map_or(0, |grade| (*grade).max(0));
        let gains: Vec<i32> = ranking.into_iter().take(DEPTH).map(grade).collect();
        let mut ideal: Vec<i32> = grades.values().copied().filter(|grade| *grade > 0).collect();
        if ideal.is_empty() {
            return Self::default();
        }
        ideal.sort_unstable_by(|a, b| b.cmp(a));
        let relevant = ideal.len() as f64;
        let recall = |depth: usize| gains.iter().take(depth).filter(|gain| **gain > 0).count() as f64 / relevant;
        let first = gains.iter().take(10).position(|gain| *gain > 0);
        Self {
            ndcg_at_10: discounted_gain(&gains) / discounted_gain(&ideal),
            recall_at_10: recall(10),
            recall_at_100: recall(DEPTH),
            mrr_at_10: first.map_or(0.0, |place| 1.0 / (place + 1) as f64),
            map: precisions(&gains) / relevant,
        }
    }

    /// Returns the means of some measures, 0 when there are none.
    pub fn mean(all: &[Self]) -> Self {
        let mean = |of: fn(&Self) -> f64| all.iter().map(of).sum::<f64>() / all.len().max(1) as f64;
        Self {
            ndcg_at_10: mean(|m| m.ndcg_at_10),
            recall_at_10: mean(|m| m.recall_at_10),
            recall_at_100: mean(|m| m.recall_at_100),
            mrr_at_10: mean(|m| m.mrr_at_10),
            map: mean(|m| m.map),
        }
    }
}

/// Returns the discounted cumulative gain of the first 10.
fn discounted_gain(gains: &[i32]) -> f64 {
    (2..).zip(gains.iter().take(10)).map(|(rank, gain)| f64::from(*gain) / f64::from(rank).log2()).sum()
}

/// Returns the sum of the precisions at the ranks of the relevant.
fn precisions(gains: &[i32]) -> f64 {
    let ranks = (1..).zip(gains).filter(|(_, gain)| **gain > 0).map(|(rank, _)| f64::from(rank));
    (1..).zip(ranks).map(|(found, rank)| f64::from(found) / rank).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grades(list: &[(&str, i32)]) -> Grades {
        list.iter().map(|(id, grade)| ((*id).to_owned(), *grade)).collect()
    }

    #[test]
    fn the_measures_are_those_computed_by_hand() {
        // Grades 0 1 0 2: gain 1/log2(3) + 2/log2(5); ideal 2 1 1: 2/log2(2) + 1/log2(3) + 1/log2(4).
        let measures = Measures::of(["a", "b", "c", "d"], &grades(&[("b", 1), ("d", 2), ("z", 1), ("a", -1)]));
        let expected = (1.0 / 3f64.log2() + 2.0 / 5f64.log2()) / (2.0 + 1.0 / 3f64.log2() + 0.5);
        assert!((measures.ndcg_at_10 - expected).abs() < 1e-12);
        assert!((measures.recall_at_10 - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(measures.mrr_at_10, 0.5);
        assert!((measures.map - (1.0 / 2.0 + 2.0 / 4.0) / 3.0).abs() < 1e-12);
    }

    #[test]
    fn a_perfect_ranking_scores_one_and_an_empty_one_zero() {
        let wanted = grades(&[("a", 1)]);
        let one = Measures { ndcg_at_10: 1.0, recall_at_10: 1.0, recall_at_100: 1.0, mrr_at_10: 1.0, map: 1.0 };
        assert_eq!(Measures::of(["a"], &wanted), one);
        assert_eq!(Measures::of([], &wanted), Measures::default());
        assert_eq!(Measures::mean(&[one, Measures::default()]).map, 0.5);
        assert_eq!(Measures::mean(&[]), Measures::default());
    }
}
