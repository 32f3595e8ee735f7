//! What a request presents: where its access token is, and whether it is well formed.
//!
//! ```
//! use tower_authlete::{AuthLayer, Authlete, credentials::CookieToken};
//!
//! # fn example(authlete: Authlete) -> Result<(), tower_authlete::ConfigError> {
//! let auth = AuthLayer::builder(authlete).token_source(CookieToken::new("token")).build()?;
//! # let _ = auth;
//! # Ok(())
//! # }
//! ```

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{AUTHORIZATION, COOKIE, Entry},
};

use crate::rejection::Rejection;

mod head;
mod scheme;

pub use self::head::RequestHead;
pub(crate) use self::scheme::Scheme;

/// `DPoP` (RFC 9449 §4.1).
pub(crate) static DPOP: HeaderName = HeaderName::from_static("dpop");

/// A place in a request where an access token can be.
///
/// The layer reads all of its places. A request with tokens in two of them is malformed (RFC 6750 §2). A token
/// must be well formed (RFC 6750 §2.1), or the request is refused without a call.
///
/// No place of this crate reads the query string; RFC 6750 §5.3 says why.
///
/// ```
/// use tower_authlete::credentials::{MalformedCredentials, RequestHead, TokenSource};
///
/// /// `Sec-WebSocket-Protocol: bearer, <token>`
/// struct WebSocketProtocol;
///
/// impl TokenSource for WebSocketProtocol {
///     fn token<'r>(&self, head: RequestHead<'r>) -> Result<Option<&'r str>, MalformedCredentials> {
///         let Some(value) = head.headers.get("sec-websocket-protocol") else { return Ok(None) };
///         let text = value.to_str().map_err(|_| MalformedCredentials::new("not ASCII"))?;
///         Ok(text.strip_prefix("bearer, "))
///     }
/// }
/// ```
pub trait TokenSource: Send + Sync + 'static {
    /// The token, or `None` if there is none here.
    ///
    /// # Errors
    /// If there is something here that is meant to be a token but cannot be one: 400.
    fn token<'r>(&self, head: RequestHead<'r>) -> Result<Option<&'r str>, MalformedCredentials>;

    /// The header that holds the token and nothing else. It is marked sensitive, and removed if
    /// the layer strips credentials.
    fn header(&self) -> Option<&HeaderName> {
        None
    }
}

/// Why credentials cannot be read; the text goes to the client as `error_description`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MalformedCredentials(&'static str);

impl MalformedCredentials {
    /// With a reason. It is a constant, so that it cannot hold any of the request.
    #[must_use]
    pub const fn new(reason: &'static str) -> Self {
        Self(reason)
    }
}

/// `Authorization: Bearer <token>` (RFC 6750 §2.1) or `DPoP <token>` (RFC 9449 §7.1), where the layer
/// always looks.
#[inline]
fn authorization(headers: &HeaderMap) -> Result<Option<AccessToken<'_>>, MalformedCredentials> {
    let Some(value) = only(headers, &AUTHORIZATION)? else {
        return Ok(None);
    };
    // RFC 9110 §11.4: auth-scheme, then one or more spaces, then the credentials.
    let bytes = value.as_bytes();
    // As nearly all clients write it: compared as a whole.
    if let Some(rest) = bytes.strip_prefix(b"Bearer ") {
        return Ok(Some(after(Scheme::Bearer, rest)));
    }
    if bytes.is_empty() {
        return Err(MalformedCredentials("the Authorization header is empty"));
    }
    let end = bytes.iter().position(|byte| *byte == b' ').unwrap_or(bytes.len());
    let (scheme, rest) = bytes.split_at(end);
    let scheme = if scheme.eq_ignore_ascii_case(b"Bearer") {
        Scheme::Bearer
    } else if scheme.eq_ignore_ascii_case(b"DPoP") {
        Scheme::Dpop
    } else {
        return Ok(None);
    };
    Ok(Some(after(scheme, rest)))
}

