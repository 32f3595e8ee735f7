//! The client: a typed call for each API.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT},
};
use http_body_util::{BodyExt, Collected, LengthLimitError, Limited};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Serialize, de::DeserializeOwned};
use tower::ServiceExt;

use super::{
    AuthleteBuilder, ConfigError, Error, ErrorKind, IntrospectionRequest, IntrospectionResponse,
    Refusal, RevocationRequest, RevocationResponse, TokenCreateRequest, TokenCreateResponse,
    TokenFailRequest, TokenFailResponse, TokenIssueRequest, TokenIssueResponse, TokenListRequest,
    TokenListResponse, TokenRequest, TokenResponse, TokenRevokeRequest, TokenRevokeResponse,
    TokenUpdateRequest, TokenUpdateResponse,
    error::BoxError,
    redact::Sent,
    transport::{BoxTransport, RequestBody},
};

type Collecting = Pin<Box<dyn Future<Output = Result<Collected<Bytes>, BoxError>> + Send>>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A client of Authlete's token APIs. Cloning is cheap, and clones share their connections.
///
/// Every call fails with an [`Error`] if Authlete could not be asked, refused the call, or answered
/// something else than is documented; in particular an `action` that this version does not know. An
/// answer whose `action` is not `OK` is no error of the call.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_authlete::{Authlete, api::{IntrospectionAction, IntrospectionRequest}};
///
/// let authlete = Authlete::from_env()?;
/// let request = IntrospectionRequest::new().token("SlAV32hkKG").scopes(["read"]);
/// let response = authlete.introspection(&request).await?;
/// assert_eq!(response.action, IntrospectionAction::Ok);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Authlete(Arc<Parts>);

pub(crate) struct Parts {
    /// What the paths of APIs are appended to.
    pub(crate) root: String,
    pub(crate) credentials: HeaderValue,
    pub(crate) user_agent: HeaderValue,
    pub(crate) deadline: Duration,
    pub(crate) max_response_size: usize,
    pub(crate) identity: [u8; 32],
    pub(crate) transport: BoxTransport,
}

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($request:ty) -> $response:ty, $path:literal;)*) => {$(
        #[doc = concat!("Calls `", $path, "`.")]
        $(#[$doc])*
        ///
        /// # Errors
        /// See [`Authlete`].
        pub async fn $name(&self, request: &$request) -> Result<$response, Error> {
            self.post($path, request).await
        }
    )*};
}

impl Authlete {
    /// Settings for a client.
    pub fn builder() -> AuthleteBuilder {
        AuthleteBuilder::default()
    }

    /// A client that is set up by environment variables:
    ///
    /// | variable | |
    /// |---|---|
    /// | `AUTHLETE_BASE_URL` | where Authlete is |
    /// | `AUTHLETE_API_VERSION` | `V3` (default) or `V2` |
    /// | `AUTHLETE_SERVICE_APIKEY` | the service ID (V3) or service API key (V2) |
    /// | `AUTHLETE_SERVICE_ACCESSTOKEN` | the service access token (V3) |
    /// | `AUTHLETE_SERVICE_APISECRET` | the service API secret (V2) |
    ///
    /// # Errors
    /// If a variable is missing or wrong. The error tells which, and what to do.
    pub fn from_env() -> Result<Self, ConfigError> {
        AuthleteBuilder::from_vars(|name| std::env::var(name).ok())?.build()
    }

    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Names the service and our credentials there, without telling them: two clients share an
    /// identity only if they would get the same answers.
    pub(crate) fn identity(&self) -> [u8; 32] {
        self.0.identity
    }

    /// How long a call takes at most.
    #[cfg(feature = "session")]
    pub(crate) fn deadline(&self) -> Duration {
        self.0.deadline
    }

    calls! {
        /// Tells whether an access token is good, and what is known of it.
        introspection(IntrospectionRequest) -> IntrospectionResponse, "/auth/introspection";
        /// Tells what to do about a client's token request.
        token(TokenRequest) -> TokenResponse, "/auth/token";
        /// Issues the tokens of a token request that needed a decision.
        token_issue(TokenIssueRequest) -> TokenIssueResponse, "/auth/token/issue";
        /// Refuses a token request that needed a decision.
        token_fail(TokenFailRequest) -> TokenFailResponse, "/auth/token/fail";
        /// Makes an access token.
        token_create(TokenCreateRequest) -> TokenCreateResponse, "/auth/token/create";
        /// Changes an access token.
        token_update(TokenUpdateRequest) -> TokenUpdateResponse, "/auth/token/update";
        /// Revokes tokens.
        token_revoke(TokenRevokeRequest) -> TokenRevokeResponse, "/auth/token/revoke";
        /// Tells what to do about a client's revocation request (RFC 7009).
        revocation(RevocationRequest) -> RevocationResponse, "/auth/revocation";
    }

