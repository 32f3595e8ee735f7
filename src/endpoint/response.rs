//! Responses of the endpoints.

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

pub(super) type EndpointResponse = Response<Full<Bytes>>;

/// A response with a JSON body that must not be stored (RFC 6749 §5.1). Without a body, it has no
/// `Content-Type`.
pub(super) fn json_response(status: StatusCode, body: Option<&str>) -> EndpointResponse {
    let mut response = Response::new(Full::from(body.unwrap_or_default().to_owned()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    if body.is_some() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    response
}

/// An error response (RFC 6749 §5.2) that this server makes, not Authlete.
pub(super) fn error(status: StatusCode, error: &str, description: &str) -> EndpointResponse {
    let body = json!({ "error": error, "error_description": description });
    json_response(status, Some(&body.to_string()))
}

/// The request is malformed: 400 `invalid_request`.
pub(super) fn invalid_request(description: &str) -> EndpointResponse {
    error(StatusCode::BAD_REQUEST, "invalid_request", description)
}

/// Turns the response into 401 with a `Basic` challenge, for clients that tried to authenticate by
/// `Authorization` (RFC 6749 §5.2).
pub(super) fn with_basic_challenge(mut response: EndpointResponse) -> EndpointResponse {
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    let challenge = HeaderValue::from_static("Basic realm=\"token\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    response
}

/// The same request can succeed later: 503 with `Retry-After` (s).
pub(super) fn unavailable(retry_after: u64) -> EndpointResponse {
    let description = "try again later";
    let mut response =
        error(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", description);
    response.headers_mut().insert(RETRY_AFTER, retry_after.into());
    response
}

/// The call to Authlete failed: 500 if this server has to be mended, else 503.
pub(super) fn call_failed(failure: &Error, log: &LogLimit) -> EndpointResponse {
    let error_of = failure as &dyn std::error::Error;
    limited!(error, log, error = error_of, "a request of a client could not be answered");
    if failure.is_our_fault() {
        return error(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "this server is at fault");
    }
    unavailable(failure.retry_after().map_or(1, |after| after.as_secs().max(1)))
}
