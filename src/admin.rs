//! The small HTTP listener for those who run the service: `/metrics`, `/healthz`, `/readyz`.
//!
//! It has no password, so it stays on the loopback interface unless told otherwise, and everything about it is bounded:
//! connections, headers, times.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::health::Health;
use crate::telemetry::{Metrics, TextFormat};

/// Where the listener is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The address; port 0 takes a free one.
    pub address: SocketAddr,
    /// Whether the address may be reached from other hosts. Whoever reaches it can read every metric.
    pub allow_remote: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], 9464)), allow_remote: false }
    }
}

/// Connections served at a time; more wait to be accepted. Two scrapers, a probe and a few people need no more.
const CONNECTIONS_MAX: usize = 32;
/// Bytes of a request's head, the smallest that hyper allows.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// How long a head may take, the wait on a kept-alive connection included: above the usual scrape interval of 15 s.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection lives, whatever it does: a slow reader cannot keep its place.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(600);
/// How long an answer under way may take when the connection has to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait when no connection can be accepted, as when file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The listener, bound and not yet serving.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
}

impl Admin {
    /// Binds the address.
    ///
    /// # Errors
    ///
    /// [`Error::Setup`] when the address can be reached from other hosts without `allow_remote`, or is taken.
    pub async fn bind(config: &Config, metrics: Metrics, health: Health) -> Result<Self> {
        let address = config.address;
        if !address.ip().is_loopback() && !config.allow_remote {
            return Err(Error::setup(
                format!("the admin address {address} can be reached from other hosts, and it has no password"),
                "use 127.0.0.1, or set admin.allow_remote = true where the network is trusted",
            ));
        }
        let listener = TcpListener::bind(address).await.map_err(|error| refused(address, &error))?;
        let address = listener.local_addr().map_err(|error| refused(address, &error))?;
        Ok(Self { listener, address, router: router(metrics, health) })
    }

    /// Returns the address, its port known.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`, then lets answers under way end.
    pub async fn serve(self, stop: CancellationToken) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                accepted = accept(&self.listener, &room) => accepted,
            };
            match accepted {
                Some((stream, place)) => {
                    let connection = connection(stream, self.router.clone(), stop.clone());
                    connections.spawn(async move {
                        connection.await;
                        drop(place);
                    });
                }
                None => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
        connections.join_all().await;
    }
}

/// Waits for a place, then for a connection to give it to; `None` when accepting failed.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = room.clone().acquire_owned().await.ok()?;
    let (stream, _) = listener.accept().await.ok()?;
    Some((stream, place))
}

async fn connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    let service = TowerToHyperService::new(router);
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service)
    );
    let over = async { tokio::time::timeout(CONNECTION_TIMEOUT, stop.cancelled()).await };
    // How a connection ends is its peer's affair: there is nobody to report to.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = over => connection.as_mut().graceful_shutdown(),
    }
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, connection).await;
}

fn refused(address: SocketAddr, error: &std::io::Error) -> Error {
    let advice = match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "another program (or another Amalfa) has the port: stop it, or set admin.address; port 0 takes a free one"
        }
        std::io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege: set admin.address to a higher one",
        _ => "set admin.address to an address of this host",
    };
    Error::setup(format!("cannot listen on {address} for /metrics and health: {error}"), advice)
}

fn router(metrics: Metrics, health: Health) -> Router {
    Router::new()
        .route("/metrics", routing::get(move |headers: HeaderMap| scrape(metrics, headers)))
        .route("/healthz", routing::get(|| async { "ok\n" }))
        .route("/readyz", routing::get(readiness).with_state(health))
        .fallback(|| async { (StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n") })
}

/// Rendering reads `/proc` and formats every series: not for an async thread.
async fn scrape(metrics: Metrics, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let format = TextFormat::accepted(accept);
    match tokio::task::spawn_blocking(move || metrics.render_as(format)).await {
        Ok(text) => ([(header::CONTENT_TYPE, format.content_type())], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn readiness(State(health): State<Health>) -> Response {
    let report = health.current();
    let status = if report.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({ "ready": report.is_ready(), "parts": report.parts }).to_string();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

#[cfg(test)]
mod tests;
