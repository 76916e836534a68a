//! Fills the index: Discovery → Sync → Embedding → commit → Weaving, with bounded queues between.
//!
//! | stage | makes | of |
//! |---|---|---|
//! | Discovery (`sources`) | files | PATHs |
//! | Sync (`sync`, `read`, `json_lines`) | new and changed documents, cut into passages (`chunk`) | files, and the hashes stored |
//! | Embedding (`prepare`) | vectors | passages |
//! | commit (`commit`) | rows, then what a search can find | batches of documents |
//! | Weaving (`weave`) | edges | all references stored |

mod chunk;
mod commit;
mod fields;
mod front_matter;
mod json_lines;
mod markdown;
mod pipeline;
mod prepare;
mod read;
mod reembed;
mod sources;
mod sync;
mod synchronise;
mod tally;
mod weave;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use self::commit::Committer;
use self::pipeline::Stages;
use self::prepare::Preparer;
use crate::domain::{Condition, Document, DocumentId, Filter, ModelIdentity, Test};
use crate::engine::VectorEngine;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::store::{self, Store, Write};
use crate::telemetry::{memory, metrics};

/// How documents are found, cut and written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Tokens of a chunk; 0 is the model's window.
    pub chunk_tokens: usize,
    /// Tokens that a chunk repeats of the one before.
    pub overlap_tokens: usize,
    /// Documents prepared at a time.
    pub documents_in_flight: usize,
    /// Documents of one transaction, at most.
    pub batch_documents: usize,
    /// Bytes of a file beyond which it is refused.
    pub file_bytes_max: u64,
    /// Whether a code of each token is stored (49 bytes at 384 coordinates, 6.7 kB for a passage of 128 tokens), so that
    /// late interaction takes microseconds a passage instead of a run of the model. What was stored without gets its codes
    /// by `amalfa reembed`; until then it is read by the model.
    pub token_codes: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            chunk_tokens: 0,
            overlap_tokens: 32,
            documents_in_flight: 16,
            batch_documents: 64,
            file_bytes_max: 16 << 20,
            // 145 MB instead of 32 MB for SciFact's 10,319 passages of 196 tokens, and 2 % of ingest's CPU time; for that a
            // late interaction, worth .06 nDCG@10 there, takes milliseconds where the model takes a second.
            token_codes: true,
        }
    }
}

impl Config {
    fn check(&self) -> Result<()> {
        let positive = [
            ("ingest.documents_in_flight", self.documents_in_flight as u64),
            ("ingest.batch_documents", self.batch_documents as u64),
            ("ingest.file_bytes_max", self.file_bytes_max),
        ];
        match positive.into_iter().find(|(_, value)| *value == 0) {
            Some((field, _)) => Err(Error::invalid(field, "is 0; at least 1")),
            None => Ok(()),
        }
    }
}

/// Writes documents into the index; a cheap clone of a handle. Everything that changes the index goes through one.
#[derive(Clone)]
pub struct Indexer {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    store: Store,
    preparer: Preparer,
    identity: ModelIdentity,
    engine: Option<Arc<dyn VectorEngine>>,
    committer: Committer,
    /// Whether documents have changed since the edges were woven.
    weaving_due: AtomicBool,
    /// Held while weaving: edges made of older references must not overwrite newer ones.
    weaving: tokio::sync::Mutex<()>,
}

/// What became of one document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is new.
    Created,
    /// It replaced its former self.
    Updated,
    /// It is as it was.
    Unchanged,
}

/// A stored document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upserted {
    /// What was done.
    pub outcome: Outcome,
    /// Passages stored.
    pub chunks: u32,
}

/// What to ingest and how.
#[derive(Debug, Clone, Default)]
pub struct Job {
    /// Files, folders, globs, JSON Lines files (`.jsonl`).
    pub paths: Vec<String>,
    /// Sources are named relative to this folder; the current one when `None`.
    pub base: Option<PathBuf>,
    /// Keep documents whose file is gone.
    pub keep_missing: bool,
    /// Stops after the documents in flight.
    pub cancel: CancellationToken,
}

/// What an ingest did.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Documents found.
    pub documents: u64,
    /// New ones.
    pub created: u64,
    /// Changed ones.
    pub updated: u64,
    /// As they were.
    pub unchanged: u64,
    /// Same content under another source.
    pub renamed: u64,
    /// Gone from their source.
    pub deleted: u64,
    /// Chunks written.
    pub chunks: u64,
    /// Texts embedded.
    pub embedded: u64,
    /// Tokens embedded.
    pub tokens: u64,
    /// Edges of the index, after.
    pub edges: u64,
    /// References that name no document of the index, after.
    pub references_dangling: u64,
    /// Files and lines that failed, with the reason.
    pub failures: Vec<Failure>,
    /// Whether it was stopped before its end.
    pub cancelled: bool,
    /// Seconds.
    pub seconds: f64,
    /// Highest resident memory of the process until then, where the system tells.
    pub rss_bytes_max: Option<u64>,
}

