//! Runs the queries of a collection one way, one after the other, through the service's own code.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::combination::Combination;
use super::dataset::{Dataset, Question};
use super::measures::{DEPTH, Measures};
use super::significance::Difference;
use crate::app::Core;
use crate::domain::{Answer, DegradationReason, Query, RerankMode, RerankStep};
use crate::error::{Error, Result};
use crate::telemetry::{StageTime, Timeline};
use crate::tools::bench::Latency;

/// The figures of one combination.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// What was combined.
    #[serde(flatten)]
    pub combination: Combination,
    /// Means over the queries.
    #[serde(flatten)]
    pub measures: Measures,
    /// Time of one search.
    pub latency: Latency,
    /// Mean milliseconds of each stage of a search.
    pub stages_mean_ms: BTreeMap<&'static str, f64>,
    /// Searches in a second of searching, one at a time.
    pub searches_per_second: f64,
    /// Share of the passages given to rerankers that they scored; `None` without a rerank.
    pub coverage: Option<f64>,
    /// Searches of which a rerank was not done in full.
    pub degraded: usize,
    /// Steps of a rerank that were not done in full, by their reason.
    pub degraded_reasons: BTreeMap<&'static str, usize>,
    /// How it differs from the baseline of this run.
    pub against_baseline: Option<Difference>,
    /// How it differs from the combination of the same name in an earlier run.
    pub against_earlier: Option<Difference>,
    /// The figures of each query by its id.
    pub per_query: BTreeMap<String, QueryFigures>,
    /// What was found for each query, in the order of the collection.
    #[serde(skip)]
    pub rankings: Vec<Vec<String>>,
}

/// The figures of one query.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct QueryFigures {
    /// How good the ranking is.
    #[serde(flatten)]
    pub measures: Measures,
    /// Time of the search.
    pub latency_ms: f64,
}

/// What is the same for every combination.
pub(super) struct Bench<'a> {
    pub core: &'a Core,
    pub dataset: &'a Dataset,
    /// Passages handed to a reranker.
    pub candidates: usize,
    /// Time that a rerank may take.
    pub rerank_time_max: Option<Duration>,
    pub stop: &'a CancellationToken,
}

impl Bench<'_> {
    /// Searches for every query; `searched` is called after each.
    ///
    /// # Errors
    ///
    /// `Setup` for a combination that this installation cannot run, naming its reason; `Cancelled` when stopped; what
    /// searching may return.
    pub async fn measure(&self, combination: &Combination, mut searched: impl FnMut()) -> Result<Figures> {
        let mut tally = Tally::default();
        // What is loaded or allocated once is not part of the first query's time.
        self.search(&self.dataset.queries[0], combination).await?;
        for question in &self.dataset.queries {
            let search = self.search(question, combination).await?;
            let ranking = self.whole_ranking(question, combination, &search.answer).await?;
            let grades = &self.dataset.judgements[&question.id];
            let measures = Measures::of(ranking.iter().map(String::as_str), grades);
            tally.add(search, measures, ranking);
            searched();
        }
        tally.figures(combination, self.dataset)
    }

    async fn search(&self, question: &Question, combination: &Combination) -> Result<Search> {
        if self.stop.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let query = self.query(question, combination, combination.rerank);
        let mut timeline = Timeline::start();
        let started = Instant::now();
        let answer = self.core.searcher.search(query, &mut timeline).await?;
        let search = Search { time: started.elapsed(), stages: timeline.breakdown().stages, answer };
        // Figures of the first stage must not stand under a reranker's name.
        match search.missing_reranker() {
            Some(message) => Err(Error::setup(message, "configure it, or leave it out of --rerank")),
            None => Ok(search),
        }
    }

    /// Returns the documents of an answer and, when a rerank was given too few passages to name [`DEPTH`] documents, those
    /// that the first stage finds beyond them, in its order: so Recall@100 compares like with like. Not timed.
    async fn whole_ranking(&self, question: &Question, by: &Combination, answer: &Answer) -> Result<Vec<String>> {
        let mut ranking = names(answer);
        if by.rerank != RerankMode::None && ranking.len() < DEPTH {
            let query = self.query(question, by, RerankMode::None);
            let found = names(&self.core.searcher.search(query, &mut Timeline::start()).await?);
            let rest: Vec<_> = found.into_iter().filter(|id| !ranking.contains(id)).collect();
            ranking.extend(rest);
            ranking.truncate(DEPTH);
        }
        Ok(ranking)
    }

    /// Returns the search for [`DEPTH`] documents, or of the best among the candidates of a rerank.
    fn query(&self, question: &Question, combination: &Combination, rerank: RerankMode) -> Query {
        let reranks = rerank != RerankMode::None;
        Query {
            limit: if reranks { self.candidates.min(DEPTH) } else { DEPTH },
            candidates: reranks.then_some(self.candidates),
            retrieval: Some(combination.retrieval),
            fusion: combination.fusion,
            rerank: Some(rerank),
            rerank_time_max: self.rerank_time_max,
            ..Query::text(question.text.as_str())
        }
    }
}

fn names(answer: &Answer) -> Vec<String> {
    answer.hits.iter().map(|hit| hit.id.as_str().to_owned()).collect()
}

/// One search and where its time went.
struct Search {
    answer: Answer,
    time: Duration,
    stages: Vec<StageTime>,
}

impl Search {
    fn missing_reranker(&self) -> Option<String> {
        let degraded = self.answer.rerank_steps.iter().filter_map(|step| step.degraded.as_ref());
        degraded.into_iter().find(|d| d.reason == DegradationReason::NotConfigured).map(|d| d.message.clone())
    }
}

