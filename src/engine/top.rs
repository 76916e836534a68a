//! The best few of many scores, in bounded memory.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::Scored;

/// Orders by score, best first, then by id.
pub fn best_first(a: &Scored, b: &Scored) -> Ordering {
    b.score.total_cmp(&a.score).then(a.id.cmp(&b.id))
}

/// Keeps the `limit` best of what is pushed, the worst of them at hand.
#[derive(Debug)]
pub struct Top {
    limit: usize,
    kept: BinaryHeap<Worst>,
    floor: f32,
}

impl Top {
    /// Returns an empty selection of at most `limit`.
    pub fn new(limit: usize) -> Self {
        let floor = if limit == 0 { f32::INFINITY } else { f32::NEG_INFINITY };
        Self { limit, kept: BinaryHeap::new(), floor }
    }

    /// Returns the score under which nothing is kept any more; an equal score still is, if its id is smaller.
    #[inline]
    pub fn floor(&self) -> f32 {
        self.floor
    }

    /// Offers one score.
    #[inline]
    pub fn push(&mut self, scored: Scored) {
        if scored.score >= self.floor {
            self.keep(Worst(scored));
        }
    }

    /// Offers what another selection kept.
    pub fn absorb(&mut self, other: Self) {
        other.kept.into_iter().for_each(|Worst(scored)| self.push(scored));
    }

    /// Returns what was kept, best first, equal scores in rising order of id.
    pub fn into_sorted(self) -> Vec<Scored> {
        self.kept.into_sorted_vec().into_iter().map(|Worst(scored)| scored).collect()
    }

    fn keep(&mut self, offered: Worst) {
        if self.kept.len() < self.limit {
            self.kept.push(offered);
        } else if let Some(mut worst) = self.kept.peek_mut().filter(|worst| offered < **worst) {
            *worst = offered;
        }
        if let Some(worst) = self.kept.peek().filter(|_| self.kept.len() == self.limit) {
            self.floor = worst.0.score;
        }
    }
}

/// Greater is worse, so that the heap's head is the worst.
#[derive(Debug)]
struct Worst(Scored);

impl Ord for Worst {
    fn cmp(&self, other: &Self) -> Ordering {
        best_first(&self.0, &other.0)
    }
}

impl PartialOrd for Worst {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Worst {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Worst {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::ChunkId;

    proptest! {
        #[test]
        fn top_is_the_head_of_the_sorted_list(
            scores in prop::collection::vec(-3i8..3, 0..100), limit in 0usize..20, cut in 0usize..100,
        ) {
            let all = scores.iter().zip(0u64..).map(|(s, id)| Scored { id: ChunkId(id), score: f32::from(*s) });
            let mut sorted: Vec<Scored> = all.clone().collect();
            sorted.sort_by(best_first);
            sorted.truncate(limit);
            let (mut left, mut right) = (Top::new(limit), Top::new(limit));
            for (at, scored) in all.enumerate() {
                if at < cut { left.push(scored) } else { right.push(scored) }
            }
            left.absorb(right);
            prop_assert_eq!(left.into_sorted(), sorted);
        }
    }
}
