//! Ranking quality on a labelled collection in BEIR layout: `corpus.jsonl`, `queries.jsonl`, `qrels.tsv` (or
//! `qrels/test.tsv`).
//!
//! Every search goes through the service's own code. nDCG as trec_eval has it: gain = grade, discount = log2(rank + 1).

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use super::{Latency, Machine};
use crate::app::Core;
use crate::domain::{Accuracy, Deadline, DocumentId, Filter, Include, Query, RerankMode, RetrievalMode, Target};
use crate::error::{Error, Result};
use crate::telemetry::Timeline;

/// Hits that are judged.
const DEPTH: usize = 100;

/// Relevant documents of each query, with their grades.
type Judgements = HashMap<String, HashMap<String, u32>>;

/// The figures of one collection.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Where it was measured.
    pub machine: Machine,
    /// Queries with at least one relevant document.
    pub queries: usize,
    /// Documents in the index.
    pub documents: u64,
    /// One row per way of searching.
    pub modes: Vec<Mode>,
}

/// The figures of one way of searching, means over queries.
#[derive(Debug, Clone, Serialize)]
pub struct Mode {
    /// Retrieval and rerank, as `dense+late_interaction`.
    pub mode: String,
    /// Normalised discounted cumulative gain of the first 10.
    pub ndcg_at_10: f64,
    /// Share of the relevant among the first 10.
    pub recall_at_10: f64,
    /// Share of the relevant among the first 100.
    pub recall_at_100: f64,
    /// Reciprocal rank of the first relevant among the first 10.
    pub mrr_at_10: f64,
    /// Time of one search.
    pub latency: Latency,
}

/// Runs every judged query in each mode.
///
/// # Errors
///
/// `Setup` when the collection cannot be read; what searching may return.
pub async fn run(core: &Core, dataset: &Path) -> Result<Report> {
    let judgements = judgements(dataset)?;
    let queries: Vec<_> = queries(dataset)?.into_iter().filter(|(id, _)| judgements.contains_key(id)).collect();
    if queries.is_empty() {
        return Err(Error::setup(
            format!("no query of {} is judged", dataset.display()),
            "check queries.jsonl and qrels",
        ));
    }
    let mut modes = Vec::new();
    for (name, rerank) in [("dense", RerankMode::None), ("dense+late_interaction", RerankMode::LateInteraction)] {
        modes.push(mode(core, name, rerank, &queries, &judgements).await?);
    }
    let documents = core.store.stats().await?.documents;
    Ok(Report { machine: Machine::this(), queries: queries.len(), documents, modes })
}

async fn mode(
    core: &Core,
    name: &str,
    rerank: RerankMode,
    queries: &[(String, String)],
    judgements: &Judgements,
) -> Result<Mode> {
    let mut times = Vec::with_capacity(queries.len());
    let mut sums = [0.0; 4];
    for (id, text) in queries {
        let started = Instant::now();
        let hits = core.searcher.search(query(text, rerank), &mut Timeline::start()).await?;
        times.push(started.elapsed());
        let ranked: Vec<_> = hits.iter().map(|hit| &hit.id).collect();
        let scores = scores(&ranked, &judgements[id]);
        sums.iter_mut().zip(scores).for_each(|(sum, score)| *sum += score);
    }
    let [ndcg_at_10, recall_at_10, recall_at_100, mrr_at_10] = sums.map(|sum| sum / queries.len() as f64);
    Ok(Mode { mode: name.to_owned(), ndcg_at_10, recall_at_10, recall_at_100, mrr_at_10, latency: Latency::of(times) })
}

fn query(text: &str, rerank: RerankMode) -> Query {
    Query {
        target: Target::Text(text.to_owned()),
        // A rerank orders the candidates it is given, so as many hits are asked for as are reranked by default.
        limit: if rerank == RerankMode::None { DEPTH } else { crate::domain::limits::CANDIDATES_DEFAULT },
        candidates: None,
        score_min: None,
        filter: Filter::default(),
        retrieval: RetrievalMode::Dense,
        accuracy: Accuracy::Default,
        rerank,
        include: Include::default(),
        deadline: Deadline::NONE,
    }
}

