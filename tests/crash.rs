//! `kill −9` in the middle of an ingest, again and again: the database stays consistent and the next run goes on.

#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

/// Documents to ingest: some seconds of work for one session.
const DOCUMENTS: usize = 400;
/// How often the ingest is killed.
const KILLS: u64 = 20;
/// How long one run may take.
const RUN_MAX: Duration = Duration::from_secs(120);

fn ingest(folder: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_amalfa"))
        .current_dir(folder)
        .args(["ingest", "docs", "--set", "ingest.batch_documents=4"])
        .env("AMALFA_MODEL_SESSIONS", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Returns the size of the write-ahead log: it changes when something is committed.
fn log_bytes(folder: &Path) -> u64 {
    std::fs::metadata(folder.join(".amalfa/amalfa.db-wal")).map_or(0, |file| file.len())
}

/// Returns the documents stored, having checked that the database is consistent; 0 while there is none.
fn consistent(folder: &Path) -> u64 {
    let path = folder.join(".amalfa/amalfa.db");
    if !path.exists() {
        return 0;
    }
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, u64>(0));
    // Killed before the first migration was committed: an empty database.
    if number("SELECT count(*) FROM sqlite_schema").unwrap() == 0 {
        return 0;
    }
    let integrity: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(integrity, "ok");
    assert_eq!(number("SELECT count(*) FROM pragma_foreign_key_check").unwrap(), 0);
    let half_written =
        "SELECT count(*) FROM documents d WHERE NOT EXISTS (SELECT 1 FROM chunks c WHERE c.document = d.key)";
    assert_eq!(number(half_written).unwrap(), 0, "a document without its chunks");
    let unembedded = "SELECT count(*) FROM chunks c LEFT JOIN embeddings e ON e.chunk = c.id WHERE e.chunk IS NULL";
    assert_eq!(number(unembedded).unwrap(), 0, "a chunk without its vector");
    number("SELECT count(*) FROM documents").unwrap()
}

#[test]
fn killed_at_any_moment_the_database_is_consistent_and_the_rest_is_ingested() {
    let folder = tempfile::tempdir().unwrap();
    let docs = folder.path().join("docs");
    std::fs::create_dir(&docs).unwrap();
    for n in 0..DOCUMENTS {
        let text = format!("# Page {n}\n\n{}", format!("Sentence {n} tells of page number {n}. ").repeat(12));
        std::fs::write(docs.join(format!("page{n}.md")), text).unwrap();
    }
    let (mut stored, mut midway) = (0, 0);
    for kill in 0..KILLS {
        let log = log_bytes(folder.path());
        let mut child = ingest(folder.path());
        if kill % 4 != 0 {
            // Into the writing, however long the model takes to load; every fourth is killed before, while it starts.
            let deadline = Instant::now() + RUN_MAX;
            while log_bytes(folder.path()) == log && child.try_wait().unwrap().is_none() && Instant::now() < deadline {
                std::thread::yield_now();
            }
        }
        let moment = Instant::now() + Duration::from_millis(kill * 37 % 200);
        while Instant::now() < moment && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let now = consistent(folder.path());
        assert!(now >= stored, "kill {kill} lost documents: {stored} → {now}");
        midway += u32::from(now > stored && now < DOCUMENTS as u64);
        stored = now;
    }
    assert!(midway > 0, "no kill met the writing");
    let mut last = ingest(folder.path());
    let deadline = Instant::now() + RUN_MAX;
    while last.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "the last run does not end");
        std::thread::yield_now();
    }
    assert!(last.wait().unwrap().success());
    assert_eq!(consistent(folder.path()), DOCUMENTS as u64);
}
