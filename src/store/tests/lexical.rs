//! What words find, and that the index of words keeps in step.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::*;
use crate::domain::{Deadline, LexicalSyntax};

fn words(text: &str) -> LexicalQuery {
    LexicalQuery {
        text: text.into(),
        syntax: LexicalSyntax::Words,
        allowed: None,
        limit: 1_000,
        deadline: Deadline::NONE,
    }
}

fn expression(text: &str) -> LexicalQuery {
    LexicalQuery { syntax: LexicalSyntax::Fts5, ..words(text) }
}

/// The documents found, best first, each passage's.
async fn found(home: &Home, query: LexicalQuery) -> Vec<String> {
    let scored = home.store.lexical(query).await.unwrap().scored;
    let passages = home.store.passages(scored.into_iter().map(|(chunk, _)| chunk).collect()).await.unwrap();
    passages.into_iter().map(|passage| passage.document.to_string()).collect()
}

/// Every occurrence of every word: what an index of words is.
fn occurrences(connection: &Connection, table: &str) -> Vec<(String, i64, String, i64)> {
    connection
        .execute_batch(&format!("CREATE VIRTUAL TABLE temp.seen USING fts5vocab (main, {table}, instance)"))
        .unwrap();
    let mut select = connection.prepare("SELECT term, doc, col, offset FROM temp.seen ORDER BY 1, 2, 3, 4").unwrap();
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
    let all = select.query_map([], row).unwrap().collect::<rusqlite::Result<_>>().unwrap();
    drop(select);
    connection.execute_batch("DROP TABLE temp.seen").unwrap();
    all
}

/// Panics unless the index is sound by FTS5's own check and what one made anew would be.
fn check_index(home: &Home) {
    let beside = home.beside();
    let check = "INSERT INTO passages (passages) VALUES ('integrity-check')";
    beside.execute_batch(check).unwrap();
    let anew = "CREATE VIRTUAL TABLE anew USING fts5 (title, headings, text, content = '',
            tokenize = 'porter unicode61 remove_diacritics 2');
        INSERT INTO anew (rowid, title, headings, text) SELECT id, title, headings, text FROM passage_words;";
    beside.execute_batch(anew).unwrap();
    assert_eq!(occurrences(&beside, "passages"), occurrences(&beside, "anew"));
    beside.execute_batch("DROP TABLE anew").unwrap();
}

#[tokio::test]
async fn a_passage_is_found_by_any_word_of_its_own_its_headings_and_its_title() {
    let home = Home::new().await;
    home.put(document("a", &["The tides are rising.", "Granite"])).await;
    home.put(document("b", &["Basalt"])).await;
    assert_eq!(found(&home, words("granite, or perhaps basalt?")).await.len(), 2);
    assert_eq!(found(&home, words("a tide")).await, ["a"], "by its stem");
    assert_eq!(found(&home, words("part")).await.len(), 3, "by its headings");
    assert_eq!(found(&home, words("b")).await, ["b"], "by its title");
    assert!(found(&home, words("absent")).await.is_empty());
}

#[tokio::test]
async fn scores_fall_and_stay_under_what_can_be_reached() {
    let home = Home::new().await;
    home.put(document("a", &["tide tide tide", "tide and moon", "moon", "sun"])).await;
    let LexicalFound { scored, score_max } = home.store.lexical(words("moon tide nowhere")).await.unwrap();
    assert_eq!(scored.len(), 3);
    assert!(scored.windows(2).all(|pair| pair[0].1 >= pair[1].1));
    assert!(scored.iter().all(|(_, score)| *score > 0.0 && *score < score_max));
}