/// Returns nDCG@10, recall@10, recall@100 and MRR@10 of one ranking.
fn scores(ranked: &[&DocumentId], relevant: &HashMap<String, u32>) -> [f64; 4] {
    let grade = |id: &&DocumentId| relevant.get(id.as_str()).copied().unwrap_or(0);
    let grades: Vec<u32> = ranked.iter().map(grade).collect();
    let mut ideal: Vec<u32> = relevant.values().copied().collect();
    ideal.sort_unstable_by(|a, b| b.cmp(a));
    let found = |depth: usize| grades.iter().take(depth).filter(|grade| **grade > 0).count() as f64;
    let wanted = ideal.iter().filter(|grade| **grade > 0).count().max(1) as f64;
    let first = grades.iter().take(10).position(|grade| *grade > 0);
    let best = gain(&ideal);
    [
        if best > 0.0 { gain(&grades) / best } else { 0.0 },
        found(10) / wanted,
        found(100) / wanted,
        first.map_or(0.0, |rank| 1.0 / (rank + 1) as f64),
    ]
}

/// Returns the discounted cumulative gain of the first 10.
fn gain(grades: &[u32]) -> f64 {
    (2..).zip(grades.iter().take(10)).map(|(rank, grade)| f64::from(*grade) / f64::from(rank).log2()).sum()
}

fn queries(dataset: &Path) -> Result<Vec<(String, String)>> {
    #[derive(serde::Deserialize)]
    struct Line {
        #[serde(rename = "_id")]
        id: String,
        text: String,
    }
    let parse = |line: &str| serde_json::from_str::<Line>(line).map(|line| (line.id, line.text)).ok();
    lines(&dataset.join("queries.jsonl"), parse)
}

fn judgements(dataset: &Path) -> Result<Judgements> {
    let flat = dataset.join("qrels.tsv");
    let path = if flat.exists() { flat } else { dataset.join("qrels").join("test.tsv") };
    let parse = |line: &str| {
        let mut fields = line.split('\t');
        let (query, document, grade) = (fields.next()?, fields.next()?, fields.next()?);
        // The header's third field is no number.
        Some((query.to_owned(), document.to_owned(), grade.trim().parse::<u32>().ok()))
    };
    let mut judgements = Judgements::new();
    for (query, document, grade) in lines(&path, parse)? {
        if let Some(grade) = grade.filter(|grade| *grade > 0) {
            judgements.entry(query).or_default().insert(document, grade);
        }
    }
    Ok(judgements)
}

/// Reads a file line by line.
fn lines<T>(path: &Path, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>> {
    let advice = "--dataset is a folder with corpus.jsonl, queries.jsonl and qrels.tsv";
    let failed = |e: std::io::Error| Error::setup(format!("cannot read {}: {e}", path.display()), advice);
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut parsed = Vec::new();
    for (number, line) in (1..).zip(BufReader::new(file).lines()) {
        let line = line.map_err(failed)?;
        let value = parse(&line);
        parsed.push(value.ok_or_else(|| Error::setup(format!("{}:{number} cannot be read", path.display()), advice))?);
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(names: &[&str]) -> Vec<DocumentId> {
        names.iter().map(|name| DocumentId::parse("id", *name).unwrap()).collect()
    }

    #[test]
    fn scores_are_those_of_trec_eval() {
        // By hand: grades 0 1 0 2 → 1/log2(3) + 2/log2(5); ideal 2 1 1 → 2/log2(2) + 1/log2(3) + 1/log2(4).
        let relevant = HashMap::from([("b".to_owned(), 1), ("d".to_owned(), 2), ("z".to_owned(), 1)]);
        let ranked = ids(&["a", "b", "c", "d"]);
        let [ndcg, recall, _, mrr] = scores(&ranked.iter().collect::<Vec<_>>(), &relevant);
        let expected = (1.0 / 3f64.log2() + 2.0 / 5f64.log2()) / (2.0 + 1.0 / 3f64.log2() + 0.5);
        assert!((ndcg - expected).abs() < 1e-12, "{ndcg} ≠ {expected}");
        assert!((recall - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(mrr, 0.5);
    }

    #[test]
    fn a_perfect_ranking_scores_one_and_an_empty_one_zero() {
        let relevant = HashMap::from([("a".to_owned(), 1)]);
        assert_eq!(scores(&ids(&["a"]).iter().collect::<Vec<_>>(), &relevant), [1.0; 4]);
        assert_eq!(scores(&[], &relevant), [0.0; 4]);
    }
}
