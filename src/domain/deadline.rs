//! When a caller stops waiting, carried into CPU work so that nobody computes what nobody reads.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// A point in time after which work for a request is useless, or none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// No deadline: bulk work and the command line.
    pub const NONE: Self = Self(None);

    /// Returns the deadline that is `budget` from now.
    pub fn after(budget: Duration) -> Self {
        Self(Instant::now().checked_add(budget))
    }

    /// Returns the time left, zero when it has passed, `None` when there is no deadline.
    pub fn remaining(&self) -> Option<Duration> {
        self.0.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Returns whether the deadline has passed.
    pub fn expired(&self) -> bool {
        self.0.is_some_and(|at| Instant::now() >= at)
    }

    /// Returns the earlier of this deadline and one `budget` from now.
    #[must_use]
    pub fn at_most(self, budget: Duration) -> Self {
        match (self.0, Self::after(budget).0) {
            (Some(a), Some(b)) => Self(Some(a.min(b))),
            (a, b) => Self(a.or(b)),
        }
    }

    /// Returns `Ok` while there is time.
    ///
    /// # Errors
    ///
    /// [`Error::Deadline`] naming `what` once the deadline has passed.
    pub fn check(&self, what: &'static str) -> Result<()> {
        if self.expired() { Err(Error::Deadline { what }) } else { Ok(()) }
    }
}
