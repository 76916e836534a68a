//! Search over a resident matrix, without an index to build.
//!
//! A vector of `d` coordinates costs `4 d` bytes for itself (on disk, if so configured) and `d / 8 + 12` for its signs, two
//! factors and its id: 60 at 384 coordinates. A removed vector keeps its place until half of its segment is removed.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::kernels::Kernels;
use super::pool::{Pool, Ticket};
use super::snapshot::{Layout, Snapshot};
use super::{Change, EngineStats, Found, IdSet, Request, VectorEngine, scan};
use crate::domain::{Deadline, Vector};
use crate::error::{Error, Result};
use crate::telemetry::metrics;

/// Threads that a configuration may ask for: far beyond any machine, far below what the system refuses.
const THREADS_MAX: usize = 1_024;
/// Coordinates that are compared on the caller's thread, where going to another and back would double the time: 4,096
/// vectors of 384, that is 6 MB, a third of a millisecond from memory.
const COORDINATES_HERE_MAX: usize = 4_096 * 384;

/// How searches are run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Threads that scan; 0 is one per core.
    pub threads: usize,
    /// Searches that may wait for a thread; one more is refused.
    pub waiting_max: usize,
    /// A folder for the vectors themselves: they are memory-mapped there and only their sketches stay on the heap, 60
    /// bytes each at 384 coordinates. Searches need no more time while the operating system has memory to spare.
    pub mapped_folder: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self { threads: 0, waiting_max: 256, mapped_folder: None }
    }
}

/// Search over a resident matrix. Readers take the current snapshot without a lock; the one writer makes the next.
pub struct FlatEngine {
    dimension: usize,
    shared: Arc<Shared>,
}

struct Shared {
    current: ArcSwap<Snapshot>,
    writing: Mutex<()>,
    pool: Pool,
}

impl FlatEngine {
    /// Returns an empty engine for vectors of `dimension` coordinates.
    ///
    /// # Errors
    ///
    /// `Invalid` when `dimension` is 0 or too many threads are asked for, `Unavailable` when threads cannot be started.
    pub fn new(config: &Config, dimension: usize) -> Result<Self> {
        if dimension == 0 {
            return Err(Error::invalid("dimension", "is 0; a vector has at least 1 coordinate"));
        }
        if config.threads > THREADS_MAX {
            return Err(Error::invalid("engine.threads", format!("is {}; at most {THREADS_MAX}", config.threads)));
        }
        Self::with_layout(config, Layout { mapped_folder: config.mapped_folder.clone(), ..Layout::new(dimension) })
    }

    fn with_layout(config: &Config, layout: Layout) -> Result<Self> {
        let dimension = layout.dimension;
        let shared = Shared {
            current: ArcSwap::from_pointee(Snapshot::empty(layout)),
            writing: Mutex::new(()),
            pool: Pool::new(config.threads, config.waiting_max)?,
        };
        Ok(Self { dimension, shared: Arc::new(shared) })
    }

    /// Returns the instructions that scans use on this machine: `avx512bw`, `avx2`, `portable`.
    pub fn instructions(&self) -> &'static str {
        Kernels::best().name
    }

    fn check_query(&self, vector: &Vector) -> Result<()> {
        if vector.dimension() == self.dimension {
            return Ok(());
        }
        let (given, held) = (vector.dimension(), self.dimension);
        Err(Error::invalid("query.vector", format!("has {given} coordinates; the index has {held}")))
    }

    fn check_change(&self, change: &Change) -> Result<()> {
        match change.added.iter().find(|(_, vector)| vector.dimension() != self.dimension) {
            None => Ok(()),
            Some((id, vector)) => {
                let (given, held) = (vector.dimension(), self.dimension);
                Err(Error::bug(format!("the vector of chunk {} has {given} coordinates; the index has {held}", id.0)))
            }
        }
    }
}

/// Returns when the most patient of the requests gives up.
fn latest(requests: &[Request]) -> Deadline {
    let mut left = requests.iter().map(|request| request.deadline.remaining());
    let longest = left.try_fold(Duration::ZERO, |longest, left| left.map(|left| left.max(longest)));
    longest.map_or(Deadline::NONE, Deadline::after)
}

impl Shared {
    fn apply(&self, change: &Change) {
        // A poisoned lock guards nothing that can be half done: the snapshot is swapped in one step.
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.current.load_full();
        let next = if change.added.len() < current.layout().segment_rows_max {
            // Not on the pool: a small change does not wait behind searches.
            current.with(change)
        } else {
            self.pool.install(|| current.with(change))
        };
        let stats = next.stats();
        self.current.store(Arc::new(next));
        metrics::engine_state(stats.vectors, stats.bytes);
    }
}

#[async_trait]
impl VectorEngine for FlatEngine {
    async fn search(&self, request: Request) -> Result<Found> {
        Ok(self.search_batch(vec![request]).await?.pop().unwrap_or_default())
    }

    async fn search_batch(&self, requests: Vec<Request>) -> Result<Vec<Found>> {
        requests.iter().try_for_each(|request| self.check_query(&request.vector))?;
        let snapshot = self.shared.current.load_full();
        if snapshot.vectors() == 0 || requests.iter().all(|request| request.limit == 0) {
            return Ok(vec![Found::default(); requests.len()]);
        }
        let deadline = latest(&requests);
        let coordinates = snapshot.vectors().saturating_mul(self.dimension).saturating_mul(requests.len());
        let found = match coordinates {
            ..=COORDINATES_HERE_MAX => scan::search(&snapshot, &requests, &Ticket::here(deadline))?,
            _ => self.shared.pool.run(deadline, move |ticket| scan::search(&snapshot, &requests, ticket)).await?,
        };
        metrics::engine_scanned(found.iter().map(|found| found.scanned).sum());
        Ok(found)
    }

    async fn apply(&self, change: Change) -> Result<()> {
        self.check_change(&change)?;
        let shared = Arc::clone(&self.shared);
        // On a thread that it cannot be thrown off: once begun, a change completes even if the caller goes away.
        tokio::task::spawn_blocking(move || shared.apply(&change))
            .await
            .map_err(|e| Error::internal("could not apply a change to the index", e))
    }

    fn ids(&self) -> IdSet {
        self.shared.current.load().ids()
    }

    fn stats(&self) -> EngineStats {
        self.shared.current.load().stats()
    }
}

#[cfg(test)]
mod tests;
