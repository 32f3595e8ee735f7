//! The token endpoint.

use std::{fmt, pin::Pin, sync::Arc};

use http::{HeaderName, StatusCode, Uri};
use serde_json::{Value, json};

use super::{
    client_request::ClientRequest,
    decision::{DecidedCall, Decision},
    invalidation::{InvalidateOnDrop, may_have_taken_effect},
    limits::Limits,
    response::{EndpointResponse, call_failed, error, json_response},
    serve::{Endpoint, EndpointContext, EndpointFuture, EndpointSettings, impl_service, serve},
};
use crate::{
    api::{
        Authlete, ConfigError, Error, Problems, Secret, TokenAction, TokenCreateAction,
        TokenCreateRequest, TokenCreateResponse, TokenFailAction, TokenFailReason,
        TokenFailRequest, TokenIssueAction, TokenIssueRequest, TokenRequest, TokenResponse,
    },
    layer::AuthHandle,
    observe::limited,
    proof::ClientCertificates,
    store::PendingIssue,
    token::TokenInfo,
};

const DPOP: HeaderName = HeaderName::from_static("dpop");
const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

type DecisionFuture = Pin<Box<dyn Future<Output = Decision> + Send>>;
type DecideFn = Box<dyn Fn(TokenResponse) -> DecisionFuture + Send + Sync>;

/// A token endpoint (RFC 6749 §3.2).
///
/// Each request calls `/auth/token`. If Authlete leaves a request to this server (`PASSWORD`,
/// `TOKEN_EXCHANGE` or `JWT_BEARER`), [`decide`](TokenEndpointBuilder::decide) decides. Without it, the
/// response is `unsupported_grant_type`.
///
/// # The layer's cache
///
/// An issued token is stored in the cache, so that its first use calls nobody, if it is certainly not bound
/// to a key or certificate: its type is `Bearer`, the request had neither a DPoP proof nor a client
/// certificate, and it was not issued by a refresh token, since such a token can inherit the binding of the
/// one before it.
///
/// The access token that a refresh replaces is invalidated, if it was issued here. This also holds if
/// Authlete was asked to refresh and its response is missing. If Authlete refuses the client, nothing is
/// invalidated.
///
/// The layer remembers the access tokens of 100 000 refresh tokens. A replaced access token of any other
/// refresh token is refused within [`max_age`](crate::AuthLayerBuilder::max_age).
///
/// # Failures
///
/// A call to Authlete that fails is 503, or 500 if this server's own configuration is wrong; it is never
/// reported as an error of the client.
#[derive(Clone)]
pub struct TokenEndpoint(Arc<TokenHandler>);

struct TokenHandler {
    context: EndpointContext,
    url: Option<String>,
    decide: Option<DecideFn>,
}

impl TokenEndpoint {
    /// An endpoint with default settings, which stores and invalidates in the cache of the handle's layer.
    #[must_use]
    pub fn new(authlete: Authlete, handle: &AuthHandle) -> Self {
        let context = EndpointSettings::new(authlete, handle).build_validated();
        Self(Arc::new(TokenHandler { context, url: None, decide: None }))
    }

    /// Settings of an endpoint, which stores and invalidates in the cache of the handle's layer.
    pub fn builder(authlete: Authlete, handle: &AuthHandle) -> TokenEndpointBuilder {
        let settings = EndpointSettings::new(authlete, handle);
        TokenEndpointBuilder { settings, url: None, decide: None }
    }
}

/// Settings of a [`TokenEndpoint`].
#[must_use = "settings do nothing until `build` is called"]
pub struct TokenEndpointBuilder {
    settings: EndpointSettings,
    url: Option<String>,
    decide: Option<DecideFn>,
}

impl TokenEndpointBuilder {
    /// The endpoint's public URL, which the `htu` of DPoP proofs must equal (RFC 9449 §4.3). Default: the
    /// URL in the settings of the Authlete service.
    pub fn url(self, url: impl Into<String>) -> Self {
        Self { url: Some(url.into()), ..self }
    }

