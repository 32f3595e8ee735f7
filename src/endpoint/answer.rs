//! What the endpoints answer.

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE},
};
use http_body_util::Full;
use serde_json::json;

use crate::{
    api::Error,
    observe::{LogLimit, limited},
};

pub(super) type Answer = Response<Full<Bytes>>;

/// An answer with a JSON body, not to be stored (RFC 6749 §5.1).
pub(super) fn answer(status: StatusCode, content: Option<&str>) -> Answer {
    let mut answer = Response::new(Full::from(content.unwrap_or_default().to_owned()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    if content.is_some() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    answer
}

/// An error of ours (RFC 6749 §5.2).
pub(super) fn error(status: StatusCode, error: &str, description: &str) -> Answer {
    let content = json!({ "error": error, "error_description": description });
    answer(status, Some(&content.to_string()))
}

/// The request is wrong: 400 `invalid_request`.
pub(super) fn invalid_request(description: &str) -> Answer {
    error(StatusCode::BAD_REQUEST, "invalid_request", description)
}

/// Asks for Basic credentials: who tried to authenticate by `Authorization` gets 401 with a challenge
/// (RFC 6749 §5.2).
pub(super) fn challenged(mut answer: Answer) -> Answer {
    *answer.status_mut() = StatusCode::UNAUTHORIZED;
    let challenge = HeaderValue::from_static("Basic realm=\"token\"");
    answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    answer
}

/// The request can succeed later: 503 with `Retry-After` (s).
pub(super) fn unavailable(after: u64) -> Answer {
    let description = "try again later";
    let mut answer = error(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", description);
    answer.headers_mut().insert(RETRY_AFTER, after.into());
    answer
}

/// Authlete could not be asked.
pub(super) fn failed(failure: &Error, log: &LogLimit) -> Answer {
    let error_of = failure as &dyn std::error::Error;
    limited!(error, log, error = error_of, "a request of a client could not be answered");
    if failure.is_our_fault() {
        return error(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "this server is at fault");
    }
    unavailable(failure.retry_after().map_or(1, |after| after.as_secs().max(1)))
}
