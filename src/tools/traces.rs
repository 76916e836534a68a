//! A receiver of OTLP spans that prints each trace as a tree: a look at traces without a collector.

mod tree;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::error::{Error, Result};

/// Spans kept; older traces are dropped first.
const SPANS_MAX: usize = 10_000;

/// A running receiver (OTLP over gRPC); a cheap clone of a handle.
#[derive(Clone)]
pub struct Receiver {
    address: SocketAddr,
    traces: Arc<Mutex<Traces>>,
    changes: watch::Receiver<u64>,
    changed: Arc<watch::Sender<u64>>,
}

/// The traces received, oldest first.
#[derive(Debug, Default)]
struct Traces {
    order: Vec<Vec<u8>>,
    spans: HashMap<Vec<u8>, Vec<Span>>,
    count: usize,
}

impl Receiver {
    /// Listens on `address` until `cancel`.
    ///
    /// # Errors
    ///
    /// `Setup` when the address cannot be bound.
    pub async fn start(address: SocketAddr, cancel: CancellationToken) -> Result<Self> {
        let failed = |e: std::io::Error| {
            Error::setup(format!("cannot listen for spans on {address}: {e}"), "choose another address with --listen")
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let (changed, changes) = watch::channel(0);
        let receiver = Self {
            address: listener.local_addr().map_err(failed)?,
            traces: Arc::default(),
            changes,
            changed: Arc::new(changed),
        };
        let service = TraceServiceServer::new(receiver.clone());
        let incoming = TcpListenerStream::new(listener);
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(async move {
            if let Err(error) = server.serve_with_incoming_shutdown(incoming, cancel.cancelled_owned()).await {
                tracing::error!(%error, "the span receiver failed");
            }
        });
        Ok(receiver)
    }

    /// Returns the address that is bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns every span received, trace by trace.
    pub fn spans(&self) -> Vec<Span> {
        let traces = self.lock();
        traces.order.iter().filter_map(|id| traces.spans.get(id)).flatten().cloned().collect()
    }

    /// Waits until `done` holds of the spans received.
    pub async fn wait_for(&self, done: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        let mut changes = self.changes.clone();
        loop {
            changes.mark_unchanged();
            let spans = self.spans();
            if done(&spans) || changes.changed().await.is_err() {
                return spans;
            }
        }
    }

    /// Removes and returns the trees of all traces, as text.
    pub fn take_trees(&self) -> Vec<String> {
        let mut traces = self.lock();
        let order = std::mem::take(&mut traces.order);
        traces.count = 0;
        order.iter().filter_map(|id| traces.spans.remove(id)).map(|spans| tree::draw(&spans)).collect()
    }

    /// Waits for the next spans.
    pub async fn changed(&mut self) -> bool {
        self.changes.changed().await.is_ok()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Traces> {
        self.traces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Traces {
    fn add(&mut self, span: Span) {
        let spans = self.spans.entry(span.trace_id.clone()).or_default();
        if spans.is_empty() {
            self.order.push(span.trace_id.clone());
        }
        spans.push(span);
        self.count += 1;
        while self.count > SPANS_MAX && self.order.len() > 1 {
            let oldest = self.order.remove(0);
            self.count -= self.spans.remove(&oldest).map_or(0, |spans| spans.len());
        }
    }
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans;
        let spans = resources.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans);
        {
            let mut traces = self.lock();
            spans.for_each(|span| traces.add(span));
        }
        self.changed.send_modify(|count| *count += 1);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
