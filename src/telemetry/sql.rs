//! A span and a sample for every SQL statement, and the state of the connection pools.

use std::time::{Duration, Instant};

use tracing::Span;
use tracing::field::Empty;

use super::{context, metrics};

/// A database error that has a status code.
pub trait StatusCode {
    /// Returns SQLite's extended result code.
    fn status_code(&self) -> Option<i32>;
}

/// SQLite's primary result codes by name, in the order of their numbers from 1 (<https://sqlite.org/rescode.html>).
pub(super) const ERROR_NAMES: [&str; 26] = [
    "SQLITE_ERROR",
    "SQLITE_INTERNAL",
    "SQLITE_PERM",
    "SQLITE_ABORT",
    "SQLITE_BUSY",
    "SQLITE_LOCKED",
    "SQLITE_NOMEM",
    "SQLITE_READONLY",
    "SQLITE_INTERRUPT",
    "SQLITE_IOERR",
    "SQLITE_CORRUPT",
    "SQLITE_NOTFOUND",
    "SQLITE_FULL",
    "SQLITE_CANTOPEN",
    "SQLITE_PROTOCOL",
    "SQLITE_EMPTY",
    "SQLITE_SCHEMA",
    "SQLITE_TOOBIG",
    "SQLITE_CONSTRAINT",
    "SQLITE_MISMATCH",
    "SQLITE_MISUSE",
    "SQLITE_NOLFS",
    "SQLITE_AUTH",
    "SQLITE_FORMAT",
    "SQLITE_RANGE",
    "SQLITE_NOTADB",
];

/// Runs one statement. `summary` is its low-cardinality name (`SELECT chunks`) and becomes the span's name; `text` is the
/// parameterised SQL, never with values in it.
///
/// The span is only made inside a sampled trace: a statement of a background task would be a trace of one span.
pub fn statement<T, E: StatusCode>(
    summary: &'static str,
    text: &str,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let span = context::span_inside(|| statement_span(summary, text));
    let started = Instant::now();
    let result = span.in_scope(work);
    let duration = started.elapsed();
    let error = result.as_ref().err().map_or("", |error| failed(&span, error));
    span.in_scope(|| metrics::database_operation(summary, error, duration));
    result
}

/// Records how many connections of a pool (`reader`, `writer`) are used, idle and allowed.
pub fn pool_state(pool: &'static str, used: usize, idle: usize, limit: usize) {
    metrics::pool_connections(pool, used, idle, limit);
}

/// Counts one more (or, on drop, one fewer) caller waiting for a connection, and records how long it waited.
pub fn pool_wait(pool: &'static str) -> PoolWait {
    metrics::pool_pending(pool).increment(1.0);
    PoolWait { pool, started: Instant::now() }
}

/// A caller waiting for a connection.
#[derive(Debug)]
pub struct PoolWait {
    pool: &'static str,
    started: Instant,
}

impl Drop for PoolWait {
    fn drop(&mut self) {
        metrics::pool_pending(self.pool).decrement(1.0);
        metrics::pool_wait(self.pool, self.started.elapsed());
    }
}

/// Records how long a connection was in use.
pub fn pool_use(pool: &'static str, time: Duration) {
    metrics::pool_use(pool, time);
}

/// Counts a caller that got no connection in time.
pub fn pool_timeout(pool: &'static str) {
    metrics::pool_timeout(pool);
}

/// The kind is CLIENT, as for a database elsewhere, so that service graphs show it as one.
fn statement_span(summary: &'static str, text: &str) -> Span {
    tracing::info_span!(
        target: "amalfa::sql",
        "statement",
        otel.name = summary,
        otel.kind = "client",
        otel.status_code = Empty,
        db.system.name = "sqlite",
        db.query.summary = summary,
        db.query.text = text,
        db.response.status_code = Empty,
        "error.type" = Empty,
    )
}

/// Marks the span of a failed statement and returns the name of its error.
fn failed(span: &Span, error: &impl StatusCode) -> &'static str {
    let code = error.status_code();
    let name = code.map_or(metrics::OTHER, error_name);
    if !span.is_none() {
        span.record("otel.status_code", "ERROR").record("error.type", name);
        code.map(|code| span.record("db.response.status_code", code.to_string()));
    }
    name
}

/// Returns the name of an extended result code: its low byte is the primary one.
fn error_name(code: i32) -> &'static str {
    let primary = (code & 0xff) as usize;
    primary.checked_sub(1).and_then(|index| ERROR_NAMES.get(index)).copied().unwrap_or(metrics::OTHER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::prometheus_text as render;

    struct Failure(Option<i32>);

    impl StatusCode for Failure {
        fn status_code(&self) -> Option<i32> {
            self.0
        }
    }

    fn count(summary: &str, error: &str) -> Option<u64> {
        let series = format!("db_query_summary=\"{summary}\"{error}}} ");
        let text = render();
        let line = text.lines().find(|line| line.contains("duration_seconds_count") && line.contains(&series))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    #[test]
    fn a_statement_leaves_a_sample_by_name_and_error() {
        assert_eq!(statement("SELECT ok", "SELECT 1", || Ok::<_, Failure>(7)).unwrap_or(0), 7);
        assert_eq!(count("SELECT ok", ""), Some(1));
        for code in [Some(5 | 2 << 8), Some(999), None] {
            assert!(statement("INSERT bad", "INSERT …", || Err::<(), _>(Failure(code))).is_err());
        }
        assert_eq!(count("INSERT bad", ",error_type=\"SQLITE_BUSY\""), Some(1));
        assert_eq!(count("INSERT bad", ",error_type=\"_OTHER\""), Some(2));
    }

    #[test]
    fn the_numbers_of_the_error_names_are_sqlites() {
        assert_eq!(
            [error_name(1), error_name(14), error_name(19), error_name(26)],
            ["SQLITE_ERROR", "SQLITE_CANTOPEN", "SQLITE_CONSTRAINT", "SQLITE_NOTADB"]
        );
        assert_eq!([error_name(0), error_name(27), error_name(-1)], ["_OTHER"; 3]);
    }

    #[test]
    fn a_waiting_caller_is_counted_until_it_gives_up() {
        let series = "db_client_connection_pending_requests{db_client_connection_pool_name=\"_OTHER\"} 1";
        let pending = || render().contains(series);
        let wait = pool_wait("test");
        assert!(pending());
        drop(wait);
        assert!(!pending());
    }
}
