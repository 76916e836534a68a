//! The one task that writes: it groups waiting requests into a transaction, commits it, and publishes it to the engine.
//!
//! Because one task does both, the engine sees changes in the order of their commits, and nothing is answered before it
//! can be found.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::synchronise;
use crate::domain::ModelIdentity;
use crate::engine::{Change, VectorEngine};
use crate::error::{Error, Result};
use crate::store::{Outcome, Store, Write};
use crate::telemetry::{Stage, Timeline};

/// Requests that may wait, and that share a transaction at most.
const REQUESTS_MAX: usize = 64;

/// A handle on the task; it ends with the last handle.
#[derive(Clone)]
pub(super) struct Committer {
    requests: mpsc::Sender<Request>,
}

enum Request {
    Write { steps: Vec<Write>, reply: oneshot::Sender<Result<Vec<Outcome>>> },
    Synchronise { reply: oneshot::Sender<Result<()>> },
    Stop { reply: oneshot::Sender<Result<()>> },
}

/// Steps and who waits for them.
type Waiting = (Vec<Write>, oneshot::Sender<Result<Vec<Outcome>>>);

impl Committer {
    /// Starts the task on the current runtime.
    pub fn spawn(store: Store, engine: Option<Arc<dyn VectorEngine>>, identity: ModelIdentity) -> Self {
        let (requests, incoming) = mpsc::channel(REQUESTS_MAX);
        let writer = Writer { store, engine, identity, identity_recorded: false, behind: false };
        tokio::spawn(writer.run(incoming));
        Self { requests }
    }

    /// Applies steps in one transaction, shared with others' steps; returns what became of each once it can be found.
    pub async fn write(&self, steps: Vec<Write>) -> Result<Vec<Outcome>> {
        self.ask(|reply| Request::Write { steps, reply }).await
    }

    /// Brings the engine in step with the store.
    pub async fn synchronise(&self) -> Result<()> {
        self.ask(|reply| Request::Synchronise { reply }).await
    }

    /// Ends the task after what was asked before.
    pub async fn stop(&self) -> Result<()> {
        self.ask(|reply| Request::Stop { reply }).await
    }

    /// Whether the task is alive.
    pub fn healthy(&self) -> bool {
        !self.requests.is_closed()
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<Result<T>>) -> Request) -> Result<T> {
        let stopped = || Error::Unavailable { message: "the index writer has stopped".into(), source: None };
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

struct Writer {
    store: Store,
    engine: Option<Arc<dyn VectorEngine>>,
    identity: ModelIdentity,
    identity_recorded: bool,
    /// Whether the engine missed a commit.
    behind: bool,
}

impl Writer {
    async fn run(mut self, mut incoming: mpsc::Receiver<Request>) {
        let mut requests = Vec::with_capacity(REQUESTS_MAX);
        while incoming.recv_many(&mut requests, REQUESTS_MAX).await > 0 {
            let mut waiting: Vec<Waiting> = Vec::new();
            // Whoever asked may have gone away: then the answer goes nowhere.
            for request in requests.drain(..) {
                match request {
                    Request::Write { steps, reply } => waiting.push((steps, reply)),
                    Request::Synchronise { reply } => {
                        self.commit(std::mem::take(&mut waiting)).await;
                        drop(reply.send(self.synchronise().await));
                    }
                    Request::Stop { reply } => {
                        self.commit(std::mem::take(&mut waiting)).await;
                        drop(reply.send(Ok(())));
                        return;
                    }
                }
            }
            self.commit(waiting).await;
        }
    }

    async fn commit(&mut self, waiting: Vec<Waiting>) {
        if waiting.is_empty() {
            return;
        }
        let (steps, replies): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
        let lengths: Vec<usize> = steps.iter().map(Vec::len).collect();
        match self.apply(steps.into_iter().flatten().collect()).await {
            Ok(outcomes) => {
                let mut outcomes = outcomes.into_iter();
                for (reply, length) in replies.into_iter().zip(lengths) {
                    drop(reply.send(Ok(outcomes.by_ref().take(length).collect())));
                }
            }
            Err(error) => {
                for reply in replies {
                    drop(reply.send(Err(for_each(&error))));
                }
            }
        }
    }

    async fn apply(&mut self, steps: Vec<Write>) -> Result<Vec<Outcome>> {
        if steps.iter().any(|step| matches!(step, Write::Put(_))) {
            self.record_identity().await?;
        }
        let mut timeline = Timeline::start();
        let committed = timeline.timed(Stage::Commit, self.store.write(steps)).await?;
        let change = Change { added: committed.added, removed: committed.removed };
        timeline.timed(Stage::Publish, self.publish(change)).await?;
        Ok(committed.outcomes)
    }

    async fn publish(&mut self, change: Change) -> Result<()> {
        if self.behind {
            return self.synchronise().await;
        }
        let Some(engine) = &self.engine else { return Ok(()) };
        if change.added.is_empty() && change.removed.is_empty() {
            return Ok(());
        }
        self.behind = true;
        engine.apply(change).await?;
        self.behind = false;
        Ok(())
    }

    async fn synchronise(&mut self) -> Result<()> {
        if let Some(engine) = &self.engine {
            self.behind = true;
            synchronise::synchronise(&self.store, engine.as_ref()).await?;
            self.behind = false;
        }
        Ok(())
    }

    /// Records whose vectors these are, before the first is written.
    async fn record_identity(&mut self) -> Result<()> {
        if !self.identity_recorded {
            if check_identity(&self.store, &self.identity).await? == Recorded::No {
                self.store.set_model_identity(self.identity.clone()).await?;
            }
            self.identity_recorded = true;
        }
        Ok(())
    }
}

/// Whether the index says already that its vectors are of this model.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Recorded {
    Yes,
    No,
}

/// Checks that the stored vectors, if there are any, are of this model.
///
/// # Errors
///
/// [`Error::Setup`] naming what differs.
pub(super) async fn check_identity(store: &Store, identity: &ModelIdentity) -> Result<Recorded> {
    let Some(stored) = store.model_identity().await? else { return Ok(Recorded::No) };
    let differences = stored.differences(identity);
    if differences.is_empty() {
        return Ok(Recorded::Yes);
    }
    if store.stats().await?.embeddings == 0 {
        return Ok(Recorded::No);
    }
    let message = format!("the index was embedded with another model (stored ≠ loaded): {}", differences.join(", "));
    Err(Error::setup(message, "load that model again, or run `amalfa reembed` to embed every document with this one"))
}

/// Returns the error that a whole transaction met, for each of those who shared it.
fn for_each(error: &Error) -> Error {
    match error {
        Error::Setup { message, advice } => Error::setup(message, advice),
        Error::Overloaded { what, retry_after } => Error::Overloaded { what, retry_after: *retry_after },
        Error::Internal { .. } => Error::bug(error.chain()),
        _ => Error::Unavailable { message: error.chain(), source: None },
    }
}
