//! What the service says about a request: metrics, and the span tree that an OTLP receiver gets.

use std::collections::HashMap;

use amalfa::api::proto::{RerankMode, SearchRequest};
use opentelemetry_proto::tonic::trace::v1::Span;
use tonic::Request;

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
