//! Threads that own a session each, and the queue before them.
//!
//! A query is refused when its queue is full; bulk work waits for room. Queries go first, but every
//! [`BULK_TURN`]th job is bulk, so that ingest proceeds under any load. What nobody waits for any more is not computed.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tracing::Span;

use super::backend::Session;
use crate::domain::Deadline;
use crate::error::{Error, Result};
use crate::telemetry::metrics;

/// One job in so many is bulk when both queues have some: bulk keeps 1/16 of the sessions at worst.
const BULK_TURN: u64 = 16;
/// Bulk jobs that may wait per session: enough that a session never waits for its next text.
const BULK_PER_SESSION: usize = 4;
/// A caller is told to retry within these bounds.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(5));

/// What the threads of one model are called.
#[derive(Debug)]
pub(super) struct Names {
    /// In errors.
    pub(super) what: &'static str,
    /// In thread lists, with a number.
    pub(super) thread: &'static str,
    /// The queues in metrics: a person's, and that of bulk work.
    pub(super) queues: [&'static str; 2],
}

impl Names {
    /// Returns the word of a queue.
    fn of(&self, priority: Priority) -> &'static str {
        self.queues[usize::from(priority == Priority::Bulk)]
    }
}

/// The embedding model's threads.
pub(super) static EMBEDDING: Names = Names { what: "the embedding model", thread: "model", queues: ["query", "bulk"] };
/// The cross-encoder's; it has no bulk work.
pub(super) static CROSS_ENCODER: Names =
    Names { what: "the cross-encoder", thread: "pairs", queues: ["cross_encoder", "bulk"] };

/// What a job is for; the word in metrics and spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Query,
    Passage,
    LateInteraction,
    CrossEncoder,
}

impl Operation {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Passage => "passage",
            Self::LateInteraction => "late_interaction",
            Self::CrossEncoder => "cross_encoder",
        }
    }
}

/// Whether a caller waits for a person's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Priority {
    Query,
    Bulk,
}

/// What a job returns: its result and the tokens that it read.
pub(super) type Done<T> = Result<(T, u32)>;

/// The queue and its threads, which end when this is dropped. Each thread owns a session of type `S`.
pub(super) struct Workers<S: ?Sized + 'static = Session> {
    shared: Arc<Shared<S>>,
    threads: Vec<JoinHandle<()>>,
    query_room: Arc<Semaphore>,
    bulk_room: Arc<Semaphore>,
}

struct Shared<S: ?Sized> {
    names: &'static Names,
    queues: Mutex<Queues<S>>,
    /// One per thread, so that the thread to wake can be chosen.
    wakes: Vec<Condvar>,
    panicked: AtomicBool,
    /// A moving average of a job's time, for `retry_after`.
    job_us: AtomicU64,
}

struct Queues<S: ?Sized> {
    names: &'static Names,
    query: VecDeque<Job<S>>,
    bulk: VecDeque<Job<S>>,
    /// Threads without work, the latest to finish last: it is woken first, its weights are still in the caches.
    idle: Vec<usize>,
    turn: u64,
    closed: bool,
}

impl<S: ?Sized> std::fmt::Debug for Workers<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let queues = self.shared.lock();
        f.debug_struct("Workers")
            .field("threads", &self.threads.len())
            .field("query", &queues.query.len())
            .field("bulk", &queues.bulk.len())
            .finish_non_exhaustive()
    }
}

type Job<S> = Box<dyn FnOnce(&mut S) + Send>;

