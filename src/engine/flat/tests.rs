//! The engine against a plain map, on hard sets, while written, and at its edges.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use proptest::prelude::*;

use super::*;
use crate::domain::{ChunkId, Deadline};
use crate::engine::kernels::Kernels;
use crate::engine::{Scored, top};

/// Small, so that a few dozen vectors already fill, merge and compact segments.
const SEGMENT_ROWS_MAX: usize = 16;

fn engine() -> FlatEngine {
    with_threads(2, 8)
}

/// Every search goes to the pool.
fn with_threads(threads: usize, waiting_max: usize) -> FlatEngine {
    let layout = Layout {
        segment_rows_max: SEGMENT_ROWS_MAX,
        sketch_rows_min: 4,
        coordinates_here_max: (0, 0),
        ..Layout::new(3)
    };
    FlatEngine::with_layout(&Config { threads, waiting_max, ..Config::default() }, layout).unwrap()
}

fn vector(values: [f32; 3]) -> Vector {
    Vector::normalise("vector", values.to_vec()).unwrap().unwrap()
}

fn request(vector: Vector, limit: usize) -> Request {
    Request { vector, limit, filter: None, accuracy: Accuracy::Default, deadline: Deadline::NONE }
}

fn added(vectors: impl IntoIterator<Item = (u64, Vector)>) -> Change {
    Change { added: vectors.into_iter().map(|(id, v)| (ChunkId(id), v)).collect(), removed: Vec::new() }
}

fn removed(ids: impl IntoIterator<Item = u64>) -> Change {
    Change { added: Vec::new(), removed: ids.into_iter().map(ChunkId).collect() }
}

/// Few directions, so that equal vectors and equal scores are common.
fn directions() -> impl Strategy<Value = Vector> {
    prop::array::uniform3(-2i8..3)
        .prop_filter_map("no direction", |values| Vector::normalise("vector", values.map(f32::from).to_vec()).unwrap())
}

/// Mostly neighbours, as a store numbers them, now and then beyond the 32 bits that a segment spans.
fn ids() -> impl Strategy<Value = u64> {
    prop_oneof![20 => 0u64..120, 1 => (1u64 << 32)..(1 << 32) + 8]
}

#[derive(Debug, Clone)]
enum Step {
    Apply(Vec<(u64, Vector)>, Vec<u64>),
    Search(Vector, usize, Option<Vec<u64>>),
}

fn steps() -> impl Strategy<Value = Step> {
    let apply = (prop::collection::vec((ids(), directions()), 0..24), prop::collection::vec(ids(), 0..24));
    let search = (directions(), 0usize..60, prop::option::of(prop::collection::vec(ids(), 0..80)));
    prop_oneof![
        apply.prop_map(|(added, removed)| Step::Apply(added, removed)),
        search.prop_map(|(vector, limit, filter)| Step::Search(vector, limit, filter)),
    ]
}

/// What the engine has to do, said plainly.
fn naive_apply(model: &mut BTreeMap<u64, Vector>, added: &[(u64, Vector)], removed: &[u64]) {
    for (id, vector) in added {
        model.entry(*id).or_insert_with(|| vector.clone());
    }
    removed.iter().for_each(|id| drop(model.remove(id)));
}

fn naive_search(model: &BTreeMap<u64, Vector>, query: &Vector, limit: usize, filter: Option<&IdSet>) -> Vec<Scored> {
    let mut scored: Vec<Scored> = model
        .iter()
        .filter(|(id, _)| filter.is_none_or(|filter| filter.contains(**id)))
        .map(|(id, v)| Scored { id: ChunkId(*id), score: Kernels::best().dot(v.as_slice(), query.as_slice()) })
        .collect();
    scored.sort_by(top::best_first);
    scored.truncate(limit);
    scored
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn engine_equals_a_plain_map(steps in prop::collection::vec(steps(), 1..24)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (engine, mut model) = (engine(), BTreeMap::new());
        for step in steps {
            match step {
                Step::Apply(added, removed) => {
                    // Vectors never change under their id: what was held once keeps its vector.
                    naive_apply(&mut model, &added, &removed);
                    let added = added.into_iter().map(|(id, v)| (ChunkId(id), v)).collect();
                    let removed = removed.into_iter().map(ChunkId).collect();
                    runtime.block_on(engine.apply(Change { added, removed })).unwrap();
                }
                Step::Search(vector, limit, filter) => {
                    let filter: Option<IdSet> = filter.map(|ids| ids.into_iter().collect());
                    let expected = naive_search(&model, &vector, limit, filter.as_ref());
                    let found = runtime.block_on(engine.search(Request { filter, ..request(vector, limit) })).unwrap();
                    prop_assert_eq!(found.scored, expected);
                }
            }
            prop_assert_eq!(engine.ids(), model.keys().copied().collect::<IdSet>());
            prop_assert_eq!(engine.stats().vectors, model.len() as u64);
        }
    }
}

#[tokio::test]
async fn an_empty_engine_finds_nothing() {
    let found = engine().search(request(vector([1.0, 0.0, 0.0]), 10)).await.unwrap();
    assert_eq!((found.scored.len(), found.scanned), (0, 0));
}

