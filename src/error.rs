//! One error type for the whole crate, sorted by who can fix it.
//!
//! Messages are lower case and say what was tried; advice says what to do next. The text of queries and documents never
//! goes into an error.

use std::time::Duration;

/// What went wrong, by who can mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller sent something that can never work: mend the named field and call again.
    #[error("{field}: {message}")]
    Invalid {
        /// The field, in the words of the proto or of the configuration (`limit`, `query.vector`).
        field: String,
        /// What is wrong with it and what is accepted.
        message: String,
    },
    /// The named thing does not exist.
    #[error("{what} {id:?} not found")]
    NotFound {
        /// The kind of thing: `document`, `model`.
        what: &'static str,
        /// The name it was asked for by.
        id: String,
    },
    /// A bounded queue or pool is full: retry after the given time.
    #[error("{what} is at its limit; retry in {} ms", retry_after.as_millis())]
    Overloaded {
        /// The queue or pool.
        what: &'static str,
        /// When a retry has a chance.
        retry_after: Duration,
    },
    /// The caller's deadline passed, or would pass, before the work was done.
    #[error("deadline exceeded while waiting for {what}")]
    Deadline {
        /// The work that was under way.
        what: &'static str,
    },
    /// The caller went away.
    #[error("cancelled by the caller")]
    Cancelled,
    /// The installation or its data needs an operator: a missing model, a corrupt database, a setting.
    #[error("{message}\n  → {advice}")]
    Setup {
        /// What was tried and how it failed.
        message: String,
        /// What to do, as a command where there is one.
        advice: String,
    },
    /// A dependency (disk, database lock, collector) did not answer; it may come back by itself.
    #[error("{message}")]
    Unavailable {
        /// What was tried.
        message: String,
        /// Why it failed.
        #[source]
        source: Option<Source>,
    },
    /// A defect of ours. The details go to the log, never to a client.
    #[error("{message}")]
    Internal {
        /// What was tried.
        message: String,
        /// Why it failed.
        #[source]
        source: Option<Source>,
    },
}

/// The cause of an [`Error`], kept for the log.
pub type Source = Box<dyn std::error::Error + Send + Sync + 'static>;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Returns an [`Error::Invalid`] for one field.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), message: message.into() }
    }

    /// Returns an [`Error::NotFound`].
    pub fn not_found(what: &'static str, id: impl Into<String>) -> Self {
        Self::NotFound { what, id: id.into() }
    }

    /// Returns an [`Error::Setup`]: what failed, and what an operator should do about it.
    pub fn setup(message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::Setup { message: message.into(), advice: advice.into() }
    }

    /// Returns an [`Error::Unavailable`] with its cause.
    pub fn unavailable(message: impl Into<String>, source: impl Into<Source>) -> Self {
        Self::Unavailable { message: message.into(), source: Some(source.into()) }
    }

    /// Returns an [`Error::Internal`] with its cause.
    pub fn internal(message: impl Into<String>, source: impl Into<Source>) -> Self {
        Self::Internal { message: message.into(), source: Some(source.into()) }
    }

    /// Returns an [`Error::Internal`] without a cause.
    pub fn bug(message: impl Into<String>) -> Self {
        Self::Internal { message: message.into(), source: None }
    }

    /// Returns the closed set of words that metrics and spans use for this error (`error.type`).
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid",
            Self::NotFound { .. } => "not_found",
            Self::Overloaded { .. } => "overloaded",
            Self::Deadline { .. } => "deadline",
            Self::Cancelled => "cancelled",
            Self::Setup { .. } => "setup",
            Self::Unavailable { .. } => "unavailable",
            Self::Internal { .. } => "internal",
        }
    }

    /// Returns the message followed by the chain of causes, for logs and for the command line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
