use std::path::Path;
use std::time::Instant;

use rusqlite::{Connection, ffi::sqlite3_auto_extension, params};

use super::{Failure, Peer};
use crate::vectors::Vectors;

/// Amalfa's predecessor: every query reads every blob, computes both lengths again and sorts everything.
pub struct BlobScan(Connection);

/// The sqlite-vec extension, exact.
pub struct SqliteVec(Connection);

/// Writes `(id, embedding)` rows, as the store keeps them.
pub fn write_blobs(path: &Path, vectors: &Vectors) -> Result<(), Failure> {
    let mut connection = Connection::open(path)?;
    connection
        .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE nodes (id INTEGER PRIMARY KEY, embedding BLOB)")?;
    let transaction = connection.transaction()?;
    {
        let mut insert = transaction.prepare("INSERT INTO nodes (id, embedding) VALUES (?1, ?2)")?;
        for (id, row) in vectors.rows().enumerate() {
            insert.execute(params![id as i64, bytes(row)])?;
        }
    }
    Ok(transaction.commit()?)
}

fn bytes(row: &[f32]) -> Vec<u8> {
    row.iter().flat_map(|v| v.to_le_bytes()).collect()
}

impl BlobScan {
    pub fn open(path: &Path) -> Result<Self, Failure> {
        Ok(Self(Connection::open(path)?))
    }
}

impl Peer for BlobScan {
    fn name(&self) -> String {
        "SELECT id, embedding; dot in a loop".into()
    }

    fn search(&mut self, query: &[f32], limit: usize) -> Result<Vec<u64>, Failure> {
        let mut select = self.0.prepare_cached("SELECT id, embedding FROM nodes")?;
        let mut rows = select.query([])?;
        let mut scored: Vec<(f32, i64)> = Vec::new();
        while let Some(row) = rows.next()? {
            let (mut dot, mut left, mut right) = (0.0f32, 0.0f32, 0.0f32);
            for (bytes, q) in row.get_ref(1)?.as_blob()?.as_chunks::<4>().0.iter().zip(query) {
                let value = f32::from_le_bytes(*bytes);
                dot += value * q;
                left += value * value;
                right += q * q;
            }
            let score = dot / (left.sqrt() * right.sqrt());
            if score > 0.0 {
                scored.push((score, row.get(0)?));
            }
        }
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        Ok(scored.iter().take(limit).map(|(_, id)| *id as u64).collect())
    }

    fn queries_per_round(&self) -> usize {
        6
    }
}

impl SqliteVec {
    pub fn build(vectors: &Vectors) -> Result<(Self, f64), Failure> {
        // SAFETY: the extension's entry point has the signature that SQLite calls, behind a type-erased declaration.
        unsafe {
            type Entry = unsafe extern "C" fn(
                *mut rusqlite::ffi::sqlite3,
                *mut *mut std::ffi::c_char,
                *const rusqlite::ffi::sqlite3_api_routines,
            ) -> std::ffi::c_int;
            let entry: Entry = std::mem::transmute(sqlite_vec::sqlite3_vec_init as *const ());
            sqlite3_auto_extension(Some(entry));
        }
        let mut connection = Connection::open_in_memory()?;
        let dimension = vectors.dimension;
        connection.execute_batch(&format!("CREATE VIRTUAL TABLE v USING vec0(embedding float[{dimension}])"))?;
        let started = Instant::now();
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare("INSERT INTO v (rowid, embedding) VALUES (?1, ?2)")?;
            for (id, row) in vectors.rows().enumerate() {
                insert.execute(params![id as i64, bytes(row)])?;
            }
        }
        transaction.commit()?;
        Ok((Self(connection), started.elapsed().as_secs_f64()))
    }
}

impl Peer for SqliteVec {
    fn name(&self) -> String {
        "sqlite-vec, exact".into()
    }

    fn search(&mut self, query: &[f32], limit: usize) -> Result<Vec<u64>, Failure> {
        let sql = "SELECT rowid FROM v WHERE embedding MATCH ?1 ORDER BY distance LIMIT ?2";
        let mut select = self.0.prepare_cached(sql)?;
        let ids = select.query_map(params![bytes(query), limit as i64], |row| row.get::<_, i64>(0))?;
        Ok(ids.map(|id| id.map(|id| id as u64)).collect::<Result<_, _>>()?)
    }

    fn queries_per_round(&self) -> usize {
        10
    }
}
