//! The gRPC face: bytes in, domain types inside, statuses out.
//!
//! Only this module knows tonic and prost. Every limit on a request is checked in `convert`, and nowhere else.

mod admin;
mod client;
mod convert;
mod gate;
mod health;
mod index;
mod search;
mod server;
mod status;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

pub use self::client::{Client, Ranking, Timed};
pub use self::convert::{query, rerank};
pub use self::server::{Parts, Server};

/// The generated code of `proto/amalfa/v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod proto {
    tonic::include_proto!("amalfa.v1");

    /// The compiled protos, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}

/// Where the server listens and what it bears.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address and port; port 0 takes a free one.
    pub address: SocketAddr,
    /// Allows an address other than loopback. There is no authentication yet: put a proxy in front.
    pub allow_remote: bool,
    /// Requests under way at once; more are refused with RESOURCE_EXHAUSTED.
    pub requests_max: usize,
    /// Longest time for one request, in milliseconds; a client's own deadline may be shorter.
    pub request_timeout_ms: u64,
    /// How long requests may finish after a signal to stop, in milliseconds.
    pub drain_ms: u64,
    /// Whether clients may ask for the service's description (grpcurl does).
    pub reflection: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 50051)),
            allow_remote: false,
            requests_max: 256,
            request_timeout_ms: 30_000,
            drain_ms: 10_000,
            reflection: true,
        }
    }
}
