//! Reading documents: what is known of them, their pages, their text.

use rusqlite::types::Value as Bound;
use rusqlite::{Connection, Row, params_from_iter};

use super::decode::{date, document_id, edge_kind, json, parsed, time_ms};
use super::failure::Failure;
use super::filter::Clause;
use super::records::{Known, Node, Page};
use super::statement::{execute, row, rows};
use crate::domain::{DocumentId, DocumentRecord, Filter, Reference};
use crate::error::Error;

/// What [`record`] reads.
const RECORD: &str = "SELECT d.id, d.source, d.title, d.date, d.type, d.domain, d.metadata, d.content_hash,
    d.created_ms, d.updated_ms, (SELECT count(*) FROM chunks AS c WHERE c.document = d.key) AS chunks
    FROM documents AS d";

/// Returns id, source and hash of every document, in order of id.
pub(super) fn known(connection: &Connection) -> rusqlite::Result<Vec<Known>> {
    let sql = "SELECT id, source, content_hash FROM documents ORDER BY id";
    rows(connection, "SELECT documents", sql, [], |row| {
        Ok(Known { id: document_id(row, "id")?, source: row.get("source")?, content_hash: row.get("content_hash")? })
    })
}

/// Returns every document with what it mentions, in order of id.
pub(super) fn nodes(connection: &Connection) -> rusqlite::Result<Vec<Node>> {
    let sql = "SELECT d.id, d.source, d.title, d.metadata ->> '$.aliases' AS aliases, r.kind, r.target
        FROM documents AS d LEFT JOIN refs AS r ON r.document = d.key ORDER BY d.id, r.kind, r.target";
    let mentions = rows(connection, "SELECT documents, refs", sql, [], |row| {
        let node = Node {
            id: document_id(row, "id")?,
            source: row.get("source")?,
            title: row.get("title")?,
            aliases: row.get::<_, Option<String>>("aliases")?.map(|json| texts(&json)).unwrap_or_default(),
            references: vec![],
        };
        Ok((node, reference(row)?))
    })?;
    let mut nodes: Vec<Node> = Vec::new();
    for (node, reference) in mentions {
        match nodes.last_mut() {
            Some(last) if last.id == node.id => last.references.extend(reference),
            _ => nodes.push(Node { references: reference.into_iter().collect(), ..node }),
        }
    }
    Ok(nodes)
}

/// Returns at most `limit` documents whose vectors are of an earlier model, in order of id.
pub(super) fn stale(connection: &Connection, limit: usize) -> rusqlite::Result<Vec<DocumentId>> {
    let sql = "SELECT id FROM documents WHERE stale = 1 ORDER BY id LIMIT ?1";
    rows(connection, "SELECT documents", sql, [limit], |row| document_id(row, "id"))
}

/// Marks every document as one whose vectors are of an earlier model.
pub(super) fn mark_stale(connection: &Connection) -> rusqlite::Result<()> {
    execute(connection, "UPDATE documents", "UPDATE documents SET stale = 1 WHERE stale = 0", []).map(drop)
}

/// Returns a document and its whole text.
pub(super) fn document(connection: &Connection, id: &DocumentId) -> Result<(DocumentRecord, String), Failure> {
    let snapshot = connection.unchecked_transaction()?;
    let sql = format!("{RECORD} WHERE d.id = ?1");
    let found = row(&snapshot, "SELECT documents", &sql, [id.as_str()], record)?;
    let record = found.ok_or_else(|| Error::not_found("document", id.as_str()))?;
    let text = text(&snapshot, id)?;
    Ok((record, text))
}

/// Returns the page of documents after `after`, at most `size`, and how many meet the filter on all pages.
pub(super) fn page(
    connection: &Connection,
    filter: &Filter,
    after: Option<&DocumentId>,
    size: usize,
) -> rusqlite::Result<Page> {
    let snapshot = connection.unchecked_transaction()?;
    let Clause { sql: clause, mut params } = Clause::of(filter);
    let sql = format!("SELECT count(*) FROM documents AS d WHERE {clause}");
    let total = row(&snapshot, "SELECT documents", &sql, params_from_iter(&params), |row| row.get(0))?.unwrap_or(0);

    // One more than asked tells whether there is a next page. Every id comes after the empty text.
    params.push(Bound::from(after.map_or("", DocumentId::as_str).to_owned()));
    params.push(Bound::from(i64::try_from(size).unwrap_or(i64::MAX).saturating_add(1)));
    let sql = format!("{RECORD} WHERE {clause} AND d.id > ? ORDER BY d.id LIMIT ?");
    let mut documents = rows(&snapshot, "SELECT documents", &sql, params_from_iter(&params), record)?;
    let more = documents.len() > size;
    documents.truncate(size);
    let next_after = documents.last().filter(|_| more).map(|last| last.id.clone());
    Ok(Page { documents, next_after, total })
}

/// Each chunk's text follows the chunk before without its first `overlap` bytes.
fn text(connection: &Connection, id: &DocumentId) -> rusqlite::Result<String> {
    let sql = "SELECT c.overlap, c.text FROM chunks AS c JOIN documents AS d ON d.key = c.document
        WHERE d.id = ?1 ORDER BY c.ordinal";
    let parts = rows(connection, "SELECT chunks", sql, [id.as_str()], |row| {
        let overlap: usize = row.get("overlap")?;
        parsed(row, "text", |text: String| text.get(overlap..).map(str::to_owned))
    })?;
    Ok(parts.concat())
}

fn record(row: &Row<'_>) -> rusqlite::Result<DocumentRecord> {
    Ok(DocumentRecord {
        id: document_id(row, "id")?,
        source: row.get("source")?,
        title: row.get("title")?,
        date: date(row, "date")?,
        kind: row.get("type")?,
        domain: row.get("domain")?,
        metadata: json(row, "metadata")?,
        content_hash: row.get("content_hash")?,
        chunks: row.get("chunks")?,
        created: time_ms(row, "created_ms")?,
        updated: time_ms(row, "updated_ms")?,
    })
}

/// Returns the texts of a JSON list; nothing for any other JSON.
fn texts(json: &str) -> Vec<String> {
    let values: Vec<serde_json::Value> = serde_json::from_str(json).unwrap_or_default();
    values.into_iter().filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

/// Returns the reference of a row, `None` where a document mentions nothing.
fn reference(row: &Row<'_>) -> rusqlite::Result<Option<Reference>> {
    let Some(target) = row.get("target")? else { return Ok(None) };
    let kind = parsed(row, "kind", |word: String| edge_kind(&word))?;
    Ok(Some(Reference { kind, target }))
}
