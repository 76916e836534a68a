//! Codes of passages' tokens: bytes in, bytes out; only the engine reads them.

use rusqlite::{Connection, params};

use super::chunks::numbers;
use super::statement::{rows, statement};
use crate::domain::ChunkId;

/// Stores the codes of chunks that have just been stored.
pub(super) fn put(connection: &Connection, codes: &[(i64, Vec<u8>)]) -> rusqlite::Result<()> {
    if codes.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO token_codes (chunk, codes) VALUES (?1, ?2)";
    statement(connection, "INSERT token_codes", sql, |insert| {
        codes.iter().try_for_each(|(number, codes)| insert.execute(params![number, codes]).map(drop))
    })
}

/// Returns these chunks' codes, in no order; chunks that have none are left out.
pub(super) fn read(connection: &Connection, chunks: &[ChunkId]) -> rusqlite::Result<Vec<(ChunkId, Vec<u8>)>> {
    let sql = "SELECT chunk, codes FROM token_codes WHERE chunk IN (SELECT value FROM json_each(?1))";
    rows(connection, "SELECT token_codes", sql, [numbers(chunks)], |row| {
        Ok((ChunkId(row.get("chunk")?), row.get("codes")?))
    })
}
