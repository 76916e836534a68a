//! The rerank modes as a service has them: real parts, the arithmetic model, the fixture's cross-encoder, and a language
//! model's server of the test's own.

#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use amalfa::api::proto::search_service_client::SearchServiceClient;
use amalfa::api::proto::{self, RerankDocument, RerankRequest, SearchRequest, rerank_document, search_request};
use amalfa::app::{App, Core, open_store};
use amalfa::config::Config;
use amalfa::domain::{
    Answer, Deadline, DegradationReason, Document, DocumentId, Include, Query, RerankMode, RerankStep,
};
use amalfa::model::Model;
use amalfa::search::{RerankItem, Reranked, Reranking};
use amalfa::telemetry::Timeline;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const DIMENSION: usize = 64;

/// Answers every request with grades that rise from passage to passage, so that the order is turned around.
async fn turning_llm(answers: impl Fn(usize) -> bool + Clone + Send + Sync + 'static) -> (String, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    let handler = move |body: String| {
        let answered = answers(seen.fetch_add(1, Ordering::SeqCst));
        async move {
            let body: Value = serde_json::from_str(&body).unwrap();
            let passages = body["messages"][1]["content"].as_str().unwrap().matches("\n</passage ").count();
            let grade = |number: usize| json!({"id": number, "score": number as f64 / passages as f64});
            let ranking = json!({"ranking": (1..=passages).map(grade).collect::<Vec<_>>()}).to_string();
            match answered {
                true => json!({"choices": [{"message": {"content": ranking}}]}).to_string(),
                false => std::future::pending().await,
            }
        }
    };
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = axum::Router::new().fallback(handler);
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { return };
            let service = hyper_util::service::TowerToHyperService::new(app.clone());
            let io = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
        }
    });
    (format!("http://{address}"), count)
}

fn with_cross_encoder(config: &mut Config) {
    config.cross_encoder.dir = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cross_encoder"));
    config.cross_encoder.sessions = 2;
}

fn with_llm(config: &mut Config, endpoint: String) {
    config.llm.endpoint = Some(endpoint);
    config.llm.model = "turner".to_owned();
}

/// The parts of a service over twenty documents: the higher a document's number, the fewer words of the query it has.
struct Place {
    _folder: TempDir,
    core: Core,
}

const WORDS: [&str; 5] = ["apple", "tree", "fruit", "bread", "yeast"];
const QUERY: &str = "apple tree fruit bread yeast";

fn text(number: usize) -> String {
    let known = WORDS[..5 - number / 4].join(" ");
    format!("{known} {}", "filler ".repeat(number % 4))
}

fn settings(folder: &TempDir, change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    (config.grpc.address, config.admin.address) = (any, any);
    config.store.path = folder.path().join("amalfa.db");
    change(&mut config);
    config
}

impl Place {
    async fn new(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = settings(&folder, change);
        let store = open_store(&config).await.unwrap();
        let core = Core::compose(&config, store, Model::arithmetic(DIMENSION)).await.unwrap();
        for number in 0..20 {
            core.indexer.upsert(document(number)).await.unwrap();
        }
        Self { _folder: folder, core }
    }

    async fn search(&self, mode: RerankMode) -> Answer {
        let include = Include { explain: true, ..Include::default() };
        let query = Query { rerank: Some(mode), limit: 20, include, ..Query::text(QUERY) };
        self.core.searcher.search(query, &mut Timeline::start()).await.unwrap()
    }

    async fn rerank(&self, mode: RerankMode, texts: &[&str]) -> (Vec<Reranked>, Vec<RerankStep>) {
        let items = texts.iter().map(|text| RerankItem::Text((*text).to_owned())).collect();
        let (query, limit) = (QUERY.to_owned(), texts.len());
        let reranking = Reranking { query, items, mode, limit, time_max: None, deadline: Deadline::NONE };
        self.core.searcher.rerank(reranking, &mut Timeline::start()).await.unwrap()
    }
}

fn document(number: usize) -> Document {
    let id = format!("{number:02}");
    Document {
        id: DocumentId::parse("id", &id).unwrap(),
        source: id,
        title: String::new(),
        text: text(number),
        date: None,
        kind: None,
        domain: None,
        metadata: serde_json::Map::new(),
    }
}

fn ids(answer: &Answer) -> Vec<&str> {
    answer.hits.iter().map(|hit| hit.id.as_str()).collect()
}

fn never_rises(answer: &Answer) -> bool {
    let in_range = answer.hits.iter().all(|hit| (0.0..=1.0).contains(&hit.score));
    in_range && answer.hits.windows(2).all(|pair| pair[0].score >= pair[1].score)
}