#[tokio::test]
async fn one_vector_is_found_with_its_cosine() {
    let engine = engine();
    engine.apply(added([(7, vector([3.0, 4.0, 0.0]))])).await.unwrap();
    let found = engine.search(request(vector([1.0, 0.0, 0.0]), usize::MAX)).await.unwrap();
    assert_eq!(found.scored.len(), 1);
    assert_eq!((found.scored[0].id, found.scanned), (ChunkId(7), 1));
    assert!((found.scored[0].score - 0.6).abs() < 1e-6);
}

#[tokio::test]
async fn equal_vectors_come_in_order_of_id() {
    let engine = engine();
    engine.apply(added((0..100).rev().map(|id| (id, vector([1.0, 2.0, 3.0]))))).await.unwrap();
    let found = engine.search(request(vector([1.0, 0.0, 0.0]), 40)).await.unwrap();
    assert!(found.scored.iter().map(|scored| scored.id.0).eq(0..40));
}

#[tokio::test]
async fn a_filter_bounds_the_work() {
    let engine = engine();
    engine.apply(added((0..100).map(|id| (id, vector([1.0, id as f32, 0.0]))))).await.unwrap();
    let filter = Some([3, 50, 51, 1_000].into_iter().collect());
    let found = engine.search(Request { filter, ..request(vector([1.0, 0.0, 0.0]), 10) }).await.unwrap();
    assert!(found.scored.iter().map(|scored| scored.id.0).eq([3, 50, 51]));
    assert_eq!(found.scanned, 3);
}

#[tokio::test]
async fn a_wrong_dimension_names_the_field_and_changes_nothing() {
    let engine = engine();
    let short = Vector::normalise("vector", vec![1.0]).unwrap().unwrap();
    let error = engine.search(request(short.clone(), 1)).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { field, .. } if field == "query.vector"));
    let change = added([(1, vector([1.0, 0.0, 0.0])), (2, short)]);
    assert_eq!(engine.apply(change).await.unwrap_err().kind(), "internal");
    assert_eq!(engine.stats().vectors, 0);
}

#[tokio::test]
async fn a_search_past_its_deadline_is_refused() {
    let engine = engine();
    engine.apply(added([(1, vector([1.0, 0.0, 0.0]))])).await.unwrap();
    let expired = Request { deadline: Deadline::after(Duration::ZERO), ..request(vector([1.0, 0.0, 0.0]), 1) };
    assert_eq!(engine.search(expired).await.unwrap_err().kind(), "deadline");
}

#[tokio::test]
async fn removing_gives_the_memory_back() {
    let engine = engine();
    let vectors = |ids: std::ops::Range<u64>| ids.map(|id| (id, vector([1.0, id as f32, 0.0])));
    engine.apply(added(vectors(0..1_000))).await.unwrap();
    let full = engine.stats().bytes;
    engine.apply(removed(0..900)).await.unwrap();
    assert!(engine.stats().bytes < full / 4, "{} of {full} bytes left", engine.stats().bytes);
    engine.apply(removed(900..1_000)).await.unwrap();
    assert_eq!(engine.stats().vectors, 0);
}

