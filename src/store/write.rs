//! Writing documents: the steps of one transaction.
//!
//! What would break a constraint is looked up before a step writes, so that a step is left out whole and the others apply.

use std::collections::HashSet;

use jiff::Timestamp;
use rusqlite::{Connection, params};
use serde::Serialize;

use super::decode::document_id;
use super::failure::Failure;
use super::records::{Committed, Outcome, PreparedDocument, Write};
use super::statement::{execute, row, rows, statement};
use super::{meta, token_codes};
use crate::domain::{Chunk, ChunkId, DocumentId, Reference, Vector};
use crate::error::Error;

/// A document's key in the database.
type Key = i64;

/// Applies the steps in order; the caller commits.
pub(super) fn apply(transaction: &Connection, steps: Vec<Write>) -> Result<Committed, Failure> {
    let dimension = meta::dimension(transaction)?;
    let now_ms = Timestamp::now().as_millisecond();
    let mut under_way = Steps { transaction, dimension, now_ms, committed: Committed::default() };
    for step in steps {
        let outcome = under_way.apply(step)?;
        under_way.committed.outcomes.push(outcome);
    }
    Ok(net(under_way.committed))
}

/// Leaves out of what was added the chunks that a later step of the same transaction removed again.
fn net(mut committed: Committed) -> Committed {
    let removed: HashSet<ChunkId> = committed.removed.iter().copied().collect();
    committed.added.retain(|(chunk, _)| !removed.contains(chunk));
    committed
}

/// A transaction under way.
struct Steps<'a> {
    transaction: &'a Connection,
    dimension: Option<usize>,
    now_ms: i64,
    committed: Committed,
}