/// A file or a line that could not be ingested; the rest went on.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    /// Where: a path, or `path:line`.
    pub source: String,
    /// Why, and what to do.
    pub reason: String,
}

/// What an ingest tells while it runs; every method has an empty default.
pub trait Progress: Send + Sync {
    /// So many documents have been found so far.
    fn found(&self, _documents: u64) {}
    /// Discovery is over.
    fn discovered(&self, _documents: u64) {}
    /// One more document is done, whatever became of it.
    fn done(&self, _source: &str) {}
    /// Something failed.
    fn failed(&self, _failure: &Failure) {}
}

impl Indexer {
    /// Returns an indexer that writes to `store` and, when there is one, publishes to `engine`. Starts its writing task on
    /// the current Tokio runtime; the task ends with [`Self::stop`] or with the last clone.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when a setting makes no sense.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    pub fn new(config: &Config, store: Store, model: Model, engine: Option<Arc<dyn VectorEngine>>) -> Result<Self> {
        config.check()?;
        let identity = model.identity().clone();
        let shared = Shared {
            config: config.clone(),
            committer: Committer::spawn(store.clone(), engine.clone(), identity.clone()),
            preparer: Preparer::new(config, model),
            store,
            identity,
            engine,
            // An earlier process may have been killed before it had woven.
            weaving_due: AtomicBool::new(true),
            weaving: tokio::sync::Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Checks that the stored vectors are all of the loaded model: before serving, and before every ingest.
    ///
    /// # Errors
    ///
    /// [`Error::Setup`] when they are of another model or a re-embedding is unfinished.
    pub async fn check_model(&self) -> Result<()> {
        commit::check_identity(&self.shared.store, &self.shared.identity).await?;
        if self.shared.store.stale(1).await?.is_empty() {
            return Ok(());
        }
        Err(Error::setup("a re-embedding of the index was not finished", "run `amalfa reembed` again; it goes on"))
    }

    /// Ingests files. Failures of single documents are in the report; an error means that nothing more could be done.
    pub async fn run(&self, job: Job, progress: Arc<dyn Progress>) -> Result<Report> {
        self.check_model().await?;
        self.shared.weaving_due.store(true, Ordering::Release);
        let mut report = self.shared.stages().run(job, progress).await?;
        self.conclude(&mut report).await?;
        Ok(report)
    }

    /// Embeds every stored document again with the loaded model. A run that was cut short goes on where it stopped.
    pub async fn reembed(&self, progress: Arc<dyn Progress>, cancel: CancellationToken) -> Result<Report> {
        let mut report = self.shared.stages().reembed(&self.shared.identity, progress, cancel).await?;
        self.conclude(&mut report).await?;
        Ok(report)
    }

    /// Stores one document; returns when it can be found. Concurrent calls share transactions.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when it is beyond a limit or its source is another document's.
    pub async fn upsert(&self, mut document: Document) -> Result<Upserted> {
        if document.source.is_empty() {
            document.source = document.id.as_str().to_owned();
        }
        read::check(&document).map_err(|reason| Error::invalid("document", reason))?;
        let hash = self.shared.preparer.hash_document(&document);
        if let Some(chunks) = self.shared.unchanged(&document, &hash).await? {
            metrics::ingest_document("unchanged");
            return Ok(Upserted { outcome: Outcome::Unchanged, chunks });
        }
        let _room = self.shared.preparer.room(&document).await?;
        let draft = self.shared.preparer.draft_off_thread(document, hash).await?;
        let prepared = self.shared.preparer.embed(draft).await?;
        let chunks = prepared.chunks.len() as u32;
        let outcome = match self.shared.write(Write::Put(Box::new(prepared))).await? {
            store::Outcome::Created => Outcome::Created,
            store::Outcome::Updated => Outcome::Updated,
            store::Outcome::SourceTaken(owner) => return Err(source_taken(&owner)),
            other => return Err(Error::bug(format!("storing a document ended as {other:?}"))),
        };
        metrics::ingest_document(if outcome == Outcome::Created { "created" } else { "updated" });
        metrics::ingest_chunks(u64::from(chunks));
        Ok(Upserted { outcome, chunks })
    }

    /// Deletes one document; it is not found from then on.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none of this name.
    pub async fn delete(&self, id: DocumentId) -> Result<()> {
        match self.shared.write(Write::Delete(id.clone())).await? {
            store::Outcome::NotFound => Err(Error::not_found("document", id.as_str())),
            _ => {
                metrics::ingest_document("deleted");
                Ok(())
            }
        }
    }

    /// Resolves all references again and stores the edges: after a change of documents.
    pub async fn weave(&self) -> Result<()> {
        let _alone = self.shared.weaving.lock().await;
        self.shared.weaving_due.store(false, Ordering::Release);
        let woven = self.shared.weave().await;
        if woven.is_err() {
            self.shared.weaving_due.store(true, Ordering::Release);
        }
        woven
    }

    /// Brings the engine in step with the store: at start, and when another process has written.
    pub async fn synchronise(&self) -> Result<()> {
        self.shared.committer.synchronise().await
    }

    /// Keeps the engine, the edges and the gauges in step with the documents until `cancel`: looks every `interval`
    /// whether this or another process has written. What fails is tried again at the next look.
    pub async fn follow(&self, interval: Duration, cancel: CancellationToken) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut seen = None;
        while cancel.run_until_cancelled(ticks.tick()).await.is_some() {
            match cancel.run_until_cancelled(self.catch_up(seen)).await {
                Some(Ok(version)) => seen = Some(version),
                Some(Err(error)) => {
                    tracing::warn!(error = error.chain(), "could not follow the database; trying again")
                }
                None => return,
            }
        }
    }

