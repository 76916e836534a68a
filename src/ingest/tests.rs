//! The whole pipeline on files, with a model that computes and a real store and engine.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Map, json};

use super::*;
use crate::domain::{ChunkId, Deadline, Vector};
use crate::engine::{Accuracy, FlatEngine, Request};

const DIMENSION: usize = 64;

fn model() -> Model {
    Model::arithmetic(DIMENSION)
}

struct Quiet;
impl Progress for Quiet {}

/// A folder of documents, and an index that is not in it.
struct Fixture {
    documents: tempfile::TempDir,
    database: tempfile::TempDir,
    indexer: Indexer,
    store: Store,
    engine: Arc<dyn VectorEngine>,
}

impl Fixture {
    fn new() -> Self {
        let database = tempfile::tempdir().unwrap();
        let (indexer, store, engine) = open(database.path(), model());
        Self { documents: tempfile::tempdir().unwrap(), database, indexer, store, engine }
    }

    /// Opens the database once more, as another process would.
    fn another_process(&self) -> (Indexer, Store, Arc<dyn VectorEngine>) {
        open(self.database.path(), model())
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.documents.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        self.write(to, fs::read(self.documents.path().join(from)).unwrap());
        self.remove(from);
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.documents.path().join(name)).unwrap();
    }

    fn job(&self, paths: &[&str]) -> Job {
        Job {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            base: Some(self.documents.path().to_owned()),
            ..Job::default()
        }
    }

    async fn ingest(&self) -> Report {
        self.indexer.run(self.job(&["."]), Arc::new(Quiet)).await.unwrap()
    }

    async fn sources(&self) -> Vec<String> {
        let mut sources: Vec<String> =
            self.store.known().await.unwrap().into_iter().map(|known| known.source).collect();
        sources.sort();
        sources
    }

    /// Returns the document that a search for these words finds first.
    async fn first(&self, words: &str) -> Option<String> {
        let embedded = model().embed_query(words.to_owned(), Deadline::NONE).await.unwrap();
        first(&self.store, self.engine.as_ref(), embedded.embedded.vector.clone().unwrap()).await
    }

    async fn assert_in_step(&self) {
        assert_eq!(self.engine.ids(), self.store.embedded_chunks().await.unwrap());
    }
}

fn open(database: &Path, model: Model) -> (Indexer, Store, Arc<dyn VectorEngine>) {
    open_with(&Config::default(), database, model)
}

fn open_with(ingest: &Config, database: &Path, model: Model) -> (Indexer, Store, Arc<dyn VectorEngine>) {
    let config = store::Config { path: database.join("amalfa.db"), ..store::Config::default() };
    let store = Store::open(&config).unwrap();
    let engine: Arc<dyn VectorEngine> =
        Arc::new(FlatEngine::new(&crate::engine::Config::default(), model.identity().dimension).unwrap());
    let indexer = Indexer::new(ingest, store.clone(), model, Some(Arc::clone(&engine))).unwrap();
    (indexer, store, engine)
}

async fn first(store: &Store, engine: &dyn VectorEngine, vector: Vector) -> Option<String> {
    let request = Request { vector, limit: 1, filter: None, accuracy: Accuracy::Default, deadline: Deadline::NONE };
    let found = engine.search(request).await.unwrap().scored.first()?.id;
    Some(store.passages(vec![found]).await.unwrap().pop()?.document.to_string())
}

fn document(id: &str, text: &str) -> Document {
    Document {
        id: DocumentId::parse("id", id).unwrap(),
        source: String::new(),
        title: String::new(),
        text: text.to_owned(),
        date: None,
        kind: None,
        domain: None,
        metadata: Map::new(),
    }
}

fn counts(report: &Report) -> BTreeMap<&'static str, u64> {
    let all = [
        ("created", report.created),
        ("updated", report.updated),
        ("unchanged", report.unchanged),
        ("renamed", report.renamed),
        ("deleted", report.deleted),
        ("failed", report.failures.len() as u64),
    ];
    all.into_iter().filter(|(_, count)| *count > 0).collect()
}

#[tokio::test]
async fn files_become_documents_that_can_be_found() {
    let fixture = Fixture::new();
    fixture.write("whales.md", "---\ntags: [sea]\n---\n# Whales\nThe blue whale sings.\n");
    fixture.write("a/foxes.md", "# Foxes\nThe red fox runs. See [whales](../whales.md), [[whales]] and [[nobody]].\n");
    let report = fixture.ingest().await;
    assert_eq!(counts(&report), [("created", 2)].into());
    assert_eq!((report.documents, report.chunks, report.embedded), (2, 2, 2));
    assert_eq!((report.edges, report.references_dangling), (2, 1));
    assert_eq!(fixture.first("red fox").await.as_deref(), Some("a/foxes.md"));
    fixture.assert_in_step().await;
}

