//! A circuit breaker: what fails again and again is left alone for a while, so that no caller waits for it in vain.
//!
//! Closed: everyone passes. Open, after so many failures in a row: no one does, for a time. Half-open, after that: one
//! passes, and its fate decides.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::telemetry::metrics;

/// The breaker.
#[derive(Debug)]
pub(super) struct Circuit {
    failures_max: u32,
    open_for: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
    },
    /// One is on its way.
    HalfOpen,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Closed { .. } => "closed",
            Self::Open { .. } => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// The right to try once. Dropped without a verdict it leaves things as they were.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    circuit: &'a Circuit,
    /// Whether this is the one that a half-open circuit lets through, until it has told how it went.
    probe: bool,
}

impl Circuit {
    /// Returns a closed circuit that opens for a time after so many failures in a row.
    pub(super) fn new(failures_max: u32, open_for: Duration) -> Self {
        let closed = State::Closed { failures: 0 };
        metrics::llm_circuit(closed.as_str());
        Self { failures_max, open_for, state: Mutex::new(closed) }
    }

    /// Lets the caller try.
    ///
    /// # Errors
    ///
    /// The time until it is worth asking again.
    pub(super) fn enter(&self, now: Instant) -> Result<Pass<'_>, Duration> {
        let mut state = self.lock();
        match *state {
            State::Closed { .. } => Ok(Pass { circuit: self, probe: false }),
            State::Open { until } if now < until => Err(until - now),
            State::HalfOpen => Err(self.open_for),
            State::Open { .. } => {
                set(&mut state, State::HalfOpen);
                Ok(Pass { circuit: self, probe: true })
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// Closes the circuit.
    pub(super) fn succeeded(mut self) {
        self.probe = false;
        set(&mut self.circuit.lock(), State::Closed { failures: 0 });
    }

    /// Counts a failure, and opens the circuit when it is one too many.
    pub(super) fn failed(mut self, now: Instant) {
        let probe = std::mem::take(&mut self.probe);
        let mut state = self.circuit.lock();
        let open = State::Open { until: now + self.circuit.open_for };
        match *state {
            _ if probe => set(&mut state, open),
            State::Closed { failures } if failures + 1 >= self.circuit.failures_max => {
                tracing::warn!(failures = failures + 1, "the language model fails; it is left alone for a while");
                set(&mut state, open);
            }
            State::Closed { failures } => *state = State::Closed { failures: failures + 1 },
            // Others have opened it meanwhile.
            State::Open { .. } | State::HalfOpen => {}
        }
    }

    /// Tells nothing: the caller was in too much of a hurry to know.
    pub(super) fn no_verdict(self) {}
}

impl Drop for Pass<'_> {
    /// Lets the next one try when the one of a half-open circuit was given up.
    fn drop(&mut self) {
        if self.probe {
            set(&mut self.circuit.lock(), State::Open { until: Instant::now() });
        }
    }
}

fn set(state: &mut State, next: State) {
    if state.as_str() != next.as_str() {
        metrics::llm_circuit(next.as_str());
    }
    *state = next;
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN_FOR: Duration = Duration::from_secs(30);

    /// A circuit that two failures have opened at the returned time.
    fn opened() -> (Circuit, Instant) {
        let (circuit, now) = (Circuit::new(2, OPEN_FOR), Instant::now());
        circuit.enter(now).unwrap().failed(now);
        circuit.enter(now).unwrap().failed(now);
        (circuit, now)
    }

    #[test]
    fn failures_in_a_row_open_it_for_a_time() {
        let (circuit, now) = opened();
        assert_eq!(circuit.enter(now).unwrap_err(), OPEN_FOR);
        assert_eq!(circuit.enter(now + OPEN_FOR / 3).unwrap_err(), OPEN_FOR - OPEN_FOR / 3);
    }

    #[test]
    fn a_success_between_failures_starts_the_count_anew() {
        let (circuit, now) = (Circuit::new(2, OPEN_FOR), Instant::now());
        circuit.enter(now).unwrap().failed(now);
        circuit.enter(now).unwrap().succeeded();
        circuit.enter(now).unwrap().failed(now);
        assert!(circuit.enter(now).is_ok());
    }

    #[test]
    fn after_the_time_one_tries_and_its_fate_decides() {
        let (circuit, now) = opened();
        let later = now + OPEN_FOR;
        let probe = circuit.enter(later).unwrap();
        assert!(circuit.enter(later).is_err(), "only one tries");
        probe.failed(later);
        assert!(circuit.enter(later + OPEN_FOR / 2).is_err());
        circuit.enter(later + OPEN_FOR).unwrap().succeeded();
        assert!(circuit.enter(later + OPEN_FOR).is_ok());
        assert!(circuit.enter(later + OPEN_FOR).is_ok(), "closed: everyone passes");
    }

    #[test]
    fn one_that_is_given_up_lets_the_next_try() {
        let (circuit, now) = opened();
        let later = now + OPEN_FOR;
        drop(circuit.enter(later).unwrap());
        assert!(circuit.enter(later).is_ok());
    }

    #[test]
    fn a_late_failure_does_not_prolong_it() {
        let (circuit, now) = (Circuit::new(1, OPEN_FOR), Instant::now());
        let (first, second) = (circuit.enter(now).unwrap(), circuit.enter(now).unwrap());
        first.failed(now);
        second.failed(now + OPEN_FOR / 2);
        assert!(circuit.enter(now + OPEN_FOR).is_ok());
    }
}