impl<S: ?Sized + Send + 'static> Workers<S> {
    /// Starts a thread per session. `query_len` is how many query jobs may wait.
    pub(super) fn start(names: &'static Names, sessions: Vec<Box<S>>, query_len: usize) -> Result<Self> {
        let bulk_len = sessions.len() * BULK_PER_SESSION;
        let mut workers = Self {
            shared: Arc::new(Shared::new(names, sessions.len())),
            threads: Vec::with_capacity(sessions.len()),
            query_room: Arc::new(Semaphore::new(query_len)),
            bulk_room: Arc::new(Semaphore::new(bulk_len)),
        };
        for (number, mut session) in sessions.into_iter().enumerate() {
            let shared = Arc::clone(&workers.shared);
            let thread = std::thread::Builder::new().name(format!("{}-{number}", names.thread));
            let thread = thread.spawn(move || shared.work(number, &mut *session));
            workers.threads.push(thread.map_err(|error| Error::internal("a model thread cannot be started", error))?);
        }
        Ok(workers)
    }

    pub(super) fn len(&self) -> usize {
        self.threads.len()
    }

    /// Whether no job has panicked and every thread is alive.
    pub(super) fn healthy(&self) -> bool {
        !self.shared.panicked.load(Ordering::Relaxed) && !self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Runs a job at once or not at all.
    ///
    /// # Errors
    ///
    /// [`Error::Overloaded`] when the query queue is full, [`Error::Deadline`] when time ran out before or while it ran.
    pub(super) async fn run_or_refuse<T: Send + 'static>(
        &self,
        operation: Operation,
        deadline: Deadline,
        work: impl FnOnce(&mut S) -> Done<T> + Send + 'static,
    ) -> Result<T> {
        let permit = Arc::clone(&self.query_room).try_acquire_owned().map_err(|_| self.overloaded())?;
        self.run(Priority::Query, operation, deadline, permit, work).await
    }

    /// Runs a job once there is room for it.
    ///
    /// # Errors
    ///
    /// [`Error::Deadline`] when time ran out.
    pub(super) async fn run_when_room<T: Send + 'static>(
        &self,
        priority: Priority,
        operation: Operation,
        deadline: Deadline,
        work: impl FnOnce(&mut S) -> Done<T> + Send + 'static,
    ) -> Result<T> {
        let room = match priority {
            Priority::Query => &self.query_room,
            Priority::Bulk => &self.bulk_room,
        };
        let permit = self.within(deadline, Arc::clone(room).acquire_owned()).await?;
        let permit = permit.map_err(|_| Error::bug("the model's queue is closed"))?;
        self.run(priority, operation, deadline, permit, work).await
    }

    async fn run<T: Send + 'static>(
        &self,
        priority: Priority,
        operation: Operation,
        deadline: Deadline,
        permit: OwnedSemaphorePermit,
        work: impl FnOnce(&mut S) -> Done<T> + Send + 'static,
    ) -> Result<T> {
        let what = self.shared.names.what;
        deadline.check(what)?;
        let (reply, answer) = oneshot::channel();
        let (caller, queued) = (Span::current(), Instant::now());
        let queue = self.shared.names.of(priority);
        self.shared.push(
            priority,
            Box::new(move |session| {
                // Room is made when the job is taken, not when it is done.
                drop(permit);
                caller.in_scope(|| metrics::queue_wait(queue, queued.elapsed()));
                if !reply.is_closed() {
                    let result = deadline.check(what).and_then(|()| measured(operation, &caller, || work(session)));
                    // The caller may have gone meanwhile.
                    let _ = reply.send(result);
                }
            }),
        );
        let answer = self.within(deadline, answer).await?;
        answer.map_err(|_| Error::bug("a model thread panicked; the log has the details"))?
    }

    async fn within<T>(&self, deadline: Deadline, future: impl Future<Output = T>) -> Result<T> {
        let Some(left) = deadline.remaining() else { return Ok(future.await) };
        let what = self.shared.names.what;
        tokio::time::timeout(left, future).await.map_err(|_| Error::Deadline { what })
    }

    fn overloaded(&self) -> Error {
        let waiting = self.shared.lock().query.len() as u64;
        let time_us = self.shared.job_us.load(Ordering::Relaxed) * waiting / self.threads.len().max(1) as u64;
        Error::Overloaded {
            what: self.shared.names.what,
            retry_after: Duration::from_micros(time_us).clamp(RETRY_AFTER.0, RETRY_AFTER.1),
        }
    }
}

impl<S: ?Sized> Drop for Workers<S> {
    /// Lets each thread finish its text, and waits for that. What is still queued is dropped.
    fn drop(&mut self) {
        let mut queues = self.shared.lock();
        queues.closed = true;
        let dropped = (std::mem::take(&mut queues.query), std::mem::take(&mut queues.bulk));
        drop(queues);
        drop(dropped);
        self.shared.wakes.iter().for_each(Condvar::notify_one);
        for thread in self.threads.drain(..) {
            // A panic was logged where it happened.
            let _ = thread.join();
        }
    }
}

