//! The table against what is rendered.

use std::collections::BTreeSet;

use super::*;

/// The names that have a `# TYPE` line in a text, with the type.
fn families(text: &str) -> BTreeSet<(String, String)> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    lines.filter_map(|line| line.split_once(' ')).map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}

/// Records something under every row of the table.
fn record_everything() {
    describe();
    let time = Duration::from_micros(250);
    ingest_document("created");
    ingest_chunks(1);
    vectors_unsearchable(1);
    vectors_damaged(1);
    token_codes_damaged(1);
    late_interaction_passages("stored", 1);
    query_cache_request("hit");
    query_cache_state(1, 1);
    model_queue_len("query", 1);
    model_tokens("query", 1);
    model_call("query", time);
    rerank_step("llm", 15, 5);
    rerank_degraded("llm", "DEADLINE");
    llm_attempt("ok", time);
    llm_circuit("closed");
    engine_state(1, 1);
    engine_scanned(1);
    store_state(1, 1, 1, 1, 1, 1);
    health_degraded("model", true);
    stage("embed", "ok", time);
    database_operation("SELECT chunks", "", time);
    pool_connections("reader", 1, 1, 4);
    pool_pending("reader").set(0.0);
    pool_wait("reader", time);
    pool_use("reader", time);
    pool_timeout("reader");
    export_spans("exported", 1);
    series::<Gauge>(&RPC_ACTIVE, &["amalfa.v1.SearchService/Search"]).set(0.0);
    series::<Histogram>(&RPC_DURATION, &["amalfa.v1.SearchService/Search", "OK", ""]).record(time);
}

#[test]
fn what_is_exported_and_what_the_table_has_are_the_same() {
    record_everything();
    let exported = families(&render());
    let table = ALL.iter().map(|metric| {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        (metric.name.to_owned(), kind.to_owned())
    });
    assert_eq!(exported, table.collect());
}

#[test]
fn every_metric_has_help_and_a_name_by_the_rules() {
    let mut names = BTreeSet::new();
    for Metric { name, kind, unit, help, .. } in ALL {
        assert!(names.insert(name), "{name} is there twice");
        assert!(help.ends_with('.') && help.len() > 5, "{name}");
        assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
        let suffix = match *unit {
            "s" => "_seconds",
            "By" => "_bytes",
            _ => "",
        };
        assert!(name.trim_end_matches("_total").ends_with(suffix), "{name} is in {unit}");
    }
}

#[test]
fn every_histogram_has_ascending_buckets_with_the_bounds_of_objectives() {
    for metric in ALL {
        if let Kind::Histogram(buckets) = metric.kind {
            assert!(buckets.len() > 5 && buckets.is_sorted_by(|a, b| a < b), "{}", metric.name);
            assert!([0.05, 0.1, 0.25, 0.5, 1.0].iter().all(|bound| buckets.contains(bound)), "{}", metric.name);
        }
    }
}

#[test]
fn a_value_outside_its_closed_set_is_folded() {
    model_queue_len("urgent", 7);
    assert!(render().contains("amalfa_model_queue_length{priority=\"_OTHER\"} 7"));
}

#[test]
fn known_counters_are_there_from_the_start() {
    describe();
    assert!(render().contains("amalfa_ingest_documents_total{outcome=\"failed\"} "));
}

#[test]
fn promtool_is_content() {
    use std::io::Write;
    use std::process::{Command, Stdio};
    record_everything();
    let child =
        Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let Ok(mut child) = child else {
        eprintln!("SKIPPED: promtool is not installed (Debian: apt-get install prometheus)");
        return;
    };
    child.stdin.take().unwrap().write_all(render().as_bytes()).unwrap();
    let checked = child.wait_with_output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
