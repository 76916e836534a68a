//! A test double that computes: texts with common words get near vectors, without a model and in microseconds.
//!
//! Each word hashes to a fixed pseudo-random direction; a text's vector is the sum over its words.

use super::backend::{Backend, Matrix, Vectors};
use super::tokens::words;
use crate::domain::{ModelIdentity, Pooling};
use crate::error::Result;

/// Tokens that the double reads of a text, as many as the bundled model.
pub(super) const TOKENS_MAX: usize = 256;

/// Bag of hashed words.
#[derive(Debug)]
pub(super) struct Arithmetic {
    pub(super) dimension: usize,
}

impl Arithmetic {
    /// Returns the identity of a double of this dimension.
    pub(super) fn identity(dimension: usize) -> ModelIdentity {
        ModelIdentity {
            name: "arithmetic".to_owned(),
            file_sha256: "0".repeat(64),
            dimension,
            pooling: Pooling::Mean,
            query_prefix: String::new(),
            passage_prefix: String::new(),
            tokens_max: TOKENS_MAX,
            onnxruntime: "none".to_owned(),
        }
    }

    fn direction(&self, word: &str) -> impl Iterator<Item = f32> {
        let mut state = fnv1a(word);
        std::iter::repeat_with(move || {
            state = xorshift(state);
            // The upper bits, as a number in [-1, 1).
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .take(self.dimension)
    }
}

impl Backend for Arithmetic {
    fn vector(&mut self, text: &str) -> Result<Vec<f32>> {
        let mut sum = vec![0.0; self.dimension];
        for word in normal_words(text) {
            sum.iter_mut().zip(self.direction(&word)).for_each(|(sum, value)| *sum += value);
        }
        Ok(sum)
    }

    fn vectors(&mut self, text: &str) -> Result<Vectors> {
        let values = normal_words(text).flat_map(|word| self.direction(&word).collect::<Vec<_>>()).collect();
        Ok(Vectors { text: self.vector(text)?, tokens: Some(Matrix { values, dimension: self.dimension }) })
    }
}

fn normal_words(text: &str) -> impl Iterator<Item = String> {
    let bare = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    words(text).take(TOKENS_MAX).map(move |(_, word)| bare(word)).filter(|word| !word.is_empty())
}

/// FNV-1a, 64 bit: stable across releases and platforms, unlike the standard library's hasher.
fn fnv1a(word: &str) -> u64 {
    word.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn xorshift(mut state: u64) -> u64 {
    state ^= state << 13;
    state ^= state >> 7;
    state ^ (state << 17)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Vector;

    fn unit(text: &str) -> Option<Vector> {
        Vector::normalise("vector", Arithmetic { dimension: 64 }.vector(text).unwrap()).unwrap()
    }

    #[test]
    fn common_words_make_texts_near() {
        let query = unit("how to borrow a value").unwrap();
        let near = query.dot(&unit("Borrow a value, then return it.").unwrap());
        let far = query.dot(&unit("relabel metrics before scraping").unwrap());
        assert!(near > far + 0.2, "{near} against {far}");
    }

    #[test]
    fn a_text_without_words_has_no_direction() {
        assert_eq!(unit(" … "), None);
    }
}
