//! Getting a collection into the index that it is searched in.

use std::sync::Arc;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::dataset::{Counts, Dataset};
use crate::app::Core;
use crate::error::{Error, Result};
use crate::ingest::{Job, Progress};

/// The collection, and what became of it in the index.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Corpus {
    /// What the files hold.
    #[serde(flatten)]
    pub counts: Counts,
    /// Passages that the documents were cut into.
    pub passages: u64,
    /// Documents that could not be indexed; they count as not found.
    pub documents_failed: usize,
    /// The first of them with its reason.
    pub first_failure: Option<String>,
}

/// Ingests the collection's documents; those that are in the database already cost nothing, so an ingest that was cut short
/// goes on where it stopped.
///
/// # Errors
///
/// `Setup` when the database holds other documents, which would be found too; `Cancelled` when stopped.
pub async fn index(
    core: &Core,
    dataset: &Dataset,
    progress: Arc<dyn Progress>,
    stop: &CancellationToken,
) -> Result<Corpus> {
    let known = core.store.known().await?;
    let strangers = known.iter().filter(|known| !dataset.documents.contains(known.id.as_str())).count();
    if strangers > 0 {
        let path = core.store.path().display();
        let message = format!("{path} holds {strangers} documents that are not of {}", dataset.corpus.display());
        return Err(Error::setup(message, "name a database for this dataset alone with --db; a new one is made"));
    }
    let paths = vec![dataset.corpus.display().to_string()];
    let report = core.indexer.run(Job { paths, cancel: stop.clone(), ..Job::default() }, progress).await?;
    if report.cancelled {
        return Err(Error::Cancelled);
    }
    let first = report.failures.first().map(|failure| format!("{}: {}", failure.source, failure.reason));
    Ok(Corpus {
        counts: dataset.counts.clone(),
        passages: core.store.stats().await?.chunks,
        documents_failed: report.failures.len(),
        first_failure: first,
    })
}