/// The token after its scheme and spaces.
#[inline]
fn after(scheme: Scheme, rest: &[u8]) -> AccessToken<'_> {
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    AccessToken { scheme, value: &rest[spaces..] }
}

/// A header that holds the bare token.
///
/// ```
/// use http::HeaderName;
/// use tower_authlete::credentials::HeaderToken;
///
/// let place = HeaderToken::new(HeaderName::from_static("x-access-token"));
/// ```
#[derive(Debug, Clone)]
pub struct HeaderToken(HeaderName);

impl HeaderToken {
    /// The header of this name.
    #[must_use]
    pub fn new(name: HeaderName) -> Self {
        Self(name)
    }
}

impl TokenSource for HeaderToken {
    fn token<'r>(&self, head: RequestHead<'r>) -> Result<Option<&'r str>, MalformedCredentials> {
        only(head.headers, &self.0)?.map(|value| text(value.as_bytes())).transpose()
    }

    fn header(&self) -> Option<&HeaderName> {
        Some(&self.0)
    }
}

/// A cookie that holds the bare token.
///
/// Browsers send cookies on their own accord, so protect unsafe methods against cross-site
/// requests (for example with tower-http's `csrf` layer) where this is used. A WebSocket handshake is a
/// `GET`, which that layer lets pass: compare its `Origin`. The `Cookie` header is not stripped, since it
/// can hold other cookies.
#[derive(Debug, Clone)]
pub struct CookieToken(String);

impl CookieToken {
    /// The cookie of this name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }
}

impl TokenSource for CookieToken {
    fn token<'r>(&self, head: RequestHead<'r>) -> Result<Option<&'r str>, MalformedCredentials> {
        let mut found = cookies(head.headers, &self.0);
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(MalformedCredentials("the token's cookie is there twice")),
            (found, None) => found.map(text).transpose(),
        }
    }
}

/// The values of the cookies of this name.
pub(crate) fn cookies<'r>(headers: &'r HeaderMap, name: &str) -> impl Iterator<Item = &'r [u8]> {
    // RFC 6265 §4.2.1; HTTP/2 may split the header (RFC 9113 §8.2.3).
    // Other cookies may hold what is not ASCII.
    headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|cookies| cookies.as_bytes().split(|byte| *byte == b';'))
        .filter_map(move |cookie| {
            cookie.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")
        })
}

fn text(token: &[u8]) -> Result<&str, MalformedCredentials> {
    str::from_utf8(token)
        .map_err(|_| MalformedCredentials("the access token has an illegal character"))
}

/// The one value of a header.
#[inline]
fn only<'r>(
    headers: &'r HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'r HeaderValue>, MalformedCredentials> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(MalformedCredentials("more than one header with credentials")),
        (value, None) => Ok(value),
    }
}

/// An access token as it stands in a request.
#[derive(Clone, Copy)]
pub(crate) struct AccessToken<'r> {
    pub(crate) scheme: Scheme,
    pub(crate) value: &'r [u8],
}

impl<'r> AccessToken<'r> {
    /// Its text. A hit does without it.
    pub(crate) fn text(self) -> &'r str {
        // ASCII, as [`find`] has seen.
        str::from_utf8(self.value).unwrap_or_default()
    }
}

/// Finds the token in the `Authorization` header and in the places given. It is well formed
/// (RFC 6750 §2.1).
#[inline]
pub(crate) fn find<'r>(
    sources: &[Box<dyn TokenSource>],
    head: RequestHead<'r>,
    max_length: usize,
) -> Result<Option<AccessToken<'r>>, Rejection> {
    let malformed = |malformed: MalformedCredentials| Rejection::invalid_request(malformed.0);
    let mut found = authorization(head.headers).map_err(malformed)?;
    for source in sources {
        let token = source.token(head).map_err(malformed)?;
        if token.is_some() && found.is_some() {
            return Err(Rejection::invalid_request("more than one access token"));
        }
        let scheme = Scheme::Bearer;
        found = token.map(|it| AccessToken { scheme, value: it.as_bytes() }).or(found);
    }
    if let Some(token) = found {
        check(token.value, max_length).map_err(Rejection::invalid_request)?;
    }
    Ok(found)
}