    /// Decides about requests that Authlete leaves to this server. The argument is the response of
    /// `/auth/token`. The time it takes counts for the [deadline](Limits::deadline), at which its future
    /// is dropped. Default: `unsupported_grant_type`.
    pub fn decide<F, D>(self, decide: F) -> Self
    where
        F: Fn(TokenResponse) -> D + Send + Sync + 'static,
        D: Future<Output = Decision> + Send + 'static,
    {
        let decide: DecideFn = Box::new(move |request| Box::pin(decide(request)));
        Self { decide: Some(decide), ..self }
    }

    /// Where to find the certificates by which clients authenticate, and to which Authlete binds the
    /// tokens that it issues (RFC 8705 §2, §3). The layer needs the
    /// [same setting](crate::AuthLayerBuilder::client_certificates). Default: nowhere.
    pub fn client_certificates(mut self, certificates: ClientCertificates) -> Self {
        self.settings.certificates = Some(certificates);
        self
    }

    /// Limits of concurrency and time. Default: see [`Limits`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.settings.limits = limits;
        self
    }

    /// Builds the endpoint.
    ///
    /// # Errors
    /// If a setting is wrong: a malformed URL, `max_in_flight` of 0, a time of zero or of more than a day,
    /// or a malformed address of a proxy.
    pub fn build(mut self) -> Result<TokenEndpoint, ConfigError> {
        let mut problems = Problems::default();
        let is_url = |url: &String| {
            let uri = url.parse::<Uri>().ok();
            uri.is_some_and(|it| matches!(it.scheme_str(), Some("http" | "https")))
        };
        if let Some(wrong) = self.url.as_ref().filter(|url| !is_url(url)) {
            let problem = format!("{} characters, not the URL of a server", wrong.len());
            let remedy = "give the URL that clients use, such as https://as.example.com/token";
            problems.add("url", problem, remedy);
        }
        self.settings.validate(&mut problems);
        problems.finish(Some(()))?;
        let Self { settings, url, decide } = self;
        let context = settings.build_validated();
        Ok(TokenEndpoint(Arc::new(TokenHandler { context, url, decide })))
    }
}

impl Endpoint for TokenHandler {
    fn context(&self) -> &EndpointContext {
        &self.context
    }

    async fn respond(&self, request: &ClientRequest) -> EndpointResponse {
        let mut proofs = request.headers.get_all(DPOP).iter().map(|value| value.to_str());
        let dpop = match (proofs.next().transpose(), proofs.next()) {
            (Ok(proof), None) => proof,
            // RFC 9449 §4.3.
            _ => {
                return error(StatusCode::BAD_REQUEST, "invalid_dpop_proof", "not one legal proof");
            }
        };
        let call = TokenRequest {
            parameters: Some(request.body()),
            client_id: request.client_id(),
            client_secret: request.client_secret(),
            client_certificate: request.client_certificate(),
            client_certificate_path: request.client_certificate_path(),
            dpop: dpop.map(Into::into),
            htm: dpop.map(|_| "POST".into()),
            htu: dpop.and(self.url.clone()),
            ..TokenRequest::default()
        };
        let issue = self.context.lifecycle.begin_issue();
        let answer = match self.call_token(request, &call).await {
            Ok(answer) => answer,
            Err(response) => return response,
        };
        let nonce = answer.dpop_nonce.as_deref().and_then(|nonce| nonce.parse().ok());
        let mut response = self.respond_to_action(request, answer, issue).await;
        if let Some(nonce) = nonce {
            response.headers_mut().insert(DPOP_NONCE, nonce);
        }
        response
    }
}

impl TokenHandler {
    /// Calls `/auth/token`, and invalidates the access token that the call may have replaced.
    async fn call_token(
        &self,
        request: &ClientRequest,
        call: &TokenRequest,
    ) -> Result<TokenResponse, EndpointResponse> {
        let lifecycle = &*self.context.lifecycle;
        let refresh_token = presented_refresh_token(request).map(Secret::expose);
        let invalidation = InvalidateOnDrop::new(|| {
            if let Some(refresh_token) = refresh_token {
                lifecycle.invalidate_pair(refresh_token);
            }
        });
        match self.context.authlete.token(call).await {
            Ok(answer) => {
                if matches!(answer.action, TokenAction::InvalidClient | TokenAction::BadRequest) {
                    invalidation.cancel();
                }
                Ok(answer)
            }
            Err(error) => {
                if !may_have_taken_effect(&error) {
                    invalidation.cancel();
                }
                Err(self.call_failed(&error))
            }
        }
    }