#[tokio::test]
async fn a_second_ingest_embeds_and_changes_nothing() {
    let fixture = Fixture::new();
    fixture.write("a.md", "# A\nwords");
    fixture.write("b.jsonl", "{\"_id\": \"1\", \"text\": \"one\"}\n{\"_id\": \"2\", \"text\": \"two\"}\n");
    fixture.ingest().await;
    let before = fixture.store.stats().await.unwrap();
    let report = fixture.ingest().await;
    assert_eq!((counts(&report), report.embedded), ([("unchanged", 3)].into(), 0));
    assert_eq!(fixture.store.stats().await.unwrap().chunks, before.chunks);
}

#[tokio::test]
async fn edits_and_deletions_show_in_the_next_search() {
    let fixture = Fixture::new();
    fixture.write("a.md", "red fox");
    fixture.write("b.md", "blue whale");
    fixture.ingest().await;
    fixture.write("b.md", "green frog");
    fixture.remove("a.md");
    assert_eq!(counts(&fixture.ingest().await), [("updated", 1), ("deleted", 1)].into());
    assert_eq!(fixture.first("red fox").await.as_deref(), Some("b.md"));
    assert_eq!(fixture.sources().await, ["b.md"]);
    fixture.assert_in_step().await;
}

#[tokio::test]
async fn a_renamed_file_is_not_embedded_again() {
    let fixture = Fixture::new();
    fixture.write("a.md", "# Title\nSee [b](b.md).");
    fixture.write("b.md", "# B\nother words");
    fixture.ingest().await;
    fixture.rename("b.md", "c/d.md");
    let report = fixture.ingest().await;
    assert_eq!((counts(&report), report.embedded), ([("unchanged", 1), ("renamed", 1)].into(), 0));
    assert_eq!((report.edges, report.references_dangling), (0, 1));
    assert_eq!(fixture.first("other words").await.as_deref(), Some("c/d.md"));
}

#[tokio::test]
async fn a_title_taken_from_the_name_changes_with_it() {
    let fixture = Fixture::new();
    fixture.write("old.md", "words without a heading");
    fixture.ingest().await;
    fixture.rename("old.md", "new.md");
    assert_eq!(counts(&fixture.ingest().await), [("created", 1), ("deleted", 1)].into());
    let (record, _) = fixture.store.document(DocumentId::parse("id", "new.md").unwrap()).await.unwrap();
    assert_eq!(record.title, "new");
}

#[tokio::test]
async fn bad_files_are_reported_and_the_rest_goes_on() {
    let fixture = Fixture::new();
    fixture.write("good.md", "words");
    fixture.write("empty.md", "");
    fixture.write("latin.md", b"caf\xe9");
    fixture.write("matter.md", "---\na: [\n---\nwords");
    fixture
        .write("lines.jsonl", "{\"_id\": \"1\", \"text\": \"one\"}\nnonsense\n{\"_id\": \"1\", \"text\": \"again\"}\n");
    let report = fixture.ingest().await;
    assert_eq!(counts(&report), [("created", 2), ("failed", 5)].into());
    let failed: Vec<&str> = report.failures.iter().map(|failure| failure.source.as_str()).collect();
    assert_eq!(failed, ["empty.md", "latin.md", "lines.jsonl:2", "lines.jsonl:3", "matter.md"]);
}

#[tokio::test]
async fn a_file_that_became_unreadable_is_kept() {
    let fixture = Fixture::new();
    fixture.write("a.md", "words");
    fixture.write("b.jsonl", "{\"_id\": \"1\", \"text\": \"one\"}\n{\"_id\": \"2\", \"text\": \"two\"}\n");
    fixture.ingest().await;
    fixture.write("a.md", b"\xff");
    fixture.write("b.jsonl", "{\"_id\": \"1\", \"text\": \"one\"}\nnonsense\n");
    fixture.ingest().await;
    assert_eq!(fixture.sources().await, ["a.md", "b.jsonl#1", "b.jsonl#2"]);
}

#[tokio::test]
async fn lines_that_are_gone_are_deleted_and_a_renamed_file_keeps_its_lines() {
    let fixture = Fixture::new();
    fixture.write("a.jsonl", "{\"_id\": \"1\", \"text\": \"one\"}\n{\"_id\": \"2\", \"text\": \"two\"}\n");
    fixture.ingest().await;
    fixture.write("a.jsonl", "{\"_id\": \"1\", \"text\": \"one\"}\n");
    assert_eq!(counts(&fixture.ingest().await), [("unchanged", 1), ("deleted", 1)].into());
    fixture.rename("a.jsonl", "b.jsonl");
    assert_eq!(counts(&fixture.ingest().await), [("renamed", 1)].into());
    assert_eq!(fixture.sources().await, ["b.jsonl#1"]);
}