    /// Calls `/auth/token/delete`. Deletes an access token, named by its value or hash.
    ///
    /// # Errors
    /// See [`Authlete`].
    pub async fn token_delete(&self, identifier: &str) -> Result<(), Error> {
        let api = "/auth/token/delete";
        let identifier = utf8_percent_encode(identifier, NON_ALPHANUMERIC);
        let rest = format!("/{identifier}");
        self.send(api, &rest, Method::DELETE, Bytes::new()).await.map(|_| ())
    }

    /// Calls `/auth/token/get/list`. Lists tokens.
    ///
    /// # Errors
    /// See [`Authlete`].
    pub async fn token_list(&self, request: &TokenListRequest) -> Result<TokenListResponse, Error> {
        let api = "/auth/token/get/list";
        let query = serde_html_form::to_string(request).map_err(|_| unsendable(api))?;
        let body = self.send(api, &format!("?{query}"), Method::GET, Bytes::new()).await?;
        decode(api, &body)
    }

    async fn post<Q, A>(&self, api: &'static str, request: &Q) -> Result<A, Error>
    where
        Q: Serialize,
        A: DeserializeOwned,
    {
        let body = serde_json::to_vec(request).map_err(|_| unsendable(api))?;
        let answer = self.send(api, "", Method::POST, body.into()).await?;
        decode(api, &answer)
    }

    /// The body of a successful answer, within the deadline. `rest` is the end of the URL, which
    /// can hold a token and so never gets into an error.
    async fn send(
        &self,
        api: &'static str,
        rest: &str,
        method: Method,
        body: Bytes,
    ) -> Result<Bytes, Error> {
        let Parts { root, credentials, user_agent, deadline, .. } = &*self.0;
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{root}{api}{rest}"))
            .header(AUTHORIZATION, credentials)
            .header(USER_AGENT, user_agent)
            .header(ACCEPT, JSON);
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, JSON);
        }
        // A server and a transport may say what they were told.
        let sent = || Sent::new(&body, rest, credentials);
        let request = request.body(RequestBody::new(body.clone())).map_err(|_| unsendable(api))?;
        let answer = tokio::time::timeout(*deadline, self.exchange(request, &sent)).await;
        let answer = answer.unwrap_or(Err(ErrorKind::Deadline(*deadline)));
        answer.map_err(|kind| Error { api, kind })
    }

    async fn exchange(
        &self,
        request: Request<RequestBody>,
        sent: &(impl Fn() -> Sent + Sync),
    ) -> Result<Bytes, ErrorKind> {
        let broken = |error| match error_of(error, self.0.max_response_size) {
            ErrorKind::Connection(error) => ErrorKind::Connection(sent().redact_error(error)),
            kind => kind,
        };
        let transport = self.0.transport.clone();
        let response = transport.oneshot(request).await.map_err(broken)?;
        let (head, body) = response.into_parts();
        let limit = self.0.max_response_size;
        // Boxed, since the compiler cannot see yet that the future of a boxed body is `Send`.
        let body: Collecting = Box::pin(Limited::new(body, limit).collect());
        let body = body.await.map(Collected::to_bytes);
        if head.status.is_success() {
            return body.map_err(broken);
        }
        // Its status tells enough, even if its body cannot be read.
        let body = body.unwrap_or_default();
        Err(ErrorKind::Refused(Refusal::new(head.status, &head.headers, &body, &sent())))
    }
}

impl fmt::Debug for Authlete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authlete").field("deadline", &self.0.deadline).finish_non_exhaustive()
    }
}

fn unsendable(api: &'static str) -> Error {
    Error { api, kind: ErrorKind::Request("it does not make a legal HTTP request") }
}

fn error_of(error: BoxError, limit: usize) -> ErrorKind {
    if error.is::<LengthLimitError>() {
        return ErrorKind::TooLarge(limit);
    }
    ErrorKind::Connection(error)
}

fn decode<A: DeserializeOwned>(api: &'static str, body: &[u8]) -> Result<A, Error> {
    let undecodable = |kind| Error { api, kind };
    // Structs would also be read from arrays, by position.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(undecodable(ErrorKind::no_object()));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let answer = serde_path_to_error::deserialize(&mut json);
    let answer = answer
        .map_err(|error| ErrorKind::undecodable(error.path().to_string(), error.inner()))
        .map_err(undecodable)?;
    json.end().map_err(|error| undecodable(ErrorKind::undecodable(".".into(), &error)))?;
    Ok(answer)
}
