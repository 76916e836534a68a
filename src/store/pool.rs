//! A pool of connections that async callers wait for without blocking a thread.
//!
//! r2d2 owns the connections; a semaphore of the same size stands before it, so that waiting is async and bounded, and
//! r2d2 always has a connection for whoever got a permit.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::failure::Failure;
use crate::error::{Error, Result};
use crate::telemetry::sql;

/// When a caller that got no connection has a chance: a few transactions later.
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// Virtual-machine steps between two looks at whether the caller is still there: well under a millisecond.
const STEPS_BETWEEN_LOOKS: i32 = 10_000;

/// Connections of one kind; a cheap clone of a handle.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    name: &'static str,
    path: Arc<Path>,
    connections: r2d2::Pool<SqliteConnectionManager>,
    permits: Arc<Semaphore>,
    timeout: Duration,
}

impl Pool {
    /// Returns a pool over `connections`; callers wait for one at most `timeout`.
    pub(super) fn new(
        name: &'static str,
        path: Arc<Path>,
        connections: r2d2::Pool<SqliteConnectionManager>,
        timeout: Duration,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(connections.max_size() as usize));
        Self { name, path, connections, permits, timeout }
    }

    /// Returns the number of connections.
    pub(super) fn len(&self) -> usize {
        self.connections.max_size() as usize
    }

    /// Runs `work` on a connection, on a blocking thread. Work whose caller goes away is interrupted at its next look.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        let caller = Caller::default();
        let gone = Arc::clone(&caller.0);
        self.run(move |connection| {
            let look = move || gone.load(Ordering::Relaxed);
            connection.progress_handler(STEPS_BETWEEN_LOOKS, Some(look))?;
            work(connection)
        })
        .await
    }

    /// Runs `work`, which takes well under half a millisecond, on a connection and on this thread: going to another and back
    /// would take longer. Such work is not interrupted.
    pub(super) async fn read_here<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Failure>) -> Result<T> {
        let _permit = self.permit().await?;
        self.lend(|connection| {
            connection.progress_handler(0, None::<fn() -> bool>)?; // the last caller's may be there still
            work(connection)
        })
    }

    /// Runs `work` in one transaction, on a blocking thread; it is committed even when the caller goes away meanwhile.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        self.run(|connection| transact(connection, work)).await
    }

    /// Runs `work` on a connection, on a blocking thread inside the caller's span.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        let permit = self.permit().await?;
        let (pool, span) = (self.clone(), tracing::Span::current());
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit; // dropped last, after the connection is back
            span.in_scope(|| pool.lend(work))
        });
        task.await.unwrap_or_else(|error| Err(Error::internal("database work ended early", error)))
    }

    /// Runs `work` on a connection, on this thread, waiting for one at most the pool's timeout.
    pub(super) fn lend<T>(&self, work: impl FnOnce(&mut Connection) -> Result<T, Failure>) -> Result<T> {
        let unopened = |error| Error::unavailable(format!("no connection to database {}", self.path.display()), error);
        let mut connection = self.connections.get_timeout(self.timeout).map_err(unopened)?;
        self.report();
        let lent = Instant::now();
        let result = work(&mut connection);
        drop(connection);
        sql::pool_use(self.name, lent.elapsed());
        self.report();
        result.map_err(|failure| failure.at(&self.path))
    }

    /// Lets no further caller in; those waiting are turned away.
    pub(super) fn close(&self) {
        self.permits.close();
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit> {
        let _waiting = sql::pool_wait(self.name);
        match tokio::time::timeout(self.timeout, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(closed)) => Err(Error::unavailable("the store is closed", closed)),
            Err(_) => {
                sql::pool_timeout(self.name);
                Err(Error::Overloaded { what: "database connections", retry_after: RETRY_AFTER })
            }
        }
    }

    fn report(&self) {
        let state = self.connections.state();
        let used = state.connections.saturating_sub(state.idle_connections);
        sql::pool_state(
            self.name,
            used as usize,
            state.idle_connections as usize,
            self.connections.max_size() as usize,
        );
    }
}

/// Runs `work` in a transaction that has the write lock from its start (IMMEDIATE): one that begins by reading and must
/// then wait for the lock can fail at once, whatever the busy timeout, because what it read has changed.
pub(super) fn transact<T>(
    connection: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let transaction = sql::statement("BEGIN", "BEGIN IMMEDIATE", || {
        connection.transaction_with_behavior(TransactionBehavior::Immediate)
    })?;
    let done = work(&transaction)?;
    sql::statement("COMMIT", "COMMIT", || transaction.commit())?;
    Ok(done)
}

/// Tells the work, on being dropped, that nobody waits for it any more.
#[derive(Default)]
struct Caller(Arc<AtomicBool>);

impl Drop for Caller {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
