//! The SQLite store: documents, chunks, embeddings and edges, behind one writer and several readers.
//!
//! Only this module knows rusqlite. Every statement runs through `telemetry::sql`, so each has a span and a sample. Callers
//! are async and wait for a connection a bounded time; the work itself is done on blocking threads, a read as
//! `read(|connection| …)`, a write as `write(|transaction| …)`. Two processes may use one database at the same time: an
//! `ingest` beside a `serve`.

mod chunks;
mod decode;
mod documents;
mod edges;
mod failure;
mod filter;
mod inspect;
mod lexical;
mod meta;
mod migrate;
mod open;
mod pool;
mod records;
mod statement;
#[cfg(test)]
mod tests;
mod token_codes;
mod write;

use std::future::ready;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
pub use lexical::{Config as LexicalConfig, Language, LexicalFound, LexicalQuery};
pub use records::{Committed, Known, Node, Outcome, Page, PreparedDocument, StoreStats, Write};
use roaring::RoaringTreemap;
use rusqlite::{Connection, Transaction};
use serde::{Deserialize, Serialize};

use self::failure::Failure;
use self::pool::Pool;
use crate::domain::{ChunkId, DocumentId, DocumentRecord, Edge, Filter, ModelIdentity, Passage, Vector};
use crate::error::{Error, Result};

/// Passages fetched without going to another thread: some 10 µs each, text and span included, from SQLite's or the system's
/// cache. The default limit asks for 15.
const KEYS_HERE_MAX: usize = 32;

/// Where the database is and how it is opened.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The database file; its folder is made when missing.
    pub path: PathBuf,
    /// Reading connections.
    pub readers: usize,
    /// How long a connection waits for another process's lock, in milliseconds.
    pub busy_timeout_ms: u64,
    /// How long a caller waits for a free connection, in milliseconds.
    pub pool_timeout_ms: u64,
    /// Bytes of the file that may be memory-mapped; 0 reads through the page cache (a mapped file turns an I/O error
    /// into a SIGBUS).
    pub mmap_bytes: u64,
    /// How words are indexed and weighed.
    pub lexical: LexicalConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            path: ".amalfa/amalfa.db".into(),
            readers: 4,
            busy_timeout_ms: 10_000,
            pool_timeout_ms: 5_000,
            mmap_bytes: 0,
            lexical: LexicalConfig::default(),
        }
    }
}

/// The store; a cheap clone of a handle.
#[derive(Debug, Clone)]
pub struct Store {
    path: Arc<Path>,
    lexical: LexicalConfig,
    writer: Pool,
    readers: Pool,
}

impl Store {
    /// Opens the database, making it and its folder when missing, migrates it, and checks that it can be read and
    /// written. Blocking.
    ///
    /// # Errors
    ///
    /// `Setup` when the file is damaged, foreign, from a later version or not writable, with what to do about it;
    /// `Unavailable` when another process holds its lock; `Invalid` for a setting out of range.
    pub fn open(config: &Config) -> Result<Self> {
        let (writer, readers) = open::open(config)?;
        Ok(Self { path: config.path.as_path().into(), lexical: config.lexical.clone(), writer, readers })
    }

    /// Returns the database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the identity of the model that the stored vectors were made with, `None` while there are none.
    pub async fn model_identity(&self) -> Result<Option<ModelIdentity>> {
        self.read(meta::model_identity).await
    }

    /// Records the identity of the model that vectors are made with.
    pub async fn set_model_identity(&self, identity: ModelIdentity) -> Result<()> {
        self.transact(move |transaction| meta::set_model_identity(transaction, &identity)).await
    }

    /// Begins a re-embedding, in one transaction: records `identity` and marks every document as stale. A `Put` takes its
    /// document's mark away.
    pub async fn begin_reembedding(&self, identity: ModelIdentity) -> Result<()> {
        self.transact(move |transaction| {
            meta::set_model_identity(transaction, &identity)?;
            Ok(documents::mark_stale(transaction)?)
        })
        .await
    }

    /// Returns at most `limit` documents whose vectors are of an earlier model, in order of id: none unless a
    /// re-embedding is unfinished.
    pub async fn stale(&self, limit: usize) -> Result<Vec<DocumentId>> {
        self.read(move |connection| Ok(documents::stale(connection, limit)?)).await
    }

    /// Applies the steps in one transaction, which is committed also when the caller goes away meanwhile. Vectors must
    /// have been computed before.
    ///
    /// # Errors
    ///
    /// `Internal` when a vector is not of the recorded model's dimension. After an error nothing is changed.
    pub async fn write(&self, steps: Vec<Write>) -> Result<Committed> {
        self.transact(|transaction| write::apply(transaction, steps)).await
    }

    /// Replaces the edges by `edges`; returns how many were added and removed.
    pub async fn replace_edges(&self, edges: Vec<Edge>, references_dangling: u64) -> Result<(u64, u64)> {
        self.transact(move |transaction| Ok(edges::replace(transaction, &edges, references_dangling)?)).await
    }

    /// Returns id, source and hash of every document, in order of id.
    pub async fn known(&self) -> Result<Vec<Known>> {
        self.read(|connection| Ok(documents::known(connection)?)).await
    }

    /// Returns every document with what it mentions, in order of id.
    pub async fn nodes(&self) -> Result<Vec<Node>> {
        self.read(|connection| Ok(documents::nodes(connection)?)).await
    }

    /// Returns the passages of these chunks, in the order asked; chunks that are gone are left out.
    pub async fn passages(&self, chunks: Vec<ChunkId>) -> Result<Vec<Passage>> {
        self.read_keys(chunks, chunks::passages).await
    }

