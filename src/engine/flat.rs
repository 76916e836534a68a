//! Search over a resident matrix, without an index to build.
//!
//! A vector of `d` coordinates costs `4 d` bytes for itself (on disk, if so configured) and `d / 8 + 12` for its signs, two
//! factors and its id: 60 at 384 coordinates. A removed vector keeps its place until half of its segment is removed.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::kernels::Kernels;
use super::pool::{Pool, Reply, Ticket};
use super::snapshot::{Layout, Snapshot};
use super::{Accuracy, Change, EngineStats, Found, IdSet, Request, VectorEngine, scan};
use crate::domain::Vector;
use crate::error::{Error, Result};
use crate::telemetry::metrics;

/// Threads that a configuration may ask for: far beyond any machine, far below what the system refuses.
const THREADS_MAX: usize = 1_024;
/// Searches that share one pass at most: more would gain little and make the first wait for the last.
const SHARING_MAX: usize = 8;

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
    waiting: Mutex<VecDeque<Waiting>>,
}

/// A search that waits for a thread.
struct Waiting {
    task: scan::Task,
    reply: Reply<Found>,
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
            waiting: Mutex::default(),
        };
        Ok(Self { dimension, shared: Arc::new(shared) })
    }

    /// Returns the instructions that scans use on this machine: `avx512bw`, `avx2`, `portable`.
    pub fn instructions(&self) -> &'static str {
        Kernels::best().name
    }

    fn submit(&self, waiting: Waiting) {
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(waiting);
        let shared = Arc::clone(&self.shared);
        self.shared.pool.spawn(move || shared.serve());
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

impl Shared {
    /// Runs searches that wait, as many in one pass as there are for each thread: one while threads are free, so that it
    /// answers soonest, and more when they are not, so that all are answered sooner.
    fn serve(&self) {
        let waiting = self.take();
        if waiting.is_empty() {
            return; // others have taken what this call was for
        }
        let (tasks, replies): (Vec<_>, Vec<_>) = waiting.into_iter().map(|one| (one.task, one.reply)).unzip();
        let alone = self.pool.searches() == 1;
        let found = scan::search(&self.current.load_full(), &tasks, alone);
        replies.into_iter().zip(found).for_each(|(reply, found)| drop(reply.send(found)));
    }

    fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = self.pool.searches_per_thread().clamp(1, SHARING_MAX).min(waiting.len());
        waiting.drain(..count).collect()
    }

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
        self.check_query(&request.vector)?;
        let snapshot = self.shared.current.load_full();
        if snapshot.vectors() == 0 || request.limit == 0 {
            return Ok(Found::default());
        }
        let (here_max_exact, here_max) = snapshot.layout().coordinates_here_max;
        let here_max = if request.accuracy == Accuracy::Exact { here_max_exact } else { here_max };
        let found = match snapshot.coordinates() <= here_max {
            true => {
                let ticket = Ticket::here(request.deadline);
                scan::search(&snapshot, &[(request, ticket)], false).pop().unwrap_or_else(|| Ok(Found::default()))?
            }
            false => {
                let deadline = request.deadline;
                let submit = |ticket, reply| self.submit(Waiting { task: (request, ticket), reply });
                self.shared.pool.answer(deadline, submit).await?
            }
        };
        metrics::engine_scanned(found.scanned);
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
