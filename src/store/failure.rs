//! From SQLite's errors to the crate's, by who can fix them.

use std::path::Path;

use rusqlite::ErrorCode;

use crate::error::Error;
use crate::telemetry::sql::StatusCode;

/// What can go wrong while a connection is in use: SQLite's error, which does not know its file's name, or one of ours.
#[derive(Debug)]
pub(super) enum Failure {
    /// SQLite's.
    Sqlite(rusqlite::Error),
    /// Ours, complete.
    Ours(Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

impl StatusCode for rusqlite::Error {
    fn status_code(&self) -> Option<i32> {
        self.sqlite_extended_error_code()
    }
}

impl Failure {
    /// Returns whether another connection's lock was in the way.
    pub(super) fn is_lock(&self) -> bool {
        let Self::Sqlite(error) = self else { return false };
        matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
    }

    /// Returns the crate's error for a failure on the database at `path`.
    pub(super) fn at(self, path: &Path) -> Error {
        match self {
            Self::Sqlite(error) => classify(error, path),
            Self::Ours(error) => error,
        }
    }
}

fn classify(error: rusqlite::Error, path: &Path) -> Error {
    let path = path.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Error::unavailable(format!("database {path} is locked by another process"), error)
        }
        Some(ErrorCode::SystemIoFailure) => {
            Error::unavailable(format!("disk did not serve database {path}; nothing was changed"), error)
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Error::setup(
            format!("database {path} is damaged or not a SQLite database: {error}"),
            "restore a copy, or move the file and its -wal and -shm away and ingest again",
        ),
        Some(ErrorCode::DiskFull) => Error::setup(
            format!(
                "no space left to write database {path}: {error}; the transaction was rolled back, nothing was lost"
            ),
            "free some space on its disk and try again",
        ),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => Error::setup(
            format!("cannot open database {path} for writing: {error}"),
            "allow this user to write the file and its folder (SQLite keeps -wal and -shm beside it), or choose another with --db",
        ),
        Some(ErrorCode::OperationInterrupted) => Error::Cancelled,
        _ => Error::internal(format!("statement on database {path} failed"), error),
    }
}
