//! The latest queries' vectors: a question that is asked again, or by several at once, is embedded once.
//!
//! Each text that is being embedded has a cell which all who ask for it share. One of them computes; when that one fails,
//! or goes away, the next takes over with its own deadline, so an error is nobody else's and is never kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashlink::LruCache;
use tokio::sync::OnceCell;

use super::EmbeddedQuery;
use crate::domain::Deadline;
use crate::error::{Error, Result};
use crate::telemetry::metrics;

/// What an entry costs besides its text and its coordinates: the structs, the two allocations, its place in the list.
const ENTRY_BYTES: usize = 256;

/// Filled once, by whoever asked first and stayed.
type Cell = Arc<OnceCell<Arc<EmbeddedQuery>>>;

/// Queries by their text, prefix included; the least recently asked are dropped first.
#[derive(Debug)]
pub(super) struct QueryCache {
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    entries: LruCache<String, Arc<EmbeddedQuery>>,
    bytes: usize,
    under_way: HashMap<String, UnderWay>,
}

#[derive(Debug, Default)]
struct UnderWay {
    cell: Cell,
    callers: usize,
}

/// Where a query is found.
enum Place<'a> {
    Kept(Arc<EmbeddedQuery>),
    UnderWay(Share<'a>),
}

/// One caller's share in a computation; given back when dropped.
struct Share<'a> {
    cache: &'a QueryCache,
    text: &'a str,
    cell: Cell,
}

impl QueryCache {
    /// Returns a cache that holds at most `bytes_max`; with 0 every query is computed.
    pub(super) fn new(bytes_max: usize) -> Self {
        let state = State { entries: LruCache::new_unbounded(), bytes: 0, under_way: HashMap::new() };
        Self { bytes_max, state: Mutex::new(state) }
    }

    /// Returns what `text` was embedded as, or else what `compute` returns, which runs at most once at a time for a text.
    ///
    /// # Errors
    ///
    /// [`crate::error::Error::Deadline`] when time ran out; what `compute` returns.
    pub(super) async fn get(
        &self,
        text: &str,
        deadline: Deadline,
        compute: impl Future<Output = Result<EmbeddedQuery>>,
    ) -> Result<Arc<EmbeddedQuery>> {
        if self.bytes_max == 0 {
            return compute.await.map(Arc::new);
        }
        let share = match self.find(text) {
            Place::Kept(query) => {
                metrics::query_cache_request("hit");
                return Ok(query);
            }
            Place::UnderWay(share) => share,
        };
        let mut computed = false;
        let filling = share.cell.get_or_try_init(|| {
            computed = true;
            metrics::query_cache_request("miss");
            async { compute.await.map(Arc::new) }
        });
        let query = Arc::clone(within(deadline, filling).await?);
        match computed {
            true => self.keep(text, &query),
            false => metrics::query_cache_request("hit"),
        }
        Ok(query)
    }

    fn find<'a>(&'a self, text: &'a str) -> Place<'a> {
        let mut state = self.lock();
        if let Some(query) = state.entries.get(text) {
            return Place::Kept(Arc::clone(query));
        }
        let under_way = state.under_way.entry(text.to_owned()).or_default();
        under_way.callers += 1;
        Place::UnderWay(Share { cache: self, text, cell: Arc::clone(&under_way.cell) })
    }

    fn keep(&self, text: &str, query: &Arc<EmbeddedQuery>) {
        let bytes = entry_bytes(text, query);
        if bytes > self.bytes_max {
            return;
        }
        let mut state = self.lock();
        state.bytes += bytes;
        if let Some(former) = state.entries.insert(text.to_owned(), Arc::clone(query)) {
            state.bytes -= entry_bytes(text, &former);
        }
        while state.bytes > self.bytes_max
            && let Some((text, dropped)) = state.entries.remove_lru()
        {
            state.bytes -= entry_bytes(&text, &dropped);
        }
        metrics::query_cache_state(state.entries.len(), state.bytes);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let mut state = self.cache.lock();
        let Some(under_way) = state.under_way.get_mut(self.text) else { return };
        under_way.callers -= 1;
        if under_way.callers == 0 {
            state.under_way.remove(self.text);
        }
    }
}

fn entry_bytes(text: &str, query: &EmbeddedQuery) -> usize {
    let vector = query.embedded.vector.as_ref().map_or(0, |vector| vector.dimension());
    let tokens = query.tokens.as_ref().map_or(0, |tokens| tokens.as_slice().len());
    ENTRY_BYTES + text.len() + size_of::<f32>() * (vector + tokens)
}

/// Waits for a query's vectors while there is time.
async fn within<T>(deadline: Deadline, filling: impl Future<Output = Result<T>>) -> Result<T> {
    match deadline.remaining() {
        None => filling.await,
        Some(left) => tokio::time::timeout(left, filling)
            .await
            .unwrap_or_else(|_| Err(Error::Deadline { what: "the embedding model" })),
    }
}

#[cfg(test)]
mod tests;
