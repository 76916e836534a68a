//! Benchmarks of the whole: each measures against an alternative in the same run and reports medians and ratios.

pub mod overhead;
pub mod quality;

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::error::{Error, Result};

/// The machine that a figure is from: no figure means anything without it.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Processor, as the system names it.
    pub cpu: String,
    /// Logical cores.
    pub cores: usize,
    /// Version of this program.
    pub version: &'static str,
}

impl Machine {
    /// Returns this machine.
    pub fn this() -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = info.lines().find_map(|line| line.strip_prefix("model name")).and_then(|rest| rest.split_once(": "));
        Self {
            cpu: name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// Quantiles of a set of times, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    /// Times measured.
    pub count: usize,
    /// The least.
    pub min_ms: f64,
    /// Half were at or under it.
    pub p50_ms: f64,
    /// 99 of 100 were at or under it.
    pub p99_ms: f64,
}

impl Latency {
    /// Returns the quantiles of `times` by the nearest-rank rule; all zero when there are none.
    pub fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |quantile: f64| {
            let rank = (quantile * times.len() as f64).ceil() as usize;
            times.get(rank.saturating_sub(1)).map_or(0.0, |time| time.as_secs_f64() * 1e3)
        };
        Self { count: times.len(), min_ms: at(0.0), p50_ms: at(0.5), p99_ms: at(0.99) }
    }
}

/// Returns the median of some figures, 0 when there are none.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

/// Writes a report as JSON, making its folder.
///
/// # Errors
///
/// `Setup` when the file cannot be written.
pub fn write_json(path: &Path, report: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(report).map_err(|e| Error::internal("cannot write JSON", e))?;
    write_text(path, &(text + "\n"), "choose another --output")
}

/// Writes a text, making its folder.
///
/// # Errors
///
/// `Setup` with this advice when the file cannot be written.
pub fn write_text(path: &Path, text: &str, advice: &str) -> Result<()> {
    let write = || {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, text)
    };
    write().map_err(|e| Error::setup(format!("cannot write {}: {e}", path.display()), advice))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_measured_times() {
        let latency = Latency::of((1..=100).map(Duration::from_millis).collect());
        assert_eq!((latency.min_ms, latency.p50_ms, latency.p99_ms), (1.0, 50.0, 99.0));
        assert_eq!(Latency::of(Vec::new()).p50_ms, 0.0);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    }
}
