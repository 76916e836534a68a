//! A tower layer around every call: its span, its place in the caller's trace, its duration by method and status.
//!
//! It speaks HTTP, not tonic: a gRPC status is the header `grpc-status` of an answer without a body, or a trailer after the
//! body. A call ends with its body, or when it is dropped: then the caller went away and the status is `CANCELLED`. Where its
//! time went is told at its end as `server-timing`.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::context;
use call::{Call, Method};

mod call;
pub(super) use call::STATUSES;

/// Returns the layer. `methods` are the known ones, as `package.Service/Method`; others are measured together as `_OTHER`,
/// for a label's values must not be in a caller's hand. Methods of the packages `grpc.…` (health, reflection) are measured
/// and not traced.
pub fn layer(methods: &[&str]) -> Layer {
    let known = methods.iter().map(|name| ((*name).to_owned(), Arc::new(Method::new(name)))).collect();
    Layer { methods: Arc::new(Methods { known, other: Arc::new(Method::new(super::metrics::OTHER)) }) }
}

/// Wraps a service; made by [`layer`].
#[derive(Clone)]
pub struct Layer {
    methods: Arc<Methods>,
}

impl<S> tower::Layer<S> for Layer {
    type Service = Service<S>;

    fn layer(&self, inner: S) -> Service<S> {
        Service { inner, methods: self.methods.clone() }
    }
}

struct Methods {
    known: HashMap<String, Arc<Method>>,
    other: Arc<Method>,
}

impl Methods {
    fn of(&self, path: &str) -> &Arc<Method> {
        self.known.get(path.trim_start_matches('/')).unwrap_or(&self.other)
    }
}

/// A service whose calls are measured and traced.
#[derive(Clone)]
pub struct Service<S> {
    inner: S,
    methods: Arc<Methods>,
}

impl<S, Req, Res> tower::Service<Request<Req>> for Service<S>
where
    S: tower::Service<Request<Req>, Response = Response<Res>>,
    Res: Body,
{
    type Response = Response<MeasuredBody<Res>>;
    type Error = S::Error;
    type Future = MeasuredFuture<S::Future>;

    fn poll_ready(&mut self, task: &mut TaskContext<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, request: Request<Req>) -> Self::Future {
        let parent = context::extract(request.headers());
        let call = Call::start(self.methods.of(request.uri().path()).clone(), parent);
        let inner = call.enter(|| self.inner.call(request));
        MeasuredFuture { inner, call: Some(call) }
    }
}

pin_project! {
    /// A call until its answer begins.
    pub struct MeasuredFuture<F> {
        #[pin]
        inner: F,
        call: Option<Call>,
    }
}

impl<F, B, E> Future for MeasuredFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<MeasuredBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut answer = match this.call {
            Some(call) => ready!(call.enter(|| this.inner.poll(task))),
            None => ready!(this.inner.poll(task)),
        };
        let call = this.call.take().and_then(|call| answered(call, &mut answer));
        Poll::Ready(answer.map(|response| response.map(|inner| MeasuredBody { inner, call })))
    }
}

/// Reads the status that came with the headers; a call without a body ends here.
fn answered<B: Body, E>(mut call: Call, answer: &mut Result<Response<B>, E>) -> Option<Call> {
    if let Ok(response) = answer {
        call.read_status(response.headers());
        if !response.body().is_end_stream() {
            return Some(call);
        }
        call.write_timing(response.headers_mut());
    }
    call.fail(); // unless the headers had a status
    None
}

pin_project! {
    /// The body of an answer; the call ends with it.
    pub struct MeasuredBody<B> {
        #[pin]
        inner: B,
        call: Option<Call>,
    }
}

impl<B: Body> Body for MeasuredBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let Some(call) = this.call else { return this.inner.poll_frame(task) };
        let mut frame = ready!(call.enter(|| this.inner.poll_frame(task)));
        let ended = match &mut frame {
            Some(Ok(frame)) => frame.trailers_mut().is_some_and(|trailers| {
                call.read_status(trailers);
                call.write_timing(trailers);
                true
            }),
            Some(Err(_)) | None => {
                call.fail(); // no trailers: unless the headers had a status, nobody knows how it went
                true
            }
        };
        if ended {
            this.call.take();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests;