/// Which bytes a token is made of, but for its padding.
const LEGAL: [bool; 256] = {
    let mut legal = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        legal[byte as usize] =
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/');
        byte += 1;
    }
    legal
};

/// RFC 6750 §2.1: `b64token = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`.
#[inline]
fn check(token: &[u8], max_length: usize) -> Result<(), &'static str> {
    if token.len() > max_length {
        return Err("the access token is too long");
    }
    let padding = token.iter().rev().take_while(|byte| **byte == b'=').count();
    let value = &token[..token.len() - padding];
    if value.is_empty() {
        return Err("the access token is empty");
    }
    // To the end whatever it finds, which takes less time than to look at each answer.
    let legal = |bytes: &[u8]| bytes.iter().fold(true, |all, byte| all & LEGAL[usize::from(*byte)]);
    let (chunks, rest) = value.as_chunks::<8>();
    if chunks.iter().fold(legal(rest), |all, chunk| all & legal(chunk)) {
        Ok(())
    } else {
        Err("the access token has an illegal character")
    }
}

/// The DPoP proof of a request, which must have exactly one (RFC 9449 §4.3).
#[cfg(feature = "dpop")]
pub(crate) fn proof(headers: &HeaderMap) -> Result<&str, Rejection> {
    let mut values = headers.get_all(&DPOP).iter();
    match (values.next(), values.next()) {
        (None, _) => Err(Rejection::invalid_dpop_proof("a DPoP proof is required")),
        (_, Some(_)) => Err(Rejection::invalid_dpop_proof("more than one DPoP proof")),
        (Some(proof), None) => proof
            .to_str()
            .map_err(|_| Rejection::invalid_dpop_proof("the DPoP proof is no compact JWS")),
    }
}

/// Keeps the headers that hold nothing but a token from being logged, or from going further.
#[inline]
pub(crate) fn conceal(
    sources: &[Box<dyn TokenSource>],
    proofs: bool,
    headers: &mut HeaderMap,
    strip: bool,
) {
    // The usual way: the token is in the Authorization header, and no header has several values.
    let single = headers.len() == headers.keys_len();
    if !single || strip || proofs || !sources.is_empty() {
        return conceal_all(sources, proofs, headers, strip);
    }
    if let Some(value) = headers.get_mut(AUTHORIZATION) {
        value.set_sensitive(true);
    }
}

