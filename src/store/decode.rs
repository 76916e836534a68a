//! Columns back into words of the domain. A column that cannot be read is damaged: the error names it, never its content.

use std::fmt::Display;

use rusqlite::types::{FromSql, Type};
use rusqlite::{Row, RowIndex};
use serde::de::DeserializeOwned;

use crate::domain::{DocumentId, EdgeKind};

/// A column whose content is not what this code writes.
#[derive(Debug, thiserror::Error)]
#[error("column {0} holds what was never written there")]
struct Damaged(String);

/// A column's name, or its place where a row is read so often that comparing names would count.
pub(super) trait Column: RowIndex + Display + Copy {}

impl<T: RowIndex + Display + Copy> Column for T {}

/// Returns a column, read by `parse`.
pub(super) fn parsed<S: FromSql, T>(
    row: &Row<'_>,
    column: impl Column,
    parse: impl FnOnce(S) -> Option<T>,
) -> rusqlite::Result<T> {
    let damaged = || Damaged(column.to_string());
    parse(row.get(column)?).ok_or_else(|| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(damaged())))
}

/// Returns a document's id.
pub(super) fn document_id(row: &Row<'_>, column: impl Column) -> rusqlite::Result<DocumentId> {
    parsed(row, column, |id: String| DocumentId::parse("id", id).ok())
}

/// Returns JSON.
pub(super) fn json<T: DeserializeOwned>(row: &Row<'_>, column: impl Column) -> rusqlite::Result<T> {
    parsed(row, column, |json: String| serde_json::from_str(&json).ok())
}

/// Returns a day, if there is one.
pub(super) fn date(row: &Row<'_>, column: impl Column) -> rusqlite::Result<Option<jiff::civil::Date>> {
    parsed(row, column, |date: Option<String>| match date {
        Some(date) => date.parse().ok().map(Some),
        None => Some(None),
    })
}

/// Returns a time, stored as milliseconds since 1970.
pub(super) fn time_ms(row: &Row<'_>, column: impl Column) -> rusqlite::Result<jiff::Timestamp> {
    parsed(row, column, |time_ms| jiff::Timestamp::from_millisecond(time_ms).ok())
}

/// Returns the kind of edge that the database calls `word`.
pub(super) fn edge_kind(word: &str) -> Option<EdgeKind> {
    EdgeKind::ALL.into_iter().find(|kind| kind.as_str() == word)
}
