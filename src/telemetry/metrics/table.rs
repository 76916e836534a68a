//! The table of metrics: the only place where a name, a label, a bucket or a help text stands.

use super::metric::{Buckets, Kind, Label, Metric, Stability};
use crate::domain::DegradationReason;
use crate::telemetry::{Stage, rpc, sql};

/// Seconds of a request or a stage: 100 µs steps at the bottom; 0.025, 0.05, 0.1, 0.25 and 0.5 are there for objectives,
/// which can only be measured exactly at a bound.
const REQUEST_SECONDS: Buckets = Buckets::new(&[
    0.0001, 0.0002, 0.0003, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05,
    0.075, 0.1, 0.15, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 30.0,
]);

/// Shares of a whole.
const SHARES: Buckets = Buckets::new(&[0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0]);

/// Seconds of a SQL statement or a pool's hand-over: an indexed read takes 10 µs, a busy lock seconds.
const DATABASE_SECONDS: Buckets = Buckets::new(&[
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
    5.0, 10.0,
]);

const STAGES: &[&str] = &Stage::WORDS;
const OUTCOMES: &[&str] =
    &["ok", "invalid", "not_found", "overloaded", "deadline", "cancelled", "setup", "unavailable", "internal"];
const POOLS: &[&str] = &["reader", "writer"];
const QUEUES: &[&str] = &["query", "bulk", "cross_encoder", "search"];
const OPERATIONS: &[&str] = &["query", "passage", "late_interaction", "cross_encoder"];
pub(super) const RERANKERS: &[&str] = &["late_interaction", "cross_encoder", "llm"];
pub(super) const DEGRADATIONS: &[&str] = &DegradationReason::WORDS;
pub(super) const CIRCUIT_STATES: &[&str] = &["closed", "half_open", "open"];
const LLM_OUTCOMES: &[&str] = &["ok", "timeout", "unreachable", "busy", "refused", "failed", "invalid"];
const DOCUMENT_OUTCOMES: &[&str] = &["created", "updated", "unchanged", "renamed", "deleted", "failed"];
const POOL: Label = Label::closed("db.client.connection.pool.name", POOLS);
const RERANKER: Label = Label::closed("mode", RERANKERS);
const OPERATION: Label = Label::closed("operation", OPERATIONS);

/// Makes a static of every row and the list of all: a metric that can be recorded is in the list, so it has help and,
/// being a histogram, buckets.
macro_rules! table {
    ($($row:ident: $name:literal, $otel_name:literal, $kind:expr, $unit:literal, $stability:ident, [$($label:expr),*],
        $help:literal;)*) => {
        $(pub(in crate::telemetry) static $row: Metric = Metric {
            name: $name,
            otel_name: $otel_name,
            kind: $kind,
            unit: $unit,
            stability: Stability::$stability,
            labels: &[$($label),*],
            help: $help,
        };)*

        /// Every metric that the service can export.
        pub static ALL: &[&Metric] = &[$(&$row),*];
    };
}

use Kind::{Counter, Gauge, Histogram};