fn conceal_all(
    sources: &[Box<dyn TokenSource>],
    proofs: bool,
    headers: &mut HeaderMap,
    strip: bool,
) {
    let single = headers.len() == headers.keys_len();
    let proof = proofs.then_some(&DPOP);
    let others = sources.iter().filter_map(|source| source.header());
    for name in [&AUTHORIZATION].into_iter().chain(proof).chain(others) {
        if strip {
            headers.remove(name);
        } else if single {
            headers.get_mut(name).into_iter().for_each(|value| value.set_sensitive(true));
        } else if let Entry::Occupied(mut values) = headers.entry(name) {
            values.iter_mut().for_each(|value| value.set_sensitive(true));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, StatusCode};

    fn with(values: &[&[u8]]) -> Result<Option<String>, StatusCode> {
        let mut request = Request::new(());
        for value in values {
            request.headers_mut().append(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
        }
        find(&[], RequestHead::of(&request), 64)
            .map(|found| found.map(|token| token.text().to_owned()))
            .map_err(|rejection| rejection.status())
    }

    #[test]
    fn the_scheme_is_bearer_in_any_case_and_the_token_is_token68() {
        for scheme in ["Bearer ", "Bearer   ", "bearer ", "BEARER   "] {
            let value = format!("{scheme}a-._~+/1==").into_bytes();
            let value = value.as_slice();
            assert_eq!(with(&[value]), Ok(Some("a-._~+/1==".into())));
        }
    }

    #[test]
    fn no_credentials_or_those_of_another_scheme_are_none() {
        assert_eq!(with(&[]), Ok(None));
        for value in [&b"Basic YWxpY2U6cHc="[..], b"Bearertoken", b"Bear er", b"\xff\xff x"] {
            assert_eq!(with(&[value]), Ok(None));
        }
    }

    #[test]
    fn what_is_meant_for_us_but_malformed_is_a_bad_request() {
        let long = [b"Bearer ".as_slice(), &[b'a'; 65]].concat();
        let malformed: [&[u8]; 13] = [
            b"",
            b"Bearer",
            b"Bearer ",
            b"Bearer =",
            b"Bearer a b",
            b"Bearer a,b",
            b"Bearer a, Bearer b",
            b"Bearer a=b",
            b"Bearer \xc3\xa9",
            b"Bearer \xff",
            b"Bearer\ta",
            b"Bearer \"a\"",
            &long,
        ];
        for value in malformed {
            // A tab is no separator, so that value is of another scheme.
            let expected =
                if value == b"Bearer\ta" { Ok(None) } else { Err(StatusCode::BAD_REQUEST) };
            assert_eq!(with(&[value]), expected, "{}", value.escape_ascii());
        }
        assert_eq!(with(&[b"Bearer a", b"Bearer a"]), Err(StatusCode::BAD_REQUEST));
        assert_eq!(with(&[b"Bearer a", b"Basic a"]), Err(StatusCode::BAD_REQUEST));
    }

    #[test]
    fn a_token_in_two_places_is_a_bad_request() {
        let sources: [Box<dyn TokenSource>; 1] = [Box::new(CookieToken::new("token"))];
        let mut request = Request::new(());
        request.headers_mut().insert(COOKIE, HeaderValue::from_static("a=b; token=xyz; c=d"));
        let found = find(&sources, RequestHead::of(&request), 64).unwrap();
        assert!(matches!(found, Some(AccessToken { scheme: Scheme::Bearer, value: b"xyz" })));
        request.headers_mut().insert(AUTHORIZATION, HeaderValue::from_static("Bearer abc"));
        assert!(find(&sources, RequestHead::of(&request), 64).is_err());
    }

    #[test]
    fn a_cookie_beside_the_token_may_hold_anything() {
        let sources: [Box<dyn TokenSource>; 1] = [Box::new(CookieToken::new("token"))];
        let mut request = Request::new(());
        let mut find = |cookies: &[u8]| {
            request.headers_mut().insert(COOKIE, HeaderValue::from_bytes(cookies).unwrap());
            let found = find(&sources, RequestHead::of(&request), 64);
            found
                .map(|found| found.map(|token| token.text().to_owned()))
                .map_err(|rejection| rejection.status())
        };
        assert_eq!(find(b"city=Z\xfcrich; token=xyz"), Ok(Some("xyz".into())));
        assert_eq!(find(b"token2=a; mytoken=b; token = c"), Ok(None));
        assert_eq!(find(b"a=b; token=x\xfcz"), Err(StatusCode::BAD_REQUEST));
    }

    #[test]
    fn a_head_does_not_show_its_secrets() {
        let mut request = Request::get("/path?access_token=s3cret").body(()).unwrap();
        request.headers_mut().insert(AUTHORIZATION, HeaderValue::from_static("Bearer s3cret"));
        let shown = format!("{:?}", RequestHead::of(&request));
        assert!(shown.contains("/path") && !shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn a_cookie_that_is_there_twice_is_a_bad_request() {
        let sources: [Box<dyn TokenSource>; 1] = [Box::new(CookieToken::new("token"))];
        let mut request = Request::new(());
        request.headers_mut().append(COOKIE, HeaderValue::from_static("token=a"));
        request.headers_mut().append(COOKIE, HeaderValue::from_static("token=b"));
        assert!(find(&sources, RequestHead::of(&request), 64).is_err());
    }
}
