//! How well the service is: each part reports for itself, whoever answers for the whole reads or follows.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;

use crate::telemetry::metrics;

/// How well one part is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "status", content = "message", rename_all = "snake_case")]
pub enum State {
    /// As it should be.
    Serving,
    /// It works, not as it should: what is wrong and what to do.
    Degraded(String),
    /// It does not work, so the service does not: why.
    Down(String),
}

/// All parts at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The parts by name.
    pub parts: BTreeMap<&'static str, State>,
}

impl Report {
    /// Whether requests can be answered: no part is down.
    pub fn is_ready(&self) -> bool {
        !self.parts.is_empty() && !self.parts.values().any(|state| matches!(state, State::Down(_)))
    }
}

/// The health of the service; a cheap clone of a handle.
#[derive(Debug, Clone)]
pub struct Health {
    report: Arc<watch::Sender<Report>>,
}

impl Health {
    /// Makes the health of a service with these parts, all of them still starting.
    pub fn new(parts: &[&'static str]) -> Self {
        let health = Self { report: Arc::new(watch::Sender::new(Report::default())) };
        parts.iter().for_each(|part| health.report(part, State::Down("starting".into())));
        health
    }

    /// Says how a part is. Followers hear of it only when it changed.
    pub fn report(&self, part: &'static str, state: State) {
        metrics::health_degraded(part, state != State::Serving);
        self.report.send_if_modified(|report| report.parts.insert(part, state.clone()) != Some(state));
    }

    /// Returns how all parts are now.
    pub fn current(&self) -> Report {
        self.report.borrow().clone()
    }

    /// Returns a receiver that sees every change from now on.
    pub fn subscribe(&self) -> watch::Receiver<Report> {
        self.report.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_ready_when_no_part_is_down() {
        let health = Health::new(&["store", "model"]);
        assert!(!health.current().is_ready());
        health.report("store", State::Serving);
        assert!(!health.current().is_ready());
        health.report("model", State::Degraded("slow".into()));
        assert!(health.current().is_ready());
        health.report("store", State::Down("disk full".into()));
        assert!(!health.current().is_ready());
    }

    #[test]
    fn a_follower_hears_of_changes_only() {
        let health = Health::new(&["store"]);
        let mut follower = health.subscribe();
        health.report("store", State::Serving);
        assert!(follower.has_changed().unwrap());
        follower.mark_unchanged();
        health.report("store", State::Serving);
        assert!(!follower.has_changed().unwrap());
    }
}
