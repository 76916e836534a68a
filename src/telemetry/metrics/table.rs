//! The table of metrics: the only place where a name, a label, a bucket or a help text stands.

use crate::domain::DegradationReason;
use crate::telemetry::{Stage, rpc, sql};

/// A metric as it appears on `/metrics`.
#[derive(Debug)]
pub struct Metric {
    /// The name, unit last.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// The unit, empty for plain numbers.
    pub unit: &'static str,
    /// The labels, in the order in which they are recorded.
    pub labels: &'static [Label],
    /// One sentence for the person who reads the dashboard.
    pub help: &'static str,
}

/// What a metric counts with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Upper bounds of the buckets, ascending. There is no histogram without: the recorder would make a summary of it.
    Histogram(&'static [f64]),
}

/// A label of a metric.
#[derive(Debug)]
pub struct Label {
    /// Its name.
    pub key: &'static str,
    /// What it can be.
    pub values: Values,
}

/// What a label can be. Nothing that a caller sends is ever a label's value.
#[derive(Debug)]
pub enum Values {
    /// The same on every series.
    Fixed(&'static str),
    /// One of these; anything else is folded into `_OTHER`. A value may be left out.
    Closed(&'static [&'static str]),
    /// A word written in the code, such as the summary of a SQL statement or a method of the API.
    InCode,
}

/// What stands for a value outside its closed set.
pub(in crate::telemetry) const OTHER: &str = "_OTHER";

impl Metric {
    /// Returns the values of the closed labels, in order.
    pub(super) fn closed_values(&self) -> impl Iterator<Item = &'static str> {
        self.labels
            .iter()
            .flat_map(|label| match label.values {
                Values::Closed(values) => values,
                Values::Fixed(_) | Values::InCode => &[],
            })
            .copied()
    }
}

