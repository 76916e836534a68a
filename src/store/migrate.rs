//! Whose file it is, and bringing it to this binary's schema.

use std::path::Path;

use rusqlite::{Connection, Transaction};

use super::failure::Failure;
use super::pool::transact;
use crate::error::Error;

/// Marks a SQLite file as Amalfa's: "AMLF" in ASCII.
pub(super) const APPLICATION_ID: i32 = 0x414D_4C46;
/// What leads from each version to the next; the first from an empty file to version 1.
pub(super) const MIGRATIONS: &[&str] =
    &[include_str!("schema.sql"), include_str!("schema_2_lexical.sql"), include_str!("schema_3_token_codes.sql")];
/// The version of this binary's schema.
pub(super) const VERSION: u32 = MIGRATIONS.len() as u32;

/// Returns the version of the file, 0 when it is empty.
///
/// # Errors
///
/// `Setup` when it is another application's, or written by a later version of Amalfa.
pub(super) fn identify(connection: &Connection, path: &Path) -> Result<u32, Failure> {
    // One statement, so one snapshot: another process may be migrating at this moment.
    let sql =
        "SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version),
        (SELECT count(*) FROM sqlite_schema)";
    let (application, version, objects): (i32, i32, u32) =
        connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    match u32::try_from(version) {
        Ok(0) if application == 0 && objects == 0 => Ok(0),
        Ok(version) if application == APPLICATION_ID && version <= VERSION => Ok(version),
        _ if application == APPLICATION_ID => Err(newer(path, version).into()),
        _ => Err(foreign(path).into()),
    }
}

/// Brings the file to this binary's version, in one transaction; two processes that start at once take turns.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), Failure> {
    if identify(connection, path)? == VERSION {
        return Ok(());
    }
    transact(connection, |transaction| {
        let version = identify(transaction, path)?; // again: another process may have been faster
        apply(transaction, version)?;
        tracing::info!(from = version, to = VERSION, "migrated the database");
        Ok(())
    })
}

fn apply(transaction: &Transaction<'_>, version: u32) -> rusqlite::Result<()> {
    for migration in MIGRATIONS.iter().skip(version as usize) {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)
}

fn newer(path: &Path, version: i32) -> Error {
    let path = path.display();
    Error::setup(
        format!("database {path} has schema version {version}; this amalfa knows up to {VERSION}"),
        "upgrade amalfa, or choose another database with --db",
    )
}

fn foreign(path: &Path) -> Error {
    Error::setup(
        format!("{} is a SQLite database of another application; it was left as it is", path.display()),
        "choose another file with --db",
    )
}
