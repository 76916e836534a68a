//! The unit-length vector, the only kind that is stored or searched.
//!
//! The rule (the predecessor's FAFCAS): little-endian f32, normalised before storage and before querying, similarity is
//! the dot product. What has no direction (norm ≤ [`Vector::NORM_MIN`]) is not searchable and is counted, never scored.

use std::sync::Arc;

use crate::error::{Error, Result};

/// A vector of length 1, cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub struct Vector(Arc<[f32]>);

impl Vector {
    /// The norm at or under which a vector has no direction.
    pub const NORM_MIN: f32 = 1e-6;
    /// How far from 1 the norm of a stored vector may be: f32 rounding of 4,096 coordinates stays far below it.
    pub const NORM_TOLERANCE: f32 = 1e-3;

    /// Returns `values` scaled to length 1, or `None` when they have no direction (norm ≤ [`Self::NORM_MIN`]).
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] on `field` when a value is NaN or infinite.
    pub fn normalise(field: &str, mut values: Vec<f32>) -> Result<Option<Self>> {
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::invalid(field, format!("value {at} is not a finite number")));
        }
        // f64, so that large inputs neither overflow nor lose the small coordinates.
        let norm = values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
        if norm <= f64::from(Self::NORM_MIN) {
            return Ok(None);
        }
        for value in &mut values {
            *value = (f64::from(*value) / norm) as f32;
        }
        Ok(Some(Self(values.into())))
    }

    /// Returns the vector that `bytes` (little-endian f32) hold.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] when the length is not `dimension` or the norm is not 1: the row was damaged or not written by
    /// this code.
    pub fn from_le_bytes(bytes: &[u8], dimension: usize) -> Result<Self> {
        if bytes.len() != dimension * 4 {
            return Err(Error::bug(format!("a stored vector has {} bytes, not {}", bytes.len(), dimension * 4)));
        }
        let values: Arc<[f32]> = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let norm = values.iter().map(|v| v * v).sum::<f32>().sqrt();
        if norm.is_nan() || (norm - 1.0).abs() > Self::NORM_TOLERANCE {
            return Err(Error::bug(format!("a stored vector has norm {norm}, not 1")));
        }
        Ok(Self(values))
    }

    /// Returns the values as little-endian bytes, 4 per coordinate.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    /// Returns the coordinates.
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }

    /// Returns the number of coordinates.
    pub fn dimension(&self) -> usize {
        self.0.len()
    }

    /// Returns the cosine of the angle between two vectors of the same dimension, in [-1, 1] up to rounding.
    pub fn dot(&self, other: &Self) -> f32 {
        self.0.iter().zip(other.0.iter()).map(|(a, b)| a * b).sum()
    }
}