impl Label {
    const fn closed(key: &'static str, values: &'static [&'static str]) -> Self {
        Self { key, values: Values::Closed(values) }
    }

    const fn fixed(key: &'static str, value: &'static str) -> Self {
        Self { key, values: Values::Fixed(value) }
    }

    const fn in_code(key: &'static str) -> Self {
        Self { key, values: Values::InCode }
    }
}

/// Seconds of a request or a stage: 100 µs steps at the bottom; 0.025, 0.05, 0.1, 0.25 and 0.5 are there for objectives,
/// which can only be measured exactly at a bound.
const REQUEST_SECONDS: &[f64] = &[
    0.0001, 0.0002, 0.0003, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05,
    0.075, 0.1, 0.15, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Shares of a whole.
const SHARES: &[f64] = &[0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0];

/// Seconds of a SQL statement or a pool's hand-over: an indexed read takes 10 µs, a busy lock seconds.
const DATABASE_SECONDS: &[f64] = &[
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
    5.0, 10.0,
];

const STAGES: &[&str] = &Stage::WORDS;
const OUTCOMES: &[&str] =
    &["ok", "invalid", "not_found", "overloaded", "deadline", "cancelled", "setup", "unavailable", "internal"];
const POOLS: &[&str] = &["reader", "writer"];
const OPERATIONS: &[&str] = &["query", "passage", "late_interaction", "cross_encoder"];
pub(super) const RERANKERS: &[&str] = &["late_interaction", "cross_encoder", "llm"];
pub(super) const DEGRADATIONS: &[&str] = &DegradationReason::WORDS;
pub(super) const CIRCUIT_STATES: &[&str] = &["closed", "half_open", "open"];
const LLM_OUTCOMES: &[&str] = &["ok", "timeout", "unreachable", "busy", "refused", "failed", "invalid"];
const DOCUMENT_OUTCOMES: &[&str] = &["created", "updated", "unchanged", "renamed", "deleted", "failed"];
const POOL: Label = Label::closed("db_client_connection_pool_name", POOLS);
const RERANKER: Label = Label::closed("mode", RERANKERS);
const OPERATION: Label = Label::closed("operation", OPERATIONS);

/// Makes a static of every row and the list of all: a metric that can be recorded is in the list, so it has help and,
/// being a histogram, buckets.
macro_rules! table {
    ($($row:ident: $name:literal, $kind:expr, $unit:literal, [$($label:expr),*], $help:literal;)*) => {
        $(pub(in crate::telemetry) static $row: Metric =
            Metric { name: $name, kind: $kind, unit: $unit, labels: &[$($label),*], help: $help };)*

        /// Every metric that the service can export.
        pub static ALL: &[&Metric] = &[$(&$row),*];
    };
}

use Kind::{Counter, Gauge, Histogram};

#[rustfmt::skip] // one metric a paragraph: name, kind, unit; labels; help
table! {
    RPC_DURATION: "rpc_server_call_duration_seconds", Histogram(REQUEST_SECONDS), "s",
        [Label::fixed("rpc_system_name", "grpc"), Label::in_code("rpc_method"),
         Label::closed("rpc_status_code", &rpc::STATUSES), Label::closed("error_type", &rpc::STATUSES)],
        "Time from a call's headers to the end of its answer; error_type is set for the statuses that are the server's fault.";
    RPC_ACTIVE: "rpc_server_active_requests", Gauge, "",
        [Label::fixed("rpc_system_name", "grpc"), Label::in_code("rpc_method")],
        "Calls under way.";

    STAGE_DURATION: "amalfa_stage_duration_seconds", Histogram(REQUEST_SECONDS), "s",
        [Label::closed("stage", STAGES), Label::closed("outcome", OUTCOMES)],
        "Time of one stage of a request, by how it ended; a dropped one counts as cancelled.";

    DATABASE_DURATION: "db_client_operation_duration_seconds", Histogram(DATABASE_SECONDS), "s",
        [Label::fixed("db_system_name", "sqlite"), Label::in_code("db_query_summary"),
         Label::closed("error_type", &sql::ERROR_NAMES)],
        "Time of one SQL statement.";
    // OpenTelemetry's db.client.connection.count. As a gauge `…_count` would pass for a part of a histogram, and promtool
    // refuses it.
    POOL_CONNECTIONS: "db_client_connections", Gauge, "",
        [POOL, Label::closed("db_client_connection_state", &["used", "idle"])],
        "Open connections, by state.";
    POOL_LIMIT: "db_client_connection_limit", Gauge, "", [POOL],
        "Connections that the pool may open.";
    POOL_PENDING: "db_client_connection_pending_requests", Gauge, "", [POOL],
        "Callers waiting for a connection.";
    POOL_TIMEOUTS: "db_client_connection_timeouts_total", Counter, "", [POOL],
        "Callers that got no connection in time.";
    POOL_WAIT: "db_client_connection_wait_time_seconds", Histogram(DATABASE_SECONDS), "s", [POOL],
        "Time a caller waited for a connection.";
    POOL_USE: "db_client_connection_use_time_seconds", Histogram(DATABASE_SECONDS), "s", [POOL],
        "Time a connection was out of the pool.";

    INGEST_DOCUMENTS: "amalfa_ingest_documents_total", Counter, "", [Label::closed("outcome", DOCUMENT_OUTCOMES)],
        "Documents by what became of them.";
    INGEST_CHUNKS: "amalfa_ingest_chunks_total", Counter, "", [],
        "Chunks written.";
    VECTORS_UNSEARCHABLE: "amalfa_vectors_unsearchable_total", Counter, "", [],
        "Chunks whose vector has no direction: they are stored and cannot be found.";
    TOKEN_CODES_DAMAGED: "amalfa_token_codes_damaged_total", Counter, "", [],
        "Stored token codes that were damaged; their passages are encoded anew for each late interaction.";
    VECTORS_DAMAGED: "amalfa_vectors_damaged_total", Counter, "", [],
        "Stored vectors that were damaged and left out of the index.";

    MODEL_QUEUE: "amalfa_model_queue_length", Gauge, "", [Label::closed("priority", &["query", "bulk", "cross_encoder"])],
        "Texts waiting for a model session: queries and bulk work for the embedding model, pairs for the cross-encoder.";
    MODEL_TOKENS: "amalfa_model_tokens_total", Counter, "", [OPERATION],
        "Tokens read by the model.";
    MODEL_CALL: "amalfa_model_call_duration_seconds", Histogram(REQUEST_SECONDS), "s", [OPERATION],
        "Time of one call of the model, without the wait for a session.";

    RERANK_PASSAGES: "amalfa_rerank_passages_total", Counter, "", [RERANKER],
        "Passages that a reranker scored, each with its query.";
    RERANK_COVERAGE: "amalfa_rerank_coverage_ratio", Histogram(SHARES), "", [RERANKER],
        "Share of the passages asked for that a step of a rerank scored.";
    RERANK_DEGRADED: "amalfa_rerank_degraded_total", Counter, "",
        [RERANKER, Label::closed("reason", DEGRADATIONS)],
        "Steps of a rerank that were not done in full, by the reason that the response gives.";
    LLM_ATTEMPT: "amalfa_llm_attempt_duration_seconds", Histogram(REQUEST_SECONDS), "s",
        [Label::closed("outcome", LLM_OUTCOMES)],
        "Time of one request to the language model's endpoint, retries apart.";
    LLM_CIRCUIT: "amalfa_llm_circuit_state", Gauge, "", [Label::closed("state", CIRCUIT_STATES)],
        "1 for the state that the circuit breaker before the language model is in, 0 for the others.";
    LATE_INTERACTION: "amalfa_late_interaction_passages_total", Counter, "",
        [Label::closed("source", &["stored", "computed"])],
        "Passages scored by late interaction, from their stored codes or, far slower, with the model.";
    QUERY_CACHE: "amalfa_query_cache_requests_total", Counter, "", [Label::closed("result", &["hit", "miss"])],
        "Queries asked for, by whether their vectors were there or the model had to make them.";
    QUERY_CACHE_ENTRIES: "amalfa_query_cache_entries", Gauge, "", [],
        "Queries whose vectors are kept.";
    QUERY_CACHE_BYTES: "amalfa_query_cache_bytes", Gauge, "By", [],
        "Memory of the queries' vectors that are kept.";

    ENGINE_VECTORS: "amalfa_engine_vectors", Gauge, "", [],
        "Vectors that can be found.";
    ENGINE_BYTES: "amalfa_engine_bytes", Gauge, "By", [],
        "Memory that the engine holds for its vectors.";
    ENGINE_SCANNED: "amalfa_engine_scanned_vectors_total", Counter, "", [],
        "Vectors compared with a query.";

    STORE_DOCUMENTS: "amalfa_store_documents", Gauge, "", [], "Documents stored.";
    STORE_CHUNKS: "amalfa_store_chunks", Gauge, "", [], "Chunks stored.";
    STORE_EDGES: "amalfa_store_edges", Gauge, "", [], "Edges between documents.";
    STORE_DANGLING: "amalfa_store_references_dangling", Gauge, "", [],
        "References that name no document of the index.";
    STORE_DATABASE: "amalfa_store_database_bytes", Gauge, "By", [], "Size of the database file.";
    STORE_WAL: "amalfa_store_wal_bytes", Gauge, "By", [],
        "Size of the write-ahead log; one that only grows has a reader that never ends.";

    HEALTH_DEGRADED: "amalfa_health_degraded", Gauge, "", [Label::in_code("part")],
        "1 when a part of the service is degraded or down, 0 when it serves.";
    BUILD_INFO: "amalfa_build_info", Gauge, "", [Label::in_code("version")],
        "Always 1; the label says which version runs.";
    EXPORT_SPANS: "amalfa_telemetry_export_spans_total", Counter, "", [Label::closed("outcome", &["exported", "failed"])],
        "Spans given to the OTLP endpoint, by whether it took them.";

    HEAP_ALLOCATED: "amalfa_jemalloc_allocated_bytes", Gauge, "By", [],
        "Bytes that the process asked for and has not given back, those of C code included.";
    HEAP_ACTIVE: "amalfa_jemalloc_active_bytes", Gauge, "By", [],
        "Bytes of the pages that hold allocations; the distance to allocated is fragmentation.";
    HEAP_RESIDENT: "amalfa_jemalloc_resident_bytes", Gauge, "By", [],
        "Bytes of the allocator's pages that may be in memory, an upper bound of its share of the resident set.";
    HEAP_RETAINED: "amalfa_jemalloc_retained_bytes", Gauge, "By", [],
        "Bytes of address space kept for later without memory behind it.";
    HEAP_METADATA: "amalfa_jemalloc_metadata_bytes", Gauge, "By", [],
        "Bytes that the allocator needs for itself.";

    // Recorded by metrics-process under the names that every Prometheus client uses.
    PROCESS_CPU: "process_cpu_seconds_total", Counter, "s", [], "User and system CPU time, in whole seconds.";
    PROCESS_RESIDENT: "process_resident_memory_bytes", Gauge, "By", [], "Resident set size.";
    PROCESS_VIRTUAL: "process_virtual_memory_bytes", Gauge, "By", [], "Virtual memory size.";
    PROCESS_VIRTUAL_MAX: "process_virtual_memory_max_bytes", Gauge, "By", [], "Limit of the virtual memory.";
    PROCESS_START: "process_start_time_seconds", Gauge, "s", [], "When the process started, since the Unix epoch.";
    PROCESS_FDS: "process_open_fds", Gauge, "", [], "Open file descriptors.";
    PROCESS_FDS_MAX: "process_max_fds", Gauge, "", [], "File descriptors that may be open.";
    PROCESS_THREADS: "process_threads", Gauge, "", [], "Threads.";
}
