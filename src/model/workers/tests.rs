//! Order, bounds and failures of the model threads.

use std::sync::mpsc;

use super::super::arithmetic::Arithmetic;
use super::super::backend::Backend;
use super::*;

fn workers(sessions: usize, query_len: usize) -> Workers {
    let backends = (0..sessions).map(|_| Box::new(Arithmetic { dimension: 4 }) as Box<dyn Backend>).collect();
    Workers::start(&EMBEDDING, backends, query_len).unwrap()
}

/// Occupies a session until the returned sender is dropped.
async fn occupy(workers: &Arc<Workers>) -> mpsc::Sender<()> {
    let (release, released) = mpsc::channel::<()>();
    let (started, running) = oneshot::channel();
    let handle = Arc::clone(workers);
    tokio::spawn(async move {
        let work = move |_: &mut Session| {
            let _ = started.send(());
            let _ = released.recv();
            Ok(((), 0))
        };
        handle.run_or_refuse(Operation::Query, Deadline::NONE, work).await
    });
    running.await.unwrap();
    release
}

/// Queues a job that notes its name when it runs.
fn note(
    workers: &Arc<Workers>,
    priority: Priority,
    name: &'static str,
    notes: &mpsc::Sender<&'static str>,
) -> tokio::task::JoinHandle<Result<()>> {
    let (handle, notes) = (Arc::clone(workers), notes.clone());
    tokio::spawn(async move {
        let work = move |_: &mut Session| {
            let _ = notes.send(name);
            Ok(((), 1))
        };
        handle.run_when_room(priority, Operation::Passage, Deadline::NONE, work).await
    })
}

#[tokio::test]
async fn queries_overtake_bulk_work() {
    let workers = Arc::new(workers(1, 8));
    let release = occupy(&workers).await;
    let (notes, noted) = mpsc::channel();
    let bulk = note(&workers, Priority::Bulk, "bulk", &notes);
    // On this single-threaded runtime a yield lets the task above queue its job.
    tokio::task::yield_now().await;
    let query = note(&workers, Priority::Query, "query", &notes);
    tokio::task::yield_now().await;
    drop(release);
    bulk.await.unwrap().unwrap();
    query.await.unwrap().unwrap();
    assert_eq!(noted.try_iter().collect::<Vec<_>>(), ["query", "bulk"]);
}

#[test]
fn bulk_work_gets_its_turn_under_a_flood_of_queries() {
    let mut queues: Queues<Session> = Queues::new(&EMBEDDING);
    for _ in 0..100 {
        queues.query.push_back(Box::new(|_| ()));
        queues.bulk.push_back(Box::new(|_| ()));
    }
    (0..64).for_each(|_| drop(queues.take()));
    assert_eq!((queues.query.len(), queues.bulk.len()), (100 - 60, 100 - 4));
}

#[tokio::test]
async fn a_full_queue_refuses_queries_and_says_when_to_retry() {
    let workers = Arc::new(workers(1, 2));
    let release = occupy(&workers).await;
    let (notes, _noted) = mpsc::channel();
    let waiting = [note(&workers, Priority::Query, "", &notes), note(&workers, Priority::Query, "", &notes)];
    tokio::task::yield_now().await;
    let refused = workers.run_or_refuse(Operation::Query, Deadline::NONE, |_| Ok(((), 0))).await;
    assert!(
        matches!(refused, Err(Error::Overloaded { retry_after, .. }) if retry_after >= RETRY_AFTER.0),
        "{refused:?}"
    );
    drop(release);
    for task in waiting {
        task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_deadline_ends_the_wait_and_the_job_never_runs() {
    let workers = Arc::new(workers(1, 8));
    let release = occupy(&workers).await;
    let (notes, noted) = mpsc::channel();
    let late = {
        let notes = notes.clone();
        let work = move |_: &mut Session| {
            let _ = notes.send("late");
            Ok(((), 0))
        };
        workers.run_or_refuse(Operation::Query, Deadline::after(Duration::from_millis(20)), work).await
    };
    assert!(matches!(late, Err(Error::Deadline { .. })), "{late:?}");
    drop(release);
    note(&workers, Priority::Query, "next", &notes).await.unwrap().unwrap();
    assert_eq!(noted.try_iter().collect::<Vec<_>>(), ["next"]);
}

#[tokio::test]
async fn a_panic_is_an_error_and_makes_the_model_unhealthy_but_not_stuck() {
    let workers = workers(1, 8);
    assert!(workers.healthy());
    let panicked: Result<()> = workers.run_or_refuse(Operation::Query, Deadline::NONE, |_| panic!("on purpose")).await;
    assert!(matches!(panicked, Err(Error::Internal { .. })), "{panicked:?}");
    let next = workers.run_or_refuse(Operation::Query, Deadline::NONE, |_| Ok((7, 0))).await;
    assert_eq!(next.unwrap(), 7);
    assert!(!workers.healthy());
}

#[tokio::test]
async fn the_threads_carry_their_number() {
    let name = |_: &mut Session| Ok((std::thread::current().name().map(str::to_owned), 0));
    let name = workers(1, 8).run_or_refuse(Operation::Query, Deadline::NONE, name).await;
    assert_eq!(name.unwrap().as_deref(), Some("model-0"));
}
