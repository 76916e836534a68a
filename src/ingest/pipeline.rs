//! One ingest: Discovery → Sync → Embedding → commit → Weaving, with bounded queues between.
//!
//! Discovery and Sync run on a blocking thread; the other stages are futures of the caller's task, so that all of it ends
//! with the caller. Deletions come last: a run that is cut short has removed nothing that it had not looked for.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::commit::Committer;
use super::prepare::{Preparer, Room};
use super::sources::{Discovered, Format, Naming, discover};
use super::sync::{self, Step};
use super::tally::{Done, Tally};
use super::{Config, Failure, Job, Progress, Report};
use crate::domain::DocumentId;
use crate::error::{Error, Result};
use crate::store::{Known, Outcome, Store, Write};

/// Documents that wait between two stages.
const QUEUE: usize = 4;
/// How long an unfilled batch waits for more before it is committed.
const LINGER: Duration = Duration::from_millis(250);
/// Documents deleted in one transaction.
const DELETIONS: usize = 1_000;

/// What the stages work with.
pub(super) struct Stages<'a> {
    pub config: &'a Config,
    pub store: &'a Store,
    pub preparer: &'a Preparer,
    pub committer: &'a Committer,
}

/// A step that can be committed, with what the report says of it and the room that it takes until then.
pub(super) struct Ready {
    pub step: Write,
    pub source: String,
    pub chunks: u64,
    pub room: Option<Room>,
}

impl Stages<'_> {
    /// Runs every stage but Weaving.
    pub async fn run(&self, job: Job, progress: Arc<dyn Progress>) -> Result<Report> {
        let tally = Arc::new(Tally::new(progress));
        let known = self.store.known().await?;
        let (drafts, incoming) = mpsc::channel(QUEUE);
        let (ready, batches) = mpsc::channel(QUEUE);
        let cancel = job.cancel.clone();
        let gone = self.find(job, known, Arc::clone(&tally), drafts)?;
        let embed = self.embed(incoming, ready, &tally, cancel.clone());
        let commit = self.commit(batches, &tally);
        let (gone, (), ()) = tokio::try_join!(gone, embed, commit)?;
        if !cancel.is_cancelled() {
            self.delete(gone, &tally).await?;
        }
        let mut report = tally.finish();
        report.cancelled = cancel.is_cancelled();
        Ok(report)
    }

    /// Discovery and Sync; the future gives the documents that are gone.
    fn find(
        &self,
        job: Job,
        known: Vec<Known>,
        tally: Arc<Tally>,
        out: mpsc::Sender<Step>,
    ) -> Result<impl Future<Output = Result<Vec<DocumentId>>> + use<>> {
        let context = sync::Context {
            naming: Naming::new(job.base.as_deref())?,
            preparer: self.preparer.clone(),
            tally,
            file_bytes_max: self.config.file_bytes_max,
            keep_missing: job.keep_missing,
            cancel: job.cancel,
        };
        let thread = tokio::task::spawn_blocking(move || {
            let sources = known.iter().map(|known| known.source.as_str());
            let mut discovered = discover(&job.paths, &context.naming, sources);
            announce(&mut discovered, &context.tally);
            let tally = Arc::clone(&context.tally);
            let gone = sync::run(context, &discovered, known, out);
            if discovered.files.iter().any(|file| file.format == Format::Lines) {
                tally.discovered();
            }
            gone
        });
        Ok(async { thread.await.map_err(|error| Error::internal("the thread that reads files failed", error)) })
    }

    /// Embedding: as many documents at a time as the configuration and their room allow. Those under way are dropped when
    /// the job is cancelled.
    async fn embed(
        &self,
        incoming: mpsc::Receiver<Step>,
        out: mpsc::Sender<Ready>,
        tally: &Tally,
        cancel: CancellationToken,
    ) -> Result<()> {
        let mut prepared = ReceiverStream::new(incoming)
            .then(|step| self.with_room(step))
            .map(|step| async move { self.prepare(step?, tally).await })
            .buffer_unordered(self.config.documents_in_flight)
            .take_until(cancel.cancelled_owned())
            .boxed();
        while let Some(ready) = prepared.try_next().await? {
            if out.send(ready).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn with_room(&self, step: Step) -> Result<(Step, Option<Room>)> {
        let room = match &step {
            Step::Store(draft) => Some(self.preparer.room(&draft.document).await?),
            Step::Rename { .. } => None,
        };
        Ok((step, room))
    }

    async fn prepare(&self, (step, room): (Step, Option<Room>), tally: &Tally) -> Result<Ready> {
        Ok(match step {
            Step::Rename { from, to, source } => {
                Ready { source: source.clone(), step: Write::Rename { from, to, source }, chunks: 0, room }
            }
            Step::Store(draft) => {
                let document = self.preparer.embed(*draft).await?;
                tally.embedded(&document);
                Ready {
                    source: document.document.source.clone(),
                    chunks: document.chunks.len() as u64,
                    step: Write::Put(Box::new(document)),
                    room,
                }
            }
        })
    }

    /// Commits what is ready in batches.
    pub async fn commit(&self, incoming: mpsc::Receiver<Ready>, tally: &Tally) -> Result<()> {
        let batches =
            tokio_stream::StreamExt::chunks_timeout(ReceiverStream::new(incoming), self.config.batch_documents, LINGER);
        let mut batches = std::pin::pin!(batches);
        while let Some(batch) = batches.next().await {
            self.write(batch, tally).await?;
        }
        Ok(())
    }

    async fn write(&self, batch: Vec<Ready>, tally: &Tally) -> Result<()> {
        let (mut steps, mut written, mut rooms) = (Vec::new(), Vec::new(), Vec::new());
        for Ready { step, source, chunks, room } in batch {
            steps.push(step);
            written.push((source, chunks));
            rooms.push(room);
        }
        let outcomes = self.committer.write(steps).await?;
        drop(rooms);
        for (outcome, (source, chunks)) in outcomes.into_iter().zip(written) {
            count(outcome, source, chunks, tally);
        }
        Ok(())
    }

    async fn delete(&self, gone: Vec<DocumentId>, tally: &Tally) -> Result<()> {
        for ids in gone.chunks(DELETIONS) {
            let steps = ids.iter().cloned().map(Write::Delete).collect();
            let outcomes = self.committer.write(steps).await?;
            for (id, outcome) in ids.iter().zip(outcomes) {
                if outcome == Outcome::Done {
                    tally.done(Done::Deleted, id.as_str());
                }
            }
        }
        Ok(())
    }
}

fn announce(discovered: &mut Discovered, tally: &Tally) {
    for failure in discovered.failures.drain(..) {
        tally.failed(failure);
    }
    let files = discovered.files.iter().filter(|file| file.format == Format::Text).count();
    tally.found(files as u64);
    if files == discovered.files.len() {
        tally.discovered();
    }
}

fn count(outcome: Outcome, source: String, chunks: u64, tally: &Tally) {
    let done = match outcome {
        Outcome::Created => Done::Created,
        Outcome::Updated => Done::Updated,
        Outcome::Done => Done::Renamed,
        Outcome::NotFound => {
            let reason = "was deleted by another process meanwhile; ingest it again".into();
            return tally.failed(Failure { source, reason });
        }
        Outcome::SourceTaken(owner) => {
            let reason = format!("is stored already, as document {:?}; delete that first", owner.as_str());
            return tally.failed(Failure { source, reason });
        }
    };
    tally.written(chunks);
    tally.done(done, &source);
}
