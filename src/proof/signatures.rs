//! HTTP message signatures (RFC 9421), which Authlete verifies and somebody else makes.

use std::{fmt, sync::Arc};

use http::{
    Extensions, HeaderMap, HeaderName, Method, Response, Uri, Version,
    header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING},
    response,
};
use tower::BoxError;

use super::origin::{Origin, Unplaced};
use crate::{api::Problems, credentials::RequestHead, token::TokenInfo};

const SIGNATURE: HeaderName = HeaderName::from_static("signature");
const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");

type Signs = Arc<
    dyn Fn(&TokenInfo, RequestHead<'_>, &mut response::Parts) -> Result<(), BoxError> + Send + Sync,
>;

/// A response could not be signed. The client gets a 500 instead.
#[derive(Debug, thiserror::Error)]
#[error("the response could not be signed")]
pub struct SignatureError(#[source] BoxError);

/// Message signatures (RFC 9421, FAPI 2.0 Message Signing): those of requests are verified by Authlete, those of
/// responses are made by a function of yours.
///
/// For each request, its headers, its URI and whether it has a body are sent to Authlete with the token. Such
/// a request is never answered from the cache.
///
/// Authlete takes headers as text. A header with a value that is not UTF-8 is left out. If a signature covers it,
/// the request is refused with 400, since the signature cannot be verified.
///
/// A token whose responses must be signed (`responseSigningRequired`) is refused with 500 and an error in the
/// log if there is no [`signer`](Self::signer), with or without this setting. The response that issues a token
/// does not contain that fact: tokens of a [`TokenEndpoint`](crate::endpoint::TokenEndpoint) beside the layer are
/// cached without it until they are introspected, unless this setting is there.
///
/// ```
/// use tower_authlete::{AuthLayer, proof::MessageSignatures};
///
/// # fn sign(base: &[String], response: &mut http::response::Parts) -> Result<(), std::io::Error> { Ok(()) }
/// # fn example(authlete: tower_authlete::Authlete) -> Result<(), tower_authlete::ConfigError> {
/// let signatures = MessageSignatures::for_origin("https://api.example.com")
///     .signer(|_token, request, response| {
///         let method = format!("\"@method\";req: {}", request.method);
///         let target_uri = format!("\"@target-uri\";req: {}", request.uri);
///         Ok(sign(&[method, target_uri], response)?)
///     });
/// let auth = AuthLayer::builder(authlete).message_signatures(signatures).build()?;
/// # let _ = auth;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MessageSignatures {
    origin: Origin,
    signs: Option<Signs>,
}

impl MessageSignatures {
    /// For this public origin, of which `@target-uri` is made.
    #[must_use]
    pub fn for_origin(origin: impl Into<Origin>) -> Self {
        Self { origin: origin.into(), signs: None }
    }

    /// Signs the responses for tokens that require it: adds `Signature` and `Signature-Input`. The function does
    /// not see the body; a layer inside can add `Content-Digest`.
    ///
    /// The request is given for components with `req` (RFC 9421 §2.4): its method, its headers as the client
    /// sent them, credentials included, and its whole URI (`@target-uri`), made of the origin that is set here.
    #[must_use]
    pub fn signer(
        self,
        signs: impl Fn(&TokenInfo, RequestHead<'_>, &mut response::Parts) -> Result<(), BoxError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self { signs: Some(Arc::new(signs)), ..self }
    }

    pub(crate) fn validate(&mut self, problems: &mut Problems) {
        self.origin.validate("message_signatures.for_origin", problems);
    }

    pub(crate) fn has_signer(&self) -> bool {
        self.signs.is_some()
    }

    /// What the signature of a request is verified by.
    pub(crate) fn input<'r>(
        &self,
        head: RequestHead<'r>,
        extensions: &Extensions,
    ) -> Result<SignatureInput<'r>, Unplaced> {
        Ok(SignatureInput {
            target_uri: self.origin.target_uri(head, extensions)?,
            method: head.method,
            headers: as_text(head.headers)?,
            has_body: has_body(head.method, head.headers, head.version),
        })
    }

    /// The head of a request, for the signer of its response.
    pub(crate) fn keep(
        &self,
        head: RequestHead<'_>,
        extensions: &Extensions,
    ) -> Option<SignedRequest> {
        let uri = self.origin.target_uri(head, extensions).ok()?;
        Some(SignedRequest {
            method: head.method.clone(),
            uri: uri.parse().ok()?,
            version: head.version,
            headers: head.headers.clone(),
        })
    }

    /// Signs the response to a request, if there is a signer.
    pub(crate) fn sign<B>(
        &self,
        token: &TokenInfo,
        request: Option<&SignedRequest>,
        response: Response<B>,
    ) -> Result<Response<B>, SignatureError> {
        let Some(signs) = &self.signs else { return Ok(response) };
        let request = request.ok_or_else(|| SignatureError("its request is not known".into()))?;
        let (mut head, body) = response.into_parts();
        signs(token, request.head(), &mut head).map_err(SignatureError)?;
        Ok(Response::from_parts(head, body))
    }
}