#[rustfmt::skip] // one metric a paragraph: both names; kind, unit, stability; labels; help
table! {
    RPC_DURATION: "rpc_server_call_duration_seconds", "rpc.server.call.duration",
        Histogram(REQUEST_SECONDS), "s", Stable, [Label::fixed("rpc.system.name", "grpc"), Label::in_code("rpc.method"),
         Label::closed("rpc.status_code", &rpc::STATUSES), Label::closed("error.type", &rpc::STATUSES)],
        "Time from a call's headers to the end of its answer; error_type is set for the statuses that are the server's fault.";
    RPC_ACTIVE: "rpc_server_active_requests", "rpc.server.active_requests",
        Gauge, "", Development, [Label::fixed("rpc.system.name", "grpc"), Label::in_code("rpc.method")],
        "Calls under way.";

    STAGE_DURATION: "amalfa_stage_duration_seconds", "amalfa.stage.duration",
        Histogram(REQUEST_SECONDS), "s", Stable, [Label::closed("stage", STAGES), Label::closed("outcome", OUTCOMES)],
        "Time of one stage of a request, by how it ended; a dropped one counts as cancelled.";

    DATABASE_DURATION: "db_client_operation_duration_seconds", "db.client.operation.duration",
        Histogram(DATABASE_SECONDS), "s", Stable, [Label::fixed("db.system.name", "sqlite"), Label::in_code("db.query.summary"),
         Label::closed("error.type", &sql::ERROR_NAMES)],
        "Time of one SQL statement.";
    // OpenTelemetry's db.client.connection.count. As a gauge `…_count` would pass for a part of a histogram, and promtool
    // refuses it.
    POOL_CONNECTIONS: "db_client_connections", "db.client.connection.count",
        Gauge, "", Development, [POOL, Label::closed("db.client.connection.state", &["used", "idle"])],
        "Open connections, by state.";
    POOL_LIMIT: "db_client_connection_max", "db.client.connection.max",
        Gauge, "", Development, [POOL],
        "Connections that the pool may open.";
    POOL_PENDING: "db_client_connection_pending_requests", "db.client.connection.pending_requests",
        Gauge, "", Development, [POOL],
        "Callers waiting for a connection.";
    POOL_TIMEOUTS: "db_client_connection_timeouts_total", "db.client.connection.timeouts",
        Counter, "", Development, [POOL],
        "Callers that got no connection in time.";
    POOL_WAIT: "db_client_connection_wait_time_seconds", "db.client.connection.wait_time",
        Histogram(DATABASE_SECONDS), "s", Development, [POOL],
        "Time a caller waited for a connection.";
    POOL_USE: "db_client_connection_use_time_seconds", "db.client.connection.use_time",
        Histogram(DATABASE_SECONDS), "s", Development, [POOL],
        "Time a connection was out of the pool.";

    INGEST_DOCUMENTS: "amalfa_ingest_documents_total", "amalfa.ingest.documents",
        Counter, "", Stable, [Label::closed("outcome", DOCUMENT_OUTCOMES)],
        "Documents by what became of them.";
    INGEST_CHUNKS: "amalfa_ingest_chunks_total", "amalfa.ingest.chunks",
        Counter, "", Stable, [],
        "Chunks written.";
    VECTORS_UNSEARCHABLE: "amalfa_vectors_unsearchable_total", "amalfa.vectors.unsearchable",
        Counter, "", Development, [],
        "Chunks whose vector has no direction: they are stored and cannot be found.";
    TOKEN_CODES_DAMAGED: "amalfa_token_codes_damaged_total", "amalfa.token_codes.damaged",
        Counter, "", Development, [],
        "Stored token codes that were damaged; their passages are encoded anew for each late interaction.";
    VECTORS_DAMAGED: "amalfa_vectors_damaged_total", "amalfa.vectors.damaged",
        Counter, "", Development, [],
        "Stored vectors that were damaged and left out of the index.";

    MODEL_QUEUE: "amalfa_model_queue_length", "amalfa.model.queue_length",
        Gauge, "", Stable, [Label::closed("priority", &["query", "bulk", "cross_encoder"])],
        "Texts waiting for a model session: queries and bulk work for the embedding model, pairs for the cross-encoder.";
    MODEL_TOKENS: "amalfa_model_tokens_total", "amalfa.model.tokens",
        Counter, "", Stable, [OPERATION],
        "Tokens read by the model.";
    MODEL_CALL: "amalfa_model_call_duration_seconds", "amalfa.model.call_duration",
        Histogram(REQUEST_SECONDS), "s", Stable, [OPERATION],
        "Time of one call of the model, without the wait for a session.";

    QUEUE_WAIT: "amalfa_queue_wait_seconds", "amalfa.queue.wait",
        Histogram(DATABASE_SECONDS), "s", Development, [Label::closed("queue", QUEUES)],
        "Time that a piece of work waited for a thread: of the embedding model (query, bulk), of the cross-encoder, of the engine (search).";

    RERANK_PASSAGES: "amalfa_rerank_passages_total", "amalfa.rerank.passages",
        Counter, "", Development, [RERANKER],
        "Passages that a reranker scored, each with its query.";
    RERANK_COVERAGE: "amalfa_rerank_coverage_ratio", "amalfa.rerank.coverage",
        Histogram(SHARES), "1", Development, [RERANKER],
        "Share of the passages asked for that a step of a rerank scored.";
    RERANK_DEGRADED: "amalfa_rerank_degraded_total", "amalfa.rerank.degraded",
        Counter, "", Development, [RERANKER, Label::closed("reason", DEGRADATIONS)],
        "Steps of a rerank that were not done in full, by the reason that the response gives.";
    LLM_ATTEMPT: "amalfa_llm_attempt_duration_seconds", "amalfa.llm.attempt_duration",
        Histogram(REQUEST_SECONDS), "s", Development, [Label::closed("outcome", LLM_OUTCOMES)],
        "Time of one request to the language model's endpoint, retries apart.";
    LLM_CIRCUIT: "amalfa_llm_circuit_state", "amalfa.llm.circuit_state",
        Gauge, "", Development, [Label::closed("state", CIRCUIT_STATES)],
        "1 for the state that the circuit breaker before the language model is in, 0 for the others.";
    LATE_INTERACTION: "amalfa_late_interaction_passages_total", "amalfa.late_interaction.passages",
        Counter, "", Development, [Label::closed("source", &["stored", "computed"])],
        "Passages scored by late interaction, from their stored codes or, far slower, with the model.";
    QUERY_CACHE: "amalfa_query_cache_requests_total", "amalfa.query_cache.requests",
        Counter, "", Development, [Label::closed("result", &["hit", "miss"])],
        "Queries asked for, by whether their vectors were there or the model had to make them.";
    QUERY_CACHE_ENTRIES: "amalfa_query_cache_entries", "amalfa.query_cache.entries",
        Gauge, "", Development, [],
        "Queries whose vectors are kept.";
    QUERY_CACHE_BYTES: "amalfa_query_cache_bytes", "amalfa.query_cache",
        Gauge, "By", Development, [],
        "Memory of the queries' vectors that are kept.";

    ENGINE_VECTORS: "amalfa_engine_vectors", "amalfa.engine.vectors",
        Gauge, "", Stable, [],
        "Vectors that can be found.";
    ENGINE_BYTES: "amalfa_engine_bytes", "amalfa.engine",
        Gauge, "By", Stable, [],
        "Memory that the engine holds for its vectors.";
    ENGINE_SCANNED: "amalfa_engine_scanned_vectors_total", "amalfa.engine.scanned_vectors",
        Counter, "", Development, [],
        "Vectors compared with a query.";

    STORE_DOCUMENTS: "amalfa_store_documents", "amalfa.store.documents",
        Gauge, "", Stable, [], "Documents stored.";
    STORE_CHUNKS: "amalfa_store_chunks", "amalfa.store.chunks",
        Gauge, "", Stable, [], "Chunks stored.";
    STORE_EDGES: "amalfa_store_edges", "amalfa.store.edges",
        Gauge, "", Stable, [], "Edges between documents.";
    STORE_DANGLING: "amalfa_store_references_dangling", "amalfa.store.references_dangling",
        Gauge, "", Development, [],
        "References that name no document of the index.";
    STORE_DATABASE: "amalfa_store_database_bytes", "amalfa.store.database",
        Gauge, "By", Stable, [], "Size of the database file.";
    STORE_WAL: "amalfa_store_wal_bytes", "amalfa.store.wal",
        Gauge, "By", Stable, [],
        "Size of the write-ahead log; one that only grows has a reader that never ends.";

    HEALTH_DEGRADED: "amalfa_health_degraded", "amalfa.health.degraded",
        Gauge, "", Stable, [Label::in_code("part")],
        "1 when a part of the service is degraded or down, 0 when it serves.";
    BUILD_INFO: "amalfa_build_info", "amalfa.build.info",
        Gauge, "", Stable, [Label::in_code("version")],
        "Always 1; the label says which version runs.";
    EXPORT_SPANS: "amalfa_telemetry_export_spans_total", "amalfa.telemetry.export_spans",
        Counter, "", Development, [Label::closed("outcome", &["exported", "failed", "dropped"])],
        "Spans that ended: taken by the OTLP endpoint, not taken, or dropped because too many waited.";
    EXPORT_WAITING: "amalfa_telemetry_export_waiting_spans", "amalfa.telemetry.export_waiting_spans",
        Gauge, "", Development, [],
        "Spans that wait for their export or are being sent.";

    EXPORT_POINTS: "amalfa_telemetry_export_points_total", "amalfa.telemetry.export_points",
        Counter, "", Development, [Label::closed("outcome", &["exported", "failed", "unwanted"])],
        "Series pushed to the OTLP endpoint, by whether it took them; unwanted is an endpoint that takes only traces.";
    EXPORT_DURATION: "amalfa_telemetry_export_duration_seconds", "amalfa.telemetry.export_duration",
        Histogram(REQUEST_SECONDS), "s", Development, [Label::closed("signal", &["traces", "metrics"])],
        "Time of one export to the OTLP endpoint.";
    LABEL_OVERFLOWS: "amalfa_telemetry_label_overflows_total", "amalfa.telemetry.label_overflows",
        Counter, "", Development, [Label::in_code("metric")],
        "Values of labels that were folded into _OTHER: one that its set lacks, or one more than a metric may have.";
    SERIES: "amalfa_telemetry_series", "amalfa.telemetry.series",
        Gauge, "", Development, [],
        "Series of all metrics, a histogram's as one, at the reading before this.";

    HEAP_ALLOCATED: "amalfa_jemalloc_allocated_bytes", "amalfa.jemalloc.allocated",
        Gauge, "By", Development, [],
        "Bytes that the process asked for and has not given back, those of C code included.";
    HEAP_ACTIVE: "amalfa_jemalloc_active_bytes", "amalfa.jemalloc.active",
        Gauge, "By", Development, [],
        "Bytes of the pages that hold allocations; the distance to allocated is fragmentation.";
    HEAP_RESIDENT: "amalfa_jemalloc_resident_bytes", "amalfa.jemalloc.resident",
        Gauge, "By", Development, [],
        "Bytes of the allocator's pages that may be in memory, an upper bound of its share of the resident set.";
    HEAP_RETAINED: "amalfa_jemalloc_retained_bytes", "amalfa.jemalloc.retained",
        Gauge, "By", Development, [],
        "Bytes of address space kept for later without memory behind it.";
    HEAP_METADATA: "amalfa_jemalloc_metadata_bytes", "amalfa.jemalloc.metadata",
        Gauge, "By", Development, [],
        "Bytes that the allocator needs for itself.";

    // Recorded by metrics-process under the names that every Prometheus client uses.
    PROCESS_CPU: "process_cpu_seconds_total", "process.cpu.time",
        Counter, "s", Stable, [], "User and system CPU time, in whole seconds.";
    PROCESS_RESIDENT: "process_resident_memory_bytes", "process.memory.usage",
        Gauge, "By", Stable, [], "Resident set size.";
    PROCESS_VIRTUAL: "process_virtual_memory_bytes", "process.memory.virtual",
        Gauge, "By", Stable, [], "Virtual memory size.";
    PROCESS_VIRTUAL_MAX: "process_virtual_memory_max_bytes", "process.memory.virtual.max",
        Gauge, "By", Stable, [], "Limit of the virtual memory.";
    PROCESS_START: "process_start_time_seconds", "process.start_time",
        Gauge, "s", Stable, [], "When the process started, since the Unix epoch.";
    PROCESS_FDS: "process_open_fds", "process.unix.file_descriptor.count",
        Gauge, "", Stable, [], "Open file descriptors.";
    PROCESS_FDS_MAX: "process_max_fds", "process.unix.file_descriptor.max",
        Gauge, "", Stable, [], "File descriptors that may be open.";
    PROCESS_THREADS: "process_threads", "process.thread.count",
        Gauge, "", Stable, [], "Threads.";
}
