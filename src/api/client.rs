//! A client of the service, for the command line and the benches.

use std::time::Duration;

use serde_json::{Value, json};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::proto::admin_service_client::AdminServiceClient;
use super::proto::search_service_client::SearchServiceClient;
use super::{convert, proto};
use crate::domain::limits::MESSAGE_BYTES_MAX;
use crate::domain::{Answer, RerankStep};
use crate::error::{Error, Result};

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a call may take when nothing else is said.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// A connection to a server; a cheap clone of a handle.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
}

/// What a search found, and the time of each stage.
#[derive(Debug, Clone)]
pub struct Timed {
    /// What was found.
    pub answer: Answer,
    /// Stage and time, in order; `total` last.
    pub timings: Vec<(String, Duration)>,
}

/// What a rerank made of its candidates.
#[derive(Debug, Clone)]
pub struct Ranking {
    /// Place in the request, score and id (empty for a text), best first.
    pub results: Vec<(usize, f32, String)>,
    /// What each step came to, in order.
    pub steps: Vec<RerankStep>,
    /// Stage and time, in order; `total` last.
    pub timings: Vec<(String, Duration)>,
}

impl Client {
    /// Connects to `host:port` or `http://host:port`.
    ///
    /// # Errors
    ///
    /// `Setup` when there is no address in `server` or nobody answers there.
    pub async fn connect(server: &str) -> Result<Self> {
        let url = if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
        let failed = |e: tonic::transport::Error| {
            let cause = std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
            Error::setup(format!("no server at {server}: {cause}"), "start one with `amalfa serve`, or check --server")
        };
        let endpoint = Endpoint::from_shared(url).map_err(failed)?;
        let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).timeout(CALL_TIMEOUT);
        Ok(Self { channel: endpoint.connect().await.map_err(failed)? })
    }

    /// Searches.
    pub async fn search(&self, request: proto::SearchRequest) -> Result<Timed> {
        let mut client = SearchServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let mut response = client.search(request).await.map_err(error)?.into_inner();
        let timings = timings(response.timings.take());
        Ok(Timed { answer: convert::answer_received(response)?, timings })
    }

    /// Reranks.
    pub async fn rerank(&self, request: proto::RerankRequest) -> Result<Ranking> {
        let mut client = SearchServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let response = client.rerank(request).await.map_err(error)?.into_inner();
        let results = response.results.into_iter().map(|r| (r.index as usize, r.score, r.id)).collect();
        let steps = response.rerank_steps.into_iter().map(convert::rerank_step_received).collect();
        Ok(Ranking { results, steps, timings: timings(response.timings) })
    }

    /// Returns the server's counts, sizes and degradations, in the shape that `amalfa stats --json` prints.
    pub async fn stats(&self) -> Result<Value> {
        let mut client = AdminServiceClient::new(self.channel.clone());
        let stats = client.get_stats(proto::GetStatsRequest {}).await.map_err(error)?.into_inner();
        let (store, engine) = (stats.store.unwrap_or_default(), stats.engine.unwrap_or_default());
        let model = stats.model.unwrap_or_default();
        let degradations: Vec<_> =
            stats.degradations.into_iter().map(|d| json!({"part": d.part, "message": d.message})).collect();
        Ok(json!({
            "version": stats.version,
            "store": {
                "documents": store.documents, "chunks": store.chunks, "embeddings": store.embeddings,
                "edges": store.edges, "references_dangling": store.references_dangling,
                "database_bytes": store.database_bytes, "wal_bytes": store.wal_bytes,
                "free_bytes": store.free_bytes, "schema_version": store.schema_version,
            },
            "engine": {"vectors": engine.vectors, "bytes": engine.bytes},
            "model": {
                "name": model.name, "dimension": model.dimension, "tokens_max": model.tokens_max,
                "file_sha256": model.file_sha256, "onnxruntime": model.onnxruntime,
            },
            "sessions": model.sessions,
            "degradations": degradations,
        }))
    }

    /// Returns whether the server says that it is serving.
    pub async fn serving(&self) -> Result<bool> {
        let mut client = HealthClient::new(self.channel.clone());
        let request = HealthCheckRequest { service: String::new() };
        let response = client.check(request).await.map_err(error)?.into_inner();
        Ok(response.status() == tonic_health::pb::health_check_response::ServingStatus::Serving)
    }
}

fn timings(timings: Option<proto::Timings>) -> Vec<(String, Duration)> {
    let timings = timings.unwrap_or_default();
    let time = |d: Option<prost_types::Duration>| Duration::try_from(d.unwrap_or_default()).unwrap_or_default();
    let stages = timings.stages.into_iter().map(|stage| (stage.stage, time(stage.duration)));
    stages.chain([("total".to_owned(), time(timings.total))]).collect()
}

/// Turns a status back into an error; the message already names the field.
fn error(status: Status) -> Error {
    let message = status.message().to_owned();
    match status.code() {
        Code::InvalidArgument => match message.split_once(": ") {
            Some((field, rest)) => Error::invalid(field, rest),
            None => Error::invalid("request", message),
        },
        Code::DeadlineExceeded => Error::Deadline { what: "the server" },
        Code::Cancelled => Error::Cancelled,
        code => Error::Unavailable { message: format!("the server answered {code:?}: {message}"), source: None },
    }
}
