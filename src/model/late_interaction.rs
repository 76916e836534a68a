//! Late interaction: how well each token of a query is answered by some token of a passage.
//!
//! MaxSim after Khattab and Zaharia, «ColBERT» (2020), as a mean instead of a sum, so that scores of queries of different
//! lengths share one range.

use super::backend::Matrix;
use crate::error::{Error, Result};

/// The vectors of a text's tokens, special ones included, each of length 1 or, without direction, 0.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenVectors {
    values: Vec<f32>,
    dimension: usize,
}

impl TokenVectors {
    /// Scales every row of `tokens` to length 1; a row without direction becomes zeros.
    pub(super) fn normalise(tokens: Matrix) -> Self {
        let Matrix { mut values, dimension } = tokens;
        for row in values.chunks_exact_mut(dimension.max(1)) {
            let norm = dot(row, row).sqrt();
            let scale = if norm.is_finite() && norm > f32::MIN_POSITIVE { norm.recip() } else { 0.0 };
            row.iter_mut().for_each(|value| *value *= scale);
        }
        Self { values, dimension }
    }

    /// Returns the coordinates, token after token.
    pub fn as_slice(&self) -> &[f32] {
        &self.values
    }

    /// Returns the number of coordinates of each.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Returns the mean over these tokens, a query's, of the largest cosine with a passage's token, in [-1, 1]; 0 without
    /// tokens.
    pub(super) fn mean_max_sim(&self, passage: &Self) -> f32 {
        let rows = self.rows().len();
        if rows == 0 || passage.rows().len() == 0 {
            return 0.0;
        }
        let best = |row| passage.rows().map(|other| dot(row, other)).fold(f32::NEG_INFINITY, f32::max);
        let mean = self.rows().map(best).sum::<f32>() / rows as f32;
        mean.clamp(-1.0, 1.0)
    }

    fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.dimension.max(1))
    }
}

/// Returns the token vectors, or what to say when the model gives none.
pub(super) fn required<T>(tokens: Option<T>) -> Result<T> {
    let message = "late interaction needs a model that returns token vectors, and this one does not";
    tokens.ok_or_else(|| Error::invalid("rerank.mode", message))
}

/// Sixteen partial sums, so that the compiler may use the vector registers in spite of float rounding's order.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let (a_lanes, a_rest) = a.as_chunks::<LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0f32; LANES];
    for (a, b) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(dimension: usize, values: &[f32]) -> TokenVectors {
        TokenVectors::normalise(Matrix { values: values.to_vec(), dimension })
    }

    #[test]
    fn each_query_token_counts_its_best_passage_token() {
        let query = tokens(2, &[3.0, 0.0, 0.0, 2.0]);
        let passage = tokens(2, &[5.0, 0.0, -1.0, 0.0, 3.0, 4.0]);
        // 1 with (1, 0), and 0.8 with (0.6, 0.8).
        assert!((query.mean_max_sim(&passage) - 0.9).abs() < 1e-6);
    }

    #[test]
    fn a_text_scores_one_with_itself() {
        let values: Vec<f32> = (0..384 * 5).map(|i| ((i * 37 % 101) as f32) - 50.0).collect();
        let text = tokens(384, &values);
        assert!((text.mean_max_sim(&text) - 1.0).abs() < 1e-5);
    }

    #[test]
    fn nothing_scores_zero_and_never_nan() {
        let some = tokens(2, &[1.0, 1.0]);
        let none = tokens(2, &[]);
        let zeros = tokens(2, &[0.0, 0.0]);
        for (query, passage) in [(&some, &none), (&none, &some), (&some, &zeros), (&zeros, &some)] {
            assert_eq!(query.mean_max_sim(passage), 0.0);
        }
    }
}
