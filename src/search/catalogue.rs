//! What is in the index, without searching it.

use serde::Serialize;

use super::Searcher;
use crate::domain::{DocumentId, DocumentRecord, Filter, ModelIdentity};
use crate::engine::EngineStats;
use crate::error::Result;
use crate::store::{Page, StoreStats};

/// Counts, sizes, and the model behind them.
#[derive(Debug, Clone, Serialize)]
pub struct IndexStats {
    /// What is stored.
    pub store: StoreStats,
    /// What the engine holds.
    pub engine: EngineStats,
    /// What the vectors were made with.
    pub model: ModelIdentity,
    /// Model sessions, each on a thread.
    pub sessions: usize,
}

impl Searcher {
    /// Returns a document and its whole text.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn document(&self, id: DocumentId) -> Result<(DocumentRecord, String)> {
        self.store.document(id).await
    }

    /// Returns a page of documents in order of id, beginning after `after`.
    pub async fn documents(&self, filter: Filter, after: Option<DocumentId>, size: usize) -> Result<Page> {
        self.store.documents(filter, after, size).await
    }

    /// Returns counts, sizes, and the model behind them.
    pub async fn stats(&self) -> Result<IndexStats> {
        Ok(IndexStats {
            store: self.store.stats().await?,
            engine: self.engine.stats(),
            model: self.model.identity().clone(),
            sessions: self.model.sessions(),
        })
    }

    /// Returns the name of the model.
    pub fn model_name(&self) -> &str {
        &self.model.identity().name
    }

    /// Returns the number of coordinates of a vector.
    pub fn dimension(&self) -> usize {
        self.model.identity().dimension
    }
}
