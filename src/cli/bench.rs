//! `bench`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::output;
use crate::app::Core;
use crate::config::Config;
use crate::error::Result;
use crate::ingest::{Job, Progress};
use crate::tools::bench::{overhead, quality, write_json};

/// Measures speed, memory and ranking quality
#[derive(Debug, Args)]
pub(super) struct Bench {
    #[command(subcommand)]
    command: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// Search and ingest against the bare model, in the same run
    #[command(after_help = "Example:\n  amalfa bench overhead --output target/bench/overhead.json")]
    Overhead {
        /// Also write the report here, as JSON
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// nDCG@10, recall and MRR on a labelled collection in BEIR layout, which is ingested into --db first
    #[command(after_help = "Example:\n  amalfa bench quality --db scifact.db --dataset scifact")]
    Quality {
        /// Folder with corpus.jsonl, queries.jsonl and qrels.tsv
        #[arg(long, value_name = "DIR")]
        dataset: PathBuf,
        /// Also write the report here, as JSON
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

impl Bench {
    pub async fn run(self, config: Config) -> Result<ExitCode> {
        match self.command {
            Kind::Overhead { output: file } => {
                let report = overhead::run(&config).await?;
                if let Some(file) = file {
                    write_json(&file, &report)?;
                }
                output::json(&report)?;
            }
            Kind::Quality { dataset, output: file } => {
                let core = Core::build(&config).await?;
                let paths = vec![dataset.join("corpus.jsonl").display().to_string()];
                core.indexer.run(Job { paths, ..Job::default() }, Arc::new(Silent)).await?;
                let report = quality::run(&core, &dataset).await?;
                core.close().await?;
                if let Some(file) = file {
                    write_json(&file, &report)?;
                }
                output::json(&report)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Tells nothing.
struct Silent;

impl Progress for Silent {}
