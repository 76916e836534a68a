//! Putting, renaming and deleting.

use super::*;

#[tokio::test]
async fn a_reembedding_is_unfinished_until_every_document_was_put_again() {
    let home = Home::new().await;
    home.put(document("a", &["text"])).await;
    home.put(document("b", &["text"])).await;
    let identity = home.store.model_identity().await.unwrap().unwrap();
    home.store.begin_reembedding(identity).await.unwrap();
    assert_eq!(home.store.stale(10).await.unwrap(), [id("a"), id("b")]);
    home.put(document("a", &["text"])).await;
    assert_eq!(home.store.stale(10).await.unwrap(), [id("b")]);
    home.put(document("b", &["text"])).await;
    assert!(home.store.stale(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_put_document_reads_back_whole() {
    let home = Home::new().await;
    let prepared = with_metadata(document("a", &["one ", "two"]), serde_json::json!({"tags": ["x"], "n": 1.5}));
    let committed = home.put(prepared.clone()).await;
    assert_eq!(committed.outcomes, [Outcome::Created]);
    assert_eq!(committed.added.len(), 2);
    assert!(committed.removed.is_empty());

    let (record, text) = home.store.document(id("a")).await.unwrap();
    let stored = &prepared.document;
    assert_eq!(text, "one two");
    assert_eq!((&record.id, &record.source, &record.title), (&stored.id, &stored.source, &stored.title));
    assert_eq!((&record.date, &record.kind, &record.domain), (&stored.date, &stored.kind, &stored.domain));
    assert_eq!((&record.metadata, &record.content_hash), (&stored.metadata, &prepared.content_hash));
    assert_eq!((record.chunks, record.created), (2, record.updated));
}

#[tokio::test]
async fn a_replaced_document_keeps_its_creation_and_its_edges_and_gets_new_numbers() {
    let home = Home::new().await;
    let first = home.put(document("a", &["one", "two"])).await;
    home.put(document("b", &["other"])).await;
    home.store.replace_edges(vec![edge("b", "a")], 0).await.unwrap();
    home.beside().execute_batch("UPDATE documents SET created_ms = 1000, updated_ms = 1000").unwrap();

    let second = home.put(document("a", &["three"])).await;
    assert_eq!(second.outcomes, [Outcome::Updated]);
    assert_eq!(second.removed, numbers(&first.added));
    assert!(numbers(&second.added).iter().all(|new| first.added.iter().all(|(old, _)| new > old)));

    let (record, text) = home.store.document(id("a")).await.unwrap();
    assert_eq!(text, "three");
    assert_eq!(record.created.as_millisecond(), 1_000);
    assert!(record.updated > record.created);
    assert_eq!(home.store.stats().await.unwrap().edges, 1);
}

#[tokio::test]
async fn a_number_is_never_used_twice() {
    let home = Home::new().await;
    let mut last = ChunkId(0);
    for _ in 0..3 {
        let committed = home.put(document("a", &["one"])).await;
        assert!(committed.added[0].0 > last);
        last = committed.added[0].0;
        home.store.write(vec![Write::Delete(id("a"))]).await.unwrap();
    }
}

#[tokio::test]
async fn a_deleted_document_takes_everything_with_it() {
    let home = Home::new().await;
    let mut prepared = document("a", &["one", "two"]);
    prepared.references = vec![reference("b.md")];
    let committed = home.put(prepared).await;
    home.put(document("b", &["other"])).await;
    home.store.replace_edges(vec![edge("a", "b"), edge("b", "a")], 0).await.unwrap();

    let deleted = home.store.write(vec![Write::Delete(id("a")), Write::Delete(id("a"))]).await.unwrap();
    assert_eq!(deleted.outcomes, [Outcome::Done, Outcome::NotFound]);
    assert_eq!(deleted.removed, numbers(&committed.added));
    let stats = home.store.stats().await.unwrap();
    assert_eq!((stats.documents, stats.chunks, stats.embeddings, stats.edges), (1, 1, 1, 0));
    assert!(matches!(home.store.document(id("a")).await, Err(Error::NotFound { .. })));
    let left: u64 = home.beside().query_row("SELECT count(*) FROM refs", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn token_codes_come_and_go_with_their_chunk() {
    let home = Home::new().await;
    let with_codes = |text: &'static str| {
        let mut prepared = document("a", &[text, "without"]);
        prepared.chunks[0].token_codes = Some(text.as_bytes().to_vec());
        prepared
    };
    let first = numbers(&home.put(with_codes("one")).await.added);
    assert_eq!(home.store.token_codes(first.clone()).await.unwrap(), [(first[0], b"one".to_vec())]);

    let second = numbers(&home.put(with_codes("two")).await.added);
    let both = [first, second.clone()].concat();
    assert_eq!(home.store.token_codes(both.clone()).await.unwrap(), [(second[0], b"two".to_vec())]);

    home.store.write(vec![Write::Delete(id("a"))]).await.unwrap();
    assert!(home.store.token_codes(both).await.unwrap().is_empty());
    let left: u64 = home.beside().query_row("SELECT count(*) FROM token_codes", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_renamed_document_keeps_chunks_and_edges() {
    let home = Home::new().await;
    let committed = home.put(document("a", &["one"])).await;
    home.put(document("b", &["other"])).await;
    home.store.replace_edges(vec![edge("b", "a")], 0).await.unwrap();

    let rename = |from, to, source: &str| Write::Rename { from: id(from), to: id(to), source: source.into() };
    let renamed = home.store.write(vec![rename("a", "c", "c.md"), rename("a", "d", "d.md")]).await.unwrap();
    assert_eq!(renamed.outcomes, [Outcome::Done, Outcome::NotFound]);
    assert!(renamed.added.is_empty() && renamed.removed.is_empty());
    let passages = home.store.passages(numbers(&committed.added)).await.unwrap();
    assert_eq!((passages[0].document.as_str(), passages[0].source.as_str()), ("c", "c.md"));
    assert_eq!(home.store.stats().await.unwrap().edges, 1);
}

#[tokio::test]
async fn a_taken_source_or_id_leaves_the_step_out_and_the_others_apply() {
    let home = Home::new().await;
    home.put(document("a", &["one"])).await;
    home.put(document("b", &["two"])).await;
    let mut thief = document("c", &["three"]);
    thief.document.source = "a.md".into();
    let steps = vec![
        put(thief),
        Write::Rename { from: id("b"), to: id("a"), source: "b.md".into() },
        Write::Rename { from: id("b"), to: id("z"), source: "a.md".into() },
        put(document("d", &["four"])),
    ];
    let committed = home.store.write(steps).await.unwrap();
    let taken = Outcome::SourceTaken(id("a"));
    assert_eq!(committed.outcomes, [taken.clone(), taken.clone(), taken, Outcome::Created]);
    let known: Vec<_> = home.store.known().await.unwrap().into_iter().map(|known| known.source).collect();
    assert_eq!(known, ["a.md", "b.md", "d.md"]);
}

#[tokio::test]
async fn what_one_transaction_adds_and_removes_is_not_announced_as_added() {
    let home = Home::new().await;
    let steps = vec![put(document("a", &["one"])), put(document("a", &["two"]))];
    let committed = home.store.write(steps).await.unwrap();
    assert_eq!(committed.outcomes, [Outcome::Created, Outcome::Updated]);
    assert_eq!(committed.added.len(), 1);
    assert!(!committed.removed.contains(&committed.added[0].0));
}

#[tokio::test]
async fn a_vector_of_another_dimension_writes_nothing() {
    let home = Home::empty();
    let unannounced = home.store.write(vec![put(document("a", &["one"]))]).await;
    assert!(matches!(unannounced, Err(Error::Internal { .. })), "{unannounced:?}");
    home.store.set_model_identity(identity(DIMENSION + 1)).await.unwrap();
    let refused = home.store.write(vec![put(document("a", &["one"]))]).await;
    assert!(matches!(refused, Err(Error::Internal { .. })), "{refused:?}");
    assert_eq!(home.store.stats().await.unwrap().documents, 0);
}

#[tokio::test]
async fn a_full_disk_rolls_back_and_loses_nothing() {
    let home = Home::new().await;
    home.put(document("a", &["one"])).await;
    let limit = |pages: i64| {
        home.store.writer.run(move |connection| {
            Ok(connection.pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, i64>(0))?)
        })
    };
    limit(1).await.unwrap(); // as low as it goes: the present size
    let big = document("b", &[&"text ".repeat(100_000)]);
    let refused = home.store.write(vec![put(big.clone())]).await;
    assert!(matches!(&refused, Err(Error::Setup { message, .. }) if message.contains("no space")), "{refused:?}");
    assert_eq!(home.store.known().await.unwrap().len(), 1);
    limit(1_000_000).await.unwrap();
    assert_eq!(home.put(big).await.outcomes, [Outcome::Created]);
}

#[tokio::test]
async fn edges_are_written_as_a_difference() {
    let home = Home::new().await;
    for name in ["a", "b", "c"] {
        home.put(document(name, &["text"])).await;
    }
    let graph = vec![edge("a", "b"), edge("b", "c"), edge("a", "gone"), edge("a", "b")];
    assert_eq!(home.store.replace_edges(graph.clone(), 4).await.unwrap(), (2, 0));
    assert_eq!(home.store.stats().await.unwrap().references_dangling, 4);

    let other = Store::open(&config_in(&home.folder)).unwrap();
    let version = other.data_version().await.unwrap();
    assert_eq!(home.store.replace_edges(graph, 4).await.unwrap(), (0, 0));
    assert_eq!(other.data_version().await.unwrap(), version, "an unchanged graph writes nothing");
    assert_eq!(home.store.replace_edges(vec![edge("c", "a")], 0).await.unwrap(), (1, 2));
}

#[tokio::test]
async fn foreign_keys_and_checks_hold() {
    let home = Home::new().await;
    home.put(document("a", &["one"])).await;
    let nonsense = [
        "INSERT INTO edges (from_document, to_document, kind) VALUES (1, 999, 'cites')",
        "INSERT INTO embeddings (chunk, vector) VALUES (999, x'00')",
        "UPDATE embeddings SET vector = x''",
        "UPDATE documents SET metadata = '[]'",
        "UPDATE documents SET title = NULL",
    ];
    for sql in nonsense {
        let refused = home.store.transact(move |transaction| Ok(transaction.execute(sql, [])?)).await;
        assert!(matches!(refused, Err(Error::Internal { .. })), "{sql}: {refused:?}");
    }
}
