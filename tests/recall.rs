//! What the default mode finds on real vectors: the project's own words, embedded by the bundled model.

#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

use std::path::Path;

use amalfa::domain::{ChunkId, Deadline, Vector};
use amalfa::engine::{Accuracy, Change, Config, FlatEngine, IdSet, Request, VectorEngine};
use amalfa::model::{self, Model};
use futures::future::join_all;

/// Texts embedded: a second's work.
const TEXTS: usize = 500;
/// Vectors searched; those beyond the real ones are real ones moved by 0.7 of the difference of two others, which keeps
/// their spectrum.
const VECTORS: usize = 8_000;
const QUERIES: usize = 50;
const LIMIT: usize = 10;

/// Returns the paragraphs of the project's documents and of its source's comments.
fn texts() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = ignore::Walk::new(root).flatten().map(ignore::DirEntry::into_path);
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "md" || e == "rs")).collect();
    files.sort();
    let mut texts = Vec::new();
    for file in files {
        let content = std::fs::read_to_string(&file).unwrap();
        let prose = match file.extension().is_some_and(|extension| extension == "rs") {
            true => comments(&content),
            false => content,
        };
        texts.extend(prose.split("\n\n").filter(|text| text.split_whitespace().count() > 8).map(str::to_owned));
    }
    let step = (texts.len() / TEXTS).max(1);
    texts.into_iter().step_by(step).take(TEXTS).collect()
}

/// Returns the documentation comments of a source file, a paragraph each.
fn comments(source: &str) -> String {
    let comment =
        |line: &str| ["//! ", "/// "].iter().find_map(|mark| line.trim().strip_prefix(mark)).map(str::to_owned);
    source.lines().map(|line| comment(line).unwrap_or_default() + "\n").collect()
}

async fn vectors() -> (Vec<Vector>, Vec<Vector>) {
    let load = || Model::load(&model::Config::default()).unwrap();
    let model = tokio::task::spawn_blocking(load).await.unwrap();
    let embedded = model.embed_passages(texts()).await.unwrap();
    let mut real: Vec<Vector> = embedded.into_iter().filter_map(|embedded| embedded.vector).collect();
    assert!(real.len() > TEXTS / 2, "only {} texts were found", real.len());
    let step = real.len() / QUERIES;
    let queries = (0..QUERIES).rev().map(|at| real.remove(at * step)).collect();
    let grown = (real.len()..VECTORS).map(|at| moved(&real, at));
    let all = real.iter().cloned().chain(grown.collect::<Vec<_>>()).collect();
    (all, queries)
}

fn moved(real: &[Vector], at: usize) -> Vector {
    let pick =
        |salt: usize| real[(at.wrapping_mul(0x9e37_79b1) ^ salt.wrapping_mul(0x85eb_ca77)) % real.len()].as_slice();
    let (base, left, right) = (real[at % real.len()].as_slice(), pick(at / real.len()), pick(at / real.len() + 1_000));
    let difference: Vec<f32> = left.iter().zip(right).map(|(a, b)| a - b).collect();
    let length = difference.iter().map(|d| d * d).sum::<f32>().sqrt().max(1e-6);
    let values = base.iter().zip(&difference).map(|(b, d)| b + 0.7 * d / length).collect();
    Vector::normalise("vector", values).unwrap().unwrap()
}

/// Returns the share of what `truth` finds that `asked` finds too.
async fn recall(engine: &FlatEngine, queries: &[Vector], asked: &Request, truth: &Request) -> f64 {
    let ids = async |request: &Request, query: &Vector| {
        let found = engine.search(Request { vector: query.clone(), ..request.clone() }).await.unwrap();
        found.scored.into_iter().map(|scored| scored.id).collect::<Vec<_>>()
    };
    let pairs = join_all(queries.iter().map(async |query| (ids(asked, query).await, ids(truth, query).await))).await;
    assert!(pairs.iter().all(|(found, expected)| found.len() == LIMIT && expected.len() == LIMIT));
    let found = pairs.iter().flat_map(|(found, expected)| expected.iter().filter(|id| found.contains(id))).count();
    found as f64 / (LIMIT * pairs.len()) as f64
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_mode_misses_nothing_on_real_vectors() {
    let (vectors, queries) = vectors().await;
    let engine = FlatEngine::new(&Config::default(), vectors[0].dimension()).unwrap();
    let added = (0..).map(ChunkId).zip(vectors).collect();
    engine.apply(Change { added, removed: Vec::new() }).await.unwrap();
    let narrow: IdSet = (0..VECTORS as u64).filter(|id| id % 50 == 7).collect();
    for filter in [None, Some(narrow)] {
        let request = |accuracy| {
            let (vector, filter) = (queries[0].clone(), filter.clone());
            Request { vector, limit: LIMIT, filter, accuracy, deadline: Deadline::NONE }
        };
        let exact = request(Accuracy::Exact);
        let default = recall(&engine, &queries, &request(Accuracy::Default), &exact).await;
        assert!(default >= 0.999, "{default} of the neighbours found");
        let bounded = recall(&engine, &queries, &request(Accuracy::Oversample(10)), &exact).await;
        assert!(bounded >= 0.98, "{bounded} of the neighbours found with ten comparisons a hit");
    }
}
