//! The command line as people type it: real files, the bundled model, exit codes, and bad input of every kind.

#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// A folder with a database of its own, and the binary to run in it.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_amalfa"));
        command.current_dir(self.path()).args(arguments).env("AMALFA_MODEL_SESSIONS", "1");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must succeed and returns the JSON that it prints.
    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Ingests `docs` and returns the report and the exit code.
    fn ingest(&self) -> (Value, i32) {
        let output = self.run(&["ingest", "docs", "--json"]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {stderr}"));
        (report, output.status.code().unwrap())
    }

    fn find(&self, query: &str) -> Vec<String> {
        let answer = self.json(&["search", query, "--json"]);
        answer["hits"].as_array().unwrap().iter().map(|hit| hit["source"].as_str().unwrap().to_owned()).collect()
    }
}

fn error(output: &Output) -> String {
    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
}

fn cooking() -> Place {
    let place = Place::new();
    place.write(
        "docs/soup.md",
        "---\ntags: [food]\ndate: 2026-01-02\n---\n# Onion soup\n\nSimmer the onions slowly in stock.",
    );
    place.write(
        "docs/rust/ownership.md",
        "# Ownership\n\nEach value has one owner; see [soup](../soup.md) and [[Nowhere]].",
    );
    place.write("docs/scrape.md", "# Scraping\n\nPrometheus polls its targets for metrics every few seconds.");
    place
}

#[test]
fn ingest_then_search_finds_the_page_and_the_second_ingest_embeds_nothing() {
    let place = cooking();
    let (report, code) = place.ingest();
    assert_eq!((report["created"].as_u64(), code), (Some(3), 0), "{report}");
    assert_eq!((report["edges"].as_u64(), report["references_dangling"].as_u64()), (Some(1), Some(1)), "{report}");
    assert_eq!(place.find("how often are metrics collected")[0], "docs/scrape.md");
    let (again, code) = place.ingest();
    assert_eq!((again["unchanged"].as_u64(), again["embedded"].as_u64(), code), (Some(3), Some(0), 0), "{again}");
}

#[test]
fn edits_renames_and_deletions_show_in_the_next_search() {
    let place = cooking();
    place.ingest();
    place.write("docs/soup.md", "# Lighthouse\n\nA lighthouse warns ships at night.");
    fs::rename(place.path().join("docs/scrape.md"), place.path().join("docs/polling.md")).unwrap();
    fs::remove_file(place.path().join("docs/rust/ownership.md")).unwrap();
    let (report, _) = place.ingest();
    let count = |name: &str| report[name].as_u64().unwrap();
    assert_eq!((count("updated"), count("renamed"), count("deleted"), count("embedded")), (1, 1, 1, 1), "{report}");
    assert_eq!(place.find("warning for ships")[0], "docs/soup.md");
    assert_eq!(place.find("how often are metrics collected")[0], "docs/polling.md");
    assert!(!place.find("who owns a value").iter().any(|source| source.contains("ownership")));
}

#[test]
fn search_json_has_hits_and_timings_and_filters_work() {
    let place = cooking();
    place.ingest();
    let answer =
        place.json(&["search", "soup", "--json", "--filter", "date>=2026-01-01", "--filter", "metadata.tags=food"]);
    let hits = answer["hits"].as_array().unwrap();
    assert_eq!(hits.len(), 1);
    for key in ["id", "score", "title", "source"] {
        assert!(!hits[0][key].is_null(), "{key} is missing in {}", hits[0]);
    }
    assert!(answer["timings"]["embed_ms"].as_f64().unwrap() > 0.0);
    let reranked = place.json(&["search", "soup", "--json", "--rerank", "late_interaction", "--explain"]);
    assert!(reranked["hits"][0]["explanation"]["reranked"][0]["score"].is_number());
    let ranking =
        place.json(&["rerank", "how to cook onions", "--json", "--document", "a stone wall", "--id", "docs/soup.md"]);
    assert_eq!(ranking["results"][0]["id"], "docs/soup.md");
    let stats = place.json(&["stats", "--json"]);
    assert_eq!(stats["store"]["documents"], 3);
}

#[test]
fn json_lines_keep_their_ids_and_a_bad_line_is_reported() {
    let place = Place::new();
    let corpus = "{\"_id\": \"7\", \"title\": \"Zebra\", \"text\": \"A striped animal.\"}\nnot json\n{\"_id\": \"8\", \"text\": \"A harbour.\"}\n";
    place.write("docs/corpus.jsonl", corpus);
    let (report, code) = place.ingest();
    assert_eq!((report["created"].as_u64(), code), (Some(2), 3), "{report}");
    assert!(report["failures"][0]["source"].as_str().unwrap().ends_with("corpus.jsonl:2"), "{report}");
    let answer = place.json(&["search", "striped animal", "--json"]);
    assert_eq!(answer["hits"][0]["id"], "7");
}