/// What Authlete verifies a request's signature by (RFC 9421 §3.2).
pub(crate) struct SignatureInput<'r> {
    pub(crate) method: &'r Method,
    /// The request's URI as its client knows it (`@target-uri`).
    pub(crate) target_uri: String,
    pub(crate) headers: Vec<(&'r str, &'r str)>,
    pub(crate) has_body: bool,
}

/// The head of a request whose response is to be signed.
pub(crate) struct SignedRequest {
    method: Method,
    /// As the client knows it.
    uri: Uri,
    version: Version,
    headers: HeaderMap,
}

impl SignedRequest {
    fn head(&self) -> RequestHead<'_> {
        let Self { method, uri, version, headers } = self;
        RequestHead { method, uri, version: *version, headers }
    }
}

/// The headers of which all values are UTF-8, if a signature over them can be verified.
fn as_text(headers: &HeaderMap) -> Result<Vec<(&str, &str)>, Unplaced> {
    let mut pairs = Vec::with_capacity(headers.len());
    for name in headers.keys() {
        let values = headers.get_all(name).iter().map(|value| str::from_utf8(value.as_bytes()));
        match values.collect::<Result<Vec<_>, _>>() {
            Ok(values) => pairs.extend(values.into_iter().map(|value| (name.as_str(), value))),
            Err(_) if is_covered(name, headers) => {
                let problem = "a header that is of a message signature is not UTF-8";
                return Err(Unplaced::Malformed(problem));
            }
            Err(_) => {}
        }
    }
    Ok(pairs)
}

/// Whether a header is of a message's signatures, or one of them covers it (RFC 9421 §4.1): where it is
/// named in quotes.
fn is_covered(name: &HeaderName, headers: &HeaderMap) -> bool {
    let quoted = format!("\"{name}\"");
    let mut inputs = headers.get_all(SIGNATURE_INPUT).iter();
    [SIGNATURE, SIGNATURE_INPUT].contains(name)
        || inputs.any(|it| it.as_bytes().windows(quoted.len()).any(|it| it == quoted.as_bytes()))
}

/// Whether a request has a body, by its head. HTTP/2 need not tell a length: then it is taken to have one
/// if its method usually does.
fn has_body(method: &Method, headers: &HeaderMap, version: Version) -> bool {
    let bodiless = [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE].contains(method);
    match headers.get(CONTENT_LENGTH) {
        Some(length) => length != "0",
        None if version > Version::HTTP_11 => !bodiless || headers.contains_key(CONTENT_TYPE),
        None => headers.contains_key(TRANSFER_ENCODING),
    }
}

impl fmt::Debug for MessageSignatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageSignatures")
            .field("origin", &self.origin)
            .field("signer", &self.has_signer())
            .finish_non_exhaustive()
    }
}
