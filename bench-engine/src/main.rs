//! Compares Amalfa's engine with its peers: same vectors, same machine, one run, in turns.

mod grpc;
mod measure;
mod peers;
mod report;
mod vectors;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use amalfa::domain::{ChunkId, Vector};
use amalfa::engine::{Accuracy, Change, Config, FlatEngine, IdSet, VectorEngine};
use amalfa::ingest::{self, Indexer};
use amalfa::model::Model;
use amalfa::store::Store;
use clap::Parser;
use rayon::prelude::*;

use crate::measure::{LIMIT, compare};
use crate::peers::{BlobScan, Failure, Ours, Peer, SqliteVec, Usearch, engine, load, request};
use crate::report::{Load, Point, Report, Restart, Size, Throughput};
use crate::vectors::{Vectors, recall};

/// Sizes up to which the service is measured over gRPC as well.
const GRPC_VECTORS_MAX: usize = 100_000;

/// Compares Amalfa's engine with its peers.
#[derive(Parser)]
struct Arguments {
    /// Little-endian f32 rows of unit length.
    #[arg(long, env = "AMALFA_BENCH_VECTORS", required_unless_present = "serve")]
    vectors: Option<PathBuf>,
    /// Instead of measuring: run the service on this database, as the measurement over gRPC does.
    #[arg(long, hide = true)]
    serve: Option<PathBuf>,
    #[arg(long, default_value_t = 384)]
    dimension: usize,
    /// Numbers of vectors; beyond what the file has, real ones are moved a little.
    #[arg(long, value_delimiter = ',', default_value = "10000,100000,1000000")]
    sizes: Vec<usize>,
    /// The largest size at which peers take part.
    #[arg(long, default_value_t = 1_000_000)]
    peers_max: usize,
    /// The largest size at which those take part that build a graph, for minutes.
    #[arg(long, default_value_t = 100_000)]
    graphs_max: usize,
    #[arg(long, default_value_t = 500)]
    queries: usize,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Numbers of vectors for the curve of costs, rising; originals are mapped into files in the temporary folder.
    #[arg(long, value_delimiter = ',', default_value = "10000,30000,100000,300000,1000000,3000000")]
    curve: Vec<usize>,
    #[arg(long, default_value = "target/engine-bench.json")]
    json: PathBuf,
    #[arg(long, default_value = "target/engine-bench.md")]
    markdown: PathBuf,
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    if let Some(database) = &arguments.serve {
        return grpc::serve(database, arguments.dimension);
    }
    let path = arguments.vectors.as_deref().unwrap_or(Path::new(""));
    let (real, queries) = Vectors::read(path, arguments.dimension)?.hold_out(arguments.queries);
    let mut report = Report {
        cpu: cpu(),
        cores: std::thread::available_parallelism()?.get(),
        kernels: engine(1, arguments.dimension)?.instructions().into(),
        load_average: load_average(),
        sizes: Vec::new(),
        curve: Vec::new(),
    };
    for size in &arguments.sizes {
        let cut = real.len().min(*size);
        let base = Vectors { dimension: real.dimension, values: real.values[..cut * real.dimension].to_vec() };
        let vectors = if *size > cut { base.grown_to(*size) } else { base };
        let origin = match *size > real.len() {
            true => format!("{} real ones, the rest real ones moved by 0.7 of a real difference", real.len()),
            false => "Real passages".to_string(),
        };
        report.sizes.push(measure(&arguments, &vectors, &queries, origin)?);
        std::fs::write(&arguments.json, serde_json::to_string_pretty(&report)?)?;
        std::fs::write(&arguments.markdown, report.markdown())?;
    }
    curve(&arguments, &real, &queries, |point| {
        report.curve.push(point);
        std::fs::write(&arguments.json, serde_json::to_string_pretty(&report)?)?;
        Ok(std::fs::write(&arguments.markdown, report.markdown())?)
    })?;
    println!("{}", report.markdown());
    Ok(())
}

