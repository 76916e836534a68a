//! `bench quality` as people run it, its measures against trec_eval's, and bad collections of every kind.

#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use amalfa::tools::bench::quality::{Grades, Measures, judgements, read_run};
use serde_json::{Value, json};
use tempfile::TempDir;

const TEXTS: [(&str, &str); 8] = [
    ("onions", "Simmer the onions slowly in stock until the soup is sweet."),
    ("bread", "Bread dough rises for two hours before it is baked."),
    ("owner", "In Rust each value has one owner, and is dropped with it."),
    ("borrow", "A reference borrows a value without taking ownership of it."),
    ("scrape", "Prometheus polls its targets for metrics every few seconds."),
    ("alert", "An alert is sent when a rule has been true for long enough."),
    ("light", "A lighthouse warns ships of rocks at night."),
    ("tide", "The tide is highest when sun and moon are in a line."),
];
const QUERIES: [(&str, &str, &str); 4] = [
    ("q1", "how to cook onion soup", "onions"),
    ("q2", "who owns a value in Rust", "owner"),
    ("q3", "how often are metrics collected", "scrape"),
    ("q4", "warning for ships", "light"),
];

/// A folder with a small collection, and the binary to run in it.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        let lines = |objects: Vec<Value>| objects.iter().map(|object| format!("{object}\n")).collect::<String>();
        place.write("set/corpus.jsonl", &lines(TEXTS.map(|(id, text)| json!({"_id": id, "text": text})).to_vec()));
        place
            .write("set/queries.jsonl", &lines(QUERIES.map(|(id, text, _)| json!({"_id": id, "text": text})).to_vec()));
        let judged: String = QUERIES.map(|(id, _, document)| format!("{id}\t{document}\t1\n")).concat();
        place.write("set/qrels/test.tsv", &format!("query-id\tcorpus-id\tscore\n{judged}q2\tborrow\t1\n"));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn run(&self, arguments: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_amalfa"));
        command.current_dir(self.folder.path()).args(arguments.split_whitespace()).env("AMALFA_MODEL_SESSIONS", "1");
        command.output().unwrap()
    }

    /// Runs `bench quality` on the collection and returns its report and exit code.
    fn measure(&self, arguments: &str) -> (Value, i32) {
        let output = self.run(&format!("bench quality --db set.db --dataset set --json {arguments}"));
        let report = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
        (report, output.status.code().unwrap())
    }

    /// Returns the error of a `bench quality` that must fail.
    fn complaint(&self, arguments: &str) -> String {
        let output = self.run(&format!("bench quality --db set.db --dataset set --retrieval dense {arguments}"));
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains('→') && !stderr.contains("panicked"), "{stderr}");
        stderr
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/trec").join(name)
}

#[test]
fn measures_are_those_of_trec_eval() {
    let text = fs::read_to_string(fixture("expected.json")).unwrap();
    let expected: HashMap<String, HashMap<String, f64>> = serde_json::from_str(&text).unwrap();
    let (qrels, run) = (judgements(&fixture("qrels.txt")).unwrap(), read_run(&fixture("made.run")).unwrap());
    assert_eq!((expected.len(), qrels.len()), (14, 14));
    for (query, measures) in &expected {
        let ranking = run.get(query).into_iter().flatten().map(String::as_str);
        let ours = serde_json::to_value(Measures::of(ranking, &qrels[query])).unwrap();
        for (measure, value) in measures {
            let found = ours[measure].as_f64().unwrap();
            assert!((found - value).abs() < 1e-6, "{query}: {measure} is {found}, trec_eval has {value}");
        }
        assert_eq!(ours.as_object().unwrap().len(), measures.len());
    }
}

