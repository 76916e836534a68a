//! The cache with computations that count themselves.

use std::cell::Cell as Counter;
use std::time::Duration;

use futures::future::join;
use tokio::sync::oneshot;

use super::*;
use crate::domain::Vector;
use crate::error::Error;
use crate::model::Embedded;

fn query(seed: f32) -> EmbeddedQuery {
    let vector = Vector::normalise("vector", vec![1.0, seed, 2.0]).unwrap();
    EmbeddedQuery { embedded: Embedded { vector, tokens: 3, tokens_cut: 0 }, tokens: None }
}

fn cache() -> QueryCache {
    QueryCache::new(1 << 20)
}

async fn get(cache: &QueryCache, text: &str, computed: &Counter<u32>) -> Result<Arc<EmbeddedQuery>> {
    let compute = async {
        computed.set(computed.get() + 1);
        // Others get their turn while this one is under way.
        tokio::task::yield_now().await;
        Ok(query(computed.get() as f32))
    };
    cache.get(text, Deadline::NONE, compute).await
}

#[tokio::test]
async fn what_was_asked_before_is_not_computed_again() {
    let (cache, computed) = (cache(), Counter::new(0));
    let first = get(&cache, "one", &computed).await.unwrap();
    assert!(Arc::ptr_eq(&first, &get(&cache, "one", &computed).await.unwrap()));
    assert_ne!(first, get(&cache, "two", &computed).await.unwrap());
    assert_eq!(computed.get(), 2);
}

#[tokio::test]
async fn those_who_ask_at_once_share_one_computation() {
    let (cache, computed) = (cache(), Counter::new(0));
    let all = (0..20).map(|_| get(&cache, "one", &computed));
    let all = futures::future::try_join_all(all).await.unwrap();
    assert!(all.iter().all(|query| Arc::ptr_eq(query, &all[0])));
    assert_eq!(computed.get(), 1);
    assert!(cache.lock().under_way.is_empty());
}

#[tokio::test]
async fn an_error_is_not_kept_and_not_shared() {
    let (cache, computed) = (cache(), Counter::new(0));
    let failing = async {
        tokio::task::yield_now().await;
        Err(Error::Deadline { what: "the first caller" })
    };
    let (failed, next) = join(cache.get("one", Deadline::NONE, failing), get(&cache, "one", &computed)).await;
    assert!(matches!(failed, Err(Error::Deadline { .. })));
    assert_eq!(next.unwrap().embedded, query(1.0).embedded);
    assert_eq!(computed.get(), 1);
}

#[tokio::test]
async fn a_caller_who_goes_away_leaves_the_work_to_the_next() {
    let (cache, computed) = (cache(), Counter::new(0));
    let (never, waiting) = oneshot::channel::<EmbeddedQuery>();
    let leader = cache.get("one", Deadline::NONE, async { Ok(waiting.await.unwrap()) });
    let mut leader = Box::pin(leader);
    assert!(futures::poll!(leader.as_mut()).is_pending());
    let mut follower = Box::pin(get(&cache, "one", &computed));
    assert!(futures::poll!(follower.as_mut()).is_pending());
    drop(leader);
    assert!(follower.await.is_ok());
    assert_eq!(computed.get(), 1);
    assert!(never.is_closed() && cache.lock().under_way.is_empty());
}

#[tokio::test]
async fn a_follower_waits_no_longer_than_its_own_deadline() {
    let cache = cache();
    let mut leader = Box::pin(cache.get("one", Deadline::NONE, std::future::pending()));
    assert!(futures::poll!(leader.as_mut()).is_pending());
    let deadline = Deadline::after(Duration::from_millis(20));
    let follower = cache.get("one", deadline, std::future::pending()).await;
    assert!(matches!(follower, Err(Error::Deadline { .. })), "{follower:?}");
    drop(leader);
    assert!(cache.lock().under_way.is_empty());
}

#[tokio::test]
async fn the_bytes_are_bounded_and_the_longest_unasked_goes_first() {
    let entry = entry_bytes("0", &query(0.0));
    let (cache, computed) = (QueryCache::new(3 * entry), Counter::new(0));
    for text in ["0", "1", "2", "0", "3"] {
        get(&cache, text, &computed).await.unwrap();
    }
    let kept: Vec<_> = cache.lock().entries.iter().map(|(text, _)| text.clone()).collect();
    assert_eq!((kept, cache.lock().bytes), (vec!["2".to_owned(), "0".into(), "3".into()], 3 * entry));
    get(&cache, &"long ".repeat(entry), &computed).await.unwrap();
    assert_eq!(cache.lock().entries.len(), 3, "what is larger than the whole cache is not kept");
}

#[tokio::test]
async fn without_room_every_query_is_computed() {
    let (cache, computed) = (QueryCache::new(0), Counter::new(0));
    for _ in 0..2 {
        get(&cache, "one", &computed).await.unwrap();
    }
    assert_eq!(computed.get(), 2);
}
