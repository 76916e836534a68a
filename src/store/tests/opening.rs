//! What a file may be when it is opened, and what every connection has set.

use std::fs;
use std::io::{Seek, SeekFrom, Write as _};
use std::path::PathBuf;

use super::*;

fn refusal(config: &Config) -> String {
    match Store::open(config) {
        Err(Error::Setup { message, advice }) => format!("{message} → {advice}"),
        other => panic!("{other:?} is not a Setup error"),
    }
}

/// A closed database with documents, and its configuration.
async fn closed() -> (TempDir, Config) {
    let Home { store, folder } = Home::new().await;
    let config = config_in(&folder);
    let documents = (0..200).map(|number| put(document(&format!("{number}"), &[&"text ".repeat(500)])));
    store.write(documents.collect()).await.unwrap();
    store.close().unwrap();
    (folder, config)
}

async fn pragma(pool: &Pool, name: &'static str) -> String {
    let value = |row: &rusqlite::Row<'_>| row.get::<_, rusqlite::types::Value>(0);
    let value = pool.run(move |connection| Ok(connection.pragma_query_value(None, name, value)?)).await.unwrap();
    match value {
        rusqlite::types::Value::Integer(number) => number.to_string(),
        rusqlite::types::Value::Text(text) => text,
        other => panic!("{name} is {other:?}"),
    }
}

#[tokio::test]
async fn every_connection_has_its_pragmas() {
    let home = Home::empty();
    let wanted = [
        ("busy_timeout", "200"),
        ("journal_mode", "wal"),
        ("synchronous", "1"),
        ("foreign_keys", "1"),
        ("mmap_size", "0"),
        ("temp_store", "2"),
        ("cache_size", "-4096"),
        ("journal_size_limit", "67108864"),
        ("trusted_schema", "0"),
    ];
    for (name, value) in wanted {
        assert_eq!(pragma(&home.store.writer, name).await, value, "{name} of the writer");
        assert_eq!(pragma(&home.store.readers, name).await, value, "{name} of a reader");
    }
    assert_eq!(pragma(&home.store.writer, "query_only").await, "0");
    assert_eq!(pragma(&home.store.readers, "query_only").await, "1");
}

#[tokio::test]
async fn a_new_file_gets_the_schema_and_the_application_id() {
    let home = Home::empty();
    assert_eq!(home.store.stats().await.unwrap().schema_version, migrate::VERSION);
    assert_eq!(pragma(&home.store.writer, "application_id").await, migrate::APPLICATION_ID.to_string());
    assert_eq!(pragma(&home.store.writer, "user_version").await, migrate::VERSION.to_string());
    assert_eq!(home.store.model_identity().await.unwrap(), None);
}

