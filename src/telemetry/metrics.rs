//! Every metric in one table, and one typed function to record each.
//!
//! The rest of the crate calls the functions of this file; names, labels, buckets and help stand in `table`, and nowhere
//! else. Names follow OpenTelemetry's semantic conventions v1.45 in Prometheus form where a convention exists; ours begin
//! with `amalfa_`.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};

mod catalogue;
mod cell;
mod family;
mod metric;
mod registry;
mod table;
mod text;

pub use catalogue::{json, markdown};
pub(super) use cell::{Samples, Value};
use family::Family;
pub(super) use family::series;
pub(super) use metric::OTHER;
pub use metric::{Buckets, Kind, Label, Metric, Stability, Values};
pub(super) use registry::{Sample, Snapshot, snapshot};
pub use table::ALL;
pub(super) use table::{RPC_ACTIVE, RPC_DURATION};
pub use text::TextFormat;
pub(super) use text::render;

static BUILD: Family<Gauge, 1> = Family::gauge(&table::BUILD_INFO);
static DATABASE_TIME: Family<Histogram, 2> = Family::histogram(&table::DATABASE_DURATION);
static ENGINE_BYTES: Family<Gauge, 0> = Family::gauge(&table::ENGINE_BYTES);
static ENGINE_SCANNED: Family<Counter, 0> = Family::counter(&table::ENGINE_SCANNED);
static ENGINE_VECTORS: Family<Gauge, 0> = Family::gauge(&table::ENGINE_VECTORS);
static EXPORT_DURATION: Family<Histogram, 1> = Family::histogram(&table::EXPORT_DURATION);
static EXPORT_POINTS: Family<Counter, 1> = Family::counter(&table::EXPORT_POINTS);
static EXPORT_SPANS: Family<Counter, 1> = Family::counter(&table::EXPORT_SPANS);
static EXPORT_WAITING: Family<Gauge, 0> = Family::gauge(&table::EXPORT_WAITING);
static HEALTH_DEGRADED: Family<Gauge, 1> = Family::gauge(&table::HEALTH_DEGRADED);
static HEAP: [Family<Gauge, 0>; 5] = [
    Family::gauge(&table::HEAP_ALLOCATED),
    Family::gauge(&table::HEAP_ACTIVE),
    Family::gauge(&table::HEAP_RESIDENT),
    Family::gauge(&table::HEAP_RETAINED),
    Family::gauge(&table::HEAP_METADATA),
];
static INGEST_CHUNKS: Family<Counter, 0> = Family::counter(&table::INGEST_CHUNKS);
static INGEST_DOCUMENTS: Family<Counter, 1> = Family::counter(&table::INGEST_DOCUMENTS);
static LABEL_OVERFLOWS: Family<Counter, 1> = Family::counter(&table::LABEL_OVERFLOWS);
static LLM_ATTEMPT: Family<Histogram, 1> = Family::histogram(&table::LLM_ATTEMPT);
static LLM_CIRCUIT: Family<Gauge, 1> = Family::gauge(&table::LLM_CIRCUIT);
static LATE_INTERACTION: Family<Counter, 1> = Family::counter(&table::LATE_INTERACTION);
static MODEL_CALL: Family<Histogram, 1> = Family::histogram(&table::MODEL_CALL);
static MODEL_QUEUE: Family<Gauge, 1> = Family::gauge(&table::MODEL_QUEUE);
static MODEL_TOKENS: Family<Counter, 1> = Family::counter(&table::MODEL_TOKENS);
static POOL_CONNECTIONS: Family<Gauge, 2> = Family::gauge(&table::POOL_CONNECTIONS);
static POOL_LIMIT: Family<Gauge, 1> = Family::gauge(&table::POOL_LIMIT);
static POOL_PENDING: Family<Gauge, 1> = Family::gauge(&table::POOL_PENDING);
static POOL_TIMEOUTS: Family<Counter, 1> = Family::counter(&table::POOL_TIMEOUTS);
static POOL_USE: Family<Histogram, 1> = Family::histogram(&table::POOL_USE);
static POOL_WAIT: Family<Histogram, 1> = Family::histogram(&table::POOL_WAIT);
static QUERY_CACHE: Family<Counter, 1> = Family::counter(&table::QUERY_CACHE);
static QUERY_CACHE_BYTES: Family<Gauge, 0> = Family::gauge(&table::QUERY_CACHE_BYTES);
static QUERY_CACHE_ENTRIES: Family<Gauge, 0> = Family::gauge(&table::QUERY_CACHE_ENTRIES);
static QUEUE_WAIT: Family<Histogram, 1> = Family::histogram(&table::QUEUE_WAIT);
static RERANK_COVERAGE: Family<Histogram, 1> = Family::histogram(&table::RERANK_COVERAGE);
static RERANK_DEGRADED: Family<Counter, 2> = Family::counter(&table::RERANK_DEGRADED);
static RERANK_PASSAGES: Family<Counter, 1> = Family::counter(&table::RERANK_PASSAGES);
static SERIES: Family<Gauge, 0> = Family::gauge(&table::SERIES);
static STAGE_TIME: Family<Histogram, 2> = Family::histogram(&table::STAGE_DURATION);
static STORE_CHUNKS: Family<Gauge, 0> = Family::gauge(&table::STORE_CHUNKS);
static STORE_DATABASE: Family<Gauge, 0> = Family::gauge(&table::STORE_DATABASE);
static STORE_DANGLING: Family<Gauge, 0> = Family::gauge(&table::STORE_DANGLING);
static STORE_DOCUMENTS: Family<Gauge, 0> = Family::gauge(&table::STORE_DOCUMENTS);
static STORE_EDGES: Family<Gauge, 0> = Family::gauge(&table::STORE_EDGES);
static STORE_WAL: Family<Gauge, 0> = Family::gauge(&table::STORE_WAL);
static TOKEN_CODES_DAMAGED: Family<Counter, 0> = Family::counter(&table::TOKEN_CODES_DAMAGED);
static VECTORS_DAMAGED: Family<Counter, 0> = Family::counter(&table::VECTORS_DAMAGED);
static VECTORS_UNSEARCHABLE: Family<Counter, 0> = Family::counter(&table::VECTORS_UNSEARCHABLE);

