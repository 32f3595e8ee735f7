//! What both endpoints have in common: forms in, JSON out.

use std::{convert::Infallible, pin::Pin};

use bytes::Bytes;
use headers::{Authorization, HeaderMapExt, authorization::Basic};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE},
};
use http_body::Body;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use serde_json::json;
use tower::BoxError;

use crate::{
    api::{Error, Secret},
    layer::finish,
    observe::{LogLimit, limited},
};

/// The largest request (bytes) that is read.
const MAX_REQUEST: usize = 64 * 1024;

/// Response future of the endpoints.
pub type EndpointFuture =
    Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send>>;

pub(super) type Answer = Response<Full<Bytes>>;

/// A client's request.
pub(super) struct Form {
    pub(super) headers: HeaderMap,
    /// The body as it came.
    pub(super) parameters: Secret,
    pub(super) basic: Option<Authorization<Basic>>,
}

impl Form {
    /// Reads a request: a POST of a form (RFC 6749 §3.2, RFC 7009 §2.1).
    pub(super) async fn read<B>(request: Request<B>) -> Result<Self, Answer>
    where
        B: Body,
        B::Error: Into<BoxError>,
    {
        let (head, body) = request.into_parts();
        if head.method != Method::POST {
            let mut answer =
                error(StatusCode::METHOD_NOT_ALLOWED, "invalid_request", "only POST is allowed");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return Err(answer);
        }
        if !is_form(&head.headers) {
            let description = "the body must be application/x-www-form-urlencoded";
            return Err(error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request", description));
        }
        let body = Limited::new(body, MAX_REQUEST).collect().await.map_err(|broken| {
            if broken.is::<LengthLimitError>() {
                error(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request", "the body is too large")
            } else {
                error(StatusCode::BAD_REQUEST, "invalid_request", "the body cannot be read")
            }
        })?;
        let body = body.to_bytes();
        let parameters = str::from_utf8(&body).map_err(|_| {
            error(StatusCode::BAD_REQUEST, "invalid_request", "the body is not a form")
        })?;
        let basic = head.headers.typed_get();
        Ok(Self { headers: head.headers, parameters: parameters.into(), basic })
    }

    /// Answers a request by what is made of its form, or refuses one that is none.
    pub(super) fn serve<B, F>(
        request: Request<B>,
        respond: impl FnOnce(Self) -> F + Send + 'static,
    ) -> EndpointFuture
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
        F: Future<Output = Answer> + Send + 'static,
    {
        Box::pin(async move {
            match Self::read(request).await {
                // What is begun is finished, even if the client goes away.
                Ok(form) => Ok(finish(respond(form)).await),
                Err(refusal) => Ok(refusal),
            }
        })
    }

    /// A parameter that is there once.
    pub(super) fn get(&self, name: &str) -> Option<Secret> {
        let pairs: Vec<(String, Secret)> =
            serde_html_form::from_str(self.parameters.expose()).ok()?;
        let mut values = pairs.into_iter().filter(|(key, _)| key == name).map(|(_, value)| value);
        values.next().filter(|_| values.next().is_none())
    }

    /// The body with another value of a parameter.
    pub(super) fn with(&self, name: &str, value: &Secret) -> Secret {
        let pairs: Vec<(String, Secret)> =
            serde_html_form::from_str(self.parameters.expose()).unwrap_or_default();
        let pairs = pairs.into_iter().map(|(key, old)| {
            let value = if key == name { value.clone() } else { old };
            (key, value)
        });
        serde_html_form::to_string(pairs.collect::<Vec<_>>()).unwrap_or_default().into()
    }

    pub(super) fn client_id(&self) -> Option<String> {
        self.basic.as_ref().map(|basic| basic.username().to_owned())
    }

    pub(super) fn client_secret(&self) -> Option<Secret> {
        self.basic.as_ref().map(|basic| basic.password().into())
    }

    /// The client could not be authenticated: 401 with a challenge if it tried by `Authorization`
    /// (RFC 6749 §5.2), else 400.
    pub(super) fn invalid_client(&self, content: Option<&str>) -> Answer {
        if self.basic.is_none() {
            return answer(StatusCode::BAD_REQUEST, content);
        }
        let mut answer = answer(StatusCode::UNAUTHORIZED, content);
        let challenge = HeaderValue::from_static("Basic realm=\"token\"");
        answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        answer
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

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

/// Authlete could not be asked.
pub(super) fn failed(failure: &Error, log: &LogLimit) -> Answer {
    let error_of = failure as &dyn std::error::Error;
    limited!(error, log, error = error_of, "a request of a client could not be answered");
    if failure.is_our_fault() {
        return error(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "this server is at fault");
    }
    let description = "try again later";
    let mut answer = error(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", description);
    let after = failure.retry_after().map_or(1, |after| after.as_secs().max(1));
    answer.headers_mut().insert(RETRY_AFTER, after.into());
    answer
}