    async fn respond_to_action(
        &self,
        request: &ClientRequest,
        answer: TokenResponse,
        issue: PendingIssue,
    ) -> EndpointResponse {
        let body = answer.response_content.as_ref().map(Secret::expose);
        match answer.action {
            TokenAction::Ok => {
                self.remember(request, body, Some(TokenInfo::from(&answer)), issue);
                json_response(StatusCode::OK, body)
            }
            TokenAction::InvalidClient => request.invalid_client(body),
            TokenAction::BadRequest => json_response(StatusCode::BAD_REQUEST, body),
            TokenAction::Password | TokenAction::TokenExchange | TokenAction::JwtBearer => {
                match &self.decide {
                    Some(decide) => self.decide(request, decide, answer).await,
                    None => unsupported_grant_type(),
                }
            }
            TokenAction::NativeSso | TokenAction::IdTokenReissuable => unsupported_grant_type(),
            TokenAction::InternalServerError => {
                json_response(StatusCode::INTERNAL_SERVER_ERROR, body)
            }
        }
    }

    /// Asks for the decision, and carries it out.
    async fn decide(
        &self,
        request: &ClientRequest,
        decide: &DecideFn,
        answer: TokenResponse,
    ) -> EndpointResponse {
        let (action, ticket) = (answer.action, answer.ticket.clone());
        match decide(answer).await.0 {
            DecidedCall::Issue(call) => {
                self.issue(request, TokenIssueRequest { ticket, ..call }).await
            }
            DecidedCall::Create(call) => self.create(request, action, &call).await,
            DecidedCall::Fail(reason) => self.fail(ticket, reason).await,
        }
    }

    async fn issue(&self, request: &ClientRequest, call: TokenIssueRequest) -> EndpointResponse {
        let issue = self.context.lifecycle.begin_issue();
        let answer = match self.context.authlete.token_issue(&call).await {
            Ok(answer) => answer,
            Err(error) => return self.call_failed(&error),
        };
        let body = answer.response_content.as_ref().map(Secret::expose);
        if answer.action != TokenIssueAction::Ok {
            return json_response(StatusCode::INTERNAL_SERVER_ERROR, body);
        }
        self.remember(request, body, Some(TokenInfo::from(&answer)), issue);
        json_response(StatusCode::OK, body)
    }

    async fn fail(&self, ticket: Option<Secret>, reason: TokenFailReason) -> EndpointResponse {
        let call = TokenFailRequest { ticket, reason: Some(reason) };
        let answer = match self.context.authlete.token_fail(&call).await {
            Ok(answer) => answer,
            Err(error) => return self.call_failed(&error),
        };
        let status = match answer.action {
            TokenFailAction::BadRequest => StatusCode::BAD_REQUEST,
            TokenFailAction::InternalServerError => StatusCode::INTERNAL_SERVER_ERROR,
        };
        json_response(status, answer.response_content.as_deref())
    }

    async fn create(
        &self,
        request: &ClientRequest,
        action: TokenAction,
        call: &TokenCreateRequest,
    ) -> EndpointResponse {
        let issue = self.context.lifecycle.begin_issue();
        let answer = match self.call_token_create(call).await {
            Ok(answer) => answer,
            Err(error) => return self.call_failed(&error),
        };
        if answer.action != TokenCreateAction::Ok {
            let (action, code) = (answer.action, answer.result_code);
            let log = self.context.lifecycle.log();
            limited!(error, log, ?action, code, "a token that was decided on could not be made");
            let description = "the token could not be made";
            return error(StatusCode::INTERNAL_SERVER_ERROR, "server_error", description);
        }
        let body = token_response_body(&answer, action).to_string();
        let bound = call.certificate_thumbprint.is_some() || call.dpop_key_thumbprint.is_some();
        let info = (!bound).then(|| TokenInfo::from(&answer));
        self.remember(request, Some(&body), info, issue);
        json_response(StatusCode::OK, Some(&body))
    }

