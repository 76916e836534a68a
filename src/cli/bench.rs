//! `bench`.

mod quality;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::output;
use crate::config::Config;
use crate::error::Result;
use crate::tools::bench::{overhead, write_json};

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
    Quality(Box<quality::Quality>),
    QualityCompare(quality::QualityCompare),
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
                Ok(ExitCode::SUCCESS)
            }
            Kind::Quality(command) => command.run(config).await,
            Kind::QualityCompare(command) => command.run(),
        }
    }
}
