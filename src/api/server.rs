//! The tonic server: services, layers, limits, drain.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding::Gzip;
use tonic::transport::server::{Router, TcpIncoming};

use super::gate::Gate;
use super::proto::admin_service_server::{AdminServiceServer, SERVICE_NAME as ADMIN};
use super::proto::index_service_server::{IndexServiceServer, SERVICE_NAME as INDEX};
use super::proto::search_service_server::{SERVICE_NAME as SEARCH, SearchServiceServer};
use super::{Config, admin, health, index, proto, search};
use crate::domain::limits::MESSAGE_BYTES_MAX;
use crate::error::{Error, Result};
use crate::health::Health;
use crate::ingest::Indexer;
use crate::search::Searcher;
use crate::telemetry::rpc;

/// Every service of ours, by its full name.
pub(super) const SERVICES: [&str; 3] = [SEARCH, INDEX, ADMIN];

/// Streams on one connection.
const STREAMS_PER_CONNECTION_MAX: u32 = 256;
/// Bytes of a request's headers.
const HEADERS_BYTES_MAX: u32 = 16 << 10;
/// When an idle client is asked whether it is there, and how long it may take to answer.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));

/// What the services answer with.
#[derive(Clone)]
pub struct Parts {
    /// Answers searches.
    pub searcher: Searcher,
    /// Takes documents.
    pub indexer: Indexer,
    /// How the parts are.
    pub health: Health,
}

/// A bound server.
pub struct Server {
    config: Config,
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Binds the address.
    ///
    /// # Errors
    ///
    /// `Setup` when it is in use, or not loopback without `allow_remote`.
    pub async fn bind(config: &Config) -> Result<Self> {
        if !config.address.ip().is_loopback() && !config.allow_remote {
            let message = format!("grpc.address {} is reachable from outside, without authentication", config.address);
            return Err(Error::setup(
                message,
                "use 127.0.0.1, or set grpc.allow_remote = true behind a proxy or firewall",
            ));
        }
        let failed = |e: std::io::Error| {
            let message = format!("cannot listen for gRPC on {}: {e}", config.address);
            Error::setup(message, "stop what uses it, or choose another with --listen or grpc.address")
        };
        let listener = TcpListener::bind(config.address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { config: config.clone(), listener, address })
    }

    /// Returns the address that is bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then lets requests finish for as long as the configuration says.
    pub async fn run(self, parts: Parts, shutdown: CancellationToken) -> Result<()> {
        let (reporter, health_service) = tonic_health::server::health_reporter();
        // Before the first call: a service without a status is unknown to whoever asks.
        health::report(&parts.health, &reporter, &shutdown).await;
        let follow = tokio::spawn(health::follow(parts.health.clone(), reporter, shutdown.clone()));
        let router = router(&self.config, parts)?.add_service(health_service);
        let drain = Duration::from_millis(self.config.drain_ms);
        // Without it, Nagle's algorithm and delayed ACKs hold an answer's last frame back for 40 ms.
        let incoming = TcpIncoming::from(self.listener).with_nodelay(Some(true));
        let serve = router.serve_with_incoming_shutdown(incoming, shutdown.clone().cancelled_owned());
        let limit = async {
            shutdown.cancelled().await;
            tokio::time::sleep(drain).await;
        };
        let served = tokio::select! {
            served = serve => served.map_err(|e| Error::unavailable("the gRPC server failed", e)),
            () = limit => {
                tracing::warn!(drain_ms = self.config.drain_ms, "requests were cut off at the end of the drain time");
                Ok(())
            }
        };
        follow.abort();
        served
    }
}

type Layers = tower::layer::util::Stack<rpc::Layer, tower::layer::util::Identity>;

fn router(config: &Config, parts: Parts) -> Result<Router<Layers>> {
    let Parts { searcher, indexer, health } = parts;
    let gate = Gate::new(config.requests_max, Duration::from_millis(config.request_timeout_ms));
    let search = search::Service { searcher: searcher.clone(), gate: gate.clone() };
    let index = index::Service { searcher: searcher.clone(), indexer, gate: gate.clone() };
    let admin = admin::Service { searcher, health, gate };
    macro_rules! limited {
        ($server:ident, $service:expr) => {
            $server::new($service)
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX)
                .accept_compressed(Gzip)
                .send_compressed(Gzip)
        };
    }
    let router = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .http2_max_header_list_size(HEADERS_BYTES_MAX)
        .layer(rpc::layer(&methods()?.iter().map(String::as_str).collect::<Vec<_>>()))
        .add_service(limited!(SearchServiceServer, search))
        .add_service(limited!(IndexServiceServer, index))
        .add_service(limited!(AdminServiceServer, admin));
    if !config.reflection {
        return Ok(router);
    }
    Ok(router
        .add_service(reflection()?.build_v1().map_err(bad)?)
        .add_service(reflection()?.build_v1alpha().map_err(bad)?))
}

fn reflection<'b>() -> Result<tonic_reflection::server::Builder<'b>> {
    Ok(tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // So that clients can read the details of errors.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET))
}

fn bad(error: tonic_reflection::server::Error) -> Error {
    Error::internal("the compiled protos cannot be read", error)
}

/// Returns every method of ours and of the health service as `package.Service/Method`: the closed set of labels.
fn methods() -> Result<Vec<String>> {
    let mut methods = vec!["grpc.health.v1.Health/Check".to_owned(), "grpc.health.v1.Health/Watch".to_owned()];
    let set: prost_types::FileDescriptorSet = prost::Message::decode(proto::DESCRIPTORS)
        .map_err(|e| Error::internal("the compiled protos cannot be read", e))?;
    for file in &set.file {
        for service in &file.service {
            let name = |method: &prost_types::MethodDescriptorProto| {
                format!("{}.{}/{}", file.package(), service.name(), method.name())
            };
            methods.extend(service.method.iter().map(name));
        }
    }
    Ok(methods)
}
