//! An order that steps change, and what each of them made of every text; pure.

use crate::domain::{RerankMode, RerankPlacement};

/// Texts, by their places in the first list, in the order of now.
#[derive(Debug)]
pub(super) struct Ranking {
    /// Places in the first list, best first.
    order: Vec<usize>,
    /// What the steps made of each text, by its place in the first list.
    placements: Vec<Vec<RerankPlacement>>,
}

impl Ranking {
    /// Returns the order of the first list, of `count` texts.
    pub(super) fn new(count: usize) -> Self {
        Self { order: (0..count).collect(), placements: vec![Vec::new(); count] }
    }

    /// Returns the places in the first list, best first.
    pub(super) fn order(&self) -> &[usize] {
        &self.order
    }

    /// Returns what the steps made of a text, in their order.
    pub(super) fn placements(&self, place: usize) -> &[RerankPlacement] {
        &self.placements[place]
    }

    /// Returns a text's worth, in [0, 1], as the last step says that scored it.
    pub(super) fn score(&self, place: usize) -> Option<f32> {
        self.placements[place].last().map(published)
    }

    /// Puts the first texts of the order anew: the scored, best first, then the others in the order that they had.
    /// `scores` has one for each of them.
    pub(super) fn apply(&mut self, mode: RerankMode, scores: &[Option<f32>]) {
        let given = self.order[..scores.len()].to_vec();
        for (after, before) in best_first(scores).into_iter().enumerate() {
            self.order[after] = given[before];
            if let Some(score) = scores[before] {
                let (rank_before, rank_after) = (before as u32 + 1, after as u32 + 1);
                let placement = RerankPlacement { mode, score, rank_before, rank_after };
                self.placements[given[before]].push(placement);
            }
        }
    }
}

/// Brings a score, as its reranker measures, into [0, 1] without changing the order.
fn published(placement: &RerankPlacement) -> f32 {
    match placement.mode {
        RerankMode::CrossEncoder => (1.0 + (-placement.score).exp()).recip(),
        _ => placement.score.clamp(0.0, 1.0),
    }
}

/// Returns the places of the scored, best first, equals as they were; then those of the others in their order.
fn best_first(scores: &[Option<f32>]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| match (scores[*a], scores[*b]) {
        (Some(a), Some(b)) => b.total_cmp(&a),
        (a, b) => b.is_some().cmp(&a.is_some()),
    });
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_score_comes_last_in_its_order() {
        assert_eq!(best_first(&[None, Some(0.1), None, Some(0.4), Some(0.4)]), [3, 4, 1, 0, 2]);
    }

    #[test]
    fn a_step_moves_only_what_it_was_given() {
        let mut ranking = Ranking::new(5);
        ranking.apply(RerankMode::LateInteraction, &[Some(0.1), Some(0.3), Some(0.2), None]);
        assert_eq!(ranking.order(), [1, 2, 0, 3, 4]);
        ranking.apply(RerankMode::Llm, &[None, Some(0.9)]);
        assert_eq!(ranking.order(), [2, 1, 0, 3, 4]);
        let [first, second] = ranking.placements(2) else { panic!("two steps scored it") };
        assert_eq!((first.mode, first.rank_before, first.rank_after), (RerankMode::LateInteraction, 3, 2));
        assert_eq!((second.mode, second.rank_before, second.rank_after), (RerankMode::Llm, 2, 1));
        assert_eq!((ranking.score(2), ranking.score(1), ranking.score(4)), (Some(0.9), Some(0.3), None));
    }

    #[test]
    fn a_logit_is_published_as_a_share_and_kept_as_it_is() {
        let mut ranking = Ranking::new(3);
        ranking.apply(RerankMode::CrossEncoder, &[Some(-200.0), Some(0.0), Some(200.0)]);
        assert_eq!([0, 1, 2].map(|place| ranking.score(place).unwrap()), [0.0, 0.5, 1.0]);
        assert_eq!(ranking.placements(0)[0].score, -200.0);
    }
}
