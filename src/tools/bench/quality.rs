//! Ranking quality on a labelled collection: every way of searching that is asked for, by trec_eval's measures, with its
//! latency and with what its difference from the others is worth.

mod combination;
mod compare;
mod dataset;
mod index;
mod measure;
mod measures;
mod report;
mod significance;
mod table;
mod trec;

use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use self::combination::{Combination, Selection};
pub use self::compare::{Earlier, Pairing, PerQuery, compare};
pub use self::dataset::{Counts, Dataset, Grades, Judgements, Question, judgements};
pub use self::index::{Corpus, index};
pub use self::measure::{Figures, QueryFigures};
pub use self::measures::{DEPTH, Measures};
pub use self::report::{Report, Settings};
pub use self::significance::Difference;
pub use self::table::{Layout, differences};
pub use self::trec::{Rankings, read_run, write_judgements, write_run};
use crate::app::Core;
use crate::config::Config;
use crate::domain::limits;
use crate::error::{Error, Result};
use measure::Bench;

/// What to measure and against what.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The ways of searching.
    pub selection: Selection,
    /// Passages handed to a reranker.
    pub candidates: usize,
    /// Time that a rerank may take.
    pub rerank_time_max: Option<Duration>,
    /// The combination that the others are compared to; the first when `None`.
    pub baseline: Option<String>,
    /// An earlier run, whose combinations of the same name are compared to.
    pub earlier: Option<Earlier>,
    /// A folder for run files.
    pub runs_dir: Option<PathBuf>,
}

impl Plan {
    /// Checks what can be checked before anything long is begun.
    ///
    /// # Errors
    ///
    /// `Setup` for a baseline that is not measured, an earlier run of another collection and ids that run files cannot
    /// hold, `Invalid` for a wrong count of candidates.
    pub fn check(&self, dataset: &Dataset) -> Result<()> {
        combination::baseline(&self.selection.combinations(), self.baseline.as_deref())?;
        if !(1..=limits::CANDIDATES_MAX).contains(&self.candidates) {
            let message = format!("is {}; between 1 and {}", self.candidates, limits::CANDIDATES_MAX);
            return Err(Error::invalid("candidates", message));
        }
        if let Some(earlier) = &self.earlier {
            earlier.check(Some(dataset.documents.len()))?;
        }
        match self.runs_dir {
            Some(_) => trec::check_ids(dataset),
            None => Ok(()),
        }
    }
}

/// A collection in an index, and what to measure on it.
pub struct Run<'a> {
    /// The service.
    pub core: &'a Core,
    /// What the service was built from.
    pub config: &'a Config,
    /// The collection.
    pub dataset: &'a Dataset,
    /// What became of it in the index.
    pub corpus: Corpus,
    /// What to measure.
    pub plan: &'a Plan,
    /// Ends the run after the search under way.
    pub stop: &'a CancellationToken,
}

impl Run<'_> {
    /// Measures every combination of the plan; `searched` is told its name after each search. One that cannot be run is
    /// told in the report.
    ///
    /// # Errors
    ///
    /// As [`Plan::check`]; `Setup` for a run file that cannot be written, `Cancelled` when stopped.
    pub async fn measure(self, mut searched: impl FnMut(&str)) -> Result<Report> {
        let Self { core, dataset, plan, stop, .. } = self;
        plan.check(dataset)?;
        let bench = Bench { core, dataset, candidates: plan.candidates, rerank_time_max: plan.rerank_time_max, stop };
        let (mut measured, mut failed) = (Vec::new(), Vec::new());
        for combination in plan.selection.combinations() {
            match bench.measure(&combination, || searched(&combination.name)).await {
                Ok(figures) => measured.push(figures),
                Err(Error::Cancelled) => return Err(Error::Cancelled),
                Err(error) => failed.push((combination.name.clone(), error.chain())),
            }
        }
        let report = self.report(measured, failed)?;
        if let Some(folder) = &plan.runs_dir {
            report.write_runs(folder, dataset)?;
        }
        Ok(report)
    }
}
