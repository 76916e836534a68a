//! Counts, sizes and the care that a database wants now and then.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, Row};

use super::records::StoreStats;
use super::statement::row;
use super::{meta, migrate};
use crate::telemetry::metrics;

/// Counts rows by their smallest index and reads the sizes of the files; updates the store's gauges.
pub(super) fn stats(connection: &Connection, path: &Path) -> rusqlite::Result<StoreStats> {
    let snapshot = connection.unchecked_transaction()?;
    let sql = "SELECT (SELECT count(*) FROM documents) AS documents, (SELECT count(*) FROM chunks) AS chunks,
        (SELECT count(*) FROM embeddings) AS embeddings, (SELECT count(*) FROM edges) AS edges,
        (SELECT freelist_count FROM pragma_freelist_count) * (SELECT page_size FROM pragma_page_size) AS free_bytes";
    let counts = row(&snapshot, "SELECT counts", sql, [], counts)?.unwrap_or_default();
    let stats = StoreStats {
        references_dangling: meta::references_dangling(&snapshot)?,
        database_bytes: file_bytes(path),
        wal_bytes: file_bytes(&beside(path, "-wal")),
        schema_version: migrate::VERSION,
        ..counts
    };
    publish(&stats);
    Ok(stats)
}

/// Reads one row, the cheapest sign of life that reaches the file.
pub(super) fn ping(connection: &Connection) -> rusqlite::Result<()> {
    row(connection, "SELECT meta", "SELECT key FROM meta LIMIT 1", [], |_| Ok(())).map(drop)
}

/// Returns a number that differs whenever another connection has committed since this one last asked.
pub(super) fn data_version(connection: &Connection) -> rusqlite::Result<u64> {
    let version = row(connection, "PRAGMA data_version", "PRAGMA data_version", [], |row| row.get(0))?;
    Ok(version.unwrap_or(0))
}

/// Refreshes the planner's statistics where they are stale and moves the write-ahead log into the database. A reader in
/// another process may hold part of the log back; that is left for the next time.
pub(super) fn tidy(connection: &Connection) -> rusqlite::Result<()> {
    row(connection, "PRAGMA optimize", "PRAGMA optimize", [], |_| Ok(()))?;
    let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
    let held_back = row(connection, "PRAGMA wal_checkpoint", sql, [], |row| row.get(0))?.unwrap_or(false);
    tracing::debug!(held_back, "checkpointed the write-ahead log");
    Ok(())
}

fn counts(row: &Row<'_>) -> rusqlite::Result<StoreStats> {
    Ok(StoreStats {
        documents: row.get("documents")?,
        chunks: row.get("chunks")?,
        embeddings: row.get("embeddings")?,
        edges: row.get("edges")?,
        free_bytes: row.get("free_bytes")?,
        ..StoreStats::default()
    })
}

fn publish(stats: &StoreStats) {
    metrics::store_state(
        stats.documents,
        stats.chunks,
        stats.edges,
        stats.references_dangling,
        stats.database_bytes,
        stats.wal_bytes,
    );
}

/// Returns the bytes of a file, 0 when it is not there.
fn file_bytes(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}
