//! Helpers of the properties.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{
    HeaderMap, HeaderName, HeaderValue, Request,
    header::{CONTENT_TYPE, WWW_AUTHENTICATE},
};
use http_auth::ChallengeParser;

use crate::{
    credentials::{RequestHead, Scheme},
    rejection::challenge::{Challenges, is_text},
    rejection::{Protocol, Rejection},
};

/// The secret that must not appear anywhere.
pub(super) const MARK: &str = "S3cr3tM4rk";

/// The time of the clock: 2033-05-18.
pub(super) const NOW: u64 = 2_000_000_000;

pub(super) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

/// The legal ones of lines such as `name: value`.
pub(super) fn headers(lines: &[u8]) -> HeaderMap {
    let header = |line: &[u8]| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        Some((name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?))
    };
    let mut headers = HeaderMap::new();
    for (name, value) in lines.split(|byte| *byte == b'\n').take(64).filter_map(header) {
        headers.append(name, value);
    }
    headers
}

pub(super) fn request(headers: HeaderMap) -> Request<()> {
    let mut request = Request::new(());
    *request.headers_mut() = headers;
    request
}

/// A refusal contains no secret, and its response is legal.
pub(super) fn refused(rejection: &Rejection, request: RequestHead<'_>) {
    let challenges = Challenges { algorithms: Some("ES256".into()), ..Challenges::default() };
    let mut head = rejection.head(&Protocol::of(request), &challenges, Scheme::Dpop);
    for challenge in head.headers().get_all(WWW_AUTHENTICATE) {
        assert!(read(challenge).is_some(), "{challenge:?}");
    }
    // That of gRPC's requests is the client's own.
    head.headers_mut().remove(CONTENT_TYPE);
    let shown = format!("{rejection:?} {} {:?}", rejection.description(), head.headers());
    assert!(!shown.contains(MARK), "{shown}");
}

/// Scheme and parameters of a header that is exactly one challenge.
pub(super) fn read(header: &HeaderValue) -> Option<(String, Vec<(String, String)>)> {
    let text = str::from_utf8(header.as_bytes()).ok().filter(|text| is_text(text))?;
    let mut challenges = ChallengeParser::new(text);
    let challenge = challenges.next()?.ok()?;
    let params = challenge.params.iter();
    let params = params.map(|(name, value)| ((*name).to_owned(), value.to_unescaped()));
    challenges.next().is_none().then(|| (challenge.scheme.to_owned(), params.collect()))
}
