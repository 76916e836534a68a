//! Passages, vectors, text and pages.

use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::*;

#[tokio::test]
async fn passages_come_in_the_order_asked_without_those_that_are_gone() {
    let home = Home::new().await;
    let added = numbers(&home.put(document("a", &["one", "two", "three"])).await.added);
    let asked = vec![added[2], ChunkId(u64::MAX), added[0], ChunkId(999)];
    let passages = home.store.passages(asked).await.unwrap();
    let seen: Vec<_> = passages.iter().map(|p| (p.chunk, p.ordinal, p.text.as_str())).collect();
    assert_eq!(seen, [(added[2], 2, "three"), (added[0], 0, "one")]);
    assert_eq!(passages[1].heading_path, ["Title", "Part 0"]);
    assert_eq!(passages[1].date, Some(jiff::civil::date(2024, 2, 29)));
}

#[tokio::test]
async fn a_chunk_without_direction_is_stored_and_not_embedded() {
    let home = Home::new().await;
    let mut prepared = document("a", &["one", "two"]);
    prepared.chunks[0].vector = None;
    let committed = home.put(prepared).await;
    assert_eq!(committed.added.len(), 1);
    let stats = home.store.stats().await.unwrap();
    assert_eq!((stats.chunks, stats.embeddings), (2, 1));
    assert_eq!(home.store.embedded_chunks().await.unwrap().iter().collect::<Vec<_>>(), [committed.added[0].0.0]);
    assert_eq!(home.store.document(id("a")).await.unwrap().1, "onetwo");
}

#[tokio::test]
async fn vectors_read_back_as_they_were_written() {
    let home = Home::new().await;
    let added = home.put(document("a", &["one", "two"])).await.added;
    let mut asked = numbers(&added);
    asked.push(ChunkId(999));
    assert_eq!(home.store.vectors(asked).await.unwrap(), added);
    let of_document = home.store.document_vectors(id("a")).await.unwrap();
    assert_eq!(of_document, added.iter().map(|(_, vector)| vector.clone()).collect::<Vec<_>>());
    assert!(matches!(home.store.document_vectors(id("b")).await, Err(Error::NotFound { .. })));
}

/// Scans a store; returns the count that it gave, and the batches.
async fn scan(store: &Store) -> (u64, Vec<Vec<(ChunkId, Vector)>>) {
    let batches = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&batches);
    let count = store.scan_vectors(move |batch| sink.lock().unwrap().push(batch)).await.unwrap();
    let batches = std::mem::take(&mut *batches.lock().unwrap());
    (count, batches)
}

#[tokio::test]
async fn a_scan_delivers_every_vector_once_in_batches() {
    let home = Home::new().await;
    let texts = vec!["text"; 2_500];
    let added = home.put(document("a", &texts)).await.added;
    let (count, batches) = scan(&home.store).await;
    assert_eq!(count, 2_500);
    assert!(batches.iter().all(|batch| batch.len() <= 300 && batch.is_sorted_by_key(|(chunk, _)| *chunk)));
    let mut scanned = batches.concat();
    scanned.sort_by_key(|(chunk, _)| *chunk);
    assert_eq!(scanned, added);
}

