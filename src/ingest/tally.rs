//! What an ingest has done so far: one count for the report, the metrics and whoever watches.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::{Failure, Progress, Report};
use crate::store::PreparedDocument;
use crate::telemetry::metrics;

/// Failures that a report lists; the rest are counted in a last one.
const FAILURES_MAX: usize = 1_000;

/// Counts, shared by the stages.
pub(super) struct Tally {
    report: Mutex<Report>,
    failures_unlisted: Mutex<u64>,
    progress: Arc<dyn Progress>,
    started: Instant,
}

/// What became of a document, in the word that the metrics use.
#[derive(Debug, Clone, Copy)]
pub(super) enum Done {
    Created,
    Updated,
    Unchanged,
    Renamed,
    Deleted,
}

impl Done {
    fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
            Self::Renamed => "renamed",
            Self::Deleted => "deleted",
        }
    }
}

impl Tally {
    pub fn new(progress: Arc<dyn Progress>) -> Self {
        Self { report: Mutex::default(), failures_unlisted: Mutex::default(), progress, started: Instant::now() }
    }

    /// Counts documents found.
    pub fn found(&self, documents: u64) {
        let total = {
            let mut report = self.report();
            report.documents += documents;
            report.documents
        };
        self.progress.found(total);
    }

    /// Tells that all documents have been found.
    pub fn discovered(&self) {
        let total = self.report().documents;
        self.progress.discovered(total);
    }

    /// Counts a document that is done.
    pub fn done(&self, what: Done, source: &str) {
        {
            let mut report = self.report();
            *match what {
                Done::Created => &mut report.created,
                Done::Updated => &mut report.updated,
                Done::Unchanged => &mut report.unchanged,
                Done::Renamed => &mut report.renamed,
                Done::Deleted => &mut report.deleted,
            } += 1;
        }
        metrics::ingest_document(what.as_str());
        self.progress.done(source);
    }

    /// Counts what the model has read of a document.
    pub fn embedded(&self, document: &PreparedDocument) {
        let mut report = self.report();
        report.embedded += document.chunks.len() as u64;
        report.tokens += document.chunks.iter().map(|chunk| u64::from(chunk.tokens)).sum::<u64>();
    }

    /// Counts passages that are durable.
    pub fn written(&self, chunks: u64) {
        self.report().chunks += chunks;
        metrics::ingest_chunks(chunks);
    }

    /// Notes what failed.
    pub fn failed(&self, failure: Failure) {
        metrics::ingest_document("failed");
        self.progress.failed(&failure);
        let mut report = self.report();
        if report.failures.len() < FAILURES_MAX {
            report.failures.push(failure);
        } else {
            *self.failures_unlisted.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        }
    }

    /// Returns the report so far.
    pub fn finish(&self) -> Report {
        let mut report = std::mem::take(&mut *self.report());
        let unlisted = *self.failures_unlisted.lock().unwrap_or_else(PoisonError::into_inner);
        if unlisted > 0 {
            let reason = format!("{unlisted} more failed and are not listed; mend these first");
            report.failures.push(Failure { source: "…".into(), reason });
        }
        report.seconds = self.started.elapsed().as_secs_f64();
        report
    }

    fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;
    impl Progress for Nobody {}

    #[test]
    fn more_failures_than_a_report_lists_are_counted() {
        let tally = Tally::new(Arc::new(Nobody));
        for line in 0..FAILURES_MAX + 5 {
            tally.failed(Failure { source: format!("a.jsonl:{line}"), reason: "bad".into() });
        }
        let report = tally.finish();
        assert_eq!(report.failures.len(), FAILURES_MAX + 1);
        assert!(report.failures[FAILURES_MAX].reason.starts_with("5 more"));
    }

    #[test]
    fn each_outcome_has_its_count() {
        let tally = Tally::new(Arc::new(Nobody));
        tally.found(3);
        for what in [Done::Created, Done::Updated, Done::Unchanged, Done::Renamed, Done::Deleted, Done::Deleted] {
            tally.done(what, "a");
        }
        let report = tally.finish();
        assert_eq!((report.documents, report.created, report.updated, report.unchanged), (3, 1, 1, 1));
        assert_eq!((report.renamed, report.deleted), (1, 2));
    }
}