#[tokio::test]
async fn a_filter_leaves_as_many_as_are_wanted() {
    let home = Home::new().await;
    let texts: Vec<_> = (0..50).map(|n| "tide ".repeat(50 - n)).collect();
    let committed = home.put(document("a", &texts.iter().map(String::as_str).collect::<Vec<_>>())).await;
    let last: Vec<_> = numbers(&committed.added).into_iter().rev().take(3).collect();
    let allowed = Some(last.iter().map(|chunk| chunk.0).collect());
    for query in [words("tide"), expression("tide")] {
        let query = LexicalQuery { allowed: Clone::clone(&allowed), limit: 3, ..query };
        let scored = home.store.lexical(query).await.unwrap().scored;
        assert_eq!(scored.iter().map(|(chunk, _)| *chunk).collect::<BTreeSet<_>>(), last.iter().copied().collect());
    }
}

#[tokio::test]
async fn leaving_out_the_hopeless_changes_nothing() {
    let home = Home::new().await;
    // Word n is in every passage whose number it divides, so there are common and rare ones in all mixtures.
    let text = |n: usize| {
        let words = (1..40).filter(|word| n.is_multiple_of(*word)).map(|word| format!("w{word} "));
        words.collect::<String>() + &"filler ".repeat(n % 17)
    };
    let texts: Vec<_> = (1..4_000).map(text).collect();
    home.put(document("a", &texts.iter().map(String::as_str).collect::<Vec<_>>())).await;
    for (text, limit) in [("w2 w3 w5 w7", 10), ("w1 w2", 100), ("w37 w2 w3 filler", 50), ("w36", 1)] {
        let fast = home.store.lexical(LexicalQuery { limit, ..words(text) }).await.unwrap().scored;
        let whole = home.store.lexical(expression(&text.replace(' ', " OR "))).await.unwrap().scored;
        assert_eq!(fast.len(), limit.min(whole.len()));
        let scores = |scored: &[(ChunkId, f32)]| scored.iter().take(limit).map(|(_, score)| *score).collect::<Vec<_>>();
        assert_eq!(scores(&fast), scores(&whole)[..fast.len()], "{text}");
    }
}