/// Counts a document by what became of it: `created`, `updated`, `unchanged`, `renamed`, `deleted`, `failed`.
pub fn ingest_document(outcome: &'static str) {
    INGEST_DOCUMENTS.with([outcome]).increment(1);
}

/// Counts chunks written.
pub fn ingest_chunks(count: u64) {
    INGEST_CHUNKS.with([]).increment(count);
}

/// Counts chunks without direction, which cannot be found.
pub fn vectors_unsearchable(count: u64) {
    VECTORS_UNSEARCHABLE.with([]).increment(count);
}

/// Counts stored vectors that were damaged and left out.
pub fn vectors_damaged(count: u64) {
    VECTORS_DAMAGED.with([]).increment(count);
}

/// Counts stored token codes that were damaged and not used.
pub fn token_codes_damaged(count: u64) {
    TOKEN_CODES_DAMAGED.with([]).increment(count);
}

/// Sets the number of texts waiting for a model session, by `priority`: `query`, `bulk`, `cross_encoder`.
pub fn model_queue_len(priority: &'static str, len: usize) {
    MODEL_QUEUE.with([priority]).set(len as f64);
}

/// Records how long a piece of work waited for a thread, by queue: `query`, `bulk`, `cross_encoder`, `search`.
pub fn queue_wait(queue: &'static str, time: Duration) {
    QUEUE_WAIT.with([queue]).record(time);
}

/// Counts tokens read by the model, by `operation`: `query`, `passage`, `late_interaction`, `cross_encoder`.
pub fn model_tokens(operation: &'static str, tokens: u64) {
    MODEL_TOKENS.with([operation]).increment(tokens);
}

/// Records one call of the model, by operation.
pub fn model_call(operation: &'static str, time: Duration) {
    MODEL_CALL.with([operation]).record(time);
}

/// Records what a reranker came to: how many passages it was to score, and how many it did.
pub fn rerank_step(mode: &'static str, wanted: u64, covered: u64) {
    RERANK_PASSAGES.with([mode]).increment(covered);
    let share = if wanted == 0 { 1.0 } else { covered as f64 / wanted as f64 };
    RERANK_COVERAGE.with([mode]).record(share);
}

/// Counts a step of a rerank that was not done in full, by the word of its reason.
pub fn rerank_degraded(mode: &'static str, reason: &'static str) {
    RERANK_DEGRADED.with([mode, reason]).increment(1);
}

/// Records one request to the language model's endpoint, by how it ended: `ok`, `timeout`, `unreachable`, `busy`,
/// `refused`, `failed`, `invalid`.
pub fn llm_attempt(outcome: &'static str, time: Duration) {
    LLM_ATTEMPT.with([outcome]).record(time);
}

/// Sets the state of the circuit breaker before the language model: `closed`, `half_open`, `open`.
pub fn llm_circuit(state: &'static str) {
    for word in table::CIRCUIT_STATES {
        LLM_CIRCUIT.with([word]).set(f64::from(u8::from(*word == state)));
    }
}

/// Counts a query by whether its vectors were there: `hit`, `miss`.
pub fn query_cache_request(result: &'static str) {
    QUERY_CACHE.with([result]).increment(1);
}

/// Sets what the query cache holds.
pub fn query_cache_state(entries: usize, bytes: usize) {
    QUERY_CACHE_ENTRIES.with([]).set(entries as f64);
    QUERY_CACHE_BYTES.with([]).set(bytes as f64);
}

/// Counts passages scored by late interaction, by `source`: `stored`, `computed`.
pub fn late_interaction_passages(source: &'static str, count: u64) {
    LATE_INTERACTION.with([source]).increment(count);
}

/// Sets what the engine holds.
pub fn engine_state(vectors: u64, bytes: u64) {
    ENGINE_VECTORS.with([]).set(vectors as f64);
    ENGINE_BYTES.with([]).set(bytes as f64);
}

