//! What goes into the store and what comes out of it.

use serde::Serialize;

use crate::domain::{Chunk, ChunkId, Document, DocumentId, DocumentRecord, Reference, Vector};

/// A document ready to be written: cut, embedded, its references found.
#[derive(Debug, Clone)]
pub struct PreparedDocument {
    /// The document; its text is stored as its chunks.
    pub document: Document,
    /// SHA-256 of all that was given, in hex.
    pub content_hash: String,
    /// Its passages with their vectors.
    pub chunks: Vec<Chunk>,
    /// What it mentions.
    pub references: Vec<Reference>,
}

/// One step of a write transaction. The steps of a transaction are applied in order.
#[derive(Debug, Clone)]
pub enum Write {
    /// Stores a document; one with the same id is replaced, its chunks get new numbers.
    Put(Box<PreparedDocument>),
    /// Renames a document: its chunks, vectors and edges stay.
    Rename {
        /// The document as it was called.
        from: DocumentId,
        /// Its new id.
        to: DocumentId,
        /// Its new source.
        source: String,
    },
    /// Deletes a document with its chunks, vectors, references and edges.
    Delete(DocumentId),
}

/// What a write transaction changed, for the engine.
#[derive(Debug, Clone, Default)]
pub struct Committed {
    /// New vectors.
    pub added: Vec<(ChunkId, Vector)>,
    /// Chunks that are gone.
    pub removed: Vec<ChunkId>,
    /// Per step, what became of it.
    pub outcomes: Vec<Outcome>,
}

/// What became of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A new document.
    Created,
    /// An existing document was changed.
    Updated,
    /// Renamed or deleted.
    Done,
    /// The document was not there.
    NotFound,
    /// The source belongs to another document (its id given): the step was left out, the others applied.
    SourceTaken(DocumentId),
}

/// What discovery needs to know of a stored document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub id: DocumentId,
    /// Where it came from.
    pub source: String,
    /// SHA-256 of all that was given, in hex.
    pub content_hash: String,
}

/// What weaving needs to know of a stored document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub id: DocumentId,
    /// Where it came from.
    pub source: String,
    /// Its title.
    pub title: String,
    /// Its other names: the texts of `metadata.aliases`, when that is a list.
    pub aliases: Vec<String>,
    /// What it mentions.
    pub references: Vec<Reference>,
}

/// Counts and sizes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StoreStats {
    /// Documents stored.
    pub documents: u64,
    /// Chunks stored.
    pub chunks: u64,
    /// Chunks with a vector; the others have no direction and cannot be found.
    pub embeddings: u64,
    /// Edges between documents.
    pub edges: u64,
    /// References that name no document of the index.
    pub references_dangling: u64,
    /// Bytes of the database file.
    pub database_bytes: u64,
    /// Bytes of the write-ahead log.
    pub wal_bytes: u64,
    /// Pages free for reuse, in bytes.
    pub free_bytes: u64,
    /// Version of the schema.
    pub schema_version: u32,
}

/// A page of documents.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// In order of id.
    pub documents: Vec<DocumentRecord>,
    /// The id to continue after; `None` on the last page.
    pub next_after: Option<DocumentId>,
    /// Documents that meet the filter, on all pages.
    pub total: u64,
}
