//! A pair model made for these tests, on the real ONNX Runtime; `tests/fixtures/cross_encoder/make.py` writes it.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::pairs::Encoder;
use super::*;
use crate::domain::DegradationReason;

const BATCH: NonZeroUsize = NonZeroUsize::new(16).unwrap();

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cross_encoder")
}

fn in_fixture() -> Config {
    Config { dir: Some(fixture()), sessions: 2, ..Config::default() }
}

fn load(config: &Config) -> Result<CrossEncoder> {
    CrossEncoder::load(config, None).map(Option::unwrap)
}

/// What the Python library makes of the same pairs.
fn expected(tokenizer: &str) -> Vec<Value> {
    let expected = std::fs::read(fixture().join("expected.json")).unwrap();
    let mut expected: Value = serde_json::from_slice(&expected).unwrap();
    serde_json::from_value(expected[tokenizer].take()).unwrap()
}

fn numbers(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn pairs_become_the_tokens_that_the_python_library_makes_of_them() {
    for file in ["tokenizer.json", "tokenizer_roberta.json"] {
        for case in expected(file) {
            let tokens_max = case["tokens_max"].as_u64().unwrap() as usize;
            let encoder = Encoder::load(&fixture().join(file), tokens_max).unwrap();
            let (query, passage) = (case["query"].as_str().unwrap(), case["passage"].as_str().unwrap());
            let encoding = encoder.encode(query, passage).unwrap();
            assert_eq!(encoding.get_ids(), numbers(&case["ids"]), "{file}: {query} / {passage}");
            assert_eq!(encoding.get_type_ids(), numbers(&case["type_ids"]), "{file}: {query} / {passage}");
        }
    }
}

#[tokio::test]
async fn a_logit_is_what_the_reference_evaluator_computes_from_both_sides() {
    for tokens_max in [64, 24] {
        let encoder = load(&Config { tokens_max: Some(tokens_max), ..in_fixture() }).unwrap();
        for case in expected("tokenizer.json").iter().filter(|case| case["tokens_max"] == tokens_max) {
            let passage = case["passage"].as_str().unwrap().to_owned();
            let scored = encoder.score(case["query"].as_str().unwrap(), vec![passage], BATCH, Deadline::NONE).await;
            let difference = scored.scores[0].unwrap() - case["logit"].as_f64().unwrap() as f32;
            assert!(difference.abs() < 1e-6, "{case}: {scored:?}");
        }
    }
}

#[tokio::test]
async fn scores_come_in_the_order_of_the_passages() {
    let passages = ["bread needs yeast", "ownership is a set of rules", "what", ""].map(str::to_owned).to_vec();
    let scored = load(&in_fixture()).unwrap().score("what is ownership", passages, BATCH, Deadline::NONE).await;
    assert_eq!(scored.degraded, None);
    let scores: Vec<f32> = scored.scores.into_iter().flatten().collect();
    assert!(scores[1] > scores[2] && scores[2] > scores[0] && scores[0] == scores[3], "{scores:?}");
}

#[tokio::test]
async fn what_time_did_not_allow_has_no_score() {
    let encoder = load(&in_fixture()).unwrap();
    let late = Deadline::after(Duration::ZERO);
    let scored = encoder.score("what", vec!["what".to_owned(); 3], BATCH, late).await;
    assert_eq!((scored.scores, scored.degraded.unwrap().reason), (vec![None; 3], DegradationReason::Deadline));
    let (started, budget) = (Instant::now(), Duration::from_millis(100));
    let passages = vec!["ownership ".repeat(60); 200_000];
    let scored = encoder.score("what is", passages, BATCH, Deadline::after(budget)).await;
    let covered = scored.scores.iter().flatten().count();
    assert!(covered > 0 && covered < 200_000, "{covered}");
    assert!(scored.scores[..covered / 2].iter().all(Option::is_some), "the first are scored first");
    assert!(started.elapsed() < budget * 20, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_book_is_read_as_far_as_the_window_goes() {
    let encoder = load(&in_fixture()).unwrap();
    let book = "ownership ".repeat(100_000);
    let scored = encoder.score("ownership", vec![book], BATCH, Deadline::NONE).await;
    assert_eq!(scored.scores, [Some(2.0)]);
}

#[cfg(unix)]
#[tokio::test]
async fn a_named_model_is_found_in_the_hub_cache() {
    let cache = tempfile::tempdir().unwrap();
    for (name, repository, files) in [
        ("jina-reranker-v1-turbo-en", "jinaai--jina-reranker-v1-turbo-en", &[("model.onnx", "onnx/model.onnx")][..]),
        ("BAAI/bge-reranker-base", "BAAI--bge-reranker-base", &[("model.onnx", "onnx/model.onnx")]),
        (
            "jinaai/jina-reranker-v2-base-multilingual",
            "jinaai--jina-reranker-v2-base-multilingual",
            &[("model.onnx", "onnx/model.onnx")],
        ),
        (
            "bge-reranker-v2-m3",
            "rozgo--bge-reranker-v2-m3",
            &[("apart/model.onnx", "model.onnx"), ("apart/model.onnx.data", "model.onnx.data")],
        ),
    ] {
        into_cache(cache.path(), repository, files);
        let hub_cache = Some(cache.path().to_path_buf());
        let config = Config { name: Some(name.to_owned()), hub_cache, sessions: 1, ..Config::default() };
        let encoder = load(&config).unwrap();
        assert_eq!(encoder.name(), name);
        let scored = encoder.score("red apple", vec!["an apple".to_owned()], BATCH, Deadline::NONE).await;
        assert_eq!(scored.scores, [Some(0.0)], "{name}");
    }
}

/// Lays the fixture out as the Hugging Face tools do: the files of a snapshot are links to blobs.
#[cfg(unix)]
fn into_cache(cache: &Path, repository: &str, files: &[(&str, &str)]) {
    let repository = cache.join(format!("models--{repository}"));
    let snapshot = repository.join("snapshots/f00d");
    for folder in [&snapshot.join("onnx"), &repository.join("refs"), &repository.join("blobs")] {
        std::fs::create_dir_all(folder).unwrap();
    }
    std::fs::write(repository.join("refs/main"), "f00d").unwrap();
    let common = ["tokenizer.json", "tokenizer_config.json", "config.json"].map(|file| (file, file));
    for (number, (from, to)) in common.iter().chain(files).enumerate() {
        let blob = repository.join(format!("blobs/{number}"));
        std::fs::copy(fixture().join(from), &blob).unwrap();
        std::os::unix::fs::symlink(blob, snapshot.join(to)).unwrap();
    }
}

#[test]
fn without_a_name_and_a_folder_there_is_none() {
    assert!(CrossEncoder::load(&Config::default(), None).unwrap().is_none());
}

#[test]
fn what_cannot_be_loaded_says_what_to_do() {
    let cache = tempfile::tempdir().unwrap();
    let named = |name: &str| Config {
        name: Some(name.to_owned()),
        hub_cache: Some(cache.path().to_path_buf()),
        ..Config::default()
    };
    let empty = Config { dir: Some(cache.path().to_path_buf()), ..Config::default() };
    let embedding = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/all-minilm-l6-v2");
    for (config, part) in [
        (named("no-such-model"), "jina-reranker-v1-turbo-en"),
        (named("bge-reranker-v2-m3"), "cross_encoder.download"),
        (empty, "holds no ONNX model"),
        (Config { dir: Some("/nonexistent".into()), ..Config::default() }, "cross_encoder.dir is not a folder"),
        (Config { dir: Some(embedding), sessions: 1, ..Config::default() }, "not one number"),
        (Config { tokens_max: Some(65), ..in_fixture() }, "64"),
        (Config { tokens_max: Some(1), ..in_fixture() }, "under"),
        (Config { sessions: 1_000, ..in_fixture() }, "limit"),
    ] {
        let message = load(&config).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}