#[test]
fn one_bad_file_is_reported_with_its_path_and_the_rest_goes_on() {
    let place = cooking();
    place.write("docs/latin1.md", b"caf\xe9 au lait");
    place.write("docs/matter.md", "---\ntitle: [unclosed\n---\ntext");
    let huge = fs::File::create(place.path().join("docs/huge.md")).unwrap();
    huge.set_len(100 << 20).unwrap();
    place.write("docs/empty.md", "");
    let (report, code) = place.ingest();
    assert_eq!((report["created"].as_u64(), code), (Some(3), 3), "{report}");
    let failures = report["failures"].as_array().unwrap();
    for name in ["latin1.md", "matter.md", "huge.md"] {
        let of_file = failures.iter().find(|f| f["source"].as_str().unwrap().ends_with(name));
        let failure = of_file.unwrap_or_else(|| panic!("{name} is not reported in {report}"));
        assert!(failure["reason"].as_str().unwrap().len() > 10);
    }
}

#[test]
fn a_path_that_is_not_there_is_an_error_that_names_it() {
    let place = cooking();
    let output = place.run(&["ingest", "nowhere", "docs"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nowhere"));
    assert_eq!(place.find("soup")[0], "docs/soup.md");
}

#[test]
fn searching_without_a_database_says_how_to_get_one_and_makes_none() {
    let place = Place::new();
    let message = error(&place.run(&["search", "anything"]));
    assert!(message.contains("amalfa ingest"), "{message}");
    assert!(!place.path().join(".amalfa").exists());
}

#[test]
fn bad_queries_are_refused_with_the_field() {
    let place = cooking();
    place.ingest();
    for (arguments, words) in [
        (vec!["search", ""], "query.text"),
        (vec!["search", "soup", "--limit", "0"], "limit"),
        (vec!["search", "soup", "--limit", "1000000"], "limit"),
        (vec!["search", "--like", "nobody.md"], "not found"),
        (vec!["search", "soup", "--filter", "colour=red"], "colour"),
    ] {
        let message = error(&place.run(&arguments));
        assert!(message.contains(words), "{arguments:?}: {message}");
    }
}

#[test]
fn a_corrupt_database_is_refused_and_left_as_it_is() {
    let place = cooking();
    let garbage = "this is no database ".repeat(1000);
    place.write(".amalfa/amalfa.db", &garbage);
    let message = error(&place.run(&["ingest", "docs"]));
    assert!(message.contains("amalfa.db") && message.contains('→'), "{message}");
    assert_eq!(fs::read_to_string(place.path().join(".amalfa/amalfa.db")).unwrap(), garbage);
}

#[test]
fn a_folder_that_cannot_be_written_is_told() {
    let place = cooking();
    place.write("file", "");
    let message = error(&place.run(&["ingest", "docs", "--db", "file/amalfa.db"]));
    assert!(message.contains("file") && message.contains('→'), "{message}");
}

#[test]
fn a_missing_model_or_library_says_what_to_run() {
    let place = cooking();
    let message = error(&place.run(&["ingest", "docs", "--set", "model.dir=nowhere"]));
    assert!(message.contains("nowhere") && message.contains('→'), "{message}");
    let message = error(&place.run(&["ingest", "docs", "--set", "model.onnxruntime=/nonexistent/libonnxruntime.so"]));
    assert!(message.contains("make setup"), "{message}");
}

#[test]
fn settings_show_their_origin_and_unknown_ones_are_refused() {
    let place = Place::new();
    place.write("amalfa.toml", "[store]\nreaders = 2\n");
    let output = place.command(&["config", "print"]).env("AMALFA_MODEL_QUEUE_LEN", "9").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |key: &str| text.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    assert!(line("store.readers").contains("= 2") && line("store.readers").ends_with("# amalfa.toml"));
    assert!(line("model.queue_len").ends_with("# AMALFA_MODEL_QUEUE_LEN"));
    assert!(line("grpc.address").ends_with("# default"));
    place.write("amalfa.toml", "[store]\nreders = 2\n");
    let message = error(&place.run(&["config", "print"]));
    assert!(message.contains("store.reders") && message.contains("store.readers"), "{message}");
}

#[test]
fn a_health_check_of_nobody_fails() {
    let place = Place::new();
    let message = error(&place.run(&["healthcheck", "--server", "127.0.0.1:9"]));
    assert!(message.contains("amalfa serve"), "{message}");
}
