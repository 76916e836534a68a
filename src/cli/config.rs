//! `config print`.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::output;
use crate::config::Loaded;
use crate::error::Result;

/// Shows the configuration
#[derive(Debug, Args)]
pub(super) struct Config {
    #[command(subcommand)]
    command: Print,
}

#[derive(Debug, Subcommand)]
enum Print {
    /// Prints every setting, its value, and where that came from
    #[command(after_help = "Example:\n  AMALFA_MODEL_SESSIONS=2 amalfa config print")]
    Print {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

impl Config {
    pub fn run(&self, loaded: &Loaded) -> Result<ExitCode> {
        let Print::Print { json } = &self.command;
        if *json {
            output::json(&loaded.settings)?;
            return Ok(ExitCode::SUCCESS);
        }
        let width = loaded.settings.iter().map(|s| s.key.len() + s.value.to_string().len()).max().unwrap_or(0);
        for setting in &loaded.settings {
            let line = format!("{} = {}", setting.key, setting.value);
            output::line(format_args!("{line:<0$}  # {1}", width + 3, setting.origin));
        }
        Ok(ExitCode::SUCCESS)
    }
}
