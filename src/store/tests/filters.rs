//! What each condition finds.

use serde_json::json;

use super::*;
use crate::domain::{Condition, Test};

async fn library() -> Home {
    let home = Home::new().await;
    let mut untitled = document("c", &["three"]);
    untitled.document.title = String::new();
    untitled.document.kind = None;
    untitled.document.date = None;
    untitled.document.domain = Some("2024".into());
    let documents = [
        with_metadata(
            document("a", &["one", "uno"]),
            json!({"n": 1, "on": true, "tags": ["x", "y", 7], "deep": {"er": "ground"}, "name": "apple", "no": null}),
        ),
        with_metadata(
            document("b", &["two"]),
            json!({"n": 2.5, "on": false, "tags": "x", "name": "banana", "a\"b\\c": "quoted", "when": "2024-05-01"}),
        ),
        with_metadata(untitled, json!({"n": "1", "tags": [], "on": 1, "deep": {"er": ["sky", true]}, "Größe": 3})),
    ];
    for document in documents {
        home.put(document).await;
    }
    home
}

fn any_of(field: &str, values: Value) -> Condition {
    Condition { field: field.into(), test: Test::AnyOf(values.as_array().unwrap().clone()) }
}

fn range(field: &str, from: Value, to: Value) -> Condition {
    let bound = |bound: Value| Some(bound).filter(|bound| !bound.is_null());
    Condition { field: field.into(), test: Test::Range { from: bound(from), to: bound(to) } }
}

fn exists(field: &str, wanted: bool) -> Condition {
    Condition { field: field.into(), test: Test::Exists(wanted) }
}

/// The documents that a filter lists, as one text.
async fn listed(home: &Home, all: Vec<Condition>) -> String {
    let filter = Filter { all }.validate().unwrap();
    let page = home.store.documents(filter.clone(), None, 10).await.unwrap();
    assert_eq!(page.total, page.documents.len() as u64, "{filter:?}");
    let chunks = home.store.matching(filter.clone()).await.unwrap();
    assert_eq!(chunks.len(), page.documents.iter().map(|record| u64::from(record.chunks)).sum::<u64>(), "{filter:?}");
    page.documents.iter().map(|record| record.id.as_str()).collect()
}

#[tokio::test]
async fn each_condition_finds_its_documents() {
    let home = library().await;
    let cases = [
        (any_of("id", json!(["a", "c", "zzz"])), "ac"),
        (any_of("source", json!(["b.md"])), "b"),
        (any_of("type", json!(["guide"])), "ab"),
        (any_of("domain", json!([2024])), ""),
        (any_of("domain", json!(["2024", 2024, true])), "c"),
        (any_of("metadata.n", json!([1])), "a"),
        (any_of("metadata.n", json!([1.0])), "a"),
        (any_of("metadata.n", json!(["1"])), "c"),
        (any_of("metadata.n", json!([1, 2.5, "1"])), "abc"),
        (any_of("metadata.on", json!([true])), "a"),
        (any_of("metadata.on", json!([false])), "b"),
        (any_of("metadata.on", json!([1])), "c"),
        (any_of("metadata.tags", json!(["x"])), "ab"),
        (any_of("metadata.tags", json!(["y", "z"])), "a"),
        (any_of("metadata.tags", json!([7])), "a"),
        (any_of("metadata.deep.er", json!(["ground"])), "a"),
        (any_of("metadata.deep.er", json!(["sky"])), "c"),
        (any_of("metadata.deep", json!(["ground"])), ""),
        (any_of("metadata.a\"b\\c", json!(["quoted"])), "b"),
        (any_of("metadata.Größe", json!([3])), "c"),
        (any_of("metadata.no.such", json!(["x"])), ""),
        (any_of("metadata.name", json!(["x' OR 1=1 --"])), ""),
        (any_of("metadata.' OR 1=1 --", json!(["x"])), ""),
        (range("date", json!("2024-01-01"), json!("2024-12-31")), "ab"),
        (range("date", json!("2024-03-01"), json!(null)), ""),
        (range("date", json!(null), json!("2024-02-29")), "ab"),
        (range("date", json!(2024), json!(null)), ""),
        (range("id", json!("b"), json!(null)), "bc"),
        (range("metadata.n", json!(1), json!(2)), "a"),
        (range("metadata.n", json!(0.5), json!(null)), "ab"),
        (range("metadata.n", json!("0"), json!(null)), "c"),
        (range("metadata.n", json!(0), json!("9")), ""),
        (range("metadata.on", json!(0), json!(1)), "c"),
        (range("metadata.name", json!("apple"), json!("b")), "a"),
        (range("metadata.when", json!("2024-05"), json!("2024-06")), "b"),
        (exists("date", true), "ab"),
        (exists("date", false), "c"),
        (exists("title", false), "c"),
        (exists("metadata.name", true), "ab"),
        (exists("metadata.name", false), "c"),
        (exists("metadata.deep", true), "ac"),
        (exists("metadata.deep.er", true), "ac"),
        (exists("metadata.tags", true), "abc"),
        (exists("metadata.no", true), ""),
    ];
    for (condition, wanted) in cases {
        let found = listed(&home, vec![condition.clone()]).await;
        assert_eq!(found, wanted, "{condition:?}");
    }
}

#[tokio::test]
async fn conditions_must_all_hold() {
    let home = library().await;
    assert_eq!(listed(&home, vec![]).await, "abc");
    assert_eq!(listed(&home, vec![any_of("type", json!(["guide"])), exists("metadata.when", true)]).await, "b");
    let contrary = vec![exists("date", true), exists("date", false)];
    assert_eq!(listed(&home, contrary).await, "");
}

#[tokio::test]
async fn the_most_conditions_and_values_fit_in_one_statement() {
    use crate::domain::limits::{FILTER_CONDITIONS_MAX, FILTER_VALUES_MAX};
    let home = library().await;
    let values: Vec<Value> = (0..FILTER_VALUES_MAX).map(|number| json!(number)).collect();
    let all = vec![any_of("metadata.n", Value::from(values)); FILTER_CONDITIONS_MAX];
    assert_eq!(listed(&home, all).await, "a");
}
