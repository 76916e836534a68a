//! Opening: the place, the file's identity, the pragmas and their reasons, migrations, the pools.
//!
//! The first connection looks at the file before it changes anything, so that a foreign file stays as it is byte for byte;
//! its errors are exact, where a pool would only say that it timed out.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::{Connection, OpenFlags};
use scheduled_thread_pool::ScheduledThreadPool;

use super::failure::Failure;
use super::pool::Pool;
use super::{Config, lexical, migrate};
use crate::error::{Error, Result};

/// The longest timeout that may be configured: SQLite counts milliseconds in 31 bits, and nobody waits for an hour.
const TIMEOUT_MS_MAX: u64 = 3_600_000;
/// The most readers that may be configured: each costs a page cache and three file descriptors.
const READERS_MAX: usize = 256;
/// The most bytes that may be configured to be mapped: 1 TiB, beyond any address-space limit that is worth having.
const MMAP_BYTES_MAX: u64 = 1 << 40;
/// The pause before a lock is tried again at opening: as long as a migration takes.
const LOCK_RETRY: Duration = Duration::from_millis(5);
/// Statements that a connection keeps prepared: some 30 fixed ones, the rest for filters.
const STATEMENTS_MAX: usize = 64;

/// Opens the database and returns the writer's pool and the readers'.
pub(super) fn open(config: &Config) -> Result<(Pool, Pool)> {
    check(config)?;
    make_folder(&config.path)?;
    let mut first = patiently(config, || first_connection(config)).map_err(|failure| failure.at(&config.path))?;
    migrate::migrate(&mut first, &config.path).map_err(|failure| failure.at(&config.path))?;
    lexical::prepare(&mut first, config.lexical.language).map_err(|failure| failure.at(&config.path))?;
    probe(&first).map_err(|error| Failure::from(error).at(&config.path))?;

    let opener = ScheduledThreadPool::builder().num_threads(1).thread_name_pattern("store-connections").build();
    let opener = Arc::new(opener);
    let writer = pool("writer", 1, config, &opener)?;
    let readers = pool("reader", config.readers, config, &opener)?;
    // Only now, so that closing it is not closing the database's last connection, which would checkpoint.
    drop(first);
    Ok((writer, readers))
}

fn check(config: &Config) -> Result<()> {
    let within = |field: &str, value: u64, least: u64, most: u64| match (least..=most).contains(&value) {
        true => Ok(()),
        false => Err(Error::invalid(field, format!("is {value}; {least} to {most}"))),
    };
    within("store.readers", config.readers as u64, 1, READERS_MAX as u64)?;
    within("store.busy_timeout_ms", config.busy_timeout_ms, 0, TIMEOUT_MS_MAX)?;
    within("store.pool_timeout_ms", config.pool_timeout_ms, 1, TIMEOUT_MS_MAX)?;
    within("store.mmap_bytes", config.mmap_bytes, 0, MMAP_BYTES_MAX)?;
    config.lexical.check()
}

fn make_folder(path: &Path) -> Result<()> {
    if path.is_dir() {
        let message = format!("database {} is a folder", path.display());
        return Err(Error::setup(message, "name a file in it with --db"));
    }
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    std::fs::create_dir_all(folder).map_err(|error| {
        let message = format!("cannot make folder {} for the database: {error}", folder.display());
        Error::setup(message, "make it writable for this user, or choose another place with --db")
    })
}

/// Calls `open` until it is not refused for a lock or the busy timeout has passed: two processes that switch a new file to
/// WAL at once would deadlock, and SQLite refuses one of them without waiting.
fn patiently<T>(config: &Config, open: impl Fn() -> Result<T, Failure>) -> Result<T, Failure> {
    let started = Instant::now();
    loop {
        match open() {
            Err(failure) if failure.is_lock() && started.elapsed() < Duration::from_millis(config.busy_timeout_ms) => {
                std::thread::sleep(LOCK_RETRY);
            }
            result => return result,
        }
    }
}

fn first_connection(config: &Config) -> Result<Connection, Failure> {
    let connection = Connection::open_with_flags(&config.path, flags() | OpenFlags::SQLITE_OPEN_CREATE)?;
    connection.busy_timeout(Duration::from_millis(config.busy_timeout_ms))?;
    migrate::identify(&connection, &config.path)?;
    if connection.is_readonly("main")? {
        let message = format!("database {} is read-only for this user", config.path.display());
        return Err(Error::setup(message, "allow writing the file and its folder, or copy it elsewhere").into());
    }
    configure(&connection, config)?;
    require_wal(&connection, &config.path)?;
    Ok(connection)
}

