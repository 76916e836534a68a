//! `traces`.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::{output, serve::stop_on_signal};
use crate::error::Result;
use crate::tools::traces::Receiver;

/// A trace that has been quiet for so long is printed.
const QUIET: Duration = Duration::from_millis(700);

/// Receives spans over OTLP/gRPC and prints each trace as a tree: a look at traces without a collector
#[derive(Debug, Args)]
#[command(after_help = "Example:
  amalfa traces &
  OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317 amalfa serve")]
pub(super) struct Traces {
    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4317")]
    listen: SocketAddr,
}

impl Traces {
    pub async fn run(self) -> Result<ExitCode> {
        let cancel = CancellationToken::new();
        stop_on_signal(cancel.clone())?;
        let mut receiver = Receiver::start(self.listen, cancel.clone()).await?;
        tracing::info!(address = %receiver.address(), "waiting for spans");
        while !cancel.is_cancelled() {
            tokio::select! {
                () = cancel.cancelled() => break,
                open = receiver.changed() => if !open { break },
            }
            while tokio::time::timeout(QUIET, receiver.changed()).await.is_ok_and(|open| open) {}
            print(&receiver);
        }
        print(&receiver);
        Ok(ExitCode::SUCCESS)
    }
}

fn print(receiver: &Receiver) {
    for tree in receiver.take_trees() {
        output::line(format_args!("{tree}"));
    }
}
