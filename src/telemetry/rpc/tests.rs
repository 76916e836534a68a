//! What a call leaves in metrics and spans.

use super::*;
use crate::telemetry::metrics::prometheus_text as render;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::task::Waker;
use tower::{Layer as _, ServiceExt, service_fn};

/// A body of prepared frames; without any left it is pending for ever.
struct Frames(VecDeque<Option<Frame<&'static [u8]>>>);

impl Body for Frames {
    type Data = &'static [u8];
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Infallible>>> {
        match self.0.pop_front() {
            Some(frame) => Poll::Ready(frame.map(Ok)),
            None => Poll::Pending,
        }
    }
}

fn data() -> Option<Frame<&'static [u8]>> {
    Some(Frame::data(b"answer"))
}

fn trailers(status: &str) -> Option<Frame<&'static [u8]>> {
    Some(Frame::trailers(
        [(http::HeaderName::from_static("grpc-status"), status.parse().unwrap())].into_iter().collect(),
    ))
}

/// Calls a method whose answer has this header and these frames, and reads it until nothing more comes.
async fn call(method: &str, header: Option<&str>, frames: impl Into<VecDeque<Option<Frame<&'static [u8]>>>>) {
    let frames = Frames(frames.into());
    let mut response = Response::new(frames);
    header.map(|status| response.headers_mut().insert("grpc-status", status.parse().unwrap()));
    let service =
        service_fn(move |_: Request<()>| std::future::ready(Ok::<_, Infallible>(response_once(&mut response))));
    let measured = layer(&[method]).layer(service);
    let request = Request::builder().uri(format!("/{method}")).body(()).unwrap();
    let mut body = std::pin::pin!(measured.oneshot(request).await.unwrap().into_body());
    while let Poll::Ready(Some(_)) = body.as_mut().poll_frame(&mut TaskContext::from_waker(Waker::noop())) {}
}

fn response_once(response: &mut Response<Frames>) -> Response<Frames> {
    std::mem::replace(response, Response::new(Frames(VecDeque::new())))
}

/// The statuses counted for a method, with their error types.
fn counted(method: &str) -> Vec<String> {
    let start = format!("rpc_server_call_duration_seconds_count{{rpc_system_name=\"grpc\",rpc_method=\"{method}\",");
    render().lines().filter_map(|line| line.strip_prefix(&start).map(str::to_owned)).collect()
}

#[tokio::test]
async fn the_status_is_read_from_trailers() {
    call("test/Good", None, [data(), trailers("0"), None]).await;
    call("test/Late", None, [data(), trailers("13"), None]).await;
    assert_eq!(counted("test/Good"), ["rpc_status_code=\"OK\"} 1"]);
    assert_eq!(counted("test/Late"), ["rpc_status_code=\"INTERNAL\",error_type=\"INTERNAL\"} 1"]);
}

#[tokio::test]
async fn the_status_is_read_from_headers_of_an_answer_without_a_body() {
    call("test/Refused", Some("3"), [None]).await;
    assert_eq!(counted("test/Refused"), ["rpc_status_code=\"INVALID_ARGUMENT\"} 1"]);
}

#[tokio::test]
async fn an_answer_that_breaks_off_or_says_nonsense_is_unknown() {
    call("test/Broken", None, [data(), None]).await;
    call("test/Broken", None, [trailers("99"), None]).await;
    assert_eq!(counted("test/Broken"), ["rpc_status_code=\"UNKNOWN\",error_type=\"UNKNOWN\"} 2"]);
}

#[tokio::test]
async fn a_dropped_answer_and_a_dropped_call_are_cancelled() {
    call("test/Dropped", None, [data()]).await;
    let service = layer(&["test/Dropped"])
        .layer(service_fn(|_: Request<()>| std::future::pending::<Result<Response<Frames>, Infallible>>()));
    let request = Request::builder().uri("/test/Dropped").body(()).unwrap();
    {
        let mut waiting = std::pin::pin!(service.oneshot(request));
        assert!(waiting.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())).is_pending());
        assert!(
            render().contains("rpc_server_active_requests{rpc_system_name=\"grpc\",rpc_method=\"test/Dropped\"} 1")
        );
    }
    assert!(render().contains("rpc_server_active_requests{rpc_system_name=\"grpc\",rpc_method=\"test/Dropped\"} 0"));
    assert_eq!(counted("test/Dropped"), ["rpc_status_code=\"CANCELLED\"} 2"]);
}

#[tokio::test]
async fn an_unknown_method_is_not_a_label() {
    let service =
        service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(Frames([trailers("12")].into()))) });
    for n in 0..50 {
        let measured = layer(&["test/Known"]).layer(service);
        let request = Request::builder().uri(format!("/test/Guess{n}")).body(()).unwrap();
        let mut body = std::pin::pin!(measured.oneshot(request).await.unwrap().into_body());
        let _ = body.as_mut().poll_frame(&mut TaskContext::from_waker(Waker::noop()));
    }
    assert!(!render().contains("Guess"));
    assert_eq!(counted("_OTHER"), ["rpc_status_code=\"UNIMPLEMENTED\",error_type=\"UNIMPLEMENTED\"} 50"]);
}
