//! Errors of calls and of clients' requests.

use http::StatusCode;
use serde_json::json;

use super::proofs::ProofError;

/// An error of a call that has no `action` for it: an HTTP status, `resultCode` and `resultMessage`.
pub(super) struct CallError {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
}

/// `resultCode` and `resultMessage`.
pub(super) fn result(code: &str, message: &str) -> (Option<String>, Option<String>) {
    (Some(code.to_owned()), Some(format!("[{code}] {message}")))
}

/// An error of the token and revocation endpoints (RFC 6749 §5.2).
pub(super) struct OAuthError {
    pub(super) error: &'static str,
    pub(super) code: &'static str,
    pub(super) message: &'static str,
}

impl OAuthError {
    pub(super) fn new(error: &'static str, code: &'static str, message: &'static str) -> Self {
        Self { error, code, message }
    }

    /// The body of the error response.
    pub(super) fn content(&self) -> String {
        let Self { error, code, message } = self;
        json!({
            "error": error,
            "error_description": format!("[{code}] {message}"),
            "error_uri": format!("https://docs.authlete.com/#{code}"),
        })
        .to_string()
    }
}

impl From<ProofError> for OAuthError {
    fn from(ProofError { error, message }: ProofError) -> Self {
        Self::new(error, "A050311", message)
    }
}
