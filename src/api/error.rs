//! Errors of calls.

use std::{fmt, time::Duration};

use http::{HeaderMap, StatusCode};
use serde::Deserialize;

pub(crate) use super::redact::BoxError;
use super::redact::SentValues;

/// How many characters of a server's message are kept.
const MAX_MESSAGE: usize = 300;

/// A call to Authlete failed. This says nothing about a client's token. It contains no token and no
/// credential.
#[derive(Debug, thiserror::Error)]
#[error("call to Authlete's {api} failed")]
#[non_exhaustive]
pub struct Error {
    /// The API, such as `/auth/introspection`.
    pub api: &'static str,
    /// What went wrong.
    #[source]
    pub kind: ErrorKind,
}

/// What went wrong in a call to Authlete.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The arguments make no legal HTTP request, or the call was not made.
    #[error("the request cannot be sent: {0}")]
    Request(&'static str),
    /// Connecting failed, or the connection broke.
    #[error("the connection failed")]
    Connection(#[source] BoxError),
    /// There was no complete response within the deadline.
    #[error("no answer within {} ms", .0.as_millis())]
    Deadline(Duration),
    /// The status of the response is not 2xx.
    #[error("{0}")]
    Refused(ErrorResponse),
    /// The response is not as the API documents.
    #[error("the answer cannot be decoded: {problem} at `{path}`, line {line}, column {column}")]
    #[non_exhaustive]
    Undecodable {
        /// The field, such as `properties[0].key`; `.` for the whole document.
        path: String,
        /// The kind of problem.
        problem: &'static str,
        /// The line, counted from 1; 0 if unknown.
        line: usize,
        /// The column, counted from 1; 0 if unknown.
        column: usize,
    },
    /// The response is larger (bytes) than
    /// [`max_response_size`](crate::api::AuthleteBuilder::max_response_size).
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
}

/// The response of Authlete to a call that it refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErrorResponse {
    /// The status.
    pub status: StatusCode,
    /// `resultCode`, for logs. Authlete asks not to branch on it. Shortened like `result_message`.
    pub result_code: Option<String>,
    /// `resultMessage`, for logs: at most 300 characters, without control characters and without values
    /// that were sent.
    pub result_message: Option<String>,
    /// `Retry-After`; `None` if it is absent or a date.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for ErrorResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused with status {}", self.status.as_u16())?;
        match self.result_message.as_ref().or(self.result_code.as_ref()) {
            Some(message) => write!(f, ": {message}"),
            None => Ok(()),
        }
    }
}

impl ErrorResponse {
    /// Reads a response, which need not be JSON and may repeat what was sent.
    pub(crate) fn new(
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        sent: &SentValues,
    ) -> Self {
        /// The documented body. Some servers send codes as numbers.
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct Body {
            result_code: serde_json::Value,
            result_message: serde_json::Value,
        }
        let body: Body = serde_json::from_slice(body).unwrap_or_default();
        let retry_after = headers.get(http::header::RETRY_AFTER);
        let seconds = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        Self {
            status,
            result_code: loggable(&body.result_code, sent),
            result_message: loggable(&body.result_message, sent),
            retry_after: seconds.map(Duration::from_secs),
        }
    }
}

/// A text of a server, made safe for logs.
fn loggable(value: &serde_json::Value, sent: &SentValues) -> Option<String> {
    let text = match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let legal = |char: char| if char.is_control() { ' ' } else { char };
    Some(sent.redact(&text).chars().take(MAX_MESSAGE).map(legal).collect())
        .filter(|text: &String| !text.is_empty())
}

impl ErrorKind {
    /// A decoding error without serde's message, which quotes values.
    pub(crate) fn undecodable(path: String, error: &serde_json::Error) -> Self {
        // Names of members come from the server. One that no documented member has is not reported.
        let legal = |char: char| char.is_ascii_alphanumeric() || "_.[]?".contains(char);
        let path = if path.len() <= 100 && path.chars().all(legal) { path } else { "?".into() };
        let problem = match error.classify() {
            serde_json::error::Category::Io => "unreadable",
            serde_json::error::Category::Syntax => "no JSON",
            serde_json::error::Category::Data => "an unexpected value",
            serde_json::error::Category::Eof => "an early end",
        };
        Self::Undecodable { path, problem, line: error.line(), column: error.column() }
    }

    pub(crate) fn no_object() -> Self {
        Self::Undecodable { path: ".".into(), problem: "no JSON object", line: 1, column: 1 }
    }
}

impl Error {
    /// A call that was not made.
    pub(crate) fn not_made(api: &'static str, why: &'static str) -> Self {
        Self { api, kind: ErrorKind::Request(why) }
    }

    /// A call without a response in this time.
    pub(crate) fn deadline(api: &'static str, after: Duration) -> Self {
        Self { api, kind: ErrorKind::Deadline(after) }
    }