/// What the searches so far have come to.
#[derive(Default)]
struct Tally {
    measures: Vec<Measures>,
    times: Vec<Duration>,
    stages: BTreeMap<&'static str, Duration>,
    candidates: u64,
    covered: u64,
    degraded: usize,
    reasons: BTreeMap<&'static str, usize>,
    /// Why a reranker scored nothing, when one did not.
    last_message: Option<String>,
    rankings: Vec<Vec<String>>,
}

impl Tally {
    fn add(&mut self, search: Search, measures: Measures, ranking: Vec<String>) {
        self.measures.push(measures);
        self.times.push(search.time);
        self.rankings.push(ranking);
        for stage in &search.stages {
            *self.stages.entry(stage.stage.as_str()).or_default() += stage.duration;
        }
        let steps = &search.answer.rerank_steps;
        self.degraded += usize::from(steps.iter().any(|step| step.degraded.is_some()));
        steps.iter().for_each(|step| self.step(step));
    }

    fn step(&mut self, step: &RerankStep) {
        self.candidates += u64::from(step.candidates);
        self.covered += u64::from(step.covered);
        if let Some(degradation) = &step.degraded {
            *self.reasons.entry(degradation.reason.as_str()).or_default() += 1;
            self.last_message = Some(degradation.message.clone());
        }
    }

    fn figures(self, combination: &Combination, dataset: &Dataset) -> Result<Figures> {
        if self.candidates > 0 && self.covered == 0 {
            let why = self.last_message.unwrap_or_default();
            let message = format!("{} scored nothing in {} searches: {why}", combination.name, self.times.len());
            return Err(Error::setup(message, "see that the reranker can be reached and has the time it needs"));
        }
        let searches = self.times.len() as f64;
        let per_query =
            dataset.queries.iter().zip(&self.measures).zip(&self.times).map(|((question, measures), time)| {
                let latency_ms = time.as_secs_f64() * 1e3;
                (question.id.clone(), QueryFigures { measures: *measures, latency_ms })
            });
        Ok(Figures {
            combination: combination.clone(),
            measures: Measures::mean(&self.measures),
            stages_mean_ms: self.stages.iter().map(|(s, time)| (*s, time.as_secs_f64() * 1e3 / searches)).collect(),
            searches_per_second: searches / self.times.iter().sum::<Duration>().as_secs_f64(),
            coverage: (self.candidates > 0).then(|| self.covered as f64 / self.candidates as f64),
            degraded: self.degraded,
            degraded_reasons: self.reasons,
            against_baseline: None,
            against_earlier: None,
            per_query: per_query.collect(),
            rankings: self.rankings,
            latency: Latency::of(self.times),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Degradation, RetrievalExplanation};
    use crate::telemetry::Stage;
    use crate::tools::bench::quality::Selection;
    use crate::tools::bench::quality::dataset::Counts;

    fn combination() -> Combination {
        let retrieval = vec![crate::domain::RetrievalMode::Dense];
        Selection { retrieval, fusion: Vec::new(), rerank: vec![RerankMode::LateInteraction] }.combinations().remove(0)
    }

    fn search(covered: u32, reason: Option<DegradationReason>) -> Search {
        let degraded = reason.map(|reason| Degradation { reason, message: "it is so".to_owned() });
        let step = RerankStep { mode: RerankMode::LateInteraction, candidates: 10, covered, degraded };
        let answer = Answer { hits: Vec::new(), rerank_steps: vec![step], retrieval: RetrievalExplanation::default() };
        let stages = vec![StageTime { stage: Stage::Rerank, duration: Duration::from_millis(4) }];
        Search { answer, time: Duration::from_millis(10), stages }
    }

    fn dataset(queries: usize) -> Dataset {
        let question = |n: usize| Question { id: n.to_string(), text: "a question".to_owned() };
        Dataset {
            corpus: "corpus.jsonl".into(),
            documents: Default::default(),
            queries: (0..queries).map(question).collect(),
            judgements: Default::default(),
            counts: Counts::default(),
        }
    }

    #[test]
    fn what_was_not_scored_is_told() {
        let mut tally = Tally::default();
        tally.add(search(10, None), Measures::default(), Vec::new());
        tally.add(search(5, Some(DegradationReason::Deadline)), Measures::default(), Vec::new());
        let figures = tally.figures(&combination(), &dataset(2)).unwrap();
        assert_eq!((figures.coverage, figures.degraded), (Some(0.75), 1));
        assert_eq!(figures.degraded_reasons, BTreeMap::from([("DEADLINE", 1)]));
        assert!((figures.stages_mean_ms["rerank"] - 4.0).abs() < 1e-9);
        assert!((figures.searches_per_second - 100.0).abs() < 1e-6);
    }

    #[test]
    fn a_reranker_that_did_nothing_has_no_figures() {
        assert_eq!(search(0, Some(DegradationReason::NotConfigured)).missing_reranker().as_deref(), Some("it is so"));
        assert_eq!(search(0, Some(DegradationReason::Deadline)).missing_reranker(), None);
        let mut tally = Tally::default();
        tally.add(search(0, Some(DegradationReason::Unavailable)), Measures::default(), Vec::new());
        let error = tally.figures(&combination(), &dataset(1)).unwrap_err().to_string();
        assert!(error.contains("scored nothing in 1 searches: it is so"), "{error}");
    }
}
