//! Requests to the endpoint: each within its deadline, sent again where that may help, its answer bounded.
//!
//! Redirects are not followed and no proxy is used: texts go where the configuration says and nowhere else.

use std::time::{Duration, Instant};

use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::Config;
use super::endpoint::Endpoint;
use super::prompt::Prompt;
use crate::domain::{Deadline, DegradationReason};
use crate::error::{Error, Result};
use crate::telemetry::metrics;

/// Bytes of an answer that are read: a ranking of 1,000 passages has 40 kB.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Time for a connection; a machine that does not answer is tried again within most deadlines.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest wait before the first retry; each next one may be twice as long.
const BACKOFF: Duration = Duration::from_millis(250);

/// An HTTP client of one endpoint.
#[derive(Debug)]
pub(super) struct Client {
    endpoint: Endpoint,
    headers: HeaderMap,
    retries: u32,
    http: Http,
}

#[derive(Debug)]
enum Http {
    Plain(legacy::Client<HttpConnector, Full<Bytes>>),
    Tls(legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) reason: DegradationReason,
    /// For people; nothing of what was sent or received.
    pub(super) message: String,
    /// The word in metrics.
    outcome: &'static str,
    retry: Retry,
}

/// Whether another try may help.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Retry {
    Never,
    /// After some time of our choice.
    Soon,
    /// After the time that the endpoint asked for.
    After(Duration),
}

impl Client {
    /// Returns a client of the configured endpoint; `None` when none is configured.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for an address that is none, [`Error::Setup`] when the key or the certificates are missing.
    pub(super) fn new(config: &Config) -> Result<Option<Self>> {
        let Some(endpoint) = Endpoint::new(config)? else { return Ok(None) };
        let headers = headers(config.api_key_env.as_deref())?;
        let http = Http::new(endpoint.is_encrypted())?;
        Ok(Some(Self { endpoint, headers, retries: config.retries, http }))
    }

    /// Says in the log that texts leave this machine, where they do.
    pub(super) fn warn_of_leaving_texts(&self) {
        if !self.endpoint.is_local() {
            tracing::warn!(
                host = self.endpoint.uri.host().unwrap_or_default(),
                encrypted = self.endpoint.is_encrypted(),
                "texts of queries and passages are sent to llm.endpoint when a search is reranked by llm or cascade"
            );
        }
    }

    /// Asks, again where that may help, and returns the model's words.
    pub(super) async fn ask(&self, prompt: &Prompt, deadline: Deadline) -> Result<String, Failure> {
        let body = Bytes::from(self.endpoint.body(prompt));
        let mut retried = 0;
        loop {
            let started = Instant::now();
            let failure = match self.within(deadline, body.clone()).await {
                Ok(content) => {
                    metrics::llm_attempt("ok", started.elapsed());
                    return Ok(content);
                }
                Err(failure) => failure,
            };
            metrics::llm_attempt(failure.outcome, started.elapsed());
            let wait = match failure.retry {
                Retry::After(time) => time,
                Retry::Soon => jitter(BACKOFF, retried),
                Retry::Never => return Err(failure),
            };
            if retried == self.retries || deadline.remaining().is_some_and(|left| left <= wait) {
                return Err(failure);
            }
            tokio::time::sleep(wait).await;
            retried += 1;
        }
    }

    async fn within(&self, deadline: Deadline, body: Bytes) -> Result<String, Failure> {
        let left = deadline.remaining().unwrap_or(Duration::MAX);
        let answer = tokio::time::timeout(left, self.attempt(body)).await;
        answer.unwrap_or_else(|_| Err(Failure::timeout()))
    }

    async fn attempt(&self, body: Bytes) -> Result<String, Failure> {
        let mut request = Request::post(&self.endpoint.uri);
        request.headers_mut().into_iter().for_each(|headers| headers.extend(self.headers.clone()));
        let request = request.body(Full::new(body)).map_err(|_| Failure::invalid("cannot be asked"))?;
        let response = self.http.send(request).await.map_err(|error| Failure::unreachable(&error))?;
        if response.status() != StatusCode::OK {
            return Err(Failure::of(&response));
        }
        let read = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let answer = read.map_err(|error| match error.is::<LengthLimitError>() {
            true => Failure::invalid("gave an answer of over 1 MiB"),
            false => Failure::unreachable(&*error),
        })?;
        let content = self.endpoint.content(&answer.to_bytes());
        content.ok_or_else(|| Failure::invalid("gave an answer without a message of the model"))
    }
}

