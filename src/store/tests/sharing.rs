//! Several users of one database: callers of one store, stores on one file.

use std::sync::mpsc;

use super::*;

#[tokio::test]
async fn two_stores_on_one_file_see_each_others_commits() {
    let home = Home::new().await;
    let other = Store::open(&config_in(&home.folder)).unwrap();
    let before = other.data_version().await.unwrap();
    assert_eq!(other.data_version().await.unwrap(), before);
    home.put(document("a", &["one"])).await;
    assert_ne!(other.data_version().await.unwrap(), before);
    assert_eq!(other.known().await.unwrap().len(), 1);
}

#[tokio::test]
async fn own_commits_do_not_change_the_data_version() {
    let home = Home::new().await;
    let before = home.store.data_version().await.unwrap();
    home.put(document("a", &["one"])).await;
    assert_eq!(home.store.data_version().await.unwrap(), before);
}

#[test]
fn a_new_database_may_be_opened_by_many_at_once() {
    for _ in 0..50 {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { busy_timeout_ms: 10_000, ..config_in(&folder) };
        std::thread::scope(|scope| {
            let opened: Vec<_> = (0..6).map(|_| scope.spawn(|| Store::open(&config).map(drop))).collect();
            for thread in opened {
                thread.join().unwrap().unwrap();
            }
        });
    }
}

#[tokio::test]
async fn a_lock_held_by_another_process_is_unavailable_and_passes() {
    let home = Home::new().await;
    let other = home.beside();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = home.store.write(vec![put(document("a", &["one"]))]).await;
    assert!(matches!(refused, Err(Error::Unavailable { .. })), "{refused:?}");
    assert_eq!(home.store.known().await.unwrap().len(), 0, "readers go on");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(home.put(document("a", &["one"])).await.outcomes, [Outcome::Created]);
}

/// Takes a reader until the returned sender is dropped.
async fn occupy(store: &Store) -> mpsc::Sender<()> {
    let (release, released) = mpsc::channel();
    let (taken, when_taken) = tokio::sync::oneshot::channel();
    let store = store.clone();
    tokio::spawn(async move {
        store
            .read(move |_| {
                taken.send(()).unwrap();
                released.recv().unwrap_err();
                Ok(())
            })
            .await
    });
    when_taken.await.unwrap();
    release
}

#[tokio::test]
async fn a_caller_that_gets_no_connection_in_time_is_told_to_retry() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&Config { readers: 1, pool_timeout_ms: 20, ..config_in(&folder) }).unwrap();
    let release = occupy(&store).await;
    assert!(matches!(store.known().await, Err(Error::Overloaded { .. })));
    drop(release);
    while store.known().await.is_err() {}
}

#[tokio::test]
async fn a_silent_database_fails_the_probe_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&Config { readers: 1, ..config_in(&folder) }).unwrap();
    store.ping(Duration::from_secs(5)).await.unwrap();
    let _release = occupy(&store).await;
    assert!(matches!(store.ping(Duration::from_millis(20)).await, Err(Error::Unavailable { .. })));
}

#[tokio::test]
async fn a_read_whose_caller_went_away_is_interrupted() {
    let home = Home::empty();
    let (taken, when_taken) = tokio::sync::oneshot::channel();
    let (ended, when_ended) = tokio::sync::oneshot::channel();
    let endless = home.store.read(move |connection| {
        taken.send(()).unwrap();
        let sql = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";
        let counted = connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        ended.send(counted.unwrap_err().sqlite_error_code()).unwrap();
        Ok(())
    });
    tokio::select! {
        _ = endless => panic!("the endless read ended"),
        _ = when_taken => {}
    }
    assert_eq!(when_ended.await.unwrap(), Some(rusqlite::ErrorCode::OperationInterrupted));
    home.store.known().await.unwrap(); // and the connection is as good as before
}

#[tokio::test]
async fn a_panic_in_the_work_gives_the_connection_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&Config { readers: 1, ..config_in(&folder) }).unwrap();
    store.set_model_identity(identity(DIMENSION)).await.unwrap();
    store.write(vec![put(document("a", &["one"]))]).await.unwrap();
    let failed = store.scan_vectors(|_| panic!("the engine gave up")).await;
    assert!(matches!(failed, Err(Error::Internal { .. })), "{failed:?}");
    assert_eq!(store.known().await.unwrap().len(), 1);
}