#[test]
fn a_report_has_every_figure_and_its_run_files_score_the_same() {
    let place = Place::new();
    let arguments = "--retrieval dense --rerank none,late_interaction --candidates 3 --runs-dir out/runs \
                     --output out/report.json --markdown out/report.md";
    let (report, code) = place.measure(arguments);
    assert_eq!(code, 0, "{report}");
    let written: Value = serde_json::from_slice(&fs::read(place.path("out/report.json")).unwrap()).unwrap();
    assert_eq!(written, report);
    assert_eq!((report["corpus"]["documents"].as_u64(), report["corpus"]["queries"].as_u64()), (Some(8), Some(4)));
    assert!(report["machine"]["version"].is_string() && report["model"]["file_sha256"].is_string());
    let qrels = judgements(&place.path("out/runs/qrels.txt")).unwrap();
    for name in ["dense", "dense+late_interaction"] {
        let figures = &report["combinations"][name];
        assert!(
            figures["latency"]["p99_ms"].as_f64() > Some(0.0) && figures["searches_per_second"].as_f64() > Some(0.0)
        );
        assert!(figures["stages_mean_ms"]["embed"].is_f64() && figures["recall_at_100"] == 1.0, "{figures}");
        let run = read_run(&place.path(&format!("out/runs/{name}.run"))).unwrap();
        let scored: Vec<_> = qrels.iter().map(|(query, grades)| of(&run[query], grades)).collect();
        let mean = serde_json::to_value(Measures::mean(&scored)).unwrap();
        for (measure, value) in mean.as_object().unwrap() {
            assert!((figures[measure].as_f64().unwrap() - value.as_f64().unwrap()).abs() < 1e-9, "{name} {measure}");
        }
    }
    assert_eq!(report["combinations"]["dense+late_interaction"]["coverage"], 1.0);
    assert_eq!(report["combinations"]["dense+late_interaction"]["against_baseline"]["to"], "dense");
    assert!(fs::read_to_string(place.path("out/report.md")).unwrap().contains("| dense+late_interaction | "));
}

fn of(ranking: &[String], grades: &Grades) -> Measures {
    Measures::of(ranking.iter().map(String::as_str), grades)
}

#[test]
fn what_a_reranker_was_not_given_follows_in_first_stage_order() {
    let place = Place::new();
    place.measure("--retrieval dense --rerank none,late_interaction --candidates 3 --runs-dir runs");
    let read = |name: &str| read_run(&place.path(&format!("runs/{name}.run"))).unwrap();
    let (dense, reranked) = (read("dense"), read("dense+late_interaction"));
    for (query, _, _) in QUERIES {
        let (mut before, mut after) = (dense[query].clone(), reranked[query].clone());
        assert_eq!((before.len(), &before[3..]), (TEXTS.len(), &after[3..]));
        before[..3].sort_unstable();
        after[..3].sort_unstable();
        assert_eq!(before, after);
    }
}

#[test]
fn a_combination_that_cannot_be_run_is_told_and_not_made_up() {
    let place = Place::new();
    let (report, code) = place.measure("--retrieval dense --rerank none,cross_encoder");
    assert_eq!(code, 3);
    let names: Vec<_> = report["combinations"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["dense"]);
    let reason = report["failed"]["dense+cross_encoder"].as_str().unwrap();
    assert!(reason.contains("no cross-encoder"), "{reason}");
    let (report, code) = place.measure("--retrieval dense --rerank cross_encoder");
    assert_eq!((report["combinations"].as_object().unwrap().len(), code), (0, 1));
}

#[test]
fn an_ingest_that_was_cut_short_is_finished_first() {
    let place = Place::new();
    let whole = fs::read_to_string(place.path("set/corpus.jsonl")).unwrap();
    let half: String = whole.lines().take(4).map(|line| format!("{line}\n")).collect();
    place.write("set/corpus.jsonl", &half);
    assert!(place.run("ingest set/corpus.jsonl --db set.db").status.success());
    place.write("set/corpus.jsonl", &whole);
    let (report, code) = place.measure("--retrieval dense --rerank none");
    assert_eq!((report["corpus"]["passages"].as_u64(), code), (Some(8), 0));
    assert_eq!(report["combinations"]["dense"]["recall_at_100"], 1.0);
}

