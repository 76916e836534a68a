//! Times contestants in turns, so that a noisy minute hits all of them.

use std::time::Instant;

use serde::Serialize;

use crate::peers::{Failure, Peer};
use crate::vectors::{Vectors, recall};

/// One contestant's figures.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub name: String,
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub recall_at_10: f64,
    pub ready_s: f64,
    pub queries: usize,
}

pub const LIMIT: usize = 10;

/// Runs `rounds` rounds, every contestant in each.
pub fn compare(
    peers: &mut [Box<dyn Peer>],
    queries: &Vectors,
    truth: &[Vec<u64>],
    rounds: usize,
) -> Result<Vec<Row>, Failure> {
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); peers.len()];
    let mut found: Vec<Vec<Vec<u64>>> = vec![Vec::new(); peers.len()];
    for round in 0..rounds {
        for (at, peer) in peers.iter_mut().enumerate() {
            peer.search(queries.row(0), LIMIT)?; // warms what the others have evicted
            let from = found[at].len();
            for query in from..(from + peer.queries_per_round()).min(queries.len()) {
                let started = Instant::now();
                let ids = peer.search(queries.row(query), LIMIT)?;
                times[at].push(started.elapsed().as_secs_f64() * 1e3);
                found[at].push(ids);
            }
        }
        eprintln!("round {} of {rounds}", round + 1);
    }
    let rows = peers.iter().zip(&mut times).zip(&found).map(|((peer, times), found)| Row {
        name: peer.name(),
        p50_ms: percentile(times, 0.5),
        p95_ms: percentile(times, 0.95),
        recall_at_10: recall(found, truth),
        ready_s: peer.ready_s(),
        queries: times.len(),
    });
    Ok(rows.collect())
}

pub fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(((values.len() as f64 - 1.0) * share).round() as usize).copied().unwrap_or(f64::NAN)
}