impl<S: ?Sized> Shared<S> {
    fn new(names: &'static Names, threads: usize) -> Self {
        Self {
            names,
            queues: Mutex::new(Queues::new(names)),
            wakes: (0..threads).map(|_| Condvar::new()).collect(),
            panicked: AtomicBool::new(false),
            job_us: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queues<S>> {
        // Nothing that can panic runs under the lock.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, priority: Priority, job: Job<S>) {
        let mut queues = self.lock();
        let (queue, word) = queues.of(priority);
        queue.push_back(job);
        metrics::model_queue_len(word, queue.len());
        let woken = queues.idle.pop();
        drop(queues);
        if let Some(thread) = woken {
            self.wakes[thread].notify_one();
        }
    }

    fn work(&self, thread: usize, session: &mut S) {
        while let Some(job) = self.next(thread) {
            let started = Instant::now();
            // A panic must not take the session with it: the other jobs would wait for ever.
            if catch_unwind(AssertUnwindSafe(|| job(&mut *session))).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
                tracing::error!("a model call panicked; the service goes on but reports itself unhealthy");
            }
            self.count(started.elapsed());
        }
    }

    /// Returns the next job, waiting for one; `None` when the queue is closed.
    fn next(&self, thread: usize) -> Option<Job<S>> {
        let mut queues = self.lock();
        loop {
            if queues.closed {
                return None;
            }
            if let Some(job) = queues.take() {
                return Some(job);
            }
            queues.idle.push(thread);
            queues = self.wakes[thread].wait(queues).unwrap_or_else(PoisonError::into_inner);
            // Still there after a wake-up that nobody sent.
            queues.idle.retain(|idle| *idle != thread);
        }
    }

    /// Weighs the newest job by 1/8. Two threads may lose an update, which does not matter here.
    fn count(&self, time: Duration) {
        let before = self.job_us.load(Ordering::Relaxed);
        let time_us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX / 8);
        self.job_us.store(before - before / 8 + time_us / 8, Ordering::Relaxed);
    }
}

impl<S: ?Sized> Queues<S> {
    fn new(names: &'static Names) -> Self {
        let (query, bulk, idle) = (VecDeque::new(), VecDeque::new(), Vec::new());
        Self { names, query, bulk, idle, turn: 0, closed: false }
    }

    /// Returns a queue and its word in metrics.
    fn of(&mut self, priority: Priority) -> (&mut VecDeque<Job<S>>, &'static str) {
        match priority {
            Priority::Query => (&mut self.query, self.names.of(priority)),
            Priority::Bulk => (&mut self.bulk, self.names.of(priority)),
        }
    }

    fn take(&mut self) -> Option<Job<S>> {
        self.turn += 1;
        let bulk_first = self.turn.is_multiple_of(BULK_TURN);
        let priority = match (self.query.is_empty(), self.bulk.is_empty()) {
            (true, true) => return None,
            (false, true) => Priority::Query,
            (true, false) => Priority::Bulk,
            (false, false) if bulk_first => Priority::Bulk,
            (false, false) => Priority::Query,
        };
        let (queue, word) = self.of(priority);
        let job = queue.pop_front();
        metrics::model_queue_len(word, queue.len());
        job
    }
}

/// Runs a job in a span under its caller's and records its time and tokens. A query's is exported; those of passages, of
/// which a request can have hundreds, are for debugging, and their stage's span stands for them.
fn measured<T>(operation: Operation, caller: &Span, work: impl FnOnce() -> Done<T>) -> Result<T> {
    let tokens = tracing::field::Empty;
    let span = match operation {
        Operation::Query => tracing::info_span!(parent: caller, "model", operation = operation.as_str(), tokens),
        Operation::Passage | Operation::LateInteraction | Operation::CrossEncoder => {
            tracing::debug_span!(parent: caller, "model", operation = operation.as_str(), tokens)
        }
    };
    let started = Instant::now();
    let (value, tokens) = span.in_scope(work)?;
    span.record("tokens", tokens);
    span.in_scope(|| metrics::model_call(operation.as_str(), started.elapsed()));
    metrics::model_tokens(operation.as_str(), u64::from(tokens));
    Ok(value)
}

#[cfg(test)]
mod tests;