    /// Whether the writing task is alive.
    pub fn healthy(&self) -> bool {
        self.shared.committer.healthy()
    }

    /// Finishes what was asked before and ends the writing task, so that the store can be closed.
    pub async fn stop(&self) -> Result<()> {
        self.shared.committer.stop().await
    }

    async fn catch_up(&self, seen: Option<u64>) -> Result<u64> {
        let version = self.shared.store.data_version().await?;
        let others_wrote = seen != Some(version);
        let weaving_due = self.shared.weaving_due.load(Ordering::Acquire);
        if others_wrote {
            self.synchronise().await?;
        }
        if weaving_due {
            self.weave().await?;
        }
        if others_wrote || weaving_due {
            self.shared.refresh_gauges().await?;
        }
        Ok(version)
    }

    /// Weaves what a run has changed, unless somebody waits for it to end, and completes its report.
    async fn conclude(&self, report: &mut Report) -> Result<()> {
        if !report.cancelled {
            self.weave().await?;
        }
        let stats = self.shared.refresh_gauges().await?;
        report.edges = stats.edges;
        report.references_dangling = stats.references_dangling;
        report.rss_bytes_max = memory::rss_bytes_max();
        tracing::info!(
            created = report.created,
            updated = report.updated,
            unchanged = report.unchanged,
            renamed = report.renamed,
            deleted = report.deleted,
            failures = report.failures.len(),
            chunks = report.chunks,
            cancelled = report.cancelled,
            seconds = report.seconds,
            "ingest finished"
        );
        Ok(())
    }
}

impl Shared {
    fn stages(&self) -> Stages<'_> {
        Stages { config: &self.config, store: &self.store, preparer: &self.preparer, committer: &self.committer }
    }

    async fn write(&self, step: Write) -> Result<store::Outcome> {
        let outcomes = self.committer.write(vec![step]).await?;
        self.weaving_due.store(true, Ordering::Release);
        outcomes.into_iter().next().ok_or_else(|| Error::bug("a write has no outcome"))
    }

    /// Returns the passages of the stored document when it is just as given.
    async fn unchanged(&self, document: &Document, hash: &str) -> Result<Option<u32>> {
        let test = Test::AnyOf(vec![document.id.as_str().into()]);
        let filter = Filter { all: vec![Condition { field: "id".into(), test }] };
        let stored = self.store.documents(filter, None, 1).await?.documents.pop();
        let same = stored.filter(|stored| stored.content_hash == hash && stored.source == document.source);
        Ok(same.map(|stored| stored.chunks))
    }

    async fn weave(&self) -> Result<()> {
        let nodes = self.store.nodes().await?;
        let woven = tokio::task::spawn_blocking(move || weave::weave(&nodes)).await;
        let woven = woven.map_err(|error| Error::internal("the thread that weaves failed", error))?;
        let (added, removed) = self.store.replace_edges(woven.edges, woven.dangling).await?;
        tracing::debug!(added, removed, dangling = woven.dangling, "edges woven");
        Ok(())
    }

    /// Sets the engine's gauges, and the store's, which come with its counts.
    async fn refresh_gauges(&self) -> Result<store::StoreStats> {
        let stats = self.store.stats().await?;
        if let Some(engine) = &self.engine {
            let held = engine.stats();
            metrics::engine_state(held.vectors, held.bytes);
        }
        Ok(stats)
    }
}

fn source_taken(owner: &DocumentId) -> Error {
    Error::invalid("document.source", format!("belongs to document {:?}; sources are unique", owner.as_str()))
}

#[cfg(test)]
mod tests;
