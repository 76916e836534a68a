//! What the service says about a request: metrics, and the span tree that an OTLP receiver gets.

use std::collections::HashMap;

use amalfa::api::proto::search_request::Query;
use amalfa::api::proto::{BatchSearchRequest, RerankMode, SearchRequest};
use opentelemetry_proto::tonic::trace::v1::Span;
use tonic::Request;
use tonic::metadata::MetadataMap;

use crate::support::{Server, document, receiver, text_query};

/// Words that are in a document and in a query, and must be nowhere else.
const CANARIES: [&str; 2] = ["xylophone", "glockenspiel"];

#[tokio::test(flavor = "multi_thread")]
async fn a_search_moves_its_metrics_and_its_text_is_nowhere() {
    let server = Server::start().await;
    server.upsert(vec![document("a", "the xylophone canary document")]).await;
    server.find("glockenspiel canary query").await;
    let (status, metrics) = server.get("/metrics").await;
    assert_eq!(status, 200);
    for wanted in [
        r#"rpc_method="amalfa.v1.SearchService/Search""#,
        r#"rpc_status_code="OK""#,
        "rpc_server_call_duration_seconds_bucket",
        r#"amalfa_stage_duration_seconds_count{stage="retrieve",outcome="ok"}"#,
        "db_client_operation_duration_seconds_bucket",
        "db_client_connections",
        "process_resident_memory_bytes",
        "amalfa_jemalloc_allocated_bytes",
    ] {
        assert!(metrics.contains(wanted), "{wanted} is not in:\n{metrics}");
    }
    assert!(CANARIES.iter().all(|canary| !metrics.contains(canary)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_leaves_a_tree_of_spans_under_its_callers() {
    let server = Server::start().await;
    server.upsert(vec![document("a", "the xylophone canary document")]).await;
    let search =
        SearchRequest { rerank_mode: RerankMode::LateInteraction.into(), ..text_query("glockenspiel canary query") };
    let (trace, caller) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    call_within(&server, search, &format!("00-{trace}-{caller}-01")).await;
    let spans = spans_of(&server, trace).await;
    let by_name: HashMap<_, _> = spans.iter().map(|span| (span.name.as_str(), span)).collect();
    let root = by_name["amalfa.v1.SearchService/Search"];
    assert_eq!(hex(&root.parent_span_id), caller);
    for stage in ["embed", "retrieve", "lexical", "fuse", "hydrate", "rerank"] {
        assert_eq!(by_name[stage].parent_span_id, root.span_id, "{stage} is not right under the call");
    }
    let statements =
        [("SELECT passages", "lexical"), ("SELECT chunks, documents", "hydrate"), ("SELECT token_codes", "rerank")];
    for (statement, stage) in statements {
        assert_eq!(by_name[statement].parent_span_id, by_name[stage].span_id, "{statement} is not under {stage}");
    }
    let all = format!("{spans:?}");
    assert!(CANARIES.iter().all(|canary| !all.contains(canary)), "a text is in the spans");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_does_not_sample_is_not_traced() {
    let server = Server::start().await;
    let (unsampled, sampled) = ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa2");
    call_within(&server, text_query("zebra"), &format!("00-{unsampled}-00f067aa0ba902b7-00")).await;
    call_within(&server, text_query("zebra"), &format!("00-{sampled}-00f067aa0ba902b7-01")).await;
    // The later call's spans are there, so the earlier call's would be too.
    spans_of(&server, sampled).await;
    assert!(receiver().await.spans().iter().all(|span| hex(&span.trace_id) != unsampled));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_each_stage_is_in_the_answer_and_in_its_trailers_and_adds_up() {
    let server = Server::start().await;
    server.upsert(vec![document("a", "the xylophone canary document")]).await;
    let response = server.search().search(text_query("canary")).await.unwrap();
    let parts = server_timing(response.metadata());
    let names: Vec<_> = parts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["embed", "lexical", "retrieve", "fuse", "hydrate", "other", "total"]);
    let microseconds: Vec<_> = parts.iter().map(|(_, milliseconds)| (milliseconds * 1e3).round() as u64).collect();
    let (total_us, parts) = microseconds.split_last().unwrap();
    assert_eq!(parts.iter().sum::<u64>(), *total_us);

    let timings = response.into_inner().timings.unwrap();
    let nanoseconds = |time: Option<prost_types::Duration>| {
        let time = time.unwrap();
        time.seconds * 1_000_000_000 + i64::from(time.nanos)
    };
    let total = nanoseconds(timings.total);
    assert_eq!(timings.stages.iter().map(|stage| nanoseconds(stage.duration)).sum::<i64>(), total);
    assert!(u64::try_from(total).unwrap() / 1_000 <= total_us + 1, "the call is shorter than its handler");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_tells_the_stages_of_its_searches_and_a_failed_call_what_it_came_to() {
    let server = Server::start().await;
    server.upsert(vec![document("a", "the xylophone canary document")]).await;
    let searches = vec![text_query("canary"), text_query("document")];
    let response = server.search().batch_search(BatchSearchRequest { searches }).await.unwrap();
    assert_eq!(server_timing(response.metadata()).len(), 7);
    let stages = response.into_inner().timings.unwrap().stages;
    assert_eq!(stages.iter().filter(|stage| stage.stage == "embed").count(), 2, "{stages:?}");

    let unknown = Query::DocumentId("nobody".to_owned());
    let failed = server.search().search(SearchRequest { query: Some(unknown), ..SearchRequest::default() }).await;
    assert_eq!(server_timing(failed.unwrap_err().metadata())[0].0, "embed");
}

/// Returns the parts of `server-timing`, in milliseconds.
fn server_timing(metadata: &MetadataMap) -> Vec<(String, f64)> {
    let text = metadata.get("server-timing").expect("server-timing is there").to_str().unwrap();
    let part = |part: &str| part.split_once(";dur=").map(|(name, time)| (name.to_owned(), time.parse().unwrap()));
    text.split(", ").map(|text| part(text).unwrap()).collect()
}

async fn call_within(server: &Server, search: SearchRequest, parent: &str) {
    let mut request = Request::new(search);
    request.metadata_mut().insert("traceparent", parent.parse().unwrap());
    server.search().search(request).await.unwrap();
}

/// Waits for the call's span, which ends last, and returns the whole trace.
async fn spans_of(server: &Server, trace: &str) -> Vec<Span> {
    server.flush().await;
    let root = |span: &Span| hex(&span.trace_id) == trace && span.name.contains('/');
    let spans = receiver().await.wait_for(|spans| spans.iter().any(root)).await;
    spans.into_iter().filter(|span| hex(&span.trace_id) == trace).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
