//! HTTP responses of the emulator.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use http_body::{Body, Frame};
use http_body_util::{Either, Full};
use serde::Serialize;
use serde_json::json;

use super::error::CallError;

pub(super) type EmulatorResponse = Response<Either<Full<Bytes>, Truncated>>;

fn json_head(status: StatusCode) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json;charset=UTF-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

pub(super) fn with_body(status: StatusCode, body: Bytes) -> EmulatorResponse {
    json_head(status).map(|()| Either::Left(Full::new(body)))
}

pub(super) fn success(document: &impl Serialize) -> EmulatorResponse {
    match serde_json::to_vec(document) {
        Ok(body) => with_body(StatusCode::OK, body.into()),
        Err(_) => refused(StatusCode::INTERNAL_SERVER_ERROR, "A001101", "The answer is no JSON."),
    }
}

pub(super) fn no_content() -> EmulatorResponse {
    with_body(StatusCode::NO_CONTENT, Bytes::new())
}

pub(super) fn undecodable((): ()) -> EmulatorResponse {
    refused(StatusCode::BAD_REQUEST, "A001207", "The request cannot be decoded.")
}

pub(super) fn call_error(error: CallError) -> EmulatorResponse {
    refused(error.status, error.code, &error.message)
}

pub(super) fn refused(status: StatusCode, code: &str, message: &str) -> EmulatorResponse {
    let body = json!({ "resultCode": code, "resultMessage": format!("[{code}] {message}") });
    with_body(status, body.to_string().into())
}

/// A response whose body fails after its first frame.
pub(super) fn truncated() -> EmulatorResponse {
    json_head(StatusCode::OK).map(|()| Either::Right(Truncated(0)))
}

/// The body of [`truncated`]. It counts the frames that were polled.
pub(super) struct Truncated(u8);

impl Body for Truncated {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0 += 1;
        Poll::Ready(Some(match self.0 {
            1 => Ok(Frame::data(Bytes::from_static(b"{\"action\":\"OK\","))),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }))
    }
}
