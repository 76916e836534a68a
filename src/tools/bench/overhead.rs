//! What the service adds to the bare model: search over gRPC against one model call, ingest against bare sessions, and the
//! memory of both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{Latency, Machine, median};
use crate::api::{Client, proto};
use crate::app::App;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::model::Bare;
use crate::telemetry;

/// Passages of the index.
const PASSAGES: usize = 4_000;
/// Searches measured; each a query of its own, so that no cache can answer.
const SEARCHES: usize = 300;
/// Passages that one bare session embeds in each round.
const BARE_PASSAGES: usize = 400;
/// Rounds of ingest against the bare sessions.
const ROUNDS: usize = 3;
/// How long a child may take to be ready.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// The figures.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where they were measured.
    pub machine: Machine,
    /// Model sessions.
    pub sessions: usize,
    /// Passages of the index.
    pub passages: usize,
    /// One bare model call, one thread, for each query.
    pub bare_call: Latency,
    /// A search like it over gRPC by one client, per way of searching.
    pub searches: BTreeMap<&'static str, Search>,
    /// Passages a second that one bare session embeds, alone: median of the rounds.
    pub bare_session_per_second: f64,
    /// Passages a second that as many bare sessions embed together: median of the rounds.
    pub bare_sessions_per_second: f64,
    /// Passages a second that `amalfa ingest` embeds and stores: median of the rounds.
    pub ingest_per_second: f64,
    /// Ingest / (sessions × one bare session).
    pub ingest_ratio: f64,
    /// Ingest / bare sessions together: what the service itself costs, the cores' sharing left out.
    pub ingest_ratio_together: f64,
    /// Resident memory of `serve` after start and a few searches.
    pub serve_rss_mib: f64,
    /// Highest resident memory of `amalfa ingest`.
    pub ingest_rss_max_mib: f64,
}

/// One way of searching.
#[derive(Debug, Serialize)]
pub struct Search {
    /// As the client saw it.
    pub latency: Latency,
    /// Its p50 / bare call p50.
    pub ratio: f64,
    /// Medians of the stages that the server reports, in milliseconds; a stage that ran twice in a search is summed.
    pub stages_ms: BTreeMap<String, f64>,
}

/// Runs everything; takes some two minutes on four cores.
pub async fn run(config: &Config) -> Result<Report> {
    let folder = Folder::new()?;
    let passages: Vec<String> = (0..PASSAGES as u64).map(|seed| words(seed, 100)).collect();
    let corpus = folder.write_corpus(&passages)?;
    let (mut alone, mut together, mut ingest, mut ingest_rss) = (Vec::new(), Vec::new(), Vec::new(), 0.0f64);
    let sessions = sessions(config);
    for round in 0..ROUNDS {
        alone.push(bare_rate(config, 1, &passages)?);
        together.push(bare_rate(config, sessions, &passages)?);
        let database = folder.path.join(format!("{round}.db"));
        let (rate, rss) = ingest_rate(config, &database, &corpus)?;
        ingest.push(rate);
        ingest_rss = ingest_rss.max(rss);
    }
    let database = folder.path.join("0.db");
    let serve_rss_mib = serve_rss(config, &database).await?;
    let (bare_call, searches) = search_against_bare(config, &database).await?;
    let (alone, together, ingest) = (median(alone), median(together), median(ingest));
    Ok(Report {
        machine: Machine::this(),
        sessions,
        passages: PASSAGES,
        bare_call,
        searches,
        bare_session_per_second: alone,
        bare_sessions_per_second: together,
        ingest_per_second: ingest,
        ingest_ratio: ingest / (sessions as f64 * alone),
        ingest_ratio_together: ingest / together,
        serve_rss_mib,
        ingest_rss_max_mib: ingest_rss,
    })
}

fn sessions(config: &Config) -> usize {
    match config.model.sessions {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        sessions => sessions,
    }
}