#[tokio::test]
async fn an_id_of_another_document_is_refused() {
    let fixture = Fixture::new();
    fixture.write("a.jsonl", "{\"_id\": \"1\", \"text\": \"one\"}\n");
    fixture.write("b.jsonl", "{\"_id\": \"1\", \"text\": \"other\"}\n{\"_id\": \"2\", \"text\": \"two\"}\n");
    let report = fixture.ingest().await;
    assert_eq!(counts(&report), [("created", 2), ("failed", 1)].into());
    assert!(report.failures[0].reason.contains("already belongs to"), "{}", report.failures[0].reason);
    assert_eq!(fixture.sources().await, ["a.jsonl#1", "b.jsonl#2"]);
}

#[tokio::test]
async fn what_a_client_stored_survives_an_ingest() {
    let fixture = Fixture::new();
    fixture.indexer.upsert(document("by-a-client", "words")).await.unwrap();
    fixture.ingest().await;
    assert_eq!(fixture.sources().await, ["by-a-client"]);
}

#[tokio::test]
async fn missing_files_are_kept_when_asked() {
    let fixture = Fixture::new();
    fixture.write("a.md", "words");
    fixture.ingest().await;
    fixture.remove("a.md");
    let job = Job { keep_missing: true, ..fixture.job(&["."]) };
    fixture.indexer.run(job, Arc::new(Quiet)).await.unwrap();
    assert_eq!(fixture.sources().await, ["a.md"]);
    let report = fixture.indexer.run(fixture.job(&["a.md"]), Arc::new(Quiet)).await.unwrap();
    assert_eq!(counts(&report), [("deleted", 1)].into());
}

#[tokio::test]
async fn a_cancelled_run_deletes_nothing_and_the_next_one_ends_the_work() {
    let fixture = Fixture::new();
    fixture.write("gone.md", "words");
    fixture.ingest().await;
    fixture.remove("gone.md");
    fixture.write("new.md", "new words");
    let job = fixture.job(&["."]);
    job.cancel.cancel();
    let report = fixture.indexer.run(job, Arc::new(Quiet)).await.unwrap();
    assert!(report.cancelled);
    assert!(fixture.sources().await.contains(&"gone.md".to_owned()));
    fixture.ingest().await;
    assert_eq!(fixture.sources().await, ["new.md"]);
}

#[tokio::test]
async fn a_long_document_is_stored_whole() {
    let fixture = Fixture::new();
    let text: String = (0..20_000).map(|n| format!("word{n}{} ", if n % 9 == 0 { "." } else { "" })).collect();
    fixture.write("long.md", &text);
    let report = fixture.ingest().await;
    assert!(report.chunks > 60, "{}", report.chunks);
    let (_, stored) = fixture.store.document(DocumentId::parse("id", "long.md").unwrap()).await.unwrap();
    assert_eq!(stored, text);
}

#[tokio::test]
async fn an_upserted_document_is_found_at_once_and_not_embedded_twice() {
    let fixture = Fixture::new();
    let mut fox = document("fox", "# The fox\nThe red fox runs.");
    fox.metadata.insert("tags".into(), json!(["whale"]));
    assert_eq!(fixture.indexer.upsert(fox.clone()).await.unwrap().outcome, Outcome::Created);
    assert_eq!(fixture.first("red fox").await.as_deref(), Some("fox"));
    assert_eq!(fixture.indexer.upsert(fox.clone()).await.unwrap(), Upserted { outcome: Outcome::Unchanged, chunks: 1 });
    fox.text.push_str(" It sleeps.");
    assert_eq!(fixture.indexer.upsert(fox).await.unwrap().outcome, Outcome::Updated);
    let (record, _) = fixture.store.document(DocumentId::parse("id", "fox").unwrap()).await.unwrap();
    assert_eq!((record.title.as_str(), record.source.as_str()), ("The fox", "fox"));
    fixture.indexer.upsert(document("whale", "Whales sing.")).await.unwrap();
    fixture.indexer.weave().await.unwrap();
    assert_eq!(fixture.store.stats().await.unwrap().edges, 1);
    fixture.assert_in_step().await;
}

#[tokio::test]
async fn concurrent_upserts_are_all_stored() {
    let fixture = Fixture::new();
    let all = (0..200).map(|n| fixture.indexer.upsert(document(&format!("d{n}"), &format!("word{n} text"))));
    for upserted in futures::future::join_all(all).await {
        assert_eq!(upserted.unwrap().outcome, Outcome::Created);
    }
    assert_eq!(fixture.sources().await.len(), 200);
    fixture.assert_in_step().await;
}

