//! HTTP message signatures (RFC 9421), which Authlete verifies and somebody else makes.

use std::{fmt, sync::Arc};

use http::{
    Extensions, HeaderMap, Method, Response, Version,
    header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING},
    response,
};
use tower::BoxError;

use super::Origin;
use crate::{
    api::{ConfigError, IntrospectionRequest, Pair},
    credentials::RequestHead,
    token::TokenInfo,
};

type Signs = Arc<dyn Fn(&TokenInfo, &mut response::Parts) -> Result<(), BoxError> + Send + Sync>;

/// A response could not be signed; the client gets a 500 instead.
#[derive(Debug, thiserror::Error)]
#[error("the response could not be signed")]
pub struct SignatureError(#[source] BoxError);

/// Has the signatures of requests verified by Authlete, and those of responses made (FAPI 2.0 Message
/// Signing).
///
/// Each request's headers, URI and whether it has a body are sent to Authlete with its token. Such a
/// request is never answered from the cache.
///
/// Tokens whose responses have to be signed (`responseSigningRequired`) are refused with 500 and an error
/// in the log if there is no [`signer`](Self::signer), with or without this setting. What issues a token
/// does not tell of it: with a [`TokenEndpoint`](crate::endpoint::TokenEndpoint) beside the layer, its
/// tokens are known without it until they are introspected, unless this setting is there.
///
/// ```
/// use tower_authlete::{AuthLayer, MessageSignatures};
///
/// # fn sign(response: &mut http::response::Parts) -> Result<(), std::io::Error> { Ok(()) }
/// # fn example(authlete: tower_authlete::Authlete) -> Result<(), tower_authlete::ConfigError> {
/// let signatures = MessageSignatures::at("https://api.example.com")
///     .signer(|_token, response| Ok(sign(response)?));
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
    /// At this public origin, which `@target-uri` is made of.
    #[must_use]
    pub fn at(origin: impl Into<Origin>) -> Self {
        Self { origin: origin.into(), signs: None }
    }

    /// Signs the responses for tokens that take it: adds `Signature` and `Signature-Input`. The body is
    /// not at hand; a layer inside can have added `Content-Digest`.
    #[must_use]
    pub fn signer(
        self,
        signs: impl Fn(&TokenInfo, &mut response::Parts) -> Result<(), BoxError> + Send + Sync + 'static,
    ) -> Self {
        Self { signs: Some(Arc::new(signs)), ..self }
    }

    pub(crate) fn validate(&mut self) -> Result<(), ConfigError> {
        self.origin.validate("message_signatures.at")
    }

    pub(crate) fn has_signer(&self) -> bool {
        self.signs.is_some()
    }

    /// Tells Authlete of a request.
    pub(crate) fn describe(
        &self,
        head: RequestHead<'_>,
        version: Version,
        extensions: &Extensions,
        request: IntrospectionRequest,
    ) -> Result<IntrospectionRequest, &'static str> {
        let url = self.origin.url(head, extensions)?;
        let query = head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let headers = head.headers.iter().map(|(name, value)| {
            Pair::from((name.as_str(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        });
        Ok(request
            .htm(head.method.as_str())
            .headers(headers)
            .target_uri(format!("{url}{query}"))
            .request_body_contained(has_body(head.method, head.headers, version)))
    }

    /// Signs a response, if there is a signer.
    pub(crate) fn sign<B>(
        &self,
        token: &TokenInfo,
        response: Response<B>,
    ) -> Result<Response<B>, SignatureError> {
        let Some(signs) = &self.signs else { return Ok(response) };
        let (mut head, body) = response.into_parts();
        signs(token, &mut head).map_err(SignatureError)?;
        Ok(Response::from_parts(head, body))
    }
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