impl Steps<'_> {
    fn apply(&mut self, step: Write) -> Result<Outcome, Failure> {
        match step {
            Write::Put(document) => self.put(*document),
            Write::Rename { from, to, source } => self.rename(&from, &to, &source),
            Write::Delete(id) => self.delete(&id),
        }
    }

    fn put(&mut self, prepared: PreparedDocument) -> Result<Outcome, Failure> {
        let document = &prepared.document;
        if let Some(owner) = self.owner_of(&document.source, &document.id)? {
            return Ok(Outcome::SourceTaken(owner));
        }
        let former = self.key(&document.id)?;
        if let Some(key) = former {
            self.remove_chunks(key)?;
            execute(self.transaction, "DELETE refs", "DELETE FROM refs WHERE document = ?1", [key])?;
        }
        let key = self.put_document(&prepared)?;
        self.put_references(key, &prepared.references)?;
        self.put_chunks(key, prepared.chunks)?;
        Ok(if former.is_some() { Outcome::Updated } else { Outcome::Created })
    }

    fn rename(&mut self, from: &DocumentId, to: &DocumentId, source: &str) -> Result<Outcome, Failure> {
        let Some(key) = self.key(from)? else { return Ok(Outcome::NotFound) };
        if from != to && self.key(to)?.is_some() {
            return Ok(Outcome::SourceTaken(to.clone()));
        }
        if let Some(owner) = self.owner_of(source, from)? {
            return Ok(Outcome::SourceTaken(owner));
        }
        let sql = "UPDATE documents SET id = ?2, source = ?3, updated_ms = ?4 WHERE key = ?1";
        execute(self.transaction, "UPDATE documents", sql, params![key, to.as_str(), source, self.now_ms])?;
        Ok(Outcome::Done)
    }

    fn delete(&mut self, id: &DocumentId) -> Result<Outcome, Failure> {
        let Some(key) = self.key(id)? else { return Ok(Outcome::NotFound) };
        self.remove_chunks(key)?;
        execute(self.transaction, "DELETE documents", "DELETE FROM documents WHERE key = ?1", [key])?;
        Ok(Outcome::Done)
    }

    fn key(&self, id: &DocumentId) -> rusqlite::Result<Option<Key>> {
        let sql = "SELECT key FROM documents WHERE id = ?1";
        row(self.transaction, "SELECT documents", sql, [id.as_str()], |row| row.get(0))
    }

    /// Returns the document that `source` belongs to, unless it is `id` itself.
    fn owner_of(&self, source: &str, id: &DocumentId) -> Result<Option<DocumentId>, Failure> {
        let sql = "SELECT id FROM documents WHERE source = ?1 AND id <> ?2";
        Ok(row(self.transaction, "SELECT documents", sql, [source, id.as_str()], |row| document_id(row, "id"))?)
    }

    /// Stores all but the chunks; the key and the time of creation of a former self stay.
    fn put_document(&self, prepared: &PreparedDocument) -> Result<Key, Failure> {
        let sql = "INSERT INTO documents
            (id, source, title, date, type, domain, metadata, content_hash, created_ms, updated_ms)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9)
            ON CONFLICT (id) DO UPDATE SET source = excluded.source, title = excluded.title, date = excluded.date,
            type = excluded.type, domain = excluded.domain, metadata = excluded.metadata,
            content_hash = excluded.content_hash, updated_ms = excluded.updated_ms, stale = 0
            RETURNING key";
        let document = &prepared.document;
        let params = params![
            document.id.as_str(),
            document.source,
            document.title,
            document.date.map(|date| date.to_string()),
            document.kind,
            document.domain,
            json(&document.metadata)?,
            prepared.content_hash,
            self.now_ms,
        ];
        let key = statement(self.transaction, "INSERT documents", sql, |s| s.query_row(params, |row| row.get(0)))?;
        Ok(key)
    }

    fn put_references(&self, key: Key, references: &[Reference]) -> rusqlite::Result<()> {
        if references.is_empty() {
            return Ok(());
        }
        let sql = "INSERT OR IGNORE INTO refs (document, kind, target) VALUES (?1, ?2, ?3)";
        statement(self.transaction, "INSERT refs", sql, |insert| {
            let put = |r: &Reference| insert.execute(params![key, r.kind.as_str(), r.target]).map(drop);
            references.iter().try_for_each(put)
        })
    }

    fn put_chunks(&mut self, key: Key, chunks: Vec<Chunk>) -> Result<(), Failure> {
        let paths = chunks.iter().map(|chunk| json(&chunk.heading_path)).collect::<Result<Vec<_>, _>>()?;
        let sql = "INSERT INTO chunks (document, ordinal, overlap, tokens, heading_path, text)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let numbers = statement(self.transaction, "INSERT chunks", sql, |insert| {
            let mut put = |(chunk, path): (&Chunk, &String)| {
                insert.insert(params![key, chunk.ordinal, chunk.overlap, chunk.tokens, path, chunk.text])
            };
            chunks.iter().zip(&paths).map(&mut put).collect::<rusqlite::Result<Vec<i64>>>()
        })?;
        let (mut vectors, mut codes) = (Vec::new(), Vec::new());
        for (chunk, number) in chunks.into_iter().zip(numbers) {
            vectors.extend(chunk.vector.map(|vector| (number, vector)));
            codes.extend(chunk.token_codes.map(|bytes| (number, bytes)));
        }
        token_codes::put(self.transaction, &codes)?;
        self.put_vectors(vectors)
    }

    fn put_vectors(&mut self, vectors: Vec<(i64, Vector)>) -> Result<(), Failure> {
        self.check(&vectors)?;
        let sql = "INSERT INTO embeddings (chunk, vector) VALUES (?1, ?2)";
        statement(self.transaction, "INSERT embeddings", sql, |insert| {
            let put =
                |(number, vector): &(i64, Vector)| insert.execute(params![number, vector.to_le_bytes()]).map(drop);
            vectors.iter().try_for_each(put)
        })?;
        let added = vectors.into_iter().map(|(number, vector)| (ChunkId(number.cast_unsigned()), vector));
        self.committed.added.extend(added);
        Ok(())
    }

    /// A vector is of length 1 by its type; that it is of the recorded model's dimension is checked here.
    fn check(&self, vectors: &[(i64, Vector)]) -> Result<(), Error> {
        let wrong = |(_, vector): &&(i64, Vector)| Some(vector.dimension()) != self.dimension;
        let Some((_, vector)) = vectors.iter().find(wrong) else { return Ok(()) };
        let of_model = self.dimension.map_or("no model's".to_owned(), |dimension| dimension.to_string());
        Err(Error::bug(format!("a vector of {} coordinates came to a store of {of_model}", vector.dimension())))
    }

    /// Removes a document's chunks and, with them, their vectors.
    fn remove_chunks(&mut self, key: Key) -> rusqlite::Result<()> {
        let sql = "DELETE FROM chunks WHERE document = ?1 RETURNING id";
        let removed = rows(self.transaction, "DELETE chunks", sql, [key], |row| Ok(ChunkId(row.get(0)?)))?;
        self.committed.removed.extend(removed);
        Ok(())
    }
}

fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Error::internal("encoding a document", error).into())
}
