//! Embeds every stored document again, after a change of model.
//!
//! Beginning records the new model and marks every document in one transaction; storing a document takes its mark away.
//! So a run that was cut short goes on where it stopped, and until the last mark is gone nothing is served.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::commit::{Recorded, check_identity};
use super::pipeline::{Ready, Stages};
use super::tally::Tally;
use super::{Progress, Report};
use crate::domain::{Document, DocumentId, ModelIdentity};
use crate::error::{Error, Result};
use crate::store::Write;

/// Marked documents listed at a time.
const BATCH: usize = 1_000;

impl Stages<'_> {
    /// Embeds the marked documents, marking all of them first unless an earlier run with this model did.
    pub async fn reembed(
        &self,
        identity: &ModelIdentity,
        progress: Arc<dyn Progress>,
        cancel: CancellationToken,
    ) -> Result<Report> {
        let tally = Tally::new(progress);
        let same_model = matches!(check_identity(self.store, identity).await, Ok(Recorded::Yes));
        if !same_model || self.store.stale(1).await?.is_empty() {
            self.store.begin_reembedding(identity.clone()).await?;
        }
        tally.found(self.store.stats().await?.documents);
        tally.discovered();
        let mut before = Vec::new();
        while !cancel.is_cancelled() {
            let ids = self.store.stale(BATCH).await?;
            if ids.is_empty() {
                break;
            }
            if ids == before {
                return Err(Error::bug("documents were embedded again and are still marked"));
            }
            before.clone_from(&ids);
            let (ready, batches) = mpsc::channel(self.config.batch_documents);
            tokio::try_join!(self.embed_again(ids, ready, &tally, &cancel), self.commit(batches, &tally))?;
        }
        let mut report = tally.finish();
        report.cancelled = cancel.is_cancelled();
        Ok(report)
    }

    async fn embed_again(
        &self,
        ids: Vec<DocumentId>,
        out: mpsc::Sender<Ready>,
        tally: &Tally,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let mut prepared = stream::iter(ids)
            .map(|id| self.prepare_again(id, tally))
            .buffer_unordered(self.config.documents_in_flight)
            .take_until(cancel.clone().cancelled_owned())
            .boxed();
        while let Some(ready) = prepared.try_next().await? {
            if let Some(ready) = ready
                && out.send(ready).await.is_err()
            {
                break;
            }
        }
        Ok(())
    }

    /// Returns the document with new vectors; `None` when it was deleted meanwhile.
    async fn prepare_again(&self, id: DocumentId, tally: &Tally) -> Result<Option<Ready>> {
        let (record, text) = match self.store.document(id).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            found => found?,
        };
        let document = Document {
            id: record.id,
            source: record.source,
            title: record.title,
            text,
            date: record.date,
            kind: record.kind,
            domain: record.domain,
            metadata: record.metadata,
        };
        let room = self.preparer.room(&document).await?;
        let draft = self.preparer.draft_off_thread(document, record.content_hash).await?;
        let prepared = self.preparer.embed(draft).await?;
        tally.embedded(&prepared);
        Ok(Some(Ready {
            source: prepared.document.source.clone(),
            chunks: prepared.chunks.len() as u64,
            step: Write::Put(Box::new(prepared)),
            room: Some(room),
        }))
    }
}