#[tokio::test]
async fn a_database_of_before_token_codes_is_migrated_and_has_none() {
    let (_folder, config) = closed().await;
    let former = Connection::open(&config.path).unwrap();
    former.execute_batch("DROP TABLE token_codes; PRAGMA user_version = 2").unwrap();
    former.close().unwrap();
    let store = Store::open(&config).unwrap();
    let chunks: Vec<ChunkId> = store.embedded_chunks().await.unwrap().iter().map(ChunkId).collect();
    assert_eq!(chunks.len(), 200);
    assert!(store.token_codes(chunks).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_reader_cannot_write() {
    let home = Home::empty();
    let refused = home.store.read(|connection| Ok(connection.execute("DELETE FROM documents", [])?)).await;
    assert!(matches!(refused, Err(Error::Setup { .. })), "{refused:?}");
}

#[tokio::test]
async fn what_was_stored_is_there_after_closing_and_opening() {
    let (_folder, config) = closed().await;
    let names: Vec<PathBuf> = fs::read_dir(config.path.parent().unwrap()).unwrap().map(|f| f.unwrap().path()).collect();
    assert_eq!(names, std::slice::from_ref(&config.path), "no log is left beside the database");
    let store = Store::open(&config).unwrap();
    assert_eq!(store.known().await.unwrap().len(), 200);
    assert_eq!(store.model_identity().await.unwrap(), Some(identity(DIMENSION)));
}

#[tokio::test]
async fn a_closed_store_turns_callers_away() {
    let home = Home::empty();
    let other = home.store.clone();
    home.store.close().unwrap();
    assert!(matches!(other.known().await, Err(Error::Unavailable { .. })));
}

#[test]
fn a_foreign_database_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)").unwrap();
    let before = fs::read(&path).unwrap();
    let refused = refusal(&Config { path: path.clone(), ..Config::default() });
    assert!(refused.contains("another application"), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_newer_database_asks_for_an_upgrade() {
    let (_folder, config) = closed().await;
    Connection::open(&config.path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let refused = refusal(&config);
    assert!(refused.contains("version 99") && refused.contains("upgrade"), "{refused}");
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.md");
    let text = "not a database at all, but long enough to be read as one\n".repeat(100);
    fs::write(&path, &text).unwrap();
    let refused = refusal(&Config { path: path.clone(), ..Config::default() });
    assert!(refused.contains("not a SQLite database"), "{refused}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn a_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = refusal(&Config { path: folder.path().into(), ..Config::default() });
    assert!(refused.contains("is a folder"), "{refused}");
}

#[test]
fn a_folder_that_cannot_be_made_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let refused = refusal(&Config { path: folder.path().join("file/amalfa.db"), ..Config::default() });
    assert!(refused.contains("cannot make folder"), "{refused}");
}

#[tokio::test]
async fn a_truncated_database_is_refused() {
    let (_folder, config) = closed().await;
    let file = fs::OpenOptions::new().write(true).open(&config.path).unwrap();
    for kept in [3, 2] {
        file.set_len(file.metadata().unwrap().len() * (kept - 1) / kept).unwrap();
        let refused = refusal(&config);
        assert!(refused.contains("is damaged") && refused.contains("restore a copy"), "{refused}");
    }
}

#[tokio::test]
async fn a_damaged_root_page_is_found_at_opening() {
    let (_folder, config) = closed().await;
    overwrite(&config, "SELECT rootpage FROM sqlite_schema WHERE name = 'embeddings'");
    assert!(refusal(&config).contains("is damaged"));
}

#[tokio::test]
async fn a_damaged_leaf_is_an_error_when_it_is_read() {
    let (_folder, config) = closed().await;
    overwrite(
        &config,
        "SELECT pageno FROM dbstat WHERE name = 'documents' AND pagetype = 'leaf' ORDER BY path DESC LIMIT 1",
    );
    let store = Store::open(&config).unwrap();
    let refused = store.documents(Filter::default(), None, 1_000).await;
    assert!(matches!(refused, Err(Error::Setup { .. })), "{refused:?}");
}

/// Fills the page that `sql` names with nonsense.
fn overwrite(config: &Config, sql: &str) {
    let connection = Connection::open(&config.path).unwrap();
    let page: u64 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
    drop(connection);
    let mut file = fs::OpenOptions::new().write(true).open(&config.path).unwrap();
    file.seek(SeekFrom::Start((page - 1) * 4096)).unwrap();
    file.write_all(&[0xA5; 4096]).unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn what_cannot_be_written_is_refused() {
    use std::os::unix::fs::PermissionsExt;

    let (folder, config) = closed().await;
    let allow = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let parent = config.path.parent().unwrap();
    allow(&config.path, 0o444);
    allow(parent, 0o555);
    if fs::write(parent.join("probe"), "").is_ok() {
        eprintln!("SKIPPED what_cannot_be_written_is_refused: permissions do not bind this user (root)");
        return;
    }
    let (both, new) = (refusal(&config), refusal(&Config { path: parent.join("new.db"), ..config.clone() }));
    allow(&config.path, 0o644);
    let folder_only = refusal(&config);
    allow(parent, 0o755);
    drop(folder);
    for refused in [both, new, folder_only] {
        assert!(refused.contains("writ"), "{refused}");
    }
}

#[test]
fn settings_out_of_range_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let good = config_in(&folder);
    let bad = [
        Config { readers: 0, ..good.clone() },
        Config { readers: 100_000, ..good.clone() },
        Config { pool_timeout_ms: 0, ..good.clone() },
        Config { busy_timeout_ms: u64::MAX, ..good.clone() },
        Config { mmap_bytes: u64::MAX, ..good },
    ];
    for config in bad {
        assert!(matches!(Store::open(&config), Err(Error::Invalid { .. })), "{config:?}");
    }
}

#[tokio::test]
async fn the_schema_is_sound_by_sqlites_own_check() {
    let (_folder, config) = closed().await;
    let connection = Connection::open(&config.path).unwrap();
    let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    let dangling = connection.prepare("PRAGMA foreign_key_check").unwrap().query([]).unwrap().next().unwrap().is_some();
    assert!(!dangling);
}
