//! Single values: the identity of the model, the count of dangling references, what the words were indexed with.

use rusqlite::Connection;

use super::failure::Failure;
use super::statement::{execute, row};
use crate::domain::ModelIdentity;
use crate::error::Error;

const MODEL_IDENTITY: &str = "model_identity";
const REFERENCES_DANGLING: &str = "references_dangling";
const LEXICAL_TOKENIZER: &str = "lexical_tokenizer";

/// Returns the identity of the model that the vectors were made with.
pub(super) fn model_identity(connection: &Connection) -> Result<Option<ModelIdentity>, Failure> {
    let Some(json) = get(connection, MODEL_IDENTITY)? else { return Ok(None) };
    serde_json::from_str(&json).map(Some).map_err(|error| {
        let message = format!("the model identity stored in the database cannot be read: {error}");
        Error::setup(message, "ingest again into a new database, or use the amalfa that wrote this one").into()
    })
}

/// Records the identity of the model.
pub(super) fn set_model_identity(connection: &Connection, identity: &ModelIdentity) -> Result<(), Failure> {
    let json = serde_json::to_string(identity).map_err(|error| Error::internal("encoding a model identity", error))?;
    Ok(set(connection, MODEL_IDENTITY, &json)?)
}

/// Returns the dimension of the vectors; `None` while there can be none.
pub(super) fn dimension(connection: &Connection) -> Result<Option<usize>, Failure> {
    Ok(model_identity(connection)?.map(|identity| identity.dimension))
}

/// Returns how many references named no document when edges were last replaced.
pub(super) fn references_dangling(connection: &Connection) -> rusqlite::Result<u64> {
    Ok(get(connection, REFERENCES_DANGLING)?.and_then(|count| count.parse().ok()).unwrap_or(0))
}

/// Records the count of dangling references, unless it is the same.
pub(super) fn set_references_dangling(connection: &Connection, count: u64) -> rusqlite::Result<()> {
    if references_dangling(connection)? == count {
        return Ok(());
    }
    set(connection, REFERENCES_DANGLING, &count.to_string())
}

/// Returns the tokenizer that the index of words was made with.
pub(super) fn lexical_tokenizer(connection: &Connection) -> rusqlite::Result<Option<String>> {
    get(connection, LEXICAL_TOKENIZER)
}

/// Records the tokenizer that the index of words was made with.
pub(super) fn set_lexical_tokenizer(connection: &Connection, tokenizer: &str) -> rusqlite::Result<()> {
    set(connection, LEXICAL_TOKENIZER, tokenizer)
}

fn get(connection: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    row(connection, "SELECT meta", "SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0))
}

fn set(connection: &Connection, key: &str, value: &str) -> rusqlite::Result<()> {
    let sql = "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    execute(connection, "INSERT meta", sql, [key, value]).map(drop)
}