/// The ways of searching that are measured.
const WAYS: [(&str, proto::RetrievalMode, proto::RerankMode); 3] = [
    ("dense", proto::RetrievalMode::Dense, proto::RerankMode::None),
    ("hybrid", proto::RetrievalMode::Hybrid, proto::RerankMode::None),
    ("hybrid+late_interaction", proto::RetrievalMode::Hybrid, proto::RerankMode::LateInteraction),
];

/// The times of one way of searching.
#[derive(Debug, Default)]
struct Times {
    whole: Vec<Duration>,
    stages: BTreeMap<String, Vec<f64>>,
}

/// Measures a bare call and a search of each way in turn, so that a drift of the machine meets all of them.
async fn search_against_bare(config: &Config, database: &Path) -> Result<(Latency, BTreeMap<&'static str, Search>)> {
    let mut config = config.clone();
    config.store.path = database.to_owned();
    config.grpc.address.set_port(0);
    config.admin.address.set_port(0);
    let mut bare = Bare::load(&config.model)?;
    let telemetry = telemetry::init(&config.telemetry)?;
    let app = App::build(config, telemetry.metrics()).await?;
    let address = app.grpc_address().to_string();
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(app.run(shutdown.clone()));
    let client = Client::connect(&address).await?;
    let (mut calls, mut ways) = (Vec::new(), WAYS.map(|_| Times::default()));
    for seed in 0..SEARCHES as u64 {
        let query = words(1 << 32 | seed, 6);
        let started = Instant::now();
        bare.embed(&query)?;
        calls.push(started.elapsed());
        for (at, times) in (1..).zip(&mut ways) {
            let (_, retrieval, rerank) = WAYS[at as usize - 1];
            // A query of its own again: an embedding that is known already would answer sooner.
            times.add(&client, request(words(at << 40 | seed, 6), retrieval, rerank)).await?;
        }
    }
    shutdown.cancel();
    server.await.map_err(|e| Error::internal("the server panicked", e))??;
    let bare_call = Latency::of(calls);
    let searches = WAYS.iter().zip(ways).map(|((name, ..), times)| (*name, times.figures(bare_call)));
    Ok((bare_call, searches.collect()))
}

fn request(text: String, retrieval: proto::RetrievalMode, rerank: proto::RerankMode) -> proto::SearchRequest {
    proto::SearchRequest {
        query: Some(proto::search_request::Query::Text(text)),
        retrieval_mode: retrieval.into(),
        rerank_mode: rerank.into(),
        ..proto::SearchRequest::default()
    }
}

impl Times {
    async fn add(&mut self, client: &Client, request: proto::SearchRequest) -> Result<()> {
        let started = Instant::now();
        let answer = client.search(request).await?;
        self.whole.push(started.elapsed());
        let mut sums = BTreeMap::<String, f64>::new();
        answer.timings.into_iter().for_each(|(name, time)| *sums.entry(name).or_default() += time.as_secs_f64() * 1e3);
        sums.into_iter().for_each(|(name, time)| self.stages.entry(name).or_default().push(time));
        Ok(())
    }

    fn figures(self, bare_call: Latency) -> Search {
        let latency = Latency::of(self.whole);
        let stages_ms = self.stages.into_iter().map(|(name, times)| (name, median(times))).collect();
        Search { latency, ratio: latency.p50_ms / bare_call.p50_ms, stages_ms }
    }
}

/// Returns the passages a second of `count` sessions, each on a thread, nothing around them.
fn bare_rate(config: &Config, count: usize, passages: &[String]) -> Result<f64> {
    let mut sessions = (0..count).map(|_| Bare::load(&config.model)).collect::<Result<Vec<_>>>()?;
    let started = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..)
            .zip(&mut sessions)
            .map(|(n, session)| {
                scope.spawn(move || {
                    let own = passages.iter().cycle().skip(n * BARE_PASSAGES).take(BARE_PASSAGES);
                    own.map(|passage| session.embed(passage)).collect::<Result<Vec<_>>>().map(drop)
                })
            })
            .collect();
        threads.into_iter().try_for_each(|t| t.join().unwrap_or_else(|_| Err(Error::bug("a bare session panicked"))))
    })?;
    Ok((count * BARE_PASSAGES) as f64 / started.elapsed().as_secs_f64())
}

