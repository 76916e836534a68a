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
    start();
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
    queue_wait("search", time);
    label_overflow("amalfa_store_documents");
    series_count(1);
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
    export_points("exported", 1, time);
    export_waiting(0);
    series::<Gauge>(&RPC_ACTIVE, &["amalfa.v1.SearchService/Search"]).set(0.0);
    series::<Histogram>(&RPC_DURATION, &["amalfa.v1.SearchService/Search", "OK", ""]).record(time);
}

#[test]
fn what_is_exported_and_what_the_table_has_are_the_same() {
    record_everything();
    let exported = families(&prometheus_text());
    let table = ALL.iter().map(|metric| (metric.name.to_owned(), metric.kind.as_str().to_owned()));
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
            "1" => "_ratio",
            _ => "",
        };
        assert!(name.trim_end_matches("_total").ends_with(suffix), "{name} is in {unit}");
    }
}

/// The rule of translation that collectors follow, but for the process, which Prometheus names in its own way, and the one
/// that promtool refuses.
#[test]
fn both_names_of_a_metric_are_one_name_by_the_rules() {
    for Metric { name, otel_name, kind, unit, .. } in ALL {
        if name.starts_with("process_") || *name == "db_client_connections" {
            continue;
        }
        let suffix = match *unit {
            "s" => "_seconds",
            "By" => "_bytes",
            "1" => "_ratio",
            _ => "",
        };
        let total = if *kind == Kind::Counter { "_total" } else { "" };
        assert_eq!(*name, format!("{}{suffix}{total}", otel_name.replace('.', "_")));
    }
}

#[test]
fn every_histogram_has_buckets_with_the_bounds_of_objectives() {
    for metric in ALL {
        if let Kind::Histogram(buckets) = metric.kind {
            let buckets = buckets.bounds();
            assert!(buckets.len() > 5, "{}", metric.name);
            assert!([0.05, 0.1, 0.25, 0.5, 1.0].iter().all(|bound| buckets.contains(bound)), "{}", metric.name);
        }
    }
}

#[test]
fn a_value_outside_its_closed_set_is_folded() {
    model_queue_len("urgent", 7);
    let text = prometheus_text();
    assert!(text.contains("amalfa_model_queue_length{priority=\"_OTHER\"} 7"), "{text}");
    assert!(text.contains("amalfa_telemetry_label_overflows_total{metric=\"amalfa_model_queue_length\"} "), "{text}");
}

#[test]
fn known_counters_are_there_from_the_start() {
    start();
    assert!(prometheus_text().contains("amalfa_ingest_documents_total{outcome=\"failed\"} "));
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
    child.stdin.take().unwrap().write_all(prometheus_text().as_bytes()).unwrap();
    let checked = child.wait_with_output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
