//! Reading chunks: passages for hits, numbers for filters, vectors for the engine.

use std::collections::HashMap;
use std::ops::Range;

use roaring::RoaringTreemap;
use rusqlite::{Connection, Row, params_from_iter};

use super::decode::{date, document_id, json};
use super::failure::Failure;
use super::filter::Clause;
use super::meta;
use super::statement::{row, rows, statement};
use crate::domain::{ChunkId, DocumentId, Filter, Passage, Vector};
use crate::error::Error;
use crate::telemetry::metrics;

/// Vectors read at a time: 1.5 MB of 384 coordinates each.
const BATCH_VECTORS: usize = 1_000;

/// Numbers in one part of a parallel scan, fewer in tests: 64 Ki vectors of 384 coordinates are 100 MB.
const PART_NUMBERS: u64 = if cfg!(test) { 1_000 } else { 1 << 16 };
/// Vectors of a part delivered at a time: 12.6 MB of 384 coordinates, as many as the flat engine puts into one segment.
const PART_BATCH_VECTORS: u64 = if cfg!(test) { 300 } else { 1 << 13 };

/// A stored vector, `None` when it is damaged.
type Stored = (ChunkId, Option<Vector>);

/// What is read of a passage besides its text, in the order in which [`passage`] takes it.
const COLUMNS: &str = "c.id, c.ordinal, c.heading_path, d.id, d.source, d.title, d.date, d.type, d.domain, d.metadata";

/// Returns the passages of these chunks, in the order asked; chunks that are gone are left out.
pub(super) fn passages(connection: &Connection, chunks: &[ChunkId]) -> rusqlite::Result<Vec<Passage>> {
    select(connection, chunks, "c.text")
}

/// Returns the same with empty texts, whose pages are not read.
pub(super) fn passages_untold(connection: &Connection, chunks: &[ChunkId]) -> rusqlite::Result<Vec<Passage>> {
    select(connection, chunks, "''")
}

fn select(connection: &Connection, chunks: &[ChunkId], text: &str) -> rusqlite::Result<Vec<Passage>> {
    let sql = format!(
        "SELECT {COLUMNS}, {text} FROM chunks AS c JOIN documents AS d ON d.key = c.document
        WHERE c.id IN (SELECT value FROM json_each(?1))"
    );
    let found = rows(connection, "SELECT chunks, documents", &sql, [numbers(chunks)], passage)?;
    let mut found: HashMap<ChunkId, Passage> = found.into_iter().map(|passage| (passage.chunk, passage)).collect();
    Ok(chunks.iter().filter_map(|chunk| found.remove(chunk)).collect())
}

/// Returns the chunks with a vector of the documents that meet the filter. Reads indexes only, but for the documents.
pub(super) fn matching(connection: &Connection, filter: &Filter) -> rusqlite::Result<RoaringTreemap> {
    if filter.is_empty() {
        return embedded(connection);
    }
    let Clause { sql: clause, params } = Clause::of(filter);
    // CROSS JOIN: documents first, so that a condition is evaluated once a document and not once a chunk.
    let sql = format!(
        "SELECT c.id FROM documents AS d CROSS JOIN chunks AS c ON c.document = d.key
        CROSS JOIN embeddings AS e INDEXED BY embedding_numbers ON e.chunk = c.id WHERE {clause}"
    );
    set(connection, "SELECT documents, chunks", &sql, params_from_iter(params))
}

/// Returns the numbers of all chunks that have a vector.
pub(super) fn embedded(connection: &Connection) -> rusqlite::Result<RoaringTreemap> {
    let sql = "SELECT chunk FROM embeddings INDEXED BY embedding_numbers";
    set(connection, "SELECT embeddings", sql, [])
}

/// Returns these chunks' vectors; chunks that are gone are left out.
pub(super) fn vectors(connection: &Connection, chunks: &[ChunkId]) -> Result<Vec<(ChunkId, Vector)>, Failure> {
    let snapshot = connection.unchecked_transaction()?;
    let Some(dimension) = meta::dimension(&snapshot)? else { return Ok(Vec::new()) };
    let sql = "SELECT chunk, vector FROM embeddings WHERE chunk IN (SELECT value FROM json_each(?1))";
    let mut found = Vec::with_capacity(chunks.len());
    for batch in chunks.chunks(BATCH_VECTORS) {
        let stored = rows(&snapshot, "SELECT embeddings", sql, [numbers(batch)], |row| stored(row, dimension))?;
        found.extend(keep_sound(stored));
    }
    Ok(found)
}