/// Counts vectors compared with a query.
pub fn engine_scanned(vectors: u64) {
    ENGINE_SCANNED.with([]).increment(vectors);
}

/// Sets what the store holds.
pub fn store_state(
    documents: u64,
    chunks: u64,
    edges: u64,
    references_dangling: u64,
    database_bytes: u64,
    wal_bytes: u64,
) {
    STORE_DOCUMENTS.with([]).set(documents as f64);
    STORE_CHUNKS.with([]).set(chunks as f64);
    STORE_EDGES.with([]).set(edges as f64);
    STORE_DANGLING.with([]).set(references_dangling as f64);
    STORE_DATABASE.with([]).set(database_bytes as f64);
    STORE_WAL.with([]).set(wal_bytes as f64);
}

/// Sets whether a part of the service is degraded or down.
pub fn health_degraded(part: &'static str, degraded: bool) {
    HEALTH_DEGRADED.with([part]).set(f64::from(u8::from(degraded)));
}

/// Records one stage of a request by how it ended: `ok`, or a word of `Error::kind`.
pub(super) fn stage(stage: &'static str, outcome: &'static str, time: Duration) {
    STAGE_TIME.with([stage, outcome]).record(time);
}

/// Records one SQL statement; `error` is empty when it went well.
pub(super) fn database_operation(summary: &'static str, error: &'static str, time: Duration) {
    DATABASE_TIME.with([summary, error]).record(time);
}

/// Sets the connections of a pool.
pub(super) fn pool_connections(pool: &'static str, used: usize, idle: usize, limit: usize) {
    POOL_CONNECTIONS.with([pool, "used"]).set(used as f64);
    POOL_CONNECTIONS.with([pool, "idle"]).set(idle as f64);
    POOL_LIMIT.with([pool]).set(limit as f64);
}

/// Returns the gauge of callers waiting for a connection of a pool.
pub(super) fn pool_pending(pool: &'static str) -> Gauge {
    POOL_PENDING.with([pool])
}

/// Records how long a caller waited for a connection.
pub(super) fn pool_wait(pool: &'static str, time: Duration) {
    POOL_WAIT.with([pool]).record(time);
}

/// Records how long a connection was in use.
pub(super) fn pool_use(pool: &'static str, time: Duration) {
    POOL_USE.with([pool]).record(time);
}

/// Counts a caller that got no connection in time.
pub(super) fn pool_timeout(pool: &'static str) {
    POOL_TIMEOUTS.with([pool]).increment(1);
}

/// Counts ended spans: `exported`, `failed`, or `dropped` because too many waited.
pub(super) fn export_spans(outcome: &'static str, count: u64) {
    EXPORT_SPANS.with([outcome]).increment(count);
}

/// Records a push of so many series to the OTLP endpoint: `exported`, `failed`, `unwanted`.
pub(super) fn export_points(outcome: &'static str, count: u64, time: Duration) {
    EXPORT_POINTS.with([outcome]).increment(count);
    export_duration("metrics", time);
}

/// Records the time of one export, by signal: `traces`, `metrics`.
pub(super) fn export_duration(signal: &'static str, time: Duration) {
    EXPORT_DURATION.with([signal]).record(time);
}

/// Sets how many spans wait for their export, those under way included.
pub(super) fn export_waiting(count: usize) {
    EXPORT_WAITING.with([]).set(count as f64);
}

/// Counts a label's value that was folded.
fn label_overflow(metric: &'static str) {
    LABEL_OVERFLOWS.with([metric]).increment(1);
}

/// Sets how many series there are.
fn series_count(count: usize) {
    SERIES.with([]).set(count as f64);
}

/// Sets the heap gauges: allocated, active, resident, retained, metadata.
pub(super) fn heap(bytes: [u64; 5]) {
    for (family, bytes) in HEAP.iter().zip(bytes) {
        family.with([]).set(bytes as f64);
    }
}

/// Sets the version that runs, and makes the counters whose labels are known appear at zero, so that their first increment
/// is a rate too.
pub(super) fn start() {
    BUILD.with([env!("CARGO_PKG_VERSION")]).set(1.0);
    for family in [&INGEST_CHUNKS, &ENGINE_SCANNED, &TOKEN_CODES_DAMAGED, &VECTORS_DAMAGED, &VECTORS_UNSEARCHABLE] {
        family.with([]).increment(0);
    }
    let one_label = [
        &INGEST_DOCUMENTS,
        &LATE_INTERACTION,
        &MODEL_TOKENS,
        &POOL_TIMEOUTS,
        &QUERY_CACHE,
        &EXPORT_POINTS,
        &EXPORT_SPANS,
        &RERANK_PASSAGES,
    ];
    for family in one_label {
        for value in family.metric().closed_values() {
            family.with([value]).increment(0);
        }
    }
    for mode in table::RERANKERS {
        for reason in table::DEGRADATIONS {
            RERANK_DEGRADED.with([mode, reason]).increment(0);
        }
    }
}

#[cfg(test)]
pub(super) fn prometheus_text() -> String {
    render(TextFormat::Prometheus)
}

#[cfg(test)]
mod tests;