#[tokio::test]
async fn a_deleted_document_is_found_no_more() {
    let fixture = Fixture::new();
    fixture.indexer.upsert(document("fox", "red fox")).await.unwrap();
    let id = DocumentId::parse("id", "fox").unwrap();
    fixture.indexer.delete(id.clone()).await.unwrap();
    assert_eq!(fixture.first("red fox").await, None);
    assert!(matches!(fixture.indexer.delete(id).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn documents_beyond_a_limit_are_refused() {
    let fixture = Fixture::new();
    for bad in [document("a", " "), document("b", "nul\0"), document("c", &"x ".repeat(9 << 20))] {
        assert!(matches!(fixture.indexer.upsert(bad).await, Err(Error::Invalid { .. })));
    }
    fixture.indexer.upsert(document("d", "words")).await.unwrap();
    let taken = Document { source: "d".into(), ..document("e", "words") };
    assert!(matches!(fixture.indexer.upsert(taken).await, Err(Error::Invalid { .. })));
}

#[tokio::test]
async fn what_another_process_wrote_is_caught_up_with() {
    let fixture = Fixture::new();
    fixture.write("a.md", "red fox");
    fixture.ingest().await;
    let (other, _, other_engine) = fixture.another_process();
    other.synchronise().await.unwrap();
    assert_eq!(other_engine.ids(), fixture.engine.ids());
    fixture.write("a.md", "blue whale");
    fixture.write("b.md", "green frog");
    fixture.ingest().await;
    other.synchronise().await.unwrap();
    assert_eq!(other_engine.ids(), fixture.engine.ids());
}

#[tokio::test]
async fn another_model_is_refused_until_everything_is_embedded_again() {
    let fixture = Fixture::new();
    fixture.write("a.md", "# A\nred fox");
    fixture.write("b.md", "# B\nblue whale");
    fixture.ingest().await;
    let other = Model::arithmetic(DIMENSION / 2);
    let (indexer, store, engine) = open(fixture.database.path(), other.clone());
    let refused = indexer.check_model().await.unwrap_err().to_string();
    assert!(refused.contains("dimension 64 ≠ 32") && refused.contains("amalfa reembed"), "{refused}");
    assert!(matches!(indexer.upsert(document("c", "words")).await, Err(Error::Setup { .. })));

    let stopped = CancellationToken::new();
    stopped.cancel();
    assert!(indexer.reembed(Arc::new(Quiet), stopped).await.unwrap().cancelled);
    assert!(indexer.check_model().await.unwrap_err().to_string().contains("not finished"));

    let report = indexer.reembed(Arc::new(Quiet), CancellationToken::new()).await.unwrap();
    assert_eq!(counts(&report), [("updated", 2)].into());
    indexer.check_model().await.unwrap();
    let query = other.embed_query("red fox".to_owned(), Deadline::NONE).await.unwrap().embedded.vector.clone().unwrap();
    assert_eq!(first(&store, engine.as_ref(), query).await.as_deref(), Some("a.md"));
    assert_eq!(counts(&indexer.run(fixture.job(&["."]), Arc::new(Quiet)).await.unwrap()), [("unchanged", 2)].into());
}

#[tokio::test]
async fn token_codes_are_stored_when_wanted_and_filled_in_by_embedding_again() {
    let database = tempfile::tempdir().unwrap();
    let stored = async |store: &Store| {
        let chunks: Vec<_> = store.embedded_chunks().await.unwrap().iter().map(ChunkId).collect();
        (chunks.len(), store.token_codes(chunks).await.unwrap().len())
    };
    let without = Config { token_codes: false, ..Config::default() };
    let (indexer, store, _) = open_with(&without, database.path(), model());
    indexer.upsert(document("a", "red fox")).await.unwrap();
    assert_eq!(stored(&store).await, (1, 0));

    let with = Config { token_codes: true, ..Config::default() };
    let (indexer, store, _) = open_with(&with, database.path(), model());
    indexer.upsert(document("b", "blue whale")).await.unwrap();
    assert_eq!(stored(&store).await, (2, 1));
    indexer.reembed(Arc::new(Quiet), CancellationToken::new()).await.unwrap();
    assert_eq!(stored(&store).await, (2, 2));
}

#[tokio::test]
async fn the_writer_ends_when_it_is_stopped() {
    let fixture = Fixture::new();
    assert!(fixture.indexer.healthy());
    fixture.indexer.stop().await.unwrap();
    assert!(matches!(fixture.indexer.upsert(document("a", "words")).await, Err(Error::Unavailable { .. })));
}
