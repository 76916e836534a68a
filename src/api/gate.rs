//! What every request passes: admission, and the time that it has.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::status::status;
use crate::domain::Deadline;
use crate::error::{Error, Result};

/// When a refused request is worth another try: a few searches' time.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Admits requests up to a limit and gives each its deadline; a cheap clone of a handle.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    places: Arc<Semaphore>,
    timeout: Duration,
}

/// A request's place; given back when dropped.
#[derive(Debug)]
pub(super) struct Pass {
    _place: OwnedSemaphorePermit,
    /// When the caller stops waiting.
    pub deadline: Deadline,
}

impl Gate {
    pub fn new(requests_max: usize, timeout: Duration) -> Self {
        Self { places: Arc::new(Semaphore::new(requests_max)), timeout }
    }

    /// Takes a place, or refuses at once.
    pub fn enter(&self, metadata: &MetadataMap) -> Result<Pass, Status> {
        let place = self.places.clone().try_acquire_owned();
        let place =
            place.map_err(|_| status(Error::Overloaded { what: "the request limit", retry_after: RETRY_AFTER }))?;
        let budget = client_timeout(metadata).map_or(self.timeout, |timeout| timeout.min(self.timeout));
        Ok(Pass { _place: place, deadline: Deadline::after(budget) })
    }
}

impl Pass {
    /// Runs a request's work until it is done or its time is up.
    pub async fn run<T>(self, work: impl Future<Output = Result<T>>) -> Result<T, Status> {
        let remaining = self.deadline.remaining().unwrap_or(Duration::MAX);
        let result = tokio::time::timeout(remaining, work).await;
        result.unwrap_or(Err(Error::Deadline { what: "the answer" })).map_err(status)
    }
}

/// Reads `grpc-timeout`: at most 8 digits and a unit.
///
/// Source: gRPC over HTTP/2, «Timeout».
fn client_timeout(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = Some(digits).filter(|d| d.len() <= 8)?.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(timeout: &'static str) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", timeout.parse().unwrap());
        metadata
    }

    #[test]
    fn a_timeout_is_read_in_every_unit() {
        for (text, expected) in [
            ("2S", Some(Duration::from_secs(2))),
            ("1M", Some(Duration::from_secs(60))),
            ("15m", Some(Duration::from_millis(15))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("999999999m", None),
            ("m", None),
            ("", None),
            ("5x", None),
        ] {
            assert_eq!(client_timeout(&metadata(text)), expected, "{text}");
        }
    }

    #[test]
    fn one_request_too_many_is_refused_and_the_next_finds_the_place_free() {
        let gate = Gate::new(1, Duration::from_secs(1));
        let pass = gate.enter(&MetadataMap::new()).unwrap();
        assert_eq!(gate.enter(&MetadataMap::new()).unwrap_err().code(), tonic::Code::ResourceExhausted);
        drop(pass);
        assert!(gate.enter(&MetadataMap::new()).is_ok());
    }

    #[test]
    fn the_shorter_of_the_two_times_holds() {
        let gate = Gate::new(1, Duration::from_secs(1));
        let pass = gate.enter(&metadata("1H")).unwrap();
        assert!(pass.deadline.remaining().unwrap() <= Duration::from_secs(1));
    }
}
