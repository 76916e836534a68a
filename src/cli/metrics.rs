//! `metrics`.

use std::process::ExitCode;

use clap::Args;

use super::output;
use crate::error::Result;
use crate::telemetry::metrics;

/// Lists every metric that the service can export: names, units, labels, buckets, stability
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  amalfa metrics --markdown > docs/metrics.md")]
pub(super) struct Metrics {
    /// Print JSON
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Print Markdown, as docs/metrics.md
    #[arg(long)]
    markdown: bool,
}

impl Metrics {
    pub fn run(&self) -> Result<ExitCode> {
        if self.json {
            output::json(&metrics::json())?;
        } else if self.markdown {
            output::line(format_args!("{}", metrics::markdown().trim_end()));
        } else {
            let width = metrics::ALL.iter().map(|metric| metric.name.len()).max().unwrap_or(0);
            for metric in metrics::ALL {
                output::line(format_args!("{:<width$}  {:<9}  {}", metric.name, metric.kind.as_str(), metric.help));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