/// Returns the vectors of a document's chunks, in order.
pub(super) fn document_vectors(connection: &Connection, id: &DocumentId) -> Result<Vec<Vector>, Failure> {
    let snapshot = connection.unchecked_transaction()?;
    let sql = "SELECT key FROM documents WHERE id = ?1";
    let key: Option<i64> = row(&snapshot, "SELECT documents", sql, [id.as_str()], |row| row.get(0))?;
    let key = key.ok_or_else(|| Error::not_found("document", id.as_str()))?;
    let Some(dimension) = meta::dimension(&snapshot)? else { return Ok(Vec::new()) };
    let sql = "SELECT e.chunk, e.vector FROM chunks AS c JOIN embeddings AS e ON e.chunk = c.id
        WHERE c.document = ?1 ORDER BY c.ordinal";
    let stored = rows(&snapshot, "SELECT embeddings", sql, [key], |row| stored(row, dimension))?;
    Ok(keep_sound(stored).into_iter().map(|(_, vector)| vector).collect())
}

/// Returns ranges of numbers that together hold every stored vector, each [`PART_NUMBERS`] wide.
pub(super) fn parts(connection: &Connection) -> rusqlite::Result<Vec<Range<u64>>> {
    let sql = "SELECT min(chunk), max(chunk) FROM embeddings INDEXED BY embedding_numbers";
    let bounds = row(connection, "SELECT embeddings", sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let Some((Some(first), Some(last))): Option<(Option<u64>, Option<u64>)> = bounds else { return Ok(Vec::new()) };
    let starts = (first..=last).step_by(PART_NUMBERS as usize);
    Ok(starts.map(|start| start..start.saturating_add(PART_NUMBERS)).collect())
}

/// Calls `each` with every sound vector of a part, in order of number, in batches; returns how many there were.
pub(super) fn scan(
    connection: &Connection,
    part: Range<u64>,
    each: impl Fn(Vec<(ChunkId, Vector)>),
) -> Result<u64, Failure> {
    let snapshot = connection.unchecked_transaction()?;
    let Some(dimension) = meta::dimension(&snapshot)? else { return Ok(0) };
    let sql = "SELECT chunk, vector FROM embeddings WHERE chunk >= ?1 AND chunk < ?2 ORDER BY chunk LIMIT ?3";
    let (mut from, mut delivered) = (part.start, 0);
    loop {
        let params = [from, part.end, PART_BATCH_VECTORS];
        let batch = rows(&snapshot, "SELECT embeddings", sql, params, |row| stored(row, dimension))?;
        let Some((last, _)) = batch.last() else { return Ok(delivered) };
        from = last.0 + 1;
        let sound = keep_sound(batch);
        delivered += sound.len() as u64;
        each(sound);
    }
}

/// Returns a list parameter for `json_each`: one text of SQL whatever its length.
pub(super) fn numbers(chunks: &[ChunkId]) -> String {
    serde_json::Value::from_iter(chunks.iter().map(|chunk| chunk.0)).to_string()
}

fn set(
    connection: &Connection,
    summary: &'static str,
    sql: &str,
    params: impl rusqlite::Params,
) -> rusqlite::Result<RoaringTreemap> {
    statement(connection, summary, sql, |statement| statement.query_map(params, |row| row.get::<_, u64>(0))?.collect())
}

fn stored(row: &Row<'_>, dimension: usize) -> rusqlite::Result<Stored> {
    let bytes = row.get_ref("vector")?.as_blob()?;
    Ok((ChunkId(row.get("chunk")?), Vector::from_le_bytes(bytes, dimension).ok()))
}

fn keep_sound(stored: Vec<Stored>) -> Vec<(ChunkId, Vector)> {
    let read = stored.len();
    let sound: Vec<_> = stored.into_iter().filter_map(|(chunk, vector)| Some((chunk, vector?))).collect();
    let damaged = (read - sound.len()) as u64;
    if damaged > 0 {
        metrics::vectors_damaged(damaged);
        tracing::warn!(damaged, "left out stored vectors that are damaged; ingest their documents again");
    }
    sound
}

/// Reads by place, not by name: names would be compared for every column of every row.
fn passage(row: &Row<'_>) -> rusqlite::Result<Passage> {
    Ok(Passage {
        chunk: ChunkId(row.get(0)?),
        ordinal: row.get(1)?,
        heading_path: json(row, 2)?,
        document: document_id(row, 3)?,
        source: row.get(4)?,
        title: row.get(5)?,
        date: date(row, 6)?,
        kind: row.get(7)?,
        domain: row.get(8)?,
        metadata: json(row, 9)?,
        text: row.get(10)?,
    })
}