    /// Calls `/auth/token/create`, and invalidates the value that the call chooses for the token, if any:
    /// it may be cached as unknown, and may exist from now on even if the response is missing.
    async fn call_token_create(
        &self,
        call: &TokenCreateRequest,
    ) -> Result<TokenCreateResponse, Error> {
        let lifecycle = &*self.context.lifecycle;
        let chosen = call.access_token.as_ref().map(Secret::expose);
        let _invalidation = InvalidateOnDrop::new(|| {
            if let Some(chosen) = chosen {
                lifecycle.invalidate(chosen);
            }
        });
        self.context.authlete.token_create(call).await
    }

    /// Stores an issued token in the layer's cache. Without facts about it, only its refresh token is
    /// remembered.
    fn remember(
        &self,
        request: &ClientRequest,
        body: Option<&str>,
        info: Option<TokenInfo>,
        issue: PendingIssue,
    ) {
        let body: Value = body.and_then(|it| serde_json::from_str(it).ok()).unwrap_or_default();
        let Some(access) = body["access_token"].as_str() else { return };
        let lifecycle = &self.context.lifecycle;
        lifecycle.see_issued(access, issue);
        let presented = presented_refresh_token(request);
        // A service may keep the refresh token, or accept it for a while (RFC 6749 §6).
        let issued = body["refresh_token"].as_str();
        for refresh in presented.map(Secret::expose).into_iter().chain(issued) {
            lifecycle.remember_pair(refresh, access);
        }
        let bearer =
            body["token_type"].as_str().is_some_and(|it| it.eq_ignore_ascii_case("Bearer"));
        let may_be_bound = request.headers.contains_key(DPOP)
            || request.certificate.is_some()
            || presented.is_some();
        match info.filter(|_| bearer && !may_be_bound) {
            Some(info) => lifecycle.remember(access, info, issue),
            // It may be cached as unknown, if it was presented before it existed.
            None => lifecycle.invalidate(access),
        }
    }

    fn call_failed(&self, failure: &Error) -> EndpointResponse {
        call_failed(failure, self.context.lifecycle.log())
    }
}

/// The refresh token of a request with `grant_type=refresh_token` (RFC 6749 §6).
fn presented_refresh_token(request: &ClientRequest) -> Option<&Secret> {
    request.get("grant_type").filter(|grant| grant.expose() == "refresh_token")?;
    request.get("refresh_token")
}

/// The body of a token response (RFC 6749 §5.1, RFC 8693 §2.2.1).
fn token_response_body(response: &TokenCreateResponse, action: TokenAction) -> Value {
    let expose = |token: &Option<Secret>| token.as_ref().map(|token| token.expose().to_owned());
    let access = expose(&response.jwt_access_token).or_else(|| expose(&response.access_token));
    let mut body = json!({
        "access_token": access,
        "token_type": response.token_type,
        "expires_in": response.expires_in,
        "scope": response.scopes.join(" "),
    });
    if let Some(refresh) = expose(&response.refresh_token) {
        body["refresh_token"] = refresh.into();
    }
    if action == TokenAction::TokenExchange {
        body["issued_token_type"] = "urn:ietf:params:oauth:token-type:access_token".into();
    }
    body
}

fn unsupported_grant_type() -> EndpointResponse {
    let description = "the grant type is not supported here";
    error(StatusCode::BAD_REQUEST, "unsupported_grant_type", description)
}

impl_service!(TokenEndpoint);

impl fmt::Debug for TokenEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenEndpoint").field("url", &self.0.url).finish_non_exhaustive()
    }
}

impl fmt::Debug for TokenEndpointBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenEndpointBuilder").field("url", &self.url).finish_non_exhaustive()
    }
}
