//! The store on real files in temporary folders.

mod filters;
mod lexical;
mod opening;
mod reading;
mod sharing;
mod writing;

use rusqlite::Connection;
use serde_json::{Map, Value};
use tempfile::TempDir;

use super::*;
use crate::domain::{Chunk, Document, EdgeKind, Pooling, Reference};

const DIMENSION: usize = 3;

/// A store in a folder of its own, which goes with it.
struct Home {
    store: Store,
    folder: TempDir,
}

impl Home {
    /// A new store that has a model identity.
    async fn new() -> Self {
        let home = Self::empty();
        home.store.set_model_identity(identity(DIMENSION)).await.unwrap();
        home
    }

    /// A new store.
    fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&config_in(&folder)).unwrap();
        Self { store, folder }
    }

    async fn put(&self, document: PreparedDocument) -> Committed {
        self.store.write(vec![put(document)]).await.unwrap()
    }

    /// A connection beside the store, as another program would have it.
    fn beside(&self) -> Connection {
        Connection::open(self.store.path()).unwrap()
    }
}

fn config_in(folder: &TempDir) -> Config {
    Config { path: folder.path().join("nested/amalfa.db"), readers: 2, busy_timeout_ms: 200, ..Config::default() }
}

fn identity(dimension: usize) -> ModelIdentity {
    ModelIdentity {
        name: "arithmetic".into(),
        file_sha256: "00".into(),
        dimension,
        pooling: Pooling::Mean,
        query_prefix: String::new(),
        passage_prefix: String::new(),
        tokens_max: 256,
        onnxruntime: "none".into(),
    }
}

fn id(id: &str) -> DocumentId {
    DocumentId::parse("id", id).unwrap()
}

fn vector(values: [f32; DIMENSION]) -> Vector {
    Vector::normalise("vector", values.to_vec()).unwrap().unwrap()
}

fn put(document: PreparedDocument) -> Write {
    Write::Put(Box::new(document))
}

/// A document with a chunk for each text, each with a vector and without overlap.
fn document(name: &str, texts: &[&str]) -> PreparedDocument {
    let chunks = texts.iter().enumerate().map(|(at, text)| Chunk {
        ordinal: at as u32,
        heading_path: vec!["Title".into(), format!("Part {at}")],
        text: (*text).into(),
        overlap: 0,
        tokens: 7,
        vector: Some(vector([1.0, at as f32, 2.0])),
        token_codes: None,
    });
    PreparedDocument {
        document: Document {
            id: id(name),
            source: format!("{name}.md"),
            title: format!("Title of {name}"),
            text: texts.concat(),
            date: Some(jiff::civil::date(2024, 2, 29)),
            kind: Some("guide".into()),
            domain: None,
            metadata: Map::new(),
        },
        content_hash: format!("hash of {name}"),
        chunks: chunks.collect(),
        references: vec![],
    }
}

fn with_metadata(mut document: PreparedDocument, metadata: Value) -> PreparedDocument {
    document.document.metadata = metadata.as_object().unwrap().clone();
    document
}

fn edge(from: &str, to: &str) -> Edge {
    Edge { from: id(from), to: id(to), kind: EdgeKind::Cites }
}

fn numbers(added: &[(ChunkId, Vector)]) -> Vec<ChunkId> {
    added.iter().map(|(chunk, _)| *chunk).collect()
}

fn reference(target: &str) -> Reference {
    Reference { kind: EdgeKind::LinksTo, target: target.into() }
}
