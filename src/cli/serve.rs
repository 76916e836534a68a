//! `serve` and `healthcheck`.

use std::process::ExitCode;

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::output;
use crate::api::Client;
use crate::app::App;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::telemetry::Metrics;

/// Runs the gRPC server and the metrics listener
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  amalfa serve --db docs.db --listen 127.0.0.1:50051")]
pub(super) struct Serve {
    /// gRPC address (setting grpc.address)
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Address of /metrics and the probes (setting admin.address)
    #[arg(long, value_name = "ADDR")]
    admin_listen: Option<String>,
}

impl Serve {
    /// Returns the settings that flags of this command stand for.
    pub fn flags(&self) -> Vec<(String, String, String)> {
        let flag = |value: &Option<String>, key: &str, flag: &str| {
            value.clone().map(|value| (key.to_owned(), value, flag.to_owned()))
        };
        let listen = flag(&self.listen, "grpc.address", "--listen");
        listen.into_iter().chain(flag(&self.admin_listen, "admin.address", "--admin-listen")).collect()
    }

    pub async fn run(self, config: Config, metrics: Metrics) -> Result<ExitCode> {
        let shutdown = CancellationToken::new();
        stop_on_signal(shutdown.clone())?;
        let app = App::build(config, metrics).await?;
        tracing::info!(grpc = %app.grpc_address(), admin = %app.admin_address(), "serving");
        app.run(shutdown).await?;
        tracing::info!("stopped");
        Ok(ExitCode::SUCCESS)
    }
}

/// Cancels `stop` on the first SIGINT or SIGTERM; a second one ends the process at once.
pub(super) fn stop_on_signal(stop: CancellationToken) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |e| Error::unavailable("cannot listen for signals", e);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    tokio::spawn(async move {
        for _ in 0..2 {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if stop.is_cancelled() {
                std::process::exit(130);
            }
            tracing::info!("stopping; a second signal ends at once");
            stop.cancel();
        }
    });
    Ok(())
}

/// Asks a running server whether it serves; exit code 0 if so, for container health checks
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  amalfa healthcheck --server 127.0.0.1:50051")]
pub(super) struct Healthcheck {
    /// The server (default: setting grpc.address)
    #[arg(long, value_name = "HOST:PORT")]
    server: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Healthcheck {
    pub async fn run(self, config: Config) -> Result<ExitCode> {
        let server = self.server.unwrap_or_else(|| config.grpc.address.to_string());
        let serving = Client::connect(&server).await?.serving().await?;
        let status = if serving { "SERVING" } else { "NOT_SERVING" };
        match self.json {
            true => output::json(&serde_json::json!({"status": status}))?,
            false => output::line(format_args!("{status}")),
        }
        Ok(if serving { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}