/// Mode, candidates, covered and reason of each step.
fn steps(steps: &[RerankStep]) -> Vec<(RerankMode, u32, u32, Option<DegradationReason>)> {
    let reason = |step: &RerankStep| step.degraded.as_ref().map(|degraded| degraded.reason);
    steps.iter().map(|step| (step.mode, step.candidates, step.covered, reason(step))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reranker_that_is_missing_leaves_the_order_and_says_so() {
    let place = Place::new(|_| {}).await;
    let first_stage = place.search(RerankMode::None).await;
    for (mode, setting) in [(RerankMode::CrossEncoder, "cross_encoder.name"), (RerankMode::Llm, "llm.endpoint")] {
        let answer = place.search(mode).await;
        assert_eq!(ids(&answer), ids(&first_stage));
        assert_eq!(steps(&answer.rerank_steps), [(mode, 20, 0, Some(DegradationReason::NotConfigured))]);
        let advice = &answer.rerank_steps[0].degraded.as_ref().unwrap().message;
        assert!(advice.contains(setting), "{advice}");
        let (ranked, _) = place.rerank(mode, &["bread", "apple"]).await;
        assert_eq!(ranked, [Reranked { index: 0, score: 0.0 }, Reranked { index: 1, score: 0.0 }]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cross_encoder_puts_hits_in_order_and_the_logit_is_told() {
    let place = Place::new(with_cross_encoder).await;
    let answer = place.search(RerankMode::CrossEncoder).await;
    assert_eq!(steps(&answer.rerank_steps), [(RerankMode::CrossEncoder, 20, 20, None)]);
    assert!(never_rises(&answer));
    // The logit is 4 × the share of the query's words - 2: five words, then four, …
    for (rank, hit) in answer.hits.iter().enumerate() {
        let logit = hit.explanation.as_ref().unwrap().reranked[0].score;
        let expected = 4.0 * (5 - rank / 4) as f32 / 5.0 - 2.0;
        assert!((logit - expected).abs() < 0.3, "{rank}: {logit} is not near {expected}");
        assert!((hit.score - 1.0 / (1.0 + (-logit).exp())).abs() < 1e-6);
    }
    let (ranked, _) = place.rerank(RerankMode::CrossEncoder, &["bread", "apple tree fruit", "nothing"]).await;
    assert_eq!(ranked.iter().map(|r| r.index).collect::<Vec<_>>(), [1, 0, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_language_model_puts_the_best_in_order_and_the_rest_follows() {
    let (endpoint, _) = turning_llm(|_| true).await;
    let change = |config: &mut Config| {
        with_llm(config, endpoint);
        config.llm.candidates_max = 6;
    };
    let place = Place::new(change).await;
    let first_stage = place.search(RerankMode::None).await;
    let answer = place.search(RerankMode::Llm).await;
    assert_eq!(steps(&answer.rerank_steps), [(RerankMode::Llm, 6, 6, None)]);
    let (before, after) = (ids(&first_stage), ids(&answer));
    assert_eq!(after[..6], before[..6].iter().rev().copied().collect::<Vec<_>>());
    assert_eq!(after[6..], before[6..]);
    assert!(never_rises(&answer));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cascade_goes_from_many_to_few() {
    let (endpoint, _) = turning_llm(|_| true).await;
    let change = |config: &mut Config| {
        with_cross_encoder(config);
        with_llm(config, endpoint);
        config.rerank.cascade_candidates = 12.try_into().unwrap();
        config.rerank.cascade_llm_candidates = 8.try_into().unwrap();
        config.rerank.cascade_llm_hits = 3.try_into().unwrap();
    };
    let place = Place::new(change).await;
    let answer = place.search(RerankMode::Cascade).await;
    let expected = [(RerankMode::CrossEncoder, 12, 12, None), (RerankMode::Llm, 8, 3, None)];
    assert_eq!(steps(&answer.rerank_steps), expected);
    assert!(never_rises(&answer));
    let reranked = |place: usize| &answer.hits[place].explanation.as_ref().unwrap().reranked;
    // The language model names the last of the eight it was given first.
    let first: Vec<_> = reranked(0).iter().map(|p| (p.mode, p.rank_before, p.rank_after)).collect();
    assert_eq!(first[1], (RerankMode::Llm, 8, 1));
    assert_eq!((first[0].0, first[0].2), (RerankMode::CrossEncoder, 8));
    assert_eq!([3, 11, 12].map(|place| reranked(place).len()), [1, 1, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_cross_encoder_a_cascade_begins_with_late_interaction() {
    let (endpoint, _) = turning_llm(|_| true).await;
    let place = Place::new(|config| with_llm(config, endpoint)).await;
    let answer = place.search(RerankMode::Cascade).await;
    let expected = [(RerankMode::LateInteraction, 20, 20, None), (RerankMode::Llm, 15, 5, None)];
    assert_eq!(steps(&answer.rerank_steps), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_last_step_fails_the_order_before_it_stands() {
    let (endpoint, _) = turning_llm(|_| false).await;
    let change = |config: &mut Config| {
        with_cross_encoder(config);
        with_llm(config, endpoint);
        config.llm.timeout_ms = 50;
    };
    let place = Place::new(change).await;
    let before = place.search(RerankMode::CrossEncoder).await;
    let answer = place.search(RerankMode::Cascade).await;
    assert_eq!(ids(&answer), ids(&before));
    let expected =
        [(RerankMode::CrossEncoder, 20, 20, None), (RerankMode::Llm, 15, 0, Some(DegradationReason::Deadline))];
    assert_eq!(steps(&answer.rerank_steps), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rerank_keeps_its_time_while_all_sessions_are_busy() {
    // Token vectors this wide take the double some tenths of a second a passage.
    let folder = tempfile::tempdir().unwrap();
    let config = settings(&folder, |_| {});
    let core = Core::compose(&config, open_store(&config).await.unwrap(), Model::arithmetic(2_048)).await.unwrap();
    let reranking = |texts: usize, time_max: Option<Duration>| Reranking {
        query: "word ".repeat(200),
        items: vec![RerankItem::Text("word ".repeat(200)); texts],
        mode: RerankMode::LateInteraction,
        limit: texts,
        time_max,
        deadline: Deadline::NONE,
    };
    let busy: Vec<_> = (0..4)
        .map(|_| {
            let (searcher, reranking) = (core.searcher.clone(), reranking(1_000, None));
            tokio::spawn(async move { searcher.rerank(reranking, &mut Timeline::start()).await })
        })
        .collect();
    let time_max = Duration::from_millis(300);
    for _ in 0..3 {
        let started = Instant::now();
        let reranked = core.searcher.rerank(reranking(50, Some(time_max)), &mut Timeline::start()).await;
        // 50 ms are promised on a machine with nothing else to do; all of it would take a hundred times as long.
        assert!(started.elapsed() < time_max * 4, "{:?}", started.elapsed());
        let (ranked, steps_done) = reranked.unwrap();
        assert_eq!(ranked.len(), 50);
        let (_, candidates, covered, reason) = steps(&steps_done)[0];
        assert_eq!((candidates, reason), (50, Some(DegradationReason::Deadline)));
        assert!(covered < 50, "{covered}");
    }
    // What nobody waits for any more is not computed: the sessions are free again at once.
    busy.iter().for_each(tokio::task::JoinHandle::abort);
    let (_, steps_done) = core.searcher.rerank(reranking(1, None), &mut Timeline::start()).await.unwrap();
    assert_eq!(steps(&steps_done), [(RerankMode::LateInteraction, 1, 1, None)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_answers_and_counts_what_was_not_done() {
    let folder = tempfile::tempdir().unwrap();
    let config = settings(&folder, |config| config.search.rerank = RerankMode::Cascade);
    let telemetry = config.telemetry.clone();
    let metrics = tokio::task::spawn_blocking(move || amalfa::telemetry::init(&telemetry).unwrap().metrics());
    let app = App::with_model(config, Model::arithmetic(DIMENSION), metrics.await.unwrap()).await.unwrap();
    let (grpc, admin, shutdown) = (app.grpc_address(), app.admin_address(), CancellationToken::new());
    let running = tokio::spawn(app.run(shutdown.clone()));
    let mut client = SearchServiceClient::connect(format!("http://{grpc}")).await.unwrap();

    let text = |text: &str| RerankDocument { document: Some(rerank_document::Document::Text(text.to_owned())) };
    let request = RerankRequest {
        query: "apple".to_owned(),
        documents: vec![text("bread"), text("apple")],
        rerank_mode: proto::RerankMode::CrossEncoder.into(),
        ..RerankRequest::default()
    };
    let response = client.rerank(request).await.unwrap().into_inner();
    assert_eq!(response.results.iter().map(|result| result.index).collect::<Vec<_>>(), [0, 1]);
    assert!(response.degraded);
    assert_eq!(response.rerank_steps[0].degraded_reason, "NOT_CONFIGURED");

    let query = Some(search_request::Query::Text("apple".to_owned()));
    let response = client.search(SearchRequest { query, ..SearchRequest::default() }).await.unwrap().into_inner();
    assert!(response.degraded, "the configured mode holds");
    let modes: Vec<_> = response.rerank_steps.iter().map(|step| step.mode()).collect();
    assert_eq!(modes, [proto::RerankMode::LateInteraction, proto::RerankMode::Llm]);

    let scraped = scrape(admin).await;
    for series in [
        "amalfa_rerank_degraded_total{mode=\"cross_encoder\",reason=\"NOT_CONFIGURED\"}",
        "amalfa_rerank_degraded_total{mode=\"llm\",reason=\"NOT_CONFIGURED\"}",
    ] {
        let value = scraped.lines().find_map(|line| line.strip_prefix(series)).unwrap();
        assert!(value.trim().parse::<f64>().unwrap() >= 1.0, "{series}{value}");
    }
    drop(client);
    shutdown.cancel();
    running.await.unwrap().unwrap();
}

async fn scrape(admin: SocketAddr) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(admin).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}
