//! The engine's parts and whole searches, on vectors without structure: for comparing two states of the code. Figures
//! against other engines on real vectors are `make bench-engine`'s.

use std::hint::black_box;

use amalfa::domain::{ChunkId, Deadline, Vector};
use amalfa::engine::internals::{Kernels, Rotation, Sketch, Top};
use amalfa::engine::{Accuracy, Change, Config, FlatEngine, Request, Scored, TokenCoder, TokenCodes, VectorEngine};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures::future::try_join_all;

const DIMENSION: usize = 384;
const SEGMENT_ROWS: usize = 8_192;

fn vector(seed: usize) -> Vector {
    let noise = |at: usize| (((seed * DIMENSION + at) as f32 * 12.9898).sin() * 43_758.547).fract() + 0.2;
    let vector = Vector::normalise("vector", (0..DIMENSION).map(noise).collect());
    vector.ok().flatten().unwrap_or_else(|| unreachable!("the noise has a direction"))
}

fn request(seed: usize, accuracy: Accuracy) -> Request {
    Request { vector: vector(seed), limit: 10, filter: None, accuracy, deadline: Deadline::NONE }
}

fn kernels(criterion: &mut Criterion) {
    let rotation = Rotation::new(DIMENSION);
    let values: Vec<f32> = (0..SEGMENT_ROWS).flat_map(|seed| vector(seed).as_slice().to_vec()).collect();
    let sketch = Sketch::new(&rotation, DIMENSION, &values);
    let query = vector(SEGMENT_ROWS);
    let rotated = rotation.apply(query.as_slice());
    let probe = sketch.probe(&rotated);
    let mut group = criterion.benchmark_group("segment");
    group.throughput(Throughput::Elements(SEGMENT_ROWS as u64));
    for kernels in Kernels::available() {
        let mut maxima = vec![0.0; SEGMENT_ROWS / 32];
        let selected = vec![u32::MAX; maxima.len()];
        group.bench_function(format!("estimate {}", kernels.name), |bencher| {
            bencher.iter(|| kernels.maxima(black_box(&sketch.aim(&probe)), &selected, &mut maxima));
        });
        group.bench_function(format!("dot {}", kernels.name), |bencher| {
            let rows = || values.chunks_exact(DIMENSION);
            bencher.iter(|| rows().map(|row| kernels.dot(row, query.as_slice())).sum::<f32>());
        });
    }
    group.bench_function("sketch", |bencher| bencher.iter(|| Sketch::new(&rotation, DIMENSION, black_box(&values))));
    group.finish();
    criterion.bench_function("rotate", |bencher| bencher.iter(|| rotation.apply(black_box(query.as_slice()))));
    criterion.bench_function("probe", |bencher| bencher.iter(|| sketch.probe(black_box(&rotated))));
}

fn top(criterion: &mut Criterion) {
    let scores: Vec<Scored> =
        (0..100_000u64).map(|id| Scored { id: ChunkId(id), score: (id as f32 * 12.9898).sin() }).collect();
    for limit in [10, 1_000] {
        criterion.bench_function(&format!("top {limit} of 100000"), |bencher| {
            bencher.iter(|| {
                let mut top = Top::new(limit);
                scores.iter().for_each(|scored| top.push(*scored));
                top.into_sorted()
            });
        });
    }
}

fn searches(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap_or_else(|e| panic!("{e}"));
    let engine =
        FlatEngine::new(&Config { threads: 1, ..Config::default() }, DIMENSION).unwrap_or_else(|e| panic!("{e}"));
    let added = (0..20_000).map(|seed| (ChunkId(seed as u64), vector(seed))).collect();
    let loaded = runtime.block_on(engine.apply(Change { added, removed: Vec::new() }));
    loaded.unwrap_or_else(|e| panic!("{e}"));
    let mut group = criterion.benchmark_group("search 20000");
    for (name, accuracy) in [("default", Accuracy::Default), ("exact", Accuracy::Exact)] {
        let request = request(20_001, accuracy);
        group.bench_function(name, |bencher| bencher.iter(|| runtime.block_on(engine.search(request.clone()))));
    }
    let filtered =
        Request { filter: Some((0..200).map(|at| at * 100).collect()), ..request(20_001, Accuracy::Default) };
    group.bench_function("1 % filter", |bencher| bencher.iter(|| runtime.block_on(engine.search(filtered.clone()))));
    let batch: Vec<Request> = (0..32).map(|at| request(20_001 + at, Accuracy::Default)).collect();
    group.bench_function("batch of 32", |bencher| {
        bencher.iter(|| runtime.block_on(try_join_all(batch.iter().cloned().map(|request| engine.search(request)))));
    });
    group.finish();
}

/// 50 passages of 128 tokens against a query of 12.
fn late_interaction(criterion: &mut Criterion) {
    let coder = TokenCoder::new(DIMENSION).unwrap_or_else(|| unreachable!("the dimension is a model's"));
    let tokens = |first: usize, count: usize| -> Vec<f32> {
        (first..first + count).flat_map(|seed| vector(seed).as_slice().to_vec()).collect()
    };
    let passages: Vec<Vec<u8>> = (0..50).map(|at| coder.encode(&tokens(at * 128, 128))).collect();
    let decode = || passages.iter().filter_map(|bytes| coder.decode(bytes)).collect::<Vec<TokenCodes>>();
    let (query_tokens, codes, passage) = (tokens(10_000, 12), decode(), tokens(0, 128));
    let query = coder.query(&query_tokens);
    let mut group = criterion.benchmark_group("late interaction");
    group.bench_function("query of 12", |bencher| bencher.iter(|| coder.query(black_box(&query_tokens))));
    group.bench_function("decode 50", |bencher| bencher.iter(decode));
    for kernels in Kernels::available() {
        group.bench_function(format!("score 50 {}", kernels.name), |bencher| {
            bencher.iter(|| codes.iter().map(|codes| query.score_with(&kernels, black_box(codes))).sum::<f32>());
        });
    }
    group.bench_function("encode 1", |bencher| bencher.iter(|| coder.encode(black_box(&passage))));
    group.finish();
}

criterion_group!(benches, kernels, top, searches, late_interaction);
criterion_main!(benches);
