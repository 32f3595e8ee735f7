//! Answers as HTTP responses.

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

use super::error::Refused;

pub(super) type Answer = Response<Either<Full<Bytes>, Truncated>>;

fn json(status: StatusCode) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json;charset=UTF-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

pub(super) fn given(status: StatusCode, body: Bytes) -> Answer {
    json(status).map(|()| Either::Left(Full::new(body)))
}

pub(super) fn good(answer: &impl Serialize) -> Answer {
    match serde_json::to_vec(answer) {
        Ok(body) => given(StatusCode::OK, body.into()),
        Err(_) => refused(StatusCode::INTERNAL_SERVER_ERROR, "A001101", "The answer is no JSON."),
    }
}

pub(super) fn no_content() -> Answer {
    given(StatusCode::NO_CONTENT, Bytes::new())
}

pub(super) fn undecodable((): ()) -> Answer {
    refused(StatusCode::BAD_REQUEST, "A001207", "The request cannot be decoded.")
}

pub(super) fn denied(refusal: Refused) -> Answer {
    refused(refusal.status, refusal.code, &refusal.message)
}

pub(super) fn refused(status: StatusCode, code: &str, message: &str) -> Answer {
    let body = json!({ "resultCode": code, "resultMessage": format!("[{code}] {message}") });
    given(status, body.to_string().into())
}

/// A body that breaks off in its middle.
pub(super) fn truncated() -> Answer {
    json(StatusCode::OK).map(|()| Either::Right(Truncated(0)))
}

/// The body of [`truncated`], and how many frames of it were asked for.
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