fn measure(arguments: &Arguments, vectors: &Vectors, queries: &Vectors, origin: String) -> Result<Size, Failure> {
    eprintln!("{} vectors", vectors.len());
    let truth = vectors.nearest(queries, LIMIT, |_| true);
    let folder = tempfile::tempdir()?;
    let database = folder.path().join("vectors.db");
    peers::write_blobs(&database, vectors)?;
    let (one, all) = (engine(1, vectors.dimension)?, engine(0, vectors.dimension)?);
    load(&one, vectors, 16_384)?;
    let load = loading(&all, vectors, queries)?;
    let stats = all.stats();
    let mut contestants: Vec<Box<dyn Peer>> = vec![
        Box::new(Ours::new(&one, "default, 1 thread", Accuracy::Default, None)),
        Box::new(Ours::new(&all, "default, idle cores", Accuracy::Default, None)),
        Box::new(Ours::new(&one, "exact, 1 thread", Accuracy::Exact, None)),
        Box::new(Ours::new(&all, "exact, idle cores", Accuracy::Exact, None)),
    ];
    if vectors.len() <= arguments.peers_max {
        let graphs = vectors.len() <= arguments.graphs_max;
        contestants.extend(rivals(&database, folder.path(), vectors, graphs)?);
    }
    let mut rows = compare(&mut contestants, queries, &truth, arguments.rounds)?;
    rows.extend(filtered(&one, vectors, queries, arguments.rounds)?);
    drop(contestants);
    let served = folder.path().join("served.db");
    grpc::fill(&served, vectors)?;
    Ok(Size {
        vectors: vectors.len(),
        origin,
        rows,
        bytes_beyond_f32_per_vector: stats.bytes as f64 / vectors.len() as f64 - 4.0 * vectors.dimension as f64,
        vectors_compared_exactly_mean: compared(&one, queries)?,
        load,
        grpc: match vectors.len() {
            ..=GRPC_VECTORS_MAX => Some(grpc::measure(&served, vectors.dimension, queries, &truth)?),
            _ => None,
        },
        throughput: throughput(&one, &all, queries)?,
        restart: restart(&served, queries, vectors.dimension)?,
    })
}

fn rivals(database: &Path, folder: &Path, vectors: &Vectors, graphs: bool) -> Result<Vec<Box<dyn Peer>>, Failure> {
    let mut rivals: Vec<Box<dyn Peer>> =
        vec![Box::new(BlobScan::open(database)?), Box::new(SqliteVec::build(vectors)?.0)];
    if graphs {
        let graph = Usearch::build(vectors)?;
        rivals.extend([64, 128, 512].map(|width| Box::new(graph.with_width(width)) as Box<dyn Peer>));
    }
    #[cfg(feature = "qdrant")]
    {
        std::fs::create_dir(folder.join("qdrant"))?;
        let exact = peers::Qdrant::build(&folder.join("qdrant"), vectors)?;
        if graphs {
            let graph = exact.optimised(128)?;
            rivals.push(Box::new(graph.with_width(512)));
            rivals.push(Box::new(graph));
        }
        rivals.push(Box::new(exact));
    }
    let _ = folder;
    Ok(rivals)
}