#[tokio::test]
async fn vectors_added_one_by_one_lie_in_few_segments() {
    let engine = engine();
    for id in 0..1_000 {
        engine.apply(added([(id, vector([1.0, id as f32, 0.0]))])).await.unwrap();
    }
    let segments = engine.shared.current.load().segments().len();
    assert!(segments <= 2 * 1_000 / SEGMENT_ROWS_MAX, "{segments} segments");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_see_whole_changes_while_a_writer_writes() {
    let engine = Arc::new(engine());
    let readers = [(); 3].map(|()| {
        let engine = Arc::clone(&engine);
        tokio::spawn(async move {
            let mut seen = 0;
            while seen < 400 {
                let found = engine.search(request(vector([1.0, 0.0, 0.0]), 1_000)).await.unwrap();
                assert_eq!(found.scored.len() % 2, 0, "a pair was seen by half");
                assert!(found.scored.len() >= seen, "something visible vanished");
                seen = found.scored.len();
            }
        })
    });
    for id in 0..200 {
        let pair = [(2 * id, vector([1.0, 0.0, 0.0])), (2 * id + 1, vector([0.0, 1.0, 0.0]))];
        engine.apply(added(pair)).await.unwrap();
    }
    for reader in readers {
        reader.await.unwrap();
    }
}

#[tokio::test]
async fn searches_at_once_answer_like_one_by_one() {
    let engine = with_threads(1, 64);
    engine.apply(added((0..500).map(|id| (id, vector([1.0, (id as f32).sin(), (id as f32).cos()]))))).await.unwrap();
    let requests: Vec<Request> = (0..20)
        .map(|at| Request {
            filter: (at % 3 == 0).then(|| (at..400).collect()),
            accuracy: if at % 4 == 0 { Accuracy::Exact } else { Accuracy::Default },
            ..request(vector([1.0, at as f32, 2.0]), at as usize)
        })
        .collect();
    let together = try_join_all(requests.iter().cloned().map(|request| engine.search(request))).await.unwrap();
    for (request, found) in requests.into_iter().zip(together) {
        assert_eq!(engine.search(request).await.unwrap().scored, found.scored);
    }
}

#[tokio::test]
async fn one_that_gives_up_does_not_take_the_others_with_it() {
    let engine = with_threads(1, 64);
    engine.apply(added((0..500).map(|id| (id, vector([1.0, (id as f32).sin(), (id as f32).cos()]))))).await.unwrap();
    let expired = Deadline::after(Duration::ZERO);
    let searches = (0..20).map(|at| {
        let deadline = if at % 2 == 0 { expired } else { Deadline::NONE };
        engine.search(Request { deadline, ..request(vector([1.0, 1.0, 2.0]), 5) })
    });
    for (at, found) in join_all(searches).await.into_iter().enumerate() {
        assert_eq!(found.map_err(|error| error.kind()).map(|f| f.scored.len()), [Err("deadline"), Ok(5)][at % 2]);
    }
}

/// Returns something without a pattern, in (-1, 1).
fn noise(row: usize, at: usize) -> f32 {
    (((row * 64 + at) as f32 * 12.9898).sin() * 43_758.547).fract()
}

/// Sets on which estimates are hard: the default mode has to find what an exact search finds.
#[tokio::test]
async fn the_default_mode_equals_the_exact_one_on_adversarial_sets() {
    const DIMENSION: usize = 64;
    type Shape = Box<dyn Fn(usize, usize) -> f32>;
    let shapes: [(&str, Shape); 6] = [
        ("noise", Box::new(noise)),
        ("all equal", Box::new(|_, at| at as f32 + 1.0)),
        ("eight clusters of near duplicates", Box::new(|row, at| noise(row % 8, at) + 1e-3 * noise(row, at))),
        ("one coordinate each", Box::new(|row, at| f32::from(u8::from(row % DIMENSION == at)))),
        ("opposites", Box::new(|row, at| if row % 2 == 0 { noise(row, at) } else { -noise(row - 1, at) })),
        ("one outlier", Box::new(|row, at| if row == 700 { noise(1, at) } else { 1.0 + 0.01 * noise(row, at) })),
    ];
    for (name, shape) in shapes {
        let layout = Layout { segment_rows_max: 512, ..Layout::new(DIMENSION) };
        let engine =
            FlatEngine::with_layout(&Config { threads: 2, waiting_max: 8, ..Config::default() }, layout).unwrap();
        let make = |row: usize| {
            Vector::normalise("vector", (0..DIMENSION).map(|at| shape(row, at)).collect()).unwrap().unwrap()
        };
        engine.apply(added((0..1_500).map(|row| (row as u64, make(row))))).await.unwrap();
        for row in (0..1_500).step_by(50) {
            let exact = Request { accuracy: Accuracy::Exact, ..request(make(row), 10) };
            let expected = engine.search(exact).await.unwrap().scored;
            let found = engine.search(request(make(row), 10)).await.unwrap();
            assert_eq!(found.scored, expected, "{name}, query {row}");
        }
    }
}

#[tokio::test]
async fn oversampling_bounds_the_exact_comparisons() {
    const DIMENSION: usize = 64;
    let engine = FlatEngine::new(&Config { threads: 1, waiting_max: 1, ..Config::default() }, DIMENSION).unwrap();
    let make =
        |row: usize| Vector::normalise("vector", (0..DIMENSION).map(|at| noise(row, at)).collect()).unwrap().unwrap();
    engine.apply(added((0..1_000).map(|row| (row as u64, make(row))))).await.unwrap();
    let found = engine.search(Request { accuracy: Accuracy::Oversample(3), ..request(make(5), 10) }).await.unwrap();
    assert_eq!((found.scored.len(), found.scored[0].id, found.scanned), (10, ChunkId(5), 1_000));
    assert!(found.compared <= 30, "{} compared", found.compared);
}

#[tokio::test]
async fn mapped_vectors_cost_no_heap_and_are_found_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout { segment_rows_max: 512, mapped_folder: Some(folder.path().into()), ..Layout::new(64) };
    let mapped = FlatEngine::with_layout(&Config::default(), layout).unwrap();
    let plain = FlatEngine::new(&Config::default(), 64).unwrap();
    let make = |row: usize| Vector::normalise("vector", (0..64).map(|at| noise(row, at)).collect()).unwrap().unwrap();
    for engine in [&mapped, &plain] {
        engine.apply(added((0..1_024).map(|row| (row as u64, make(row))))).await.unwrap();
        engine.apply(removed(0..300)).await.unwrap();
    }
    assert!(mapped.stats().bytes < 1_024 * 64 * 4 / 2, "{} bytes", mapped.stats().bytes);
    for row in (0..1_024).step_by(100) {
        let (a, b) = (mapped.search(request(make(row), 5)).await, plain.search(request(make(row), 5)).await);
        assert_eq!(a.unwrap().scored, b.unwrap().scored);
    }
}
