//! The command line: one file per group of commands, each a call into the library.
//!
//! Exit codes: 0 done; 1 it could not be done; 2 the command line is wrong; 3 done, but some inputs failed; 130 interrupted.

mod bench;
mod config;
mod index;
mod metrics;
mod output;
mod query;
mod serve;
mod traces;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Loaded, Origin, Sources};
use crate::error::{Error, Result};
use crate::telemetry;

/// Semantic search with an account of where the time went: text in, ranked documents out.
#[derive(Debug, Parser)]
#[command(name = "amalfa", version, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
struct Common {
    /// Configuration file (default: ./amalfa.toml if there is one)
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Database file (setting store.path; default .amalfa/amalfa.db)
    #[arg(long, global = true, value_name = "PATH")]
    db: Option<PathBuf>,
    /// Any setting, as `amalfa config print` names it; repeatable
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Ingest(index::Ingest),
    Reembed(index::Reembed),
    Search(query::Search),
    Rerank(query::Rerank),
    Stats(query::Stats),
    Healthcheck(serve::Healthcheck),
    Metrics(metrics::Metrics),
    Traces(traces::Traces),
    Bench(bench::Bench),
    Config(config::Config),
}

/// Parses the command line, runs the command, and returns its exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", error.chain());
            ExitCode::from(1)
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    let loaded = cli.common.load(&cli.command)?;
    // Printing the settings must work also when telemetry's are wrong; listing the metrics needs none.
    match &cli.command {
        Command::Config(command) => return command.run(&loaded),
        Command::Metrics(command) => return command.run(),
        _ => {}
    }
    let telemetry = telemetry::init(&cli.command.telemetry(&loaded))?;
    if matches!(cli.command, Command::Serve(_)) {
        telemetry.self_test();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("amalfa-io")
        .build()
        .map_err(|e| Error::unavailable("cannot start the runtime", e))?;
    let config = loaded.config;
    let result = runtime.block_on(async {
        match cli.command {
            Command::Serve(command) => command.run(config, telemetry.metrics()).await,
            Command::Ingest(command) => command.run(config).await,
            Command::Reembed(command) => command.run(config).await,
            Command::Search(command) => command.run(config).await,
            Command::Rerank(command) => command.run(config).await,
            Command::Stats(command) => command.run(config).await,
            Command::Healthcheck(command) => command.run(config).await,
            Command::Bench(command) => command.run(config).await,
            Command::Traces(command) => command.run().await,
            Command::Config(_) | Command::Metrics(_) => Ok(ExitCode::SUCCESS),
        }
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    drop(telemetry);
    result
}

impl Command {
    /// Returns the settings of telemetry; only the server logs its life events unless something says so.
    fn telemetry(&self, loaded: &Loaded) -> telemetry::Config {
        let mut config = loaded.config.telemetry.clone();
        let key = "telemetry.log_filter";
        let unsaid = loaded.settings.iter().any(|s| s.key == key && s.origin == Origin::Default);
        if unsaid && !matches!(self, Self::Serve(_)) {
            config.log_filter = "warn".to_owned();
        }
        config
    }
}

impl Common {
    fn load(&self, command: &Command) -> Result<Loaded> {
        let mut sources = Sources { file: self.config.clone(), ..Sources::from_environment() };
        let flag = |key: &str, value: String, flag: &str| (key.to_owned(), value, flag.to_owned());
        if let Some(db) = &self.db {
            sources.flags.push(flag("store.path", db.display().to_string(), "--db"));
        }
        for setting in &self.set {
            let (key, value) = setting.split_once('=').ok_or_else(|| {
                Error::setup(format!("--set {setting} has no ="), "write it as --set store.readers=8")
            })?;
            sources.flags.push(flag(key, value.to_owned(), "--set"));
        }
        if let Command::Serve(serve) = command {
            sources.flags.extend(serve.flags());
        }
        crate::config::load(&sources)
    }
}
