//! The vector index: which stored vectors are nearest to a query. It holds numbers and vectors, never text.
//!
//! SQLite is the truth; an engine is a view of it that can be rebuilt at any time. Whoever commits to the store applies the
//! same change here right after, so a vector is found only when its document is durable.

mod flat;
mod kernels;
mod lookup;
mod originals;
mod pool;
mod rotation;
mod scan;
mod segment;
mod sketch;
mod snapshot;
mod token_codes;
mod top;

use async_trait::async_trait;
pub use flat::{Config, FlatEngine};
pub use roaring::RoaringTreemap as IdSet;
use serde::Serialize;
pub use token_codes::{TokenCoder, TokenCodes, TokenQuery};

pub use crate::domain::Accuracy;
use crate::domain::{ChunkId, Deadline, Vector};
use crate::error::Result;

/// Parts that the benchmarks time one by one; nothing else uses them.
#[doc(hidden)]
pub mod internals {
    pub use super::kernels::Kernels;
    pub use super::rotation::Rotation;
    pub use super::sketch::Sketch;
    pub use super::top::Top;
}

/// A vector index over chunk numbers.
#[async_trait]
pub trait VectorEngine: Send + Sync + 'static {
    /// Returns the nearest vectors, best first; equal scores in rising order of id. Fewer than `limit` only when fewer
    /// vectors match. Searches that are under way at once may share a pass over the vectors.
    ///
    /// # Errors
    ///
    /// `Invalid` when the dimension is wrong, `Deadline` or `Cancelled` (the future was dropped) within one block of
    /// work, `Overloaded` when the pool's queue is full.
    async fn search(&self, request: Request) -> Result<Found>;

    /// Makes a committed change visible to every search that starts after it returns. Searches under way keep the
    /// snapshot they took. Removing what is not there and adding what is there already change nothing.
    async fn apply(&self, change: Change) -> Result<()>;

    /// Returns the ids held, for comparing with the store.
    fn ids(&self) -> IdSet;

    /// Returns what is held and what it costs.
    fn stats(&self) -> EngineStats;
}

/// What to look for.
#[derive(Debug, Clone)]
pub struct Request {
    /// Near to this.
    pub vector: Vector,
    /// How many, at least 1.
    pub limit: usize,
    /// Only these, when given.
    pub filter: Option<IdSet>,
    /// How sure to be that nothing nearer was missed.
    pub accuracy: Accuracy,
    /// When to give up.
    pub deadline: Deadline,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Best first.
    pub scored: Vec<Scored>,
    /// Vectors compared with the query, by estimate or exactly.
    pub scanned: u64,
    /// Vectors compared exactly.
    pub compared: u64,
}

/// A vector and its cosine to the query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// Whose vector.
    pub id: ChunkId,
    /// Cosine, in [-1, 1] up to rounding.
    pub score: f32,
}

/// A committed change of the store. A vector never changes under its id, so there is no update.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// New vectors.
    pub added: Vec<(ChunkId, Vector)>,
    /// Numbers that are gone.
    pub removed: Vec<ChunkId>,
}

/// What an engine holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct EngineStats {
    /// Vectors that a search can find.
    pub vectors: u64,
    /// Heap bytes, removed vectors not yet reclaimed included.
    pub bytes: u64,
}