/// Without CREATE, so that a database deleted under a running server is an error and not an empty one; without URI, so
/// that no path is read as a query; without SQLite's mutex, as a pooled connection has one user at a time.
fn flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

/// Sets what every connection needs. The order matters.
fn configure(connection: &Connection, config: &Config) -> rusqlite::Result<()> {
    // First, so that the pragmas below wait for another process instead of failing at once.
    connection.busy_timeout(Duration::from_millis(config.busy_timeout_ms))?;
    // Readers and the writer do not wait for each other. Kept in the file; setting it again costs nothing.
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    // With WAL, a killed process loses nothing and a power cut loses at most the last commits, never consistency; FULL
    // would sync at every commit.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    // Off by default, for each connection; edges and embeddings rely on it.
    connection.pragma_update(None, "foreign_keys", true)?;
    // 0 by default: in a mapped file an I/O error is a SIGBUS, and the process is gone instead of an error.
    connection.pragma_update_and_check(None, "mmap_size", config.mmap_bytes as i64, |_| Ok(()))?;
    // Sorting a listing never makes files in a /tmp that a container may lack.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // 4 MiB for each connection (negative: KiB): inner pages stay, and five connections stay within 20 MiB.
    connection.pragma_update(None, "cache_size", -4096)?;
    // A bulk ingest may leave a long log: after a checkpoint it is cut to 64 MiB instead of keeping its size for ever.
    connection.pragma_update_and_check(None, "journal_size_limit", 64_i64 << 20, |_| Ok(()))?;
    // A file from elsewhere cannot make its schema call functions with side effects.
    connection.pragma_update(None, "trusted_schema", false)?;
    // Damaged pages are found when they are read, not when their nonsense is followed.
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(())
}

fn require_wal(connection: &Connection, path: &Path) -> Result<(), Failure> {
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    if mode == "wal" {
        return Ok(());
    }
    let message = format!("database {} cannot have a write-ahead log (journal mode is {mode})", path.display());
    Err(Error::setup(message, "put it on a local disk: network file systems cannot share the log's index").into())
}

/// Reads the first row of every table, so that a damaged file is refused now and not in the middle of a request.
/// Reading all pages (`PRAGMA quick_check`) takes seconds on a large file; a damaged leaf is reported when it is read.
fn probe(connection: &Connection) -> rusqlite::Result<()> {
    for table in ["documents", "chunks", "embeddings", "refs", "edges", "meta", "passages"] {
        connection.prepare(&format!("SELECT * FROM {table} LIMIT 1"))?.query([])?.next()?;
    }
    Ok(())
}

fn pool(name: &'static str, size: usize, config: &Config, opener: &Arc<ScheduledThreadPool>) -> Result<Pool> {
    let settings = config.clone();
    let reads_only = name == "reader";
    let manager = SqliteConnectionManager::file(&config.path).with_flags(flags()).with_init(move |connection| {
        configure(connection, &settings)?;
        // A slip in a read is an error and not a second writer. Not SQLITE_OPEN_READ_ONLY: that cannot make the -shm file.
        connection.pragma_update(None, "query_only", reads_only)
    });
    let timeout = Duration::from_millis(config.pool_timeout_ms);
    let connections = r2d2::Pool::builder()
        .max_size(size as u32)
        // A local file's connection does not go stale: no checks, and none is closed for age or idleness.
        .test_on_check_out(false)
        .max_lifetime(None)
        .idle_timeout(None)
        .connection_timeout(timeout)
        .error_handler(Box::new(LogFailedOpening))
        .thread_pool(Arc::clone(opener))
        .build(manager)
        .map_err(|error| Error::unavailable(format!("cannot open database {}", config.path.display()), error))?;
    Ok(Pool::new(name, config.path.as_path().into(), connections, timeout))
}

/// r2d2 retries in the background; this says so.
#[derive(Debug)]
struct LogFailedOpening;

impl r2d2::HandleError<rusqlite::Error> for LogFailedOpening {
    fn handle_error(&self, error: rusqlite::Error) {
        tracing::warn!(%error, "a database connection could not be opened; trying again");
    }
}