#[test]
fn a_document_that_cannot_be_indexed_is_told() {
    let place = Place::new();
    let corpus = fs::read_to_string(place.path("set/corpus.jsonl")).unwrap();
    place.write("set/corpus.jsonl", &format!("{corpus}{}\n", json!({"_id": "empty", "text": ""})));
    place.write("set/qrels/test.tsv", "q1\tonions\t1\nq1\tnowhere\t1\nq9\tonions\t1\n");
    let (report, code) = place.measure("--retrieval dense --rerank none");
    let corpus = &report["corpus"];
    assert_eq!((code, corpus["documents_failed"].as_u64()), (3, Some(1)));
    assert!(corpus["first_failure"].as_str().unwrap().contains("corpus.jsonl:9"), "{corpus}");
    let counted = ["queries_unjudged", "judgements_without_document", "judgements_without_query"];
    assert_eq!(counted.map(|count| corpus[count].as_u64()), [Some(3), Some(1), Some(1)]);
    assert_eq!(report["combinations"]["dense"]["recall_at_100"], 0.5);
}

#[test]
fn a_bad_collection_is_refused_before_anything_is_ingested() {
    let place = Place::new();
    assert!(place.complaint("--baseline hybrid").contains("one of dense, dense+late_interaction"));
    assert!(place.complaint("--compare-to nothing.json").contains("nothing.json"));
    place.write("set/qrels/test.tsv", "q1\tonions\n");
    assert!(place.complaint("").contains("test.tsv:1"));
    place.write("set/qrels/test.tsv", "q7\tonions\t1\n");
    assert!(place.complaint("").contains("no query of set has a relevant document"));
    fs::remove_file(place.path("set/qrels/test.tsv")).unwrap();
    assert!(place.complaint("").contains("neither qrels.tsv nor qrels/test.tsv"));
    assert!(!place.path("set.db").exists());
}

#[test]
fn another_index_is_left_alone() {
    let place = Place::new();
    place.write("docs/mine.md", "# Mine\n\nNot of the collection.");
    assert!(place.run("ingest docs --db set.db").status.success());
    let complaint = place.complaint("");
    assert!(complaint.contains("1 documents that are not of") && complaint.contains("--db"), "{complaint}");
}

#[test]
fn runs_are_compared_from_their_files() {
    let place = Place::new();
    place.measure("--retrieval dense --output first.json --runs-dir runs --queries 3");
    let (second, _) = place.measure("--retrieval dense --output second.json --compare-to first.json");
    assert_eq!(second["combinations"]["dense"]["against_earlier"]["queries"], 3);
    let compared = |arguments: &str| -> Value {
        let output = place.run(&format!("bench quality-compare --json {arguments}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let same = compared("first.json second.json");
    assert_eq!((same["dense"]["p_value"].as_f64(), same["dense"]["queries"].as_u64()), (Some(1.0), Some(3)));
    let across = compared("second.json second.json --from dense --to dense+late_interaction");
    assert_eq!(across["dense+late_interaction"], second["combinations"]["dense+late_interaction"]["against_baseline"]);
    let runs = compared("runs/dense.run runs/dense+late_interaction.run --qrels runs/qrels.txt");
    assert_eq!(runs["dense+late_interaction"]["queries"], 3);
}

#[test]
fn known_items_are_the_same_each_time_and_hide_their_answers() {
    let place = Place::new();
    let text = "Simmer the onions slowly in stock until the soup is sweet, which takes an hour and a half.";
    place.write("notes/soup.md", &format!("---\nkind: recipe\n---\n```\n# no heading\n```\n# Onion soup\n\n{text}\n"));
    place.write("notes/menu.md", &format!("# The menu\n\nSee [onion soup recipe](soup.md). {text}\n"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/known_items.py");
    let make = |out: &str, by: &str| {
        let mut command = Command::new("python3");
        command.current_dir(place.folder.path()).arg(&script).args(["notes", out, "--by", by]);
        assert!(command.status().unwrap().success());
        ["corpus.jsonl", "queries.jsonl", "qrels.tsv"].map(|n| fs::read_to_string(place.path(out).join(n)).unwrap())
    };
    let titles = make("titles", "titles");
    assert_eq!(titles, make("again", "titles"));
    assert!(!titles[0].contains("Onion soup") && !titles[0].contains("recipe") && titles[0].contains("# no heading"));
    assert_eq!(titles[2], "query-id\tcorpus-id\tscore\nq1\tmenu.md\t1\nq2\tsoup.md\t1\n");
    let links = make("links", "links");
    assert!(links[1].contains("onion soup recipe") && links[0].contains("Onion soup"), "{links:?}");
    assert_eq!(links[2], "query-id\tcorpus-id\tscore\nq1\tsoup.md\t1\n");
}
