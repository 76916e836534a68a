//! The bundled model, for real: `make setup` puts ONNX Runtime in its place.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::backend::Vectors;
use super::*;
use crate::domain::{DegradationReason, Vector};

const BATCH: NonZeroUsize = NonZeroUsize::new(16).unwrap();

/// Loaded once: two sessions, so that texts do run side by side.
fn model() -> Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    let load = || Model::load(&Config { sessions: 2, ..Config::default() });
    MODEL.get_or_init(|| load().unwrap_or_else(|error| panic!("these tests run the real model:\n{error}"))).clone()
}

async fn embed_query(text: &str) -> Embedded {
    model().embed_query(text.to_owned(), Deadline::NONE).await.unwrap().embedded.clone()
}

async fn late_interaction(model: &Model, query: &str, passages: Vec<String>) -> Vec<f32> {
    let scored = model.late_interaction(query.to_owned(), passages, BATCH, Deadline::NONE).await;
    assert_eq!(scored.degraded, None);
    scored.scores.into_iter().flatten().collect()
}

fn norm(vector: &Vector) -> f32 {
    vector.as_slice().iter().map(|value| value * value).sum::<f32>().sqrt()
}

/// Copies the bundled model's files, the ONNX file under another name.
fn copy_of_bundled(folder: &std::path::Path, onnx: &str) {
    let bundled = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/all-minilm-l6-v2");
    let files = ["tokenizer.json", "config.json", "tokenizer_config.json", "special_tokens_map.json"];
    for (from, to) in files.map(|file| (file, file)).into_iter().chain([("model_int8.onnx", onnx)]) {
        let to = folder.join(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(bundled.join(from), to).unwrap();
    }
}

#[test]
fn the_identity_tells_all_that_decides_the_vectors() {
    let model = model();
    let identity = model.identity();
    assert_eq!((identity.name.as_str(), identity.dimension, identity.tokens_max), ("all-minilm-l6-v2", 384, 256));
    assert_eq!(identity.file_sha256, "cc971d0e8bb3b518b520abb434849a040a07e14f0007205178dd882d13fc3adf");
    assert!(identity.onnxruntime.split('.').count() == 3, "{}", identity.onnxruntime);
    assert_eq!(model.sessions(), 2);
    assert_eq!(model.passage_tokens_max(), 254);
    assert!(model.healthy());
}

#[test]
fn the_self_test_passes_on_this_machine() {
    let model = model();
    let test = model.self_test();
    assert_eq!(test.warning, None);
    assert!(test.cosine_min.unwrap() > 0.97, "{test:?}");
}

#[tokio::test]
async fn related_texts_are_nearer_than_unrelated_ones() {
    let query = embed_query("how does a borrow checker work").await.vector.unwrap();
    let near =
        embed_query("Rust rejects programs in which a borrowed reference outlives its value.").await.vector.unwrap();
    let far = embed_query("Whisk the eggs with sugar until pale.").await.vector.unwrap();
    assert!(query.dot(&near) > query.dot(&far) + 0.1, "{} against {}", query.dot(&near), query.dot(&far));
    assert!((norm(&query) - 1.0).abs() < 1e-5);
}

#[tokio::test]
async fn a_text_has_one_vector_in_any_company() {
    let text = "A lease expires after ten seconds.".to_owned();
    let alone = model().embed_passages(vec![text.clone()]).await.unwrap().remove(0);
    let mut texts: Vec<String> = (1..24).map(|n| "word ".repeat(n * 7)).collect();
    texts.insert(11, text.clone());
    let company = model().embed_passages(texts).await.unwrap().remove(11);
    assert_eq!(alone, company);
    assert_eq!(alone.vector, embed_query(&text).await.vector, "the bundled model has no prefixes");
}

#[tokio::test]
async fn the_service_computes_what_the_bare_model_does() {
    let text = "A lease expires after ten seconds.";
    let bare = Bare::load(&Config::default()).unwrap().embed(text).unwrap();
    let served = embed_query(text).await.vector.unwrap();
    let difference = bare.iter().zip(served.as_slice()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(difference < 1e-6, "{difference}");
}

#[tokio::test]
async fn what_the_window_cuts_is_counted_and_not_read() {
    let model = model();
    let long = "ownership ".repeat(1_000);
    let embedded = model.embed_passages(vec![long, "ownership ".repeat(254)]).await.unwrap();
    assert_eq!((embedded[0].tokens, embedded[0].tokens_cut), (254, 746));
    assert_eq!((embedded[1].tokens, embedded[1].tokens_cut), (254, 0));
    assert_eq!(embedded[0].vector, embedded[1].vector);
}

#[tokio::test]
async fn odd_texts_are_embedded_without_a_panic() {
    for text in ["", " \n\t", "\0", "🦀🦀🦀", "\u{202e}abc", "[CLS] [SEP] [MASK]", &"x".repeat(100_000)] {
        let embedded = embed_query(text).await;
        let vector = embedded.vector.unwrap();
        assert!((norm(&vector) - 1.0).abs() < 1e-5 && embedded.tokens <= 254);
    }
}

#[tokio::test]
async fn late_interaction_puts_the_answer_first() {
    let passages = [
        "Whisk the eggs with sugar until pale.",
        "Ownership is a set of rules that govern how a program manages memory.",
        "",
        "Relabeling rewrites the label set of a target before it is scraped.",
    ];
    let passages = passages.map(str::to_owned).to_vec();
    let scores = late_interaction(&model(), "what is ownership", passages).await;
    let best = (0..4).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap();
    assert_eq!(best, 1, "{scores:?}");
    assert!(scores.iter().all(|score| (-1.0..=1.0).contains(score)), "{scores:?}");
}

#[tokio::test]
async fn a_text_answers_itself_perfectly() {
    let text = "the harbour froze early that year".to_owned();
    let scores = late_interaction(&model(), &text.clone(), vec![text]).await;
    assert!((scores[0] - 1.0).abs() < 1e-5, "{scores:?}");
}

#[tokio::test]
async fn a_long_rerank_ends_at_its_deadline_with_the_first_scored() {
    let passages = vec!["word ".repeat(250); 500];
    let started = Instant::now();
    let deadline = Deadline::after(Duration::from_millis(400));
    let scored = model().late_interaction("word".to_owned(), passages, BATCH, deadline).await;
    // All 500 take 10 s or more; the bound leaves room for a busy machine.
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    let covered = scored.scores.iter().flatten().count();
    assert_eq!(scored.degraded.unwrap().reason, DegradationReason::Deadline);
    assert!(scored.scores[..covered / 2].iter().all(Option::is_some), "{covered}");
}

#[tokio::test]
async fn a_prefix_is_put_before_queries_only() {
    let model = Model::load(&Config {
        sessions: 1,
        query_prefix: Some("Represent this sentence: ".to_owned()),
        ..Config::default()
    })
    .unwrap();
    let query = model.embed_query("ownership".to_owned(), Deadline::NONE).await.unwrap();
    let passage = model.embed_passages(vec!["ownership".to_owned()]).await.unwrap().remove(0);
    let spelled_out = embed_query("Represent this sentence: ownership").await;
    assert_eq!(query.embedded, spelled_out);
    assert_eq!(passage, embed_query("ownership").await);
    assert_eq!(model.passage_tokens_max(), 254);
    assert_eq!(model.identity().differences(super::tests::model().identity()).len(), 1);
}

#[tokio::test]
async fn a_model_of_the_hub_cache_is_loaded_and_embeds() {
    let cache = tempfile::tempdir().unwrap();
    let repository = cache.path().join("models--Xenova--bge-small-en-v1.5");
    std::fs::create_dir_all(repository.join("refs")).unwrap();
    std::fs::write(repository.join("refs/main"), "f00d").unwrap();
    copy_of_bundled(&repository.join("snapshots/f00d"), "onnx/model.onnx");
    let config = Config {
        name: "bge-small-en-v1.5".to_owned(),
        hub_cache: Some(cache.path().to_path_buf()),
        sessions: 1,
        ..Config::default()
    };
    let model = Model::load(&config).unwrap();
    assert_eq!((model.identity().name.as_str(), model.identity().pooling), ("bge-small-en-v1.5", Pooling::Cls));
    assert_eq!(model.self_test().cosine_min, None);
    let passage = model.embed_passages(vec!["ownership".to_owned()]).await.unwrap().remove(0).vector.unwrap();
    assert_ne!(Some(passage), embed_query("ownership").await.vector, "CLS pooling gives other vectors than the mean");
}

#[test]
fn a_damaged_model_is_an_error_with_advice() {
    let dir = tempfile::tempdir().unwrap();
    copy_of_bundled(dir.path(), "model.onnx");
    std::fs::write(dir.path().join("model.onnx"), "version https://git-lfs.github.com/spec/v1").unwrap();
    let error = Model::load(&Config { dir: Some(dir.path().to_path_buf()), sessions: 1, ..Config::default() });
    let message = error.unwrap_err().to_string();
    assert!(message.contains("model.onnx") && message.contains("git lfs pull"), "{message}");
}

#[test]
fn settings_without_sense_are_refused() {
    for config in [Config { sessions: 65, ..Config::default() }, Config { queue_len: 0, ..Config::default() }] {
        assert!(matches!(Model::load(&config), Err(Error::Invalid { .. })));
    }
}

#[test]
fn token_offsets_cover_the_words_and_know_no_window() {
    let text = "Größe zählt. ".repeat(2_000);
    let offsets = model().token_offsets(&text).unwrap();
    let covered: String = offsets.iter().map(|(from, to)| &text[*from..*to]).collect();
    assert_eq!(covered, text.replace(' ', ""));
}

#[test]
fn token_offsets_take_time_in_proportion_to_the_text() {
    let model = model();
    let time = |bytes: usize| {
        let text = "Relabeling rewrites labels. ".repeat(bytes / 28);
        let started = Instant::now();
        assert!(model.token_offsets(&text).unwrap().len() > bytes / 10);
        started.elapsed()
    };
    let (short, long) = (time(100_000), time(1_000_000));
    // 10 times the bytes: linear is 10, quadratic 100.
    assert!(long < short * 40, "{short:?} for 100 kB, {long:?} for 1 MB");
}

#[tokio::test]
async fn the_arithmetic_double_behaves_like_a_model() {
    let model = Model::arithmetic(32);
    let embed = |text: &str| model.embed_query(text.to_owned(), Deadline::NONE);
    let (one, same, other) = (embed("red fox").await, embed("Red fox!").await, embed("blue whale").await);
    let vector = |query: Result<Arc<EmbeddedQuery>>| query.unwrap().embedded.vector.clone();
    assert_eq!(vector(one), vector(same));
    assert_eq!(vector(embed(" ").await), None);
    assert_eq!(vector(other).unwrap().dimension(), model.identity().dimension);
    let passages = vec!["blue whale".to_owned(), "a red fox".to_owned()];
    let scores = late_interaction(&model, "red fox", passages).await;
    assert!(scores[1] > scores[0], "{scores:?}");
}

/// A double whose calls are counted.
#[derive(Debug)]
struct Counted(Arithmetic, Arc<AtomicUsize>);

impl Backend for Counted {
    fn vector(&mut self, text: &str) -> Result<Vec<f32>> {
        self.vectors(text).map(|vectors| vectors.text)
    }

    fn vectors(&mut self, text: &str) -> Result<Vectors> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.vectors(text)
    }
}

#[tokio::test]
async fn a_query_and_its_late_interaction_are_one_run_of_the_model() {
    let runs = Arc::default();
    let backend = Counted(Arithmetic { dimension: 32 }, Arc::clone(&runs));
    let identity = ModelIdentity { query_prefix: "query: ".to_owned(), ..Arithmetic::identity(32) };
    let backends: Vec<Box<dyn Backend>> = vec![Box::new(backend)];
    let model = Model::assemble(identity, SelfTest::default(), Tokens::Words, backends, &Config::default()).unwrap();
    let query = model.embed_query("red fox".to_owned(), Deadline::NONE).await.unwrap();
    let passages = vec!["red".to_owned(), "fox".to_owned()];
    late_interaction(&model, "red fox", passages).await;
    let again = model.embed_query("red fox".to_owned(), Deadline::NONE).await.unwrap();
    assert!(Arc::ptr_eq(&query, &again));
    assert_eq!(runs.load(Ordering::Relaxed), 3, "one for the query, one for each passage");
    assert_eq!(query.tokens().unwrap().as_slice().len(), 3 * 32, "the prefix's token counts");
}

#[tokio::test]
async fn late_interaction_reads_the_query_with_its_prefix() {
    let prefixed = Model::load(&Config {
        sessions: 1,
        query_prefix: Some("Represent this sentence: ".to_owned()),
        ..Config::default()
    })
    .unwrap();
    let passages = || vec!["Ownership governs memory.".to_owned(), "Represent this sentence".to_owned()];
    let ask = |model: Model, query: &str| {
        let query = query.to_owned();
        async move { late_interaction(&model, &query, passages()).await }
    };
    let plain = ask(model(), "ownership").await;
    assert_eq!(ask(prefixed.clone(), "ownership").await, ask(model(), "Represent this sentence: ownership").await);
    assert_ne!(ask(prefixed, "ownership").await, plain, "a model's queries are its own");
    assert_eq!(ask(model(), "ownership").await, plain);
}

#[tokio::test]
async fn a_passages_vector_and_its_tokens_come_of_one_run() {
    let texts = || vec!["A lease expires after ten seconds.".to_owned(), String::new()];
    let both = model().embed_passages_with(texts(), TokenVectors::clone).await.unwrap();
    let alone = model().embed_passages(texts()).await.unwrap();
    assert_eq!(both.iter().map(|(embedded, _)| embedded.clone()).collect::<Vec<_>>(), alone);
    // Two special tokens beside those that are counted.
    let rows: Vec<_> = both.iter().map(|(_, tokens)| tokens.as_ref().unwrap().as_slice().len() / 384).collect();
    assert_eq!(rows, alone.iter().map(|embedded| embedded.tokens as usize + 2).collect::<Vec<_>>());
}
