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

    /// Returns a text's vector and those of its tokens, of one computation.
    ///
    /// # Errors
    ///
    /// As [`Self::vector`].
    fn vectors(&mut self, text: &str) -> Result<Vectors>;
}

/// The vectors of a text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Vectors {
    /// The text's own, of any length.
    pub(super) text: Vec<f32>,
    /// Its tokens', special ones included, of any length; `None` when the model gives none.
    pub(super) tokens: Option<Matrix>,
}

/// What a job of the embedding model's threads is given.
pub(super) type Session = dyn Backend;

/// Rows of `dimension` coordinates each.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Matrix {
    pub(super) values: Vec<f32>,
    pub(super) dimension: usize,
}
