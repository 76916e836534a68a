//! `ingest` and `reembed`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio_util::sync::CancellationToken;

use super::{output, serve::stop_on_signal};
use crate::app::Writer;
use crate::config::Config;
use crate::error::Result;
use crate::ingest::{Failure, Job, Progress, Report};

/// Reads documents into the index: new and changed ones are embedded, deleted and renamed ones noticed
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  amalfa ingest docs README.md
  amalfa ingest 'notes/**/*.md' corpus.jsonl --json

Exit code 3 when some inputs failed; the others are in the index.")]
pub(super) struct Ingest {
    /// Files, folders, globs, or JSON Lines files (.jsonl)
    #[arg(required = true)]
    paths: Vec<String>,
    /// Name sources relative to this folder [default: the current one]
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// Keep documents whose file is gone
    #[arg(long)]
    keep_missing: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl Ingest {
    pub async fn run(self, config: Config) -> Result<ExitCode> {
        let cancel = CancellationToken::new();
        stop_on_signal(cancel.clone())?;
        let writer = Writer::build(&config).await?;
        let job = Job { paths: self.paths, base: self.base, keep_missing: self.keep_missing, cancel };
        let report = writer.indexer.run(job, Arc::new(Bar::new())).await?;
        writer.close().await?;
        finish(&report, self.json)
    }
}

/// Embeds every document again, from the texts in the database: after a change of model, or to add token codes
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  amalfa reembed --set model.dir=models/bge-small-en-v1.5

Safe to interrupt: run it again and it goes on where it was.")]
pub(super) struct Reembed {
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl Reembed {
    pub async fn run(self, config: Config) -> Result<ExitCode> {
        let cancel = CancellationToken::new();
        stop_on_signal(cancel.clone())?;
        let writer = Writer::build(&config).await?;
        let report = writer.indexer.reembed(Arc::new(Bar::new()), cancel).await?;
        writer.close().await?;
        finish(&report, self.json)
    }
}

fn finish(report: &Report, as_json: bool) -> Result<ExitCode> {
    match as_json {
        true => output::json(report)?,
        false => print(report),
    }
    Ok(match (report.cancelled, report.failures.is_empty()) {
        (true, _) => ExitCode::from(130),
        (false, true) => ExitCode::SUCCESS,
        (false, false) => ExitCode::from(3),
    })
}

fn print(report: &Report) {
    for failure in &report.failures {
        eprintln!("failed: {}: {}", failure.source, failure.reason);
    }
    let Report { documents, created, updated, unchanged, renamed, deleted, .. } = report;
    output::line(format_args!(
        "{documents} documents: {created} new, {updated} changed, {unchanged} unchanged, {renamed} renamed, \
         {deleted} deleted, {} failed",
        report.failures.len()
    ));
    output::line(format_args!(
        "{} passages embedded ({} tokens), {} edges, {} dangling references, {:.1} s{}",
        report.embedded,
        report.tokens,
        report.edges,
        report.references_dangling,
        report.seconds,
        if report.cancelled { "; interrupted: run it again to go on" } else { "" }
    ));
}

/// A progress bar on a terminal, nothing elsewhere.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let target = match std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let template = "{bar:30} {pos}/{len} documents  {per_sec}  {elapsed}";
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self(bar)
    }
}

impl Progress for Bar {
    fn found(&self, documents: u64) {
        self.0.set_length(documents);
    }

    fn discovered(&self, documents: u64) {
        self.0.set_length(documents);
    }

    fn done(&self, _source: &str) {
        self.0.inc(1);
    }

    fn failed(&self, failure: &Failure) {
        self.0.suspend(|| tracing::debug!(source = failure.source, "an input failed"));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
