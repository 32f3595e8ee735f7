//! The client of the API.

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
    AuthleteBuilder, ConfigError, Error, ErrorKind, ErrorResponse, IntrospectionRequest,
    IntrospectionResponse, RevocationRequest, RevocationResponse, TokenCreateRequest,
    TokenCreateResponse, TokenFailRequest, TokenFailResponse, TokenIssueRequest,
    TokenIssueResponse, TokenListRequest, TokenListResponse, TokenRequest, TokenResponse,
    TokenRevokeRequest, TokenRevokeResponse, TokenUpdateRequest, TokenUpdateResponse,
    error::BoxError,
    redact::SentValues,
    transport::{BoxTransport, RequestBody},
};

type CollectFuture = Pin<Box<dyn Future<Output = Result<Collected<Bytes>, BoxError>> + Send>>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A client of Authlete's token APIs. Cloning is cheap, and clones share their connections.
///
/// A call fails with an [`Error`] if there is no response within the deadline, if Authlete refuses the call,
/// or if the response is not as documented, for example with an `action` that this version does not know.
/// A response whose `action` is not `OK` is no error.
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
pub struct Authlete(Arc<ClientParts>);

pub(super) struct ClientParts {
    /// The URL to which the paths of APIs are appended.
    pub(crate) root: String,
    pub(crate) credentials: HeaderValue,
    pub(crate) user_agent: HeaderValue,
    pub(crate) deadline: Duration,
    pub(crate) max_response_size: usize,
    pub(crate) service: [u8; 32],
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
    /// Settings of a client.
    pub fn builder() -> AuthleteBuilder {
        AuthleteBuilder::default()
    }

    /// A client that is configured by environment variables:
    ///
    /// | variable | meaning |
    /// |---|---|
    /// | `AUTHLETE_BASE_URL` | the base URL of Authlete |
    /// | `AUTHLETE_API_VERSION` | `V3` (default) or `V2` |
    /// | `AUTHLETE_SERVICE_APIKEY` | the service ID (V3) or service API key (V2) |
    /// | `AUTHLETE_SERVICE_ACCESSTOKEN` | the service access token (V3) |
    /// | `AUTHLETE_SERVICE_APISECRET` | the service API secret (V2) |
    ///
    /// # Errors
    /// If variables are missing or wrong. The error names all of them, each with a remedy.
    pub fn from_env() -> Result<Self, ConfigError> {
        AuthleteBuilder::from_vars(|name| std::env::var(name).ok()).build()
    }

    pub(super) fn new(parts: ClientParts) -> Self {
        Self(Arc::new(parts))
    }

    /// A digest of base URL and service ID. It stays the same when credentials change.
    pub(crate) fn service(&self) -> [u8; 32] {
        self.0.service
    }

    /// The longest time that a call can take.
    #[cfg(feature = "session")]
    pub(crate) fn deadline(&self) -> Duration {
        self.0.deadline
    }

    calls! {
        /// Validates an access token, and returns the facts about it.
        introspection(IntrospectionRequest) -> IntrospectionResponse, "/auth/introspection";
        /// Processes a client's token request (RFC 6749 §3.2).
        token(TokenRequest) -> TokenResponse, "/auth/token";
        /// Issues the tokens of a token request that Authlete left to the authorization server.
        token_issue(TokenIssueRequest) -> TokenIssueResponse, "/auth/token/issue";
        /// Refuses a token request that Authlete left to the authorization server.
        token_fail(TokenFailRequest) -> TokenFailResponse, "/auth/token/fail";
        /// Creates an access token.
        token_create(TokenCreateRequest) -> TokenCreateResponse, "/auth/token/create";
        /// Updates an access token.
        token_update(TokenUpdateRequest) -> TokenUpdateResponse, "/auth/token/update";
        /// Revokes tokens.
        token_revoke(TokenRevokeRequest) -> TokenRevokeResponse, "/auth/token/revoke";
        /// Processes a client's revocation request (RFC 7009).
        revocation(RevocationRequest) -> RevocationResponse, "/auth/revocation";
    }

    /// Calls `/auth/token/delete`. Deletes an access token, identified by its value or hash.
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
        let query = serde_html_form::to_string(request).map_err(|_| invalid_request(api))?;
        let body = self.send(api, &format!("?{query}"), Method::GET, Bytes::new()).await?;
        decode(api, &body)
    }

    async fn post<Q, A>(&self, api: &'static str, request: &Q) -> Result<A, Error>
    where
        Q: Serialize,
        A: DeserializeOwned,
    {
        let body = serde_json::to_vec(request).map_err(|_| invalid_request(api))?;
        let response = self.send(api, "", Method::POST, body.into()).await?;
        decode(api, &response)
    }

    /// Returns the body of a successful response. `rest` is the end of the URL. It can contain a token, so it
    /// is not part of errors.
    async fn send(
        &self,
        api: &'static str,
        rest: &str,
        method: Method,
        body: Bytes,
    ) -> Result<Bytes, Error> {
        let ClientParts { root, credentials, user_agent, deadline, .. } = &*self.0;
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{root}{api}{rest}"))
            .header(AUTHORIZATION, credentials)
            .header(USER_AGENT, user_agent)
            .header(ACCEPT, JSON);
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, JSON);
        }
        // Errors of servers and transports can repeat what was sent.
        let sent = || SentValues::new(&body, rest, credentials);
        let request =
            request.body(RequestBody::new(body.clone())).map_err(|_| invalid_request(api))?;
        let response = tokio::time::timeout(*deadline, self.exchange(request, &sent)).await;
        let response = response.unwrap_or(Err(ErrorKind::Deadline(*deadline)));
        response.map_err(|kind| Error { api, kind })
    }

    async fn exchange(
        &self,
        request: Request<RequestBody>,
        sent: &(impl Fn() -> SentValues + Sync),
    ) -> Result<Bytes, ErrorKind> {
        let failed = |error| match error_of(error, self.0.max_response_size) {
            ErrorKind::Connection(error) => ErrorKind::Connection(sent().redact_error(error)),
            kind => kind,
        };
        let transport = self.0.transport.clone();
        let response = transport.oneshot(request).await.map_err(failed)?;
        let (head, body) = response.into_parts();
        let limit = self.0.max_response_size;
        // Boxed, since rustc cannot prove that the future of a boxed body is `Send`.
        let body: CollectFuture = Box::pin(Limited::new(body, limit).collect());
        let body = body.await.map(Collected::to_bytes);
        if head.status.is_success() {
            return body.map_err(failed);
        }
        // The status is sufficient if the body cannot be read.
        let body = body.unwrap_or_default();
        Err(ErrorKind::Refused(ErrorResponse::new(head.status, &head.headers, &body, &sent())))
    }
}

impl fmt::Debug for Authlete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authlete").field("deadline", &self.0.deadline).finish_non_exhaustive()
    }
}

fn invalid_request(api: &'static str) -> Error {
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
    // serde would deserialize structs from arrays too, by position.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(undecodable(ErrorKind::no_object()));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let document = serde_path_to_error::deserialize(&mut json);
    let document = document
        .map_err(|error| ErrorKind::undecodable(error.path().to_string(), error.inner()))
        .map_err(undecodable)?;
    json.end().map_err(|error| undecodable(ErrorKind::undecodable(".".into(), &error)))?;
    Ok(document)
}