/// Grows one engine through the sizes of the curve.
fn curve(
    arguments: &Arguments,
    real: &Vectors,
    queries: &Vectors,
    mut done: impl FnMut(Point) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let config = Config { mapped_folder: Some(folder.path().into()), ..Config::default() };
    let engine = Arc::new(FlatEngine::new(&config, real.dimension)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let mut held = 0;
    for size in &arguments.curve {
        while held < *size {
            let batch = held..(held + 65_536).min(*size);
            held = batch.end;
            let vector =
                |at: usize| Vector::normalise("vector", real.grown(at)).ok().flatten().map(|v| (ChunkId(at as u64), v));
            let added = batch.into_par_iter().filter_map(vector).collect();
            runtime.block_on(engine.apply(Change { added, removed: Vec::new() }))?;
        }
        let (mut default, mut exact) =
            (Ours::new(&engine, "", Accuracy::Default, None), Ours::new(&engine, "", Accuracy::Exact, None));
        let (mut times, mut found, mut truth) = (Vec::new(), Vec::new(), Vec::new());
        for query in queries.rows().take(200) {
            let started = Instant::now();
            found.push(default.search(query, LIMIT)?);
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
        for query in queries.rows().take(20) {
            truth.push(exact.search(query, LIMIT)?);
        }
        found.truncate(truth.len());
        eprintln!("curve: {size}");
        done(Point {
            vectors: *size,
            p50_ms: measure::percentile(&mut times, 0.5),
            recall_at_10: recall(&found, &truth),
            heap_bytes_per_vector: engine.stats().bytes as f64 / *size as f64,
        })?;
    }
    Ok(())
}

/// One in a hundred vectors may be found.
fn filtered(
    engine: &Arc<FlatEngine>,
    vectors: &Vectors,
    queries: &Vectors,
    rounds: usize,
) -> Result<Vec<measure::Row>, Failure> {
    let keep = |id: usize| (id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 & 0xffff < 656;
    let filter: IdSet = (0..vectors.len()).filter(|id| keep(*id)).map(|id| id as u64).collect();
    let truth = vectors.nearest(queries, LIMIT, keep);
    let ours = Ours::new(engine, "default, 1 thread, 1 % pass the filter", Accuracy::Default, Some(filter));
    compare(&mut [Box::new(ours)], queries, &truth, rounds)
}

fn loading(engine: &Arc<FlatEngine>, vectors: &Vectors, queries: &Vectors) -> Result<Load, Failure> {
    let (total_s, slowest, last) = load(engine, vectors, 1_000)?;
    let started = Instant::now();
    Ours::new(engine, "", Accuracy::Default, None).search(queries.row(0), LIMIT)?;
    let first_search_after_ms = started.elapsed().as_secs_f64() * 1e3;
    Ok(Load { total_s, slowest_batch_ms: slowest * 1e3, last_batch_ms: last * 1e3, first_search_after_ms })
}

fn compared(engine: &Arc<FlatEngine>, queries: &Vectors) -> Result<f64, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let mut compared = 0;
    for query in queries.rows() {
        compared += runtime.block_on(engine.search(request(query, LIMIT, Accuracy::Default)?))?.compared;
    }
    Ok(compared as f64 / queries.len() as f64)
}

/// Takes turns between one client on one thread and eight clients on all, three seconds each in all.
fn throughput(one: &Arc<FlatEngine>, all: &Arc<FlatEngine>, queries: &Vectors) -> Result<Throughput, Failure> {
    let cores = std::thread::available_parallelism()?.get() as f64;
    let (mut single, mut busy) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        single.push(rate(one, queries, 1)?);
        busy.push(rate(all, queries, 8)?);
    }
    let (one_thread_per_s, clients_8_per_s) =
        (measure::percentile(&mut single, 0.5), measure::percentile(&mut busy, 0.5));
    Ok(Throughput { one_thread_per_s, clients_8_per_s, share_of_cores: clients_8_per_s / one_thread_per_s / cores })
}

/// Returns the queries per second of `clients` tasks that search without a pause.
fn rate(engine: &Arc<FlatEngine>, queries: &Vectors, clients: usize) -> Result<f64, Failure> {
    // Up to 100,000 vectors a search runs on its caller's thread: as many as cores.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build()?;
    let requests: Vec<_> = queries.rows().map(|q| request(q, LIMIT, Accuracy::Default)).collect::<Result<_, _>>()?;
    let requests = Arc::new(requests);
    let (started, time) = (Instant::now(), Duration::from_millis(600));
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let (engine, requests) = (Arc::clone(engine), Arc::clone(&requests));
            runtime.spawn(async move {
                let mut done = 0u64;
                while started.elapsed() < time {
                    let request = requests[(client * 61 + done as usize) % requests.len()].clone();
                    engine.search(request).await?;
                    done += 1;
                }
                Ok::<u64, amalfa::error::Error>(done)
            })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        done += runtime.block_on(task)??;
    }
    Ok(done as f64 / started.elapsed().as_secs_f64())
}

/// Opens a database as a starting service does, fills a new engine from it and searches once.
fn restart(database: &Path, queries: &Vectors, dimension: usize) -> Result<Restart, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build()?;
    let started = Instant::now();
    runtime.block_on(async {
        let engine = engine(0, dimension)?;
        let store = Store::open(&grpc::config(database).store)?;
        let (config, model) = (ingest::Config::default(), Model::arithmetic(dimension));
        let indexer = Indexer::new(&config, store.clone(), model, Some(engine.clone()))?;
        indexer.synchronise().await?;
        engine.search(request(queries.row(0), LIMIT, Accuracy::Default)?).await?;
        let first_answer_s = started.elapsed().as_secs_f64();
        indexer.stop().await?;
        store.close()?;
        Ok(Restart { first_answer_s })
    })
}

fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(':').nth(1));
    name.unwrap_or("unknown processor").trim().to_string()
}