#[tokio::test]
async fn damaged_vectors_are_left_out() {
    let home = Home::new().await;
    let added = home.put(document("a", &["one", "two", "three", "four"])).await.added;
    let damage = |vector: &[u8], at: usize| {
        let sql = "UPDATE embeddings SET vector = ?1 WHERE chunk = ?2";
        home.beside().execute(sql, (vector, added[at].0.0)).unwrap();
    };
    damage(&[0; 4 * DIMENSION], 0);
    damage(&f32::NAN.to_le_bytes().repeat(DIMENSION), 1);
    damage(&[1, 2, 3], 2);
    let sound = vec![added[3].clone()];
    assert_eq!(scan(&home.store).await, (1, vec![sound.clone()]));
    assert_eq!(home.store.vectors(numbers(&added)).await.unwrap(), sound);
    assert_eq!(home.store.document_vectors(id("a")).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_store_without_model_has_no_vectors() {
    let home = Home::empty();
    assert_eq!(scan(&home.store).await.0, 0);
    assert!(home.store.vectors(vec![ChunkId(1)]).await.unwrap().is_empty());
}

#[tokio::test]
async fn pages_cover_every_document_once_in_order() {
    let home = Home::new().await;
    for name in ["d", "a", "ä", "c", "B"] {
        home.put(document(name, &["text"])).await;
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = home.store.documents(Filter::default(), after, 2).await.unwrap();
        assert_eq!(page.total, 5);
        seen.extend(page.documents.iter().map(|record| record.id.to_string()));
        after = page.next_after;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["B", "a", "c", "d", "ä"]);
}

#[tokio::test]
async fn a_last_page_that_is_full_has_no_next() {
    let home = Home::new().await;
    home.put(document("a", &["text"])).await;
    home.put(document("b", &["text"])).await;
    let page = home.store.documents(Filter::default(), None, 2).await.unwrap();
    assert_eq!((page.documents.len(), page.next_after), (2, None));
}

#[tokio::test]
async fn nodes_carry_what_they_mention() {
    let home = Home::new().await;
    let mut prepared = document("a", &["text"]);
    prepared.references = vec![reference("z.md"), reference("b.md"), reference("b.md")];
    home.put(prepared).await;
    home.put(document("b", &["text"])).await;
    let nodes = home.store.nodes().await.unwrap();
    let seen: Vec<_> = nodes.iter().map(|node| (node.id.as_str(), node.references.clone())).collect();
    assert_eq!(seen, [("a", vec![reference("b.md"), reference("z.md")]), ("b", vec![])]);
}

#[tokio::test]
async fn a_node_carries_its_aliases() {
    let home = Home::new().await;
    home.put(with_metadata(document("a", &["text"]), serde_json::json!({"aliases": ["Alpha", 3, "First"]}))).await;
    home.put(with_metadata(document("b", &["text"]), serde_json::json!({"aliases": "no list"}))).await;
    let nodes = home.store.nodes().await.unwrap();
    assert_eq!(nodes.iter().map(|node| node.aliases.clone()).collect::<Vec<_>>(), [vec!["Alpha", "First"], vec![]]);
}

#[tokio::test]
async fn a_document_without_chunks_has_an_empty_text() {
    let home = Home::new().await;
    home.put(document("a", &[])).await;
    let (record, text) = home.store.document(id("a")).await.unwrap();
    assert_eq!((record.chunks, text.as_str()), (0, ""));
}

#[tokio::test]
async fn an_overlap_beyond_its_text_is_damage_and_no_panic() {
    let home = Home::new().await;
    home.put(document("a", &["text"])).await;
    home.beside().execute_batch("UPDATE chunks SET overlap = 99").unwrap();
    let refused = home.store.document(id("a")).await;
    assert!(matches!(refused, Err(Error::Internal { .. })), "{refused:?}");
}

#[test]
fn counting_and_filtering_never_read_text_or_vectors() {
    let home = Home::empty();
    let sql = "EXPLAIN QUERY PLAN SELECT c.id FROM documents AS d CROSS JOIN chunks AS c ON c.document = d.key
        CROSS JOIN embeddings AS e INDEXED BY embedding_numbers ON e.chunk = c.id WHERE d.date > '2024'";
    let connection = home.beside();
    let mut statement = connection.prepare(sql).unwrap();
    let plan: Vec<String> = statement.query_map([], |row| row.get(3)).unwrap().map(Result::unwrap).collect();
    assert!(plan.iter().filter(|step| !step.contains(" d")).all(|step| step.contains("COVERING INDEX")), "{plan:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Cuts a text at any characters, with any overlaps: reading it back gives the text.
    #[test]
    fn a_text_is_rebuilt_from_overlapping_chunks(text in "\\PC{0,60}", cuts in prop::collection::vec((0_usize..60, 0_usize..9), 0..6)) {
        let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let mut cuts: Vec<_> = cuts.into_iter().map(|(at, back)| (at % starts.len(), back)).collect();
        cuts.sort_unstable();
        let (mut prepared, mut done) = (document("a", &[]), 0_usize);
        for (ordinal, (at, back)) in cuts.into_iter().chain([(starts.len() - 1, 3)]).enumerate() {
            let from = starts[done.saturating_sub(back)];
            prepared.chunks.push(Chunk {
                ordinal: ordinal as u32,
                heading_path: vec![],
                text: text[from..starts[at]].into(),
                overlap: (starts[done] - from) as u32,
                tokens: 0,
                vector: None,
                token_codes: None,
            });
            done = at;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let read = runtime.block_on(async {
            let home = Home::new().await;
            home.put(prepared).await;
            home.store.document(id("a")).await.unwrap().1
        });
        prop_assert_eq!(read, text);
    }
}