    /// Whether the same call may succeed later: the connection failed, the deadline passed, or the status is
    /// 429, 502, 503 or 504.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match &self.kind {
            ErrorKind::Connection(_) | ErrorKind::Deadline(_) => true,
            ErrorKind::Refused(ErrorResponse { status, .. }) => matches!(
                *status,
                StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            ),
            _ => false,
        }
    }

    /// Whether Authlete did not process the call: the status is 429 or 503.
    pub(crate) fn is_turned_away(&self) -> bool {
        let ErrorKind::Refused(ErrorResponse { status, .. }) = &self.kind else { return false };
        [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(status)
    }

    /// Whether this indicates an outage of Authlete: it is retryable, or the status is 5xx.
    pub(crate) fn is_outage(&self) -> bool {
        let status = match &self.kind {
            ErrorKind::Refused(ErrorResponse { status, .. }) => Some(status),
            _ => None,
        };
        self.is_retryable() || status.is_some_and(StatusCode::is_server_error)
    }

    /// Whether Authlete refuses the credentials of this client for every call: the status is 401, or 403 with
    /// a `resultCode`. A 403 without one can come from a firewall and concern a single request, which a
    /// client may have provoked.
    pub(crate) fn refuses_credentials(&self) -> bool {
        let ErrorKind::Refused(refusal) = &self.kind else { return false };
        match refusal.status {
            StatusCode::UNAUTHORIZED => true,
            StatusCode::FORBIDDEN => refusal.result_code.is_some(),
            _ => false,
        }
    }

    /// Whether the call certainly did not reach Authlete, since there was no connection.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        let ErrorKind::Connection(error) = &self.kind else { return false };
        let error = error.downcast_ref::<hyper_util::client::legacy::Error>();
        error.is_some_and(hyper_util::client::legacy::Error::is_connect)
    }

    /// Whether the cause is on this side: wrong credentials, a wrong base URL or an illegal request. The
    /// status is 3xx or 4xx (but not 408 or 429).
    #[must_use]
    pub fn is_our_fault(&self) -> bool {
        match &self.kind {
            ErrorKind::Request(_) => true,
            ErrorKind::Refused(ErrorResponse { status, .. }) => {
                (status.is_redirection() || status.is_client_error())
                    && ![StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT]
                        .contains(status)
            }
            _ => false,
        }
    }

    /// The `Retry-After` of a refused call; `None` if it is absent or a date.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match &self.kind {
            ErrorKind::Refused(refusal) => refusal.retry_after,
            _ => None,
        }
    }
}

/// The shape of a value that may be secret: its length in characters, and whether all are visible ASCII.
pub(crate) fn shape(value: &str) -> String {
    let length = value.chars().count();
    if length == 0 {
        return "empty".into();
    }
    let odd = value.chars().any(|char| !char.is_ascii_graphic());
    let with = if odd { ", not all of them visible ASCII" } else { "" };
    format!("{length} characters{with}")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn refused(status: u16, body: &str) -> Error {
        let status = StatusCode::from_u16(status).unwrap();
        let refusal =
            ErrorResponse::new(status, &HeaderMap::new(), body.as_bytes(), &SentValues::default());
        Error { api: "/auth/introspection", kind: ErrorKind::Refused(refusal) }
    }

    #[test]
    fn a_status_tells_whether_the_call_is_retryable_and_whose_fault_it_is() {
        for (status, retryable, ours) in [
            (302, false, true),
            (400, false, true),
            (401, false, true),
            (403, false, true),
            (404, false, true),
            (408, false, false),
            (429, true, false),
            (500, false, false),
            (502, true, false),
            (503, true, false),
            (101, false, false),
            (600, false, false),
        ] {
            let error = refused(status, "");
            assert_eq!((error.is_retryable(), error.is_our_fault()), (retryable, ours), "{status}");
        }
    }

    #[test]
    fn credentials_are_refused_by_401_and_by_403_with_a_result_code() {
        let words = r#"{"resultCode":"A001215"}"#;
        for (status, body, expected) in [
            (401, words, true),
            (401, "", true),
            (403, words, true),
            (403, "<html>", false),
            (400, words, false),
            (404, words, false),
            (503, words, false),
        ] {
            let error = refused(status, body);
            assert_eq!(error.refuses_credentials(), expected, "{status} {body}");
        }
    }

    #[test]
    fn a_refusal_does_not_repeat_what_was_sent_even_where_it_is_shortened() {
        let body = br#"{"token":"t0ken-of-alice","accessToken":"x"}"#;
        let sent = SentValues::new(body, "", &HeaderValue::from_static("Bearer s3rvice-token"));
        let said = serde_json::json!({
            "resultCode": "t0ken-of-alice",
            "resultMessage": format!("{}t0ken-of-alice by 's3rvice-token'", ".".repeat(290)),
        });
        let said = said.to_string();
        let refusal = ErrorResponse::new(StatusCode::OK, &HeaderMap::new(), said.as_bytes(), &sent);
        assert_eq!(refusal.result_code.as_deref(), Some("[redacted]"));
        let expected = format!("{}[redacted]", ".".repeat(290));
        assert_eq!(refusal.result_message, Some(expected));
    }

    #[test]
    fn a_refusal_is_read_from_numbers_and_from_no_json() {
        let error = refused(404, r#"{"resultCode":404,"resultMessage":"a\r\nb"}"#);
        let ErrorKind::Refused(refusal) = &error.kind else { panic!("{error:?}") };
        assert_eq!(refusal.result_code.as_deref(), Some("404"));
        assert_eq!(refusal.result_message.as_deref(), Some("a  b"));
        for body in ["<html>", "", "[]", "null", r#"{"resultCode":{}}"#] {
            let ErrorKind::Refused(refusal) = refused(500, body).kind else { panic!("{body}") };
            assert_eq!((refusal.result_code, refusal.result_message), (None, None), "{body}");
        }
    }
}