    /// Returns the same with empty texts, in less time.
    pub async fn passages_untold(&self, chunks: Vec<ChunkId>) -> Result<Vec<Passage>> {
        self.read_keys(chunks, chunks::passages_untold).await
    }

    /// Returns the chunks with a vector of the documents that meet the filter, which must have been validated.
    pub async fn matching(&self, filter: Filter) -> Result<RoaringTreemap> {
        self.read(move |connection| Ok(chunks::matching(connection, &filter)?)).await
    }

    /// Returns the passages with the words of a text, best first.
    ///
    /// # Errors
    ///
    /// `Invalid` for an expression that FTS5 does not understand, `Deadline`.
    pub async fn lexical(&self, query: LexicalQuery) -> Result<LexicalFound> {
        let (config, remaining) = (self.lexical.clone(), query.deadline.remaining());
        let found = self.read(move |connection| lexical::search(connection, &config, &query));
        match remaining {
            None => found.await,
            // A read that nobody waits for is interrupted.
            Some(remaining) => tokio::time::timeout(remaining, found)
                .await
                .unwrap_or(Err(Error::Deadline { what: "lexical retrieval" })),
        }
    }

    /// Returns the vectors of a document's chunks, in their order.
    ///
    /// # Errors
    ///
    /// `NotFound` when there is no such document.
    pub async fn document_vectors(&self, id: DocumentId) -> Result<Vec<Vector>> {
        self.read(move |connection| chunks::document_vectors(connection, &id)).await
    }

    /// Returns a document and its whole text.
    ///
    /// # Errors
    ///
    /// `NotFound` when there is no such document.
    pub async fn document(&self, id: DocumentId) -> Result<(DocumentRecord, String)> {
        self.read(move |connection| documents::document(connection, &id)).await
    }

    /// Returns a page of documents in order of id, beginning after `after`.
    pub async fn documents(&self, filter: Filter, after: Option<DocumentId>, size: usize) -> Result<Page> {
        self.read(move |connection| Ok(documents::page(connection, &filter, after.as_ref(), size)?)).await
    }

    /// Returns the numbers of all chunks that have a vector.
    pub async fn embedded_chunks(&self) -> Result<RoaringTreemap> {
        self.read(|connection| Ok(chunks::embedded(connection)?)).await
    }

    /// Returns these chunks' vectors, in no order; chunks that are gone and vectors that are damaged are left out.
    pub async fn vectors(&self, chunks: Vec<ChunkId>) -> Result<Vec<(ChunkId, Vector)>> {
        self.read(move |connection| chunks::vectors(connection, &chunks)).await
    }

    /// Returns these chunks' token codes, in no order; chunks that have none are left out.
    pub async fn token_codes(&self, chunks: Vec<ChunkId>) -> Result<Vec<(ChunkId, Vec<u8>)>> {
        self.read(move |connection| Ok(token_codes::read(connection, &chunks)?)).await
    }

    /// Calls `each` with every stored vector, in batches and in no order, from as many blocking threads as there are
    /// readers; damaged vectors are counted and left out. Returns how many vectors `each` was given. What is written
    /// meanwhile may be among them or not.
    pub async fn scan_vectors(
        &self,
        each: impl Fn(Vec<(ChunkId, Vector)>) + Clone + Send + Sync + 'static,
    ) -> Result<u64> {
        let parts = self.read(|connection| Ok(chunks::parts(connection)?)).await?;
        let scan = |part| {
            let each = each.clone();
            self.read(|connection| chunks::scan(connection, part, each))
        };
        let scans = stream::iter(parts.into_iter().map(scan)).buffer_unordered(self.readers.len());
        scans.try_fold(0, |sum, delivered| ready(Ok(sum + delivered))).await
    }

    /// Returns a number that differs whenever another process, or another `open` of the same file, has changed the
    /// database since. What this store itself commits does not count: its caller knows.
    pub async fn data_version(&self) -> Result<u64> {
        // The version is a connection's own view, and the writer is the one that every change of ours goes through.
        self.writer.run(|connection| Ok(inspect::data_version(connection)?)).await
    }

    /// Counts and sizes; the store's gauges are set to them.
    pub async fn stats(&self) -> Result<StoreStats> {
        let path = Arc::clone(&self.path);
        self.read(move |connection| Ok(inspect::stats(connection, &path)?)).await
    }

    /// Checks that the database answers within `timeout`: the readiness probe.
    ///
    /// # Errors
    ///
    /// `Unavailable` when it does not, or why it cannot.
    pub async fn ping(&self, timeout: Duration) -> Result<()> {
        let answer = self.read(|connection| Ok(inspect::ping(connection)?));
        tokio::time::timeout(timeout, answer).await.unwrap_or_else(|elapsed| {
            let message = format!("database {} did not answer in {} ms", self.path.display(), timeout.as_millis());
            Err(Error::unavailable(message, elapsed))
        })
    }

    /// Optimises, checkpoints the write-ahead log and closes every connection: at once those that are idle, the others
    /// with the last handle. Later calls on other handles fail. Blocking.
    pub fn close(self) -> Result<()> {
        self.writer.close();
        self.readers.close();
        self.writer.lend(|connection| Ok(inspect::tidy(connection)?))
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        self.readers.read(work).await
    }

    /// Reads rows by their keys, a few of them on this thread.
    async fn read_keys<T: Send + 'static>(
        &self,
        chunks: Vec<ChunkId>,
        read: fn(&Connection, &[ChunkId]) -> rusqlite::Result<T>,
    ) -> Result<T> {
        match chunks.len() {
            ..=KEYS_HERE_MAX => self.readers.read_here(|connection| Ok(read(connection, &chunks)?)).await,
            _ => self.read(move |connection| Ok(read(connection, &chunks)?)).await,
        }
    }

    async fn transact<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        self.writer.write(work).await
    }
}
