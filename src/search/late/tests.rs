//! Stored codes with the bundled model (`make setup` puts ONNX Runtime in its place) and a real database.

use std::sync::OnceLock;

use serde_json::Map;
use tempfile::TempDir;

use super::*;
use crate::domain::{Chunk, Document, DocumentId};
use crate::engine::FlatEngine;
use crate::model::{self, Model};
use crate::search;
use crate::store::{self, PreparedDocument, Store, Write};

const QUERY: &str = "how long is a lease valid";
const TEXTS: [&str; 6] = [
    "A lease expires after ten seconds unless it is renewed by its owner before that time has passed.",
    "Whisk the eggs with sugar until pale, then fold in the flour and bake for half an hour.",
    "The owner of a lock may renew it; a lock that nobody renews is valid for a minute.",
    "Ownership is a set of rules that govern how a program manages memory.",
    "Relabeling rewrites the label set of a target before it is scraped.",
    "The harbour froze early that year and no ship left it until the spring.",
];

fn model() -> Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    let load = || Model::load(&model::Config { sessions: 2, ..model::Config::default() });
    MODEL.get_or_init(|| load().unwrap_or_else(|error| panic!("these tests run the real model:\n{error}"))).clone()
}

/// An index of the texts, one passage each, in a folder of its own.
struct Home {
    searcher: Searcher,
    chunks: Vec<Option<ChunkId>>,
    _folder: TempDir,
}

impl Home {
    /// Stores what `keep` makes of each text's codes.
    async fn new(keep: impl Fn(usize, Vec<u8>) -> Option<Vec<u8>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = store::Config { path: folder.path().join("amalfa.db"), ..store::Config::default() };
        let store = Store::open(&config).unwrap();
        store.set_model_identity(model().identity().clone()).await.unwrap();
        let coder = TokenCoder::new(384).unwrap();
        let code = move |tokens: &TokenVectors| coder.encode(tokens.as_slice());
        let embedded = model().embed_passages_with(texts(), code).await.unwrap();
        let documents = embedded.into_iter().enumerate().map(|(at, (embedded, codes))| {
            let chunk = Chunk {
                ordinal: 0,
                heading_path: Vec::new(),
                text: TEXTS[at].to_owned(),
                overlap: 0,
                tokens: embedded.tokens,
                vector: embedded.vector,
                token_codes: keep(at, codes.unwrap()),
            };
            Write::Put(Box::new(document(at, chunk)))
        });
        let added = store.write(documents.collect()).await.unwrap().added;
        let engine = Arc::new(FlatEngine::new(&crate::engine::Config::default(), 384).unwrap());
        let searcher = Searcher::new(&search::Config::default(), store, engine, model()).unwrap();
        Self { searcher, chunks: added.into_iter().map(|(chunk, _)| Some(chunk)).collect(), _folder: folder }
    }

    async fn stored_scores(&self) -> Vec<Option<f32>> {
        let query = model().embed_query(QUERY.to_owned(), Deadline::NONE).await.unwrap();
        self.searcher.stored_scores(&query, &self.chunks, Deadline::NONE).await.unwrap()
    }

    async fn scores(&self) -> Vec<f32> {
        whole(self.searcher.late_interaction(QUERY, &self.chunks, texts(), NonZeroUsize::MIN, Deadline::NONE).await)
    }
}

/// Returns the scores of an answer that lacks none.
fn whole(scored: Scored) -> Vec<f32> {
    assert_eq!(scored.degraded, None);
    scored.scores.into_iter().map(Option::unwrap).collect()
}

fn texts() -> Vec<String> {
    TEXTS.map(str::to_owned).to_vec()
}

fn document(at: usize, chunk: Chunk) -> PreparedDocument {
    let document = Document {
        id: DocumentId::parse("id", at.to_string()).unwrap(),
        source: at.to_string(),
        title: String::new(),
        text: chunk.text.clone(),
        date: None,
        kind: None,
        domain: None,
        metadata: Map::new(),
    };
    PreparedDocument { document, content_hash: at.to_string(), chunks: vec![chunk], references: Vec::new() }
}

async fn exact() -> Vec<f32> {
    whole(model().late_interaction(QUERY.to_owned(), texts(), NonZeroUsize::MIN, Deadline::NONE).await)
}

#[tokio::test]
async fn stored_codes_score_as_the_model_does_in_order_and_nearly_in_size() {
    let stored: Vec<f32> =
        Home::new(|_, codes| Some(codes)).await.stored_scores().await.into_iter().flatten().collect();
    let exact = exact().await;
    assert_eq!(stored.len(), exact.len());
    for (a, b) in (0..TEXTS.len()).flat_map(|a| (0..a).map(move |b| (a, b))) {
        // What is further apart than estimates err is in the same order.
        if (exact[a] - exact[b]).abs() > 0.04 {
            assert_eq!(exact[a] > exact[b], stored[a] > stored[b], "{stored:?} for {exact:?}");
        }
        assert!((stored[a] - exact[a]).abs() < 0.06, "{stored:?} for {exact:?}");
    }
}

#[tokio::test]
async fn passages_without_sound_codes_are_read_by_the_model_and_score_as_if_they_had_some() {
    let whole = Home::new(|_, codes| Some(codes)).await;
    let mixed = Home::new(|at, codes| match at {
        0 => None,
        1 => Some(codes[..codes.len() - 1].to_vec()),
        2 => Some(b"nonsense".to_vec()),
        _ => Some(codes),
    })
    .await;
    let stored = mixed.stored_scores().await;
    assert_eq!(stored.iter().map(Option::is_some).collect::<Vec<_>>(), [false, false, false, true, true, true]);
    assert_eq!(mixed.scores().await, whole.scores().await);
}

#[tokio::test]
async fn without_any_codes_scores_are_exact() {
    assert_eq!(Home::new(|_, _| None).await.scores().await, exact().await);
}
