//! The contestants, each behind the same two calls.

mod ours;
#[cfg(feature = "qdrant")]
mod qdrant;
mod sqlite;
mod usearch;

pub use ours::{Ours, engine, load, request};
#[cfg(feature = "qdrant")]
pub use qdrant::Qdrant;
pub use sqlite::{BlobScan, SqliteVec, write_blobs};
pub use usearch::Usearch;

pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Something that finds neighbours.
pub trait Peer {
    /// Says what it is and how it is set.
    fn name(&self) -> String;

    /// Returns the ids of the nearest.
    fn search(&mut self, query: &[f32], limit: usize) -> Result<Vec<u64>, Failure>;

    /// Queries in one round: fewer for the slow.
    fn queries_per_round(&self) -> usize {
        100
    }

    /// Seconds from the last vector given to full speed.
    fn ready_s(&self) -> f64 {
        0.0
    }
}
