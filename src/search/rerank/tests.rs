//! Budgets, and what is left of an order when a reranker is missing or late.

use super::*;

fn ranking(scores: &[Option<f32>]) -> Ranking {
    let mut ranking = Ranking::new(scores.len());
    ranking.apply(RerankMode::LateInteraction, scores);
    ranking
}

fn items(ranked: &[Reranked]) -> Vec<usize> {
    ranked.iter().map(|reranked| reranked.index).collect()
}

#[test]
fn an_item_counts_by_its_best_text() {
    let ranked = best_per_item(&[0, 1, 2, 1], &ranking(&[0.5, 0.1, 0.5, 0.9].map(Some)), 10);
    assert_eq!(items(&ranked), [1, 0, 2]);
    assert_eq!(best_per_item(&[0, 1], &ranking(&[Some(0.1), Some(0.2)]), 1).len(), 1);
}

#[test]
fn items_without_a_score_come_last_in_their_order() {
    let ranked = best_per_item(&[0, 1, 2, 3, 1], &ranking(&[None, None, Some(0.1), None, Some(0.3)]), 10);
    assert_eq!(items(&ranked), [1, 2, 0, 3]);
    assert_eq!(ranked.iter().map(|reranked| reranked.score).collect::<Vec<_>>(), [0.3, 0.1, 0.0, 0.0]);
}

#[test]
fn scores_of_different_steps_never_rise_down_the_list() {
    let mut ranking = ranking(&[0.9, 0.8, 0.7].map(Some));
    ranking.apply(RerankMode::Llm, &[None, Some(0.2)]);
    let ranked = best_per_item(&[0, 1, 2], &ranking, 10);
    assert_eq!(ranked.iter().map(|reranked| reranked.score).collect::<Vec<_>>(), [0.2, 0.2, 0.2]);
}

#[test]
fn a_budget_leaves_time_for_the_answer() {
    let second = Duration::from_secs(1);
    let left = budget(None, Deadline::after(second)).remaining().unwrap();
    assert!(left < second * 95 / 100 && left > second / 2, "{left:?}");
    let left = budget(Some(second / 4), Deadline::after(second)).remaining().unwrap();
    assert!(left <= second / 4, "{left:?}");
    assert!(budget(Some(second * 9), Deadline::after(second)).remaining().unwrap() < second);
    assert!(budget(None, Deadline::after(Duration::ZERO)).expired());
    assert!(budget(None, Deadline::NONE).remaining().is_none());
}