/// Ingests the corpus with a process of its own; returns its passages a second and its highest resident memory in MiB.
fn ingest_rate(config: &Config, database: &Path, corpus: &Path) -> Result<(f64, f64)> {
    let output = command(config, database)?.arg("ingest").arg(corpus).arg("--json").output().map_err(spawn_failed)?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)
        .map_err(|e| Error::internal(String::from_utf8_lossy(&output.stderr).into_owned(), e))?;
    let figure = |name: &str| report[name].as_f64().unwrap_or_default();
    Ok((figure("embedded") / figure("seconds"), figure("rss_bytes_max") / f64::from(1 << 20)))
}

/// Starts a server of its own, searches a few times, and returns its resident memory in MiB.
async fn serve_rss(config: &Config, database: &Path) -> Result<f64> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(spawn_failed)?;
    let address = listener.local_addr().map_err(spawn_failed)?.to_string();
    drop(listener);
    let mut command = command(config, database)?;
    let child = command.args(["serve", "--listen", &address, "--admin-listen", "127.0.0.1:0"]).spawn();
    let child = Killed(child.map_err(spawn_failed)?);
    let deadline = Instant::now() + START_TIMEOUT;
    let client = loop {
        match Client::connect(&address).await {
            Ok(client) => break client,
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    for seed in 0..20 {
        let text = words(1 << 40 | seed, 6);
        let query = Some(proto::search_request::Query::Text(text));
        client.search(proto::SearchRequest { query, ..proto::SearchRequest::default() }).await?;
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.0.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().unwrap_or_default();
    Ok(kib / 1024.0)
}

/// A child that is ended with its owner.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns this program as a command on another database, with the same model.
fn command(config: &Config, database: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().map_err(spawn_failed)?);
    command.arg("--db").arg(database).stderr(Stdio::inherit());
    for (key, value) in [("sessions", json!(config.model.sessions)), ("name", json!(config.model.name))] {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        command.arg("--set").arg(format!("model.{key}={text}"));
    }
    if let Some(dir) = &config.model.dir {
        command.arg("--set").arg(format!("model.dir={}", dir.display()));
    }
    command.env("AMALFA_TELEMETRY_LOG_FILTER", "warn");
    Ok(command)
}

fn spawn_failed(error: std::io::Error) -> Error {
    Error::unavailable("cannot start this program again", error)
}

/// A folder that goes with its owner.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("amalfa-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|e| Error::unavailable("cannot make a temporary folder", e))?;
        Ok(Self { path })
    }

    fn write_corpus(&self, passages: &[String]) -> Result<PathBuf> {
        let path = self.path.join("corpus.jsonl");
        let lines: Vec<_> =
            (0..).zip(passages).map(|(id, text)| json!({"_id": format!("{id}"), "text": text}).to_string()).collect();
        std::fs::write(&path, lines.join("\n")).map_err(|e| Error::unavailable("cannot write the corpus", e))?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Returns `count` English words drawn by a fixed generator (xorshift64*): the same text for the same seed.
fn words(seed: u64, count: usize) -> String {
    const WORDS: &str = "the of and to a in is that for it as was with be by on not this are or his from at which but have \
        an had they you were their one all we can her has there been if more when will would who so no search index \
        document vector query memory database server client request response metric trace span latency histogram \
        counter gauge label model token text chunk heading paragraph sentence language system process thread queue \
        worker batch cache disk file folder path error message limit budget deadline retry health status network \
        protocol stream packet buffer page table column row key value edge node graph cluster river mountain garden \
        window kitchen engine bridge market harbour season winter summer evening morning music painting theatre \
        history science physics chemistry biology medicine protein cell tissue gene therapy patient trial sample";
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let draw = |_| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        words[(state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % words.len()]
    };
    (0..count).map(draw).collect::<Vec<_>>().join(" ")
}
