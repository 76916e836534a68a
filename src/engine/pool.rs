//! Threads of the engine's own for scans, so that neither the async runtime nor the model waits for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit, TryAcquireError, oneshot};

use crate::domain::Deadline;
use crate::error::{Error, Result};
use crate::telemetry::metrics;

/// When a refused search has a chance: a full queue drains in tens of milliseconds.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// A bounded number of searches on a fixed number of threads.
pub struct Pool {
    threads: rayon::ThreadPool,
    places: Semaphore,
    places_max: usize,
}

/// The right of one piece of work to go on: asked between blocks.
#[derive(Debug, Clone)]
pub struct Ticket {
    deadline: Deadline,
    abandoned: Arc<AtomicBool>,
}

/// Where the result of one search goes. Nobody listens any more when the caller went away.
pub type Reply<T> = oneshot::Sender<Result<T>>;

impl Pool {
    /// Returns a pool of `threads` threads (0 is one per core) on which at most `waiting_max` searches wait.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the threads cannot be started.
    pub fn new(threads: usize, waiting_max: usize) -> Result<Self> {
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|at| format!("scan-{at}"))
            .panic_handler(|_| tracing::error!("a search panicked; its caller got an internal error"))
            .build()
            .map_err(|e| Error::unavailable("could not start the threads that scan", e))?;
        let places_max = threads.current_num_threads().saturating_add(waiting_max).min(Semaphore::MAX_PERMITS);
        Ok(Self { threads, places: Semaphore::new(places_max), places_max })
    }

    /// Takes a place, lets `submit` see to it that somebody answers, and waits for the answer.
    ///
    /// # Errors
    ///
    /// `Overloaded` when too many wait already, `Deadline` as soon as it passes, and what is answered. When the returned
    /// future is dropped, the ticket given to `submit` is no longer valid.
    pub async fn answer<T>(&self, deadline: Deadline, submit: impl FnOnce(Ticket, Reply<T>)) -> Result<T> {
        let _place = self.place()?;
        let abandoned = Arc::new(AtomicBool::new(false));
        let _abandon = AbandonOnDrop(Arc::clone(&abandoned));
        let (reply, answer) = oneshot::channel();
        submit(Ticket { deadline, abandoned }, reply);
        let answer = match deadline.remaining() {
            Some(left) => tokio::time::timeout(left, answer).await.map_err(|_| Error::Deadline { what: "retrieve" })?,
            None => answer.await,
        };
        answer.unwrap_or_else(|_| Err(Error::bug("a search ended without an answer")))
    }

    /// Runs `work` on one of the threads as soon as one is free.
    pub fn spawn(&self, work: impl FnOnce() + Send + 'static) {
        let queued = Instant::now();
        self.threads.spawn(move || {
            metrics::queue_wait("search", queued.elapsed());
            work();
        });
    }

    /// Returns how many searches there are for each thread, those that wait included, rounded up.
    pub fn searches_per_thread(&self) -> usize {
        self.searches().div_ceil(self.threads.current_num_threads())
    }

    /// Returns how many searches are under way or waiting.
    pub fn searches(&self) -> usize {
        self.places_max.saturating_sub(self.places.available_permits())
    }

    /// Runs `work`, of which the parallel parts spread over the pool, and returns its result. It is never refused.
    pub fn install<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.threads.install(work)
    }

    fn place(&self) -> Result<SemaphorePermit<'_>> {
        self.places.try_acquire().map_err(|error| match error {
            TryAcquireError::NoPermits => Error::Overloaded { what: "the search queue", retry_after: RETRY_AFTER },
            TryAcquireError::Closed => Error::bug("the search queue is closed"),
        })
    }
}

impl Ticket {
    /// Returns the right of work on the calling thread, without the pool: it has one thread, and no caller that can go away.
    pub fn here(deadline: Deadline) -> Self {
        Self { deadline, abandoned: Arc::default() }
    }

    /// Returns `Ok` while somebody waits for the result.
    ///
    /// # Errors
    ///
    /// `Cancelled` when the caller went away, `Deadline` when it stopped waiting.
    pub fn check(&self) -> Result<()> {
        if self.abandoned.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        self.deadline.check("retrieve")
    }
}

struct AbandonOnDrop(Arc<AtomicBool>);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Runs `work` on the pool and returns its result.
    async fn run<T: Send + 'static>(
        pool: &Pool,
        deadline: Deadline,
        work: impl FnOnce(&Ticket) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let submit = |ticket: Ticket, reply: Reply<T>| {
            pool.spawn(move || drop(reply.send(ticket.check().and_then(|()| work(&ticket)))));
        };
        pool.answer(deadline, submit).await
    }

    #[tokio::test]
    async fn work_stops_when_its_future_is_dropped() {
        let pool = Pool::new(1, 0).unwrap();
        let (started, has_started) = mpsc::channel();
        let (stopped, has_stopped) = mpsc::channel();
        let mut search = Box::pin(run(&pool, Deadline::NONE, move |ticket| {
            started.send(()).unwrap();
            let error = loop {
                if let Err(error) = ticket.check() {
                    break error;
                }
            };
            stopped.send(error.kind()).unwrap();
            Ok(())
        }));
        assert!(futures::poll!(&mut search).is_pending());
        has_started.recv().unwrap();
        drop(search);
        assert_eq!(has_stopped.recv().unwrap(), "cancelled");
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_a_free_place_is_reused() {
        let pool = Pool::new(1, 1).unwrap();
        let (release, released) = mpsc::channel::<()>();
        let mut running = Box::pin(run(&pool, Deadline::NONE, move |_| {
            released.recv().unwrap();
            Ok(())
        }));
        let mut waiting = Box::pin(run(&pool, Deadline::NONE, |_| Ok(())));
        assert!(futures::poll!(&mut running).is_pending());
        assert!(futures::poll!(&mut waiting).is_pending());
        assert_eq!(run(&pool, Deadline::NONE, |_| Ok(())).await.unwrap_err().kind(), "overloaded");
        release.send(()).unwrap();
        running.await.unwrap();
        waiting.await.unwrap();
        run(&pool, Deadline::NONE, |_| Ok(())).await.unwrap();
    }

    #[tokio::test]
    async fn an_expired_deadline_answers_while_the_work_still_waits() {
        let pool = Pool::new(1, 1).unwrap();
        let (release, released) = mpsc::channel::<()>();
        let mut running = Box::pin(run(&pool, Deadline::NONE, move |_| {
            released.recv().unwrap();
            Ok(())
        }));
        assert!(futures::poll!(&mut running).is_pending());
        let expired = run(&pool, Deadline::after(Duration::from_millis(1)), |_| Ok(())).await;
        assert_eq!(expired.unwrap_err().kind(), "deadline");
        release.send(()).unwrap();
        running.await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_error_and_the_pool_lives_on() {
        let pool = Pool::new(1, 0).unwrap();
        let panicked = run(&pool, Deadline::NONE, |_| -> Result<()> { panic!("a defect") }).await;
        assert_eq!(panicked.unwrap_err().kind(), "internal");
        run(&pool, Deadline::NONE, |_| Ok(())).await.unwrap();
    }
}
