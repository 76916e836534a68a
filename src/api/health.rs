//! The standard gRPC health service (`grpc.health.v1`), following the parts.

use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::server::SERVICES;
use crate::health::Health;

/// Says how the whole server (``) and each service stand.
pub(super) async fn report(health: &Health, reporter: &HealthReporter, cancel: &CancellationToken) {
    let serving = health.current().is_ready() && !cancel.is_cancelled();
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in SERVICES.iter().copied().chain([""]) {
        reporter.set_service_status(service, status).await;
    }
}

/// Keeps the statuses in step with the parts, until cancelled.
pub(super) async fn follow(health: Health, reporter: HealthReporter, cancel: CancellationToken) {
    let mut changes = health.subscribe();
    loop {
        report(&health, &reporter, &cancel).await;
        if cancel.is_cancelled() {
            return;
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = cancel.cancelled() => {}
        }
    }
}
