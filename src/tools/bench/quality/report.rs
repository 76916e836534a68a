//! What a run came to, as JSON and in TREC's files.

use std::path::Path;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::combination;
use super::compare::{Earlier, PerQuery, difference};
use super::dataset::Dataset;
use super::index::Corpus;
use super::measure::Figures;
use super::measures::DEPTH;
use super::{Run, trec};
use crate::domain::ModelIdentity;
use crate::error::Result;
use crate::tools::bench::Machine;
use crate::{ingest, search};

/// What a run came to.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where it was measured, and the version that was.
    pub machine: Machine,
    /// What the vectors were made with.
    pub model: ModelIdentity,
    /// What was searched.
    pub corpus: Corpus,
    /// How.
    pub settings: Settings,
    /// The combination that the others are compared to.
    pub baseline: String,
    /// Each combination that could be run, by its name, in the order asked for.
    #[serde(serialize_with = "by_name")]
    pub combinations: Vec<Figures>,
    /// Why others could not be run, by name.
    #[serde(serialize_with = "by_key")]
    pub failed: Vec<(String, String)>,
}

/// What the figures depend on besides the collection and the model.
#[derive(Debug, Clone, Serialize)]
pub struct Settings {
    /// Documents of a ranking that count.
    pub depth: usize,
    /// Passages handed to a reranker; documents beyond them follow in the order of the first stage.
    pub candidates: usize,
    /// Milliseconds that a rerank may take; as long as it takes when `None`.
    pub rerank_time_max_ms: Option<u64>,
    /// How documents were cut.
    pub ingest: ingest::Config,
    /// What a search does when it does not say.
    pub search: search::Config,
}

impl Run<'_> {
    /// Returns the report on what was measured, compared.
    pub(super) fn report(&self, measured: Vec<Figures>, failed: Vec<(String, String)>) -> Result<Report> {
        let plan = self.plan;
        let settings = Settings {
            depth: DEPTH,
            candidates: plan.candidates,
            rerank_time_max_ms: plan.rerank_time_max.map(|time| time.as_millis() as u64),
            ingest: self.config.ingest.clone(),
            search: self.config.search.clone(),
        };
        let mut report = Report {
            machine: Machine::this(),
            model: self.core.model.identity().clone(),
            corpus: self.corpus.clone(),
            settings,
            baseline: combination::baseline(&plan.selection.combinations(), plan.baseline.as_deref())?,
            combinations: measured,
            failed,
        };
        report.compare_to_baseline()?;
        if let Some(earlier) = &plan.earlier {
            report.compare_to_earlier(earlier)?;
        }
        Ok(report)
    }
}

impl Report {
    fn compare_to_baseline(&mut self) -> Result<()> {
        let name = &self.baseline;
        let Some(to) = self.combinations.iter().find(|figures| figures.combination.name == *name).map(per_query) else {
            return Ok(());
        };
        for figures in self.combinations.iter_mut().filter(|figures| figures.combination.name != *name) {
            figures.against_baseline = Some(difference(name, &to, &per_query(figures))?);
        }
        Ok(())
    }

    fn compare_to_earlier(&mut self, earlier: &Earlier) -> Result<()> {
        for figures in &mut self.combinations {
            if let Some(to) = earlier.combinations.get(&figures.combination.name) {
                figures.against_earlier = Some(difference(&figures.combination.name, to, &per_query(figures))?);
            }
        }
        Ok(())
    }

    /// Writes each ranking, and what is judged, for trec_eval.
    pub(super) fn write_runs(&self, folder: &Path, dataset: &Dataset) -> Result<()> {
        trec::write_judgements(folder, dataset)?;
        for figures in &self.combinations {
            let queries = dataset.queries.iter().map(|query| query.id.as_str());
            let rankings: Vec<_> = queries.zip(figures.rankings.iter().map(Vec::as_slice)).collect();
            trec::write_run(folder, &figures.combination.name, &rankings)?;
        }
        Ok(())
    }
}

fn per_query(figures: &Figures) -> PerQuery {
    figures.per_query.iter().map(|(id, query)| (id.clone(), query.measures.ndcg_at_10)).collect()
}

fn by_name<S: Serializer>(all: &[Figures], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(all.len()))?;
    for figures in all {
        map.serialize_entry(&figures.combination.name, figures)?;
    }
    map.end()
}

fn by_key<S: Serializer>(all: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(all.iter().map(|(key, value)| (key, value)))
}
