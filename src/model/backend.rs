//! What computes vectors: one instance per worker thread, one text at a time.

use std::fmt::Debug;

use crate::error::Result;

/// A computing session. ONNX Runtime's, or a test's arithmetic.
pub(super) trait Backend: Debug + Send {
    /// Returns a text's vector, of any length.
    ///
    /// # Errors
    ///
    /// [`crate::error::Error::Internal`] when the computation fails.
    fn vector(&mut self, text: &str) -> Result<Vec<f32>>;

    /// Returns the vectors of a text's tokens, special ones included, of any length.
    ///
    /// # Errors
    ///
    /// [`crate::error::Error::Invalid`] when the model gives no such vectors, `Internal` when the computation fails.
    fn token_vectors(&mut self, text: &str) -> Result<Matrix>;
}

/// What a job of the embedding model's threads is given.
pub(super) type Session = dyn Backend;

/// Rows of `dimension` coordinates each.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Matrix {
    pub(super) values: Vec<f32>,
    pub(super) dimension: usize,
}

impl Matrix {
    /// Returns the rows.
    pub(super) fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.dimension.max(1))
    }
}
