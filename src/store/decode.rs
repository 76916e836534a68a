//! Columns back into words of the domain. A column that cannot be read is damaged: the error names it, never its content.

use rusqlite::Row;
use rusqlite::types::{FromSql, Type};
use serde::de::DeserializeOwned;

use crate::domain::{DocumentId, EdgeKind};

/// A column whose content is not what this code writes.
#[derive(Debug, thiserror::Error)]
#[error("column {0} holds what was never written there")]
struct Damaged(&'static str);

/// Returns the column `name`, read by `parse`.
pub(super) fn parsed<S: FromSql, T>(
    row: &Row<'_>,
    name: &'static str,
    parse: impl FnOnce(S) -> Option<T>,
) -> rusqlite::Result<T> {
    let damaged = || rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(Damaged(name)));
    parse(row.get(name)?).ok_or_else(damaged)
}

/// Returns the column `name`, a document's id.
pub(super) fn document_id(row: &Row<'_>, name: &'static str) -> rusqlite::Result<DocumentId> {
    parsed(row, name, |id: String| DocumentId::parse(name, id).ok())
}

/// Returns the column `name`, JSON.
pub(super) fn json<T: DeserializeOwned>(row: &Row<'_>, name: &'static str) -> rusqlite::Result<T> {
    parsed(row, name, |json: String| serde_json::from_str(&json).ok())
}

/// Returns the column `date`.
pub(super) fn date(row: &Row<'_>) -> rusqlite::Result<Option<jiff::civil::Date>> {
    parsed(row, "date", |date: Option<String>| match date {
        Some(date) => date.parse().ok().map(Some),
        None => Some(None),
    })
}

/// Returns the column `name`, milliseconds since 1970.
pub(super) fn time_ms(row: &Row<'_>, name: &'static str) -> rusqlite::Result<jiff::Timestamp> {
    parsed(row, name, |time_ms| jiff::Timestamp::from_millisecond(time_ms).ok())
}

/// Returns the kind of edge that the database calls `word`.
pub(super) fn edge_kind(word: &str) -> Option<EdgeKind> {
    EdgeKind::ALL.into_iter().find(|kind| kind.as_str() == word)
}