#[tokio::test]
async fn an_expression_means_what_fts5_says() {
    let home = Home::new().await;
    home.put(document("a", &["the moon pulls the sea"])).await;
    home.put(document("b", &["the sea pulls the moon"])).await;
    assert_eq!(found(&home, expression("\"moon pulls\"")).await, ["a"]);
    assert_eq!(found(&home, expression("title: b AND moo*")).await, ["b"]);
    assert_eq!(found(&home, expression("sea NOT \"moon pulls\"")).await, ["b"]);
    for wrong in ["\"open", "AND", "colour: red", "*reads", "(", "", "moon\0", "NEAR(moon sea, x)"] {
        let refused = home.store.lexical(expression(wrong)).await;
        assert!(
            matches!(&refused, Err(Error::Invalid { field, .. }) if field == "query.text"),
            "{wrong:?}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn a_search_without_time_ends() {
    let home = Home::new().await;
    home.put(document("a", &["tide"])).await;
    let query = LexicalQuery { deadline: Deadline::after(Duration::ZERO), ..words("tide") };
    assert!(matches!(home.store.lexical(query).await, Err(Error::Deadline { .. })));
}

#[tokio::test]
async fn a_new_title_is_found_and_the_old_one_is_not() {
    let home = Home::new().await;
    home.put(document("a", &["text"])).await;
    let mut renamed = document("a", &["text"]);
    renamed.document.title = "Basalt".into();
    home.put(renamed).await;
    assert_eq!((found(&home, words("basalt")).await.len(), found(&home, words("a title")).await.len()), (1, 1));
    home.beside().execute_batch("UPDATE documents SET title = 'Gneiss'").unwrap();
    assert_eq!(found(&home, words("gneiss")).await, ["a"]);
    assert!(found(&home, words("basalt")).await.is_empty());
    check_index(&home);
}

#[tokio::test]
async fn another_language_makes_the_index_anew() {
    let Home { store, folder } = Home::new().await;
    store.write(vec![put(document("a", &["tides"]))]).await.unwrap();
    store.close().unwrap();
    let config = |language| {
        let lexical = LexicalConfig { language, ..LexicalConfig::default() };
        Config { lexical, ..config_in(&folder) }
    };
    for (language, expected) in [(Language::None, 0), (Language::None, 0), (Language::English, 1)] {
        let store = Store::open(&config(language)).unwrap();
        assert_eq!(store.lexical(words("tide")).await.unwrap().scored.len(), expected, "{language:?}");
    }
}

#[tokio::test]
async fn a_database_of_version_1_gets_its_index() {
    let Home { store, folder } = Home::new().await;
    store.write(vec![put(document("a", &["tides"]))]).await.unwrap();
    store.close().unwrap();
    let config = config_in(&folder);
    let former = Connection::open(&config.path).unwrap();
    former
        .execute_batch(
            "DROP TABLE token_codes; DROP TRIGGER passage_words_added; DROP TRIGGER passage_words_removed; DROP TRIGGER passage_words_changed;
            DROP TRIGGER passage_words_titled; DROP VIEW passage_words; DROP TABLE passages;
            DELETE FROM meta WHERE key = 'lexical_tokenizer'; PRAGMA user_version = 1",
        )
        .unwrap();
    drop(former);
    let home = Home { store: Store::open(&config).unwrap(), folder };
    assert_eq!(found(&home, words("tide")).await, ["a"]);
    check_index(&home);
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, Vec<String>),
    Delete(u8),
    Rename(u8, u8),
}

fn step() -> impl Strategy<Value = Step> {
    let text = prop::collection::vec(prop::sample::select(vec!["tide", "moon", "sea", "granite"]), 0..4);
    let texts = prop::collection::vec(text.prop_map(|words| words.join(" ")), 0..4);
    prop_oneof![
        4 => (0..6u8, texts).prop_map(|(name, texts)| Step::Put(name, texts)),
        1 => (0..6u8).prop_map(Step::Delete),
        1 => (0..6u8, 0..6u8).prop_map(|(from, to)| Step::Rename(from, to)),
    ]
}

fn write(step: Step, model: &mut BTreeMap<u8, Vec<String>>) -> Write {
    match step {
        Step::Put(name, texts) => {
            let write = put(document(&name.to_string(), &texts.iter().map(String::as_str).collect::<Vec<_>>()));
            model.insert(name, texts);
            write
        }
        Step::Delete(name) => {
            model.remove(&name);
            Write::Delete(id(&name.to_string()))
        }
        Step::Rename(from, to) => {
            if !model.contains_key(&to) {
                model.remove(&from).map(|texts| model.insert(to, texts));
            }
            Write::Rename { from: id(&from.to_string()), to: id(&to.to_string()), source: format!("{to}.md") }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_index_is_in_step_whatever_is_written(steps in prop::collection::vec(step(), 1..40)) {
        Runtime::new().unwrap().block_on(async {
            let home = Home::new().await;
            let mut model = BTreeMap::new();
            for step in steps {
                home.store.write(vec![write(step, &mut model)]).await.unwrap();
            }
            check_index(&home);
            for word in ["tide", "moon", "sea", "granite"] {
                let expected = model.iter().flat_map(|(name, texts)| {
                    texts.iter().filter(|text| text.contains(word)).map(|_| name.to_string())
                });
                let mut found = found(&home, words(word)).await;
                found.sort();
                assert_eq!(found, expected.collect::<Vec<_>>(), "{word}");
            }
        });
    }

    #[test]
    fn no_text_is_ever_syntax(text in "\\PC{0,40}|[\"*():^{}+-]{0,12}|.{0,40}(AND|OR|NOT|NEAR)?\0?.{0,9}") {
        Runtime::new().unwrap().block_on(async {
            let home = Home::new().await;
            home.put(document("a", &[&text, "granite"])).await;
            home.store.lexical(words(&text)).await.unwrap();
            let with_granite = found(&home, words(&format!("{text} granite"))).await;
            assert!(!with_granite.is_empty(), "the text keeps another word from being found");
            let answer = home.store.lexical(expression(&text)).await;
            assert!(matches!(answer, Ok(_) | Err(Error::Invalid { .. })), "{answer:?}");
        });
    }
}
