//! The edges between documents, replaced as a whole.

use std::collections::{BTreeSet, HashMap};

use rusqlite::{Connection, params};

use super::decode::{edge_kind, parsed};
use super::meta;
use super::statement::{rows, statement};
use crate::domain::{Edge, EdgeKind};

/// An edge by the keys of its documents.
type Link = (i64, i64, EdgeKind);

/// Makes the stored edges these; returns how many were added and removed. Only the difference is written, so that an
/// unchanged graph writes nothing. Edges whose documents are gone are skipped.
pub(super) fn replace(
    transaction: &Connection,
    edges: &[Edge],
    references_dangling: u64,
) -> rusqlite::Result<(u64, u64)> {
    let wanted = links(transaction, edges)?;
    let present = present(transaction)?;
    let sql = "INSERT INTO edges (from_document, to_document, kind) VALUES (?1, ?2, ?3)";
    let added = write(transaction, "INSERT edges", sql, wanted.difference(&present))?;
    let sql = "DELETE FROM edges WHERE from_document = ?1 AND to_document = ?2 AND kind = ?3";
    let removed = write(transaction, "DELETE edges", sql, present.difference(&wanted))?;
    meta::set_references_dangling(transaction, references_dangling)?;
    Ok((added, removed))
}

fn links(connection: &Connection, edges: &[Edge]) -> rusqlite::Result<BTreeSet<Link>> {
    let sql = "SELECT id, key FROM documents";
    let keys = rows(connection, "SELECT documents", sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let keys: HashMap<String, i64> = keys.into_iter().collect();
    let link = |edge: &Edge| Some((*keys.get(edge.from.as_str())?, *keys.get(edge.to.as_str())?, edge.kind));
    Ok(edges.iter().filter_map(link).collect())
}

fn present(connection: &Connection) -> rusqlite::Result<BTreeSet<Link>> {
    let sql = "SELECT from_document, to_document, kind FROM edges";
    let links = rows(connection, "SELECT edges", sql, [], |row| {
        Ok((row.get(0)?, row.get(1)?, parsed(row, "kind", |word: String| edge_kind(&word))?))
    })?;
    Ok(links.into_iter().collect())
}

fn write<'a>(
    connection: &Connection,
    summary: &'static str,
    sql: &str,
    links: impl Iterator<Item = &'a Link>,
) -> rusqlite::Result<u64> {
    let links: Vec<_> = links.collect();
    if links.is_empty() {
        return Ok(0);
    }
    statement(connection, summary, sql, |statement| {
        links.iter().try_for_each(|(from, to, kind)| statement.execute(params![from, to, kind.as_str()]).map(drop))
    })?;
    Ok(links.len() as u64)
}
