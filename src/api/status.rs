//! [`Error`] to gRPC status, with google.rpc details (AIP-193).

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::error::Error;

/// The ErrorInfo domain.
const DOMAIN: &str = "amalfa";
/// When a dependency that failed is worth another try.
const RETRY_UNAVAILABLE: Duration = Duration::from_secs(1);

/// Returns the status for an error. What is inside an internal error goes to the log and stays there.
pub(super) fn status(error: Error) -> Status {
    let reason = reason(&error);
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, std::collections::HashMap::new());
    let (code, message) = match &error {
        Error::Invalid { field, message } => {
            details.add_bad_request_violation(field, message);
            (Code::InvalidArgument, error.to_string())
        }
        Error::NotFound { what, id } => {
            details.set_resource_info(*what, id, "", "");
            (Code::NotFound, error.to_string())
        }
        Error::Overloaded { retry_after, .. } => {
            details.set_retry_info(Some(*retry_after));
            (Code::ResourceExhausted, error.to_string())
        }
        Error::Deadline { .. } => (Code::DeadlineExceeded, error.to_string()),
        Error::Cancelled => (Code::Cancelled, error.to_string()),
        Error::Setup { .. } => {
            tracing::error!(error = error.chain(), "a request met a problem of the installation");
            (Code::FailedPrecondition, "the service needs its operator; see its log".to_owned())
        }
        Error::Unavailable { .. } => {
            tracing::warn!(error = error.chain(), "a dependency failed a request");
            details.set_retry_info(Some(RETRY_UNAVAILABLE));
            (Code::Unavailable, "a part of the service is not available; retry".to_owned())
        }
        Error::Internal { .. } => {
            tracing::error!(error = error.chain(), "a request failed by a defect");
            (Code::Internal, "internal error; see the service's log".to_owned())
        }
    };
    Status::with_error_details(code, message, details)
}

/// Returns the ErrorInfo reason.
pub(super) fn reason(error: &Error) -> &'static str {
    match error {
        Error::Invalid { .. } => "INVALID_FIELD",
        Error::NotFound { .. } => "NOT_FOUND",
        Error::Overloaded { .. } => "OVERLOADED",
        Error::Deadline { .. } => "DEADLINE_EXCEEDED",
        Error::Cancelled => "CANCELLED",
        Error::Setup { .. } => "NEEDS_OPERATOR",
        Error::Unavailable { .. } => "DEPENDENCY_UNAVAILABLE",
        Error::Internal { .. } => "INTERNAL",
    }
}
