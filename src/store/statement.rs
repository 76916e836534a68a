//! The one way to SQLite: every statement is prepared once per connection, and has a span and a sample.

use rusqlite::{CachedStatement, Connection, Params, Row};

use crate::telemetry;

/// Runs `work` on the prepared `sql`. `summary` is its low-cardinality name, verb and table: `SELECT chunks`.
pub(super) fn statement<T>(
    connection: &Connection,
    summary: &'static str,
    sql: &str,
    work: impl FnOnce(&mut CachedStatement<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    telemetry::sql::statement(summary, sql, || work(&mut connection.prepare_cached(sql)?))
}

/// Runs a statement that returns no rows; returns how many it changed.
pub(super) fn execute(
    connection: &Connection,
    summary: &'static str,
    sql: &str,
    params: impl Params,
) -> rusqlite::Result<usize> {
    statement(connection, summary, sql, |statement| statement.execute(params))
}

/// Returns every row, decoded.
pub(super) fn rows<T>(
    connection: &Connection,
    summary: &'static str,
    sql: &str,
    params: impl Params,
    decode: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    statement(connection, summary, sql, |statement| statement.query_map(params, decode)?.collect())
}

/// Returns the first row, decoded, or `None`.
pub(super) fn row<T>(
    connection: &Connection,
    summary: &'static str,
    sql: &str,
    params: impl Params,
    decode: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    statement(connection, summary, sql, |statement| match statement.query(params)?.next()? {
        Some(row) => decode(row).map(Some),
        None => Ok(None),
    })
}
