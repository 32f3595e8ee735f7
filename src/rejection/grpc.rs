//! Refusals of gRPC and gRPC-Web requests.

use http::{HeaderName, HeaderValue, Method, Version, header::CONTENT_TYPE};
use percent_encoding::{AsciiSet, CONTROLS};

use crate::credentials::RequestHead;

/// The characters that `grpc-message` encodes: all but visible ASCII and spaces, and the percent sign.
pub(super) const GRPC_MESSAGE: &AsciiSet = &CONTROLS.add(b'%');
pub(super) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(super) const GRPC_MESSAGE_NAME: HeaderName = HeaderName::from_static("grpc-message");

/// The protocol by which a request is refused.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Protocol {
    /// By the HTTP status.
    Http,
    /// By a trailers-only response of this content type, which is the request's.
    Grpc(HeaderValue),
}

impl Protocol {
    /// gRPC is a POST over HTTP/2 or later, and gRPC-Web a POST over any version, each with its content
    /// type. All else is plain HTTP, where a trailers-only response with status 200 would be a success.
    pub(crate) fn of(request: RequestHead<'_>) -> Self {
        let content_type =
            request.headers.get(CONTENT_TYPE).filter(|_| request.method == Method::POST);
        let over_http2 = request.version >= Version::HTTP_2;
        match content_type {
            Some(value) if is_grpc_web(value) || (over_http2 && is_grpc(value)) => {
                Self::Grpc(value.clone())
            }
            _ => Self::Http,
        }
    }
}

/// `application/grpc`, alone or followed by a format (`+proto`) or parameters.
fn is_grpc(content_type: &HeaderValue) -> bool {
    is_type(content_type, b"application/grpc")
}

fn is_grpc_web(content_type: &HeaderValue) -> bool {
    is_type(content_type, b"application/grpc-web")
        || is_type(content_type, b"application/grpc-web-text")
}

fn is_type(content_type: &HeaderValue, name: &[u8]) -> bool {
    let Some((start, rest)) = content_type.as_bytes().split_at_checked(name.len()) else {
        return false;
    };
    start.eq_ignore_ascii_case(name) && rest.first().is_none_or(|next| b"+; \t".contains(next))
}