impl Http {
    fn new(encrypted: bool) -> Result<Self> {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let builder = legacy::Client::builder(TokioExecutor::new());
        if !encrypted {
            return Ok(Self::Plain(builder.build(connector)));
        }
        connector.enforce_http(false);
        let provider = rustls::crypto::ring::default_provider();
        let tls = HttpsConnectorBuilder::new().with_provider_and_native_roots(provider).map_err(|error| {
            Error::setup(
                format!("llm.endpoint is https, and this system's certificates cannot be read: {error}"),
                "install them (Debian: apt-get install ca-certificates), or name a file of them in SSL_CERT_FILE",
            )
        })?;
        Ok(Self::Tls(builder.build(tls.https_only().enable_http1().wrap_connector(connector))))
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, legacy::Error> {
        match self {
            Self::Plain(client) => client.request(request).await,
            Self::Tls(client) => client.request(request).await,
        }
    }
}

impl Failure {
    fn timeout() -> Self {
        let message = "the language model did not answer in time".to_owned();
        Self { reason: DegradationReason::Deadline, message, outcome: "timeout", retry: Retry::Never }
    }

    fn unreachable(error: &(dyn std::error::Error + 'static)) -> Self {
        // The chain names the address and the system's reason, nothing of what was sent.
        tracing::debug!(%error, source = ?error.source(), "the language model cannot be reached");
        let message = "the language model's endpoint cannot be reached".to_owned();
        Self { reason: DegradationReason::Unavailable, message, outcome: "unreachable", retry: Retry::Soon }
    }

    fn invalid(what: &str) -> Self {
        let message = format!("the language model's endpoint {what}");
        Self { reason: DegradationReason::InvalidAnswer, message, outcome: "invalid", retry: Retry::Never }
    }

    /// Sorts a response that is no answer. Its body is not read: it may repeat what was sent.
    fn of(response: &Response<Incoming>) -> Self {
        let status = response.status();
        let (reason, outcome, retry) = match status.as_u16() {
            429 | 502..=504 => (DegradationReason::Unavailable, "busy", Retry::Soon),
            500..=599 => (DegradationReason::Failed, "failed", Retry::Soon),
            _ => (DegradationReason::Failed, "refused", Retry::Never),
        };
        if retry == Retry::Never {
            tracing::warn!(status = status.as_u16(), "the language model's endpoint refused a request; check [llm]");
        }
        let retry = match (retry, retry_after(response.headers())) {
            (Retry::Soon, Some(time)) => Retry::After(time),
            (retry, _) => retry,
        };
        let message = format!("the language model's endpoint answered {}", status.as_u16());
        Self { reason, message, outcome, retry }
    }
}

/// Returns a time to wait before another try, anything up to `base` doubled as often as there were tries: callers that
/// failed together do not come back together.
fn jitter(base: Duration, retried: u32) -> Duration {
    base.saturating_mul(1 << retried.min(6)).mul_f64(rand::random::<f64>())
}

/// Reads how many seconds to wait; the other form, a date, is not worth trusting two clocks.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

fn headers(api_key_env: Option<&str>) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("amalfa/", env!("CARGO_PKG_VERSION"))));
    if let Some(variable) = api_key_env.filter(|variable| !variable.is_empty()) {
        headers.insert(AUTHORIZATION, key(variable)?);
    }
    Ok(headers)
}

fn key(variable: &str) -> Result<HeaderValue> {
    let key = std::env::var(variable).ok().filter(|key| !key.trim().is_empty());
    let header = key.and_then(|key| HeaderValue::try_from(format!("Bearer {}", key.trim())).ok());
    let mut header = header.ok_or_else(|| {
        Error::setup(
            format!("llm.api_key_env names {variable}, which holds no key"),
            format!("export {variable}=…, or unset llm.api_key_env where no key is needed"),
        )
    })?;
    // Neither `Debug` nor HTTP/2's tables show it.
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_differ_and_grow_and_are_bounded() {
        let waits: Vec<_> = (0..100).map(|_| jitter(BACKOFF, 1)).collect();
        assert!(waits.iter().all(|wait| *wait <= BACKOFF * 2));
        assert!(waits.iter().any(|wait| *wait != waits[0]));
        assert!(jitter(BACKOFF, u32::MAX) <= BACKOFF * 64);
    }

    #[test]
    fn a_wait_is_read_in_seconds() {
        let wait = |text: &'static str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]));
        assert_eq!(wait("3"), Some(Duration::from_secs(3)));
        assert_eq!(wait("Wed, 21 Oct 2026 07:28:00 GMT"), None);
        assert_eq!(wait("-1"), None);
    }

    #[test]
    fn a_key_that_is_not_there_is_an_error_with_advice_and_one_that_is_is_not_shown() {
        let message = headers(Some("AMALFA_NO_SUCH_KEY")).unwrap_err().to_string();
        assert!(message.contains("export AMALFA_NO_SUCH_KEY"), "{message}");
        // Any variable that every test process has serves as a key.
        let shown = format!("{:?}", headers(Some("CARGO_MANIFEST_DIR")).unwrap());
        assert!(shown.contains("Sensitive") && !shown.contains(env!("CARGO_MANIFEST_DIR")), "{shown}");
    }
}
