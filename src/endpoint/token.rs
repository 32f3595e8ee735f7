//! The token endpoint.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderName, Request, StatusCode, Uri};
use http_body::Body;
use serde_json::{Value, json};
use tower::BoxError;
use tower_service::Service;

use super::{
    answer::{Answer, answer, error, failed},
    decision::{Decision, Kind},
    form::Form,
    front::{Endpoint, EndpointFuture, Front, FrontBuilder, Invalidation, may_be_done, serve},
    limits::Limits,
};
use crate::{
    api::{
        Authlete, ConfigError, Secret, TokenAction, TokenCreateAction, TokenCreateRequest,
        TokenCreateResponse, TokenFailAction, TokenFailReason, TokenFailRequest, TokenIssueAction,
        TokenIssueRequest, TokenRequest, TokenResponse,
    },
    layer::AuthHandle,
    observe::limited,
    proof::ClientCertificates,
    store::PendingIssue,
    token::TokenInfo,
};

const DPOP: HeaderName = HeaderName::from_static("dpop");
const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

type Deciding = Pin<Box<dyn Future<Output = Decision> + Send>>;
type Decide = Box<dyn Fn(TokenResponse) -> Deciding + Send + Sync>;

/// A token endpoint (RFC 6749 §3.2).
///
/// Requests that Authlete answers with `PASSWORD`, `TOKEN_EXCHANGE` or `JWT_BEARER` are up to the
/// [decision](TokenEndpointBuilder::decide) of the user; without one they are unsupported.
///
/// A token that is issued here is known to the layer at once, so that its first use asks nobody; but
/// only if it is plain Bearer beyond doubt: its type is `Bearer`, there was neither a DPoP proof nor a
/// client certificate in the request, and it was not issued by a refresh token, since such a token may
/// be bound to what the one before it was bound to. The access token that a refresh has replaced is
/// forgotten, if it was issued here; also if Authlete was asked for that and did not answer. Nothing is
/// forgotten for a client that Authlete refuses.
///
/// The layer remembers which access token came with a refresh token, for 100 000 of them. One that it does
/// not remember is refused within [`max_age`](crate::AuthLayerBuilder::max_age) after it was replaced.
#[derive(Clone)]
pub struct TokenEndpoint(Arc<Issuer>);

struct Issuer {
    front: Front,
    url: Option<String>,
    decide: Option<Decide>,
}

impl TokenEndpoint {
    /// An endpoint beside the layer that the handle is of, with all settings at their defaults.
    #[must_use]
    pub fn new(authlete: Authlete, handle: &AuthHandle) -> Self {
        let front = FrontBuilder::new(authlete, handle).finish();
        Self(Arc::new(Issuer { front, url: None, decide: None }))
    }

    /// Settings for an endpoint beside the layer that the handle is of.
    pub fn builder(authlete: Authlete, handle: &AuthHandle) -> TokenEndpointBuilder {
        let front = FrontBuilder::new(authlete, handle);
        TokenEndpointBuilder { front, url: None, decide: None }
    }
}

/// Settings of a [`TokenEndpoint`].
#[must_use = "settings do nothing until `build` is called"]
pub struct TokenEndpointBuilder {
    front: FrontBuilder,
    url: Option<String>,
    decide: Option<Decide>,
}

impl TokenEndpointBuilder {
    /// The endpoint's public URL, which DPoP proofs have to name (RFC 9449 §4.3). Default: the service's
    /// setting.
    pub fn url(self, url: impl Into<String>) -> Self {
        Self { url: Some(url.into()), ..self }
    }

    /// Decides about requests that Authlete does not decide about. Its argument is the answer of
    /// `/auth/token`. It counts for the [deadline](Limits::deadline), at which it is dropped.
    pub fn decide<F, D>(self, decide: F) -> Self
    where
        F: Fn(TokenResponse) -> D + Send + Sync + 'static,
        D: Future<Output = Decision> + Send + 'static,
    {
        let decide: Decide = Box::new(move |request| Box::pin(decide(request)));
        Self { decide: Some(decide), ..self }
    }

    /// Where the certificates are found by which clients authenticate, and to which Authlete binds the
    /// tokens that it issues (RFC 8705 §2, §3). Give the layer the
    /// [same setting](crate::AuthLayerBuilder::client_certificates). Default: nowhere.
    pub fn client_certificates(mut self, certificates: ClientCertificates) -> Self {
        self.front.certificates = Some(certificates);
        self
    }

    /// How many requests are served, and for how long. Default: see [`Limits`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.front.limits = limits;
        self
    }

    /// The endpoint.
    ///
    /// # Errors
    /// If a setting is wrong: an URL that is none, no request at a time, a time of zero or of more than a
    /// day, or an address of a proxy that is none.
    pub fn build(self) -> Result<TokenEndpoint, ConfigError> {
        let is_url = |url: &String| {
            let uri = url.parse::<Uri>().ok();
            uri.is_some_and(|it| matches!(it.scheme_str(), Some("http" | "https")))
        };
        if let Some(wrong) = self.url.as_ref().filter(|url| !is_url(url)) {
            let problem = format!("{} characters, not the URL of a server", wrong.len());
            let remedy = "give the URL that clients use, such as https://as.example.com/token";
            return Err(ConfigError::new("url", problem, remedy));
        }
        let Self { front, url, decide } = self;
        Ok(TokenEndpoint(Arc::new(Issuer { front: front.build()?, url, decide })))
    }
}

impl Endpoint for Issuer {
    fn front(&self) -> &Front {
        &self.front
    }

    async fn respond(&self, form: &Form) -> Answer {
        let mut proofs = form.headers.get_all(DPOP).iter().map(|value| value.to_str());
        let dpop = match (proofs.next().transpose(), proofs.next()) {
            (Ok(proof), None) => proof,
            // RFC 9449 §4.3.
            _ => {
                return error(StatusCode::BAD_REQUEST, "invalid_dpop_proof", "not one legal proof");
            }
        };
        let request = TokenRequest {
            parameters: Some(form.body()),
            client_id: form.client_id(),
            client_secret: form.client_secret(),
            client_certificate: form.client_certificate(),
            client_certificate_path: form.client_certificate_path(),
            dpop: dpop.map(Into::into),
            htm: dpop.map(|_| "POST".into()),
            htu: dpop.and(self.url.clone()),
            ..TokenRequest::default()
        };
        let issue = self.front.lifecycle.begin_issue();
        let response = match self.ask(form, &request).await {
            Ok(response) => response,
            Err(answer) => return answer,
        };
        let nonce = response.dpop_nonce.as_deref().and_then(|nonce| nonce.parse().ok());
        let mut answer = self.act(form, response, issue).await;
        if let Some(nonce) = nonce {
            answer.headers_mut().insert(DPOP_NONCE, nonce);
        }
        answer
    }
}

impl Issuer {
    /// Calls `/auth/token`, and forgets the access token that it may have replaced.
    async fn ask(&self, form: &Form, request: &TokenRequest) -> Result<TokenResponse, Answer> {
        let lifecycle = &*self.front.lifecycle;
        let used = used_refresh_token(form).map(Secret::expose);
        let invalidation = Invalidation::new(|| {
            if let Some(used) = used {
                lifecycle.invalidate_pair(used);
            }
        });
        match self.front.authlete.token(request).await {
            Ok(response) => {
                if matches!(response.action, TokenAction::InvalidClient | TokenAction::BadRequest) {
                    invalidation.call_off();
                }
                Ok(response)
            }
            Err(error) => {
                if !may_be_done(&error) {
                    invalidation.call_off();
                }
                Err(failed(&error, self.front.lifecycle.log()))
            }
        }
    }

    async fn act(&self, form: &Form, response: TokenResponse, issue: PendingIssue) -> Answer {
        let content = response.response_content.as_ref().map(Secret::expose);
        match response.action {
            TokenAction::Ok => {
                self.learn(form, content, Some(TokenInfo::from(&response)), issue);
                answer(StatusCode::OK, content)
            }
            TokenAction::InvalidClient => form.invalid_client(content),
            TokenAction::BadRequest => answer(StatusCode::BAD_REQUEST, content),
            TokenAction::Password | TokenAction::TokenExchange | TokenAction::JwtBearer => {
                match &self.decide {
                    Some(decide) => self.carry_out(form, decide, response).await,
                    None => unsupported(),
                }
            }
            TokenAction::NativeSso | TokenAction::IdTokenReissuable => unsupported(),
            TokenAction::InternalServerError => answer(StatusCode::INTERNAL_SERVER_ERROR, content),
        }
    }

    async fn carry_out(&self, form: &Form, decide: &Decide, response: TokenResponse) -> Answer {
        let (action, ticket) = (response.action, response.ticket.clone());
        match decide(response).await.0 {
            Kind::Issue(request) => self.issue(form, TokenIssueRequest { ticket, ..request }).await,
            Kind::Create(request) => self.create(form, action, &request).await,
            Kind::Refuse(reason) => self.fail(ticket, reason).await,
        }
    }

    async fn issue(&self, form: &Form, request: TokenIssueRequest) -> Answer {
        let issue = self.front.lifecycle.begin_issue();
        let response = match self.front.authlete.token_issue(&request).await {
            Ok(response) => response,
            Err(error) => return failed(&error, self.front.lifecycle.log()),
        };
        let content = response.response_content.as_ref().map(Secret::expose);
        if response.action != TokenIssueAction::Ok {
            return answer(StatusCode::INTERNAL_SERVER_ERROR, content);
        }
        self.learn(form, content, Some(TokenInfo::from(&response)), issue);
        answer(StatusCode::OK, content)
    }

    async fn fail(&self, ticket: Option<Secret>, reason: TokenFailReason) -> Answer {
        let request = TokenFailRequest { ticket, reason: Some(reason) };
        let response = match self.front.authlete.token_fail(&request).await {
            Ok(response) => response,
            Err(error) => return failed(&error, self.front.lifecycle.log()),
        };
        let status = match response.action {
            TokenFailAction::BadRequest => StatusCode::BAD_REQUEST,
            TokenFailAction::InternalServerError => StatusCode::INTERNAL_SERVER_ERROR,
        };
        answer(status, response.response_content.as_deref())
    }

    async fn create(
        &self,
        form: &Form,
        action: TokenAction,
        request: &TokenCreateRequest,
    ) -> Answer {
        let lifecycle = &*self.front.lifecycle;
        let issue = lifecycle.begin_issue();
        // A value that was chosen may have been asked about before it existed, and exists from now on,
        // whether or not that is answered.
        let chosen = request.access_token.as_ref().map(Secret::expose);
        let invalidation = Invalidation::new(|| {
            if let Some(chosen) = chosen {
                lifecycle.invalidate(chosen);
            }
        });
        let response = self.front.authlete.token_create(request).await;
        drop(invalidation);
        let response = match response {
            Ok(response) => response,
            Err(error) => return failed(&error, self.front.lifecycle.log()),
        };
        if response.action != TokenCreateAction::Ok {
            let (action, code) = (response.action, response.result_code);
            limited!(
                error,
                self.front.lifecycle.log(),
                ?action,
                code,
                "a token that was decided on could not be made"
            );
            let description = "the token could not be made";
            return error(StatusCode::INTERNAL_SERVER_ERROR, "server_error", description);
        }
        let content = body(&response, action).to_string();
        let bound =
            request.certificate_thumbprint.is_some() || request.dpop_key_thumbprint.is_some();
        let info = (!bound).then(|| TokenInfo::from(&response));
        self.learn(form, Some(&content), info, issue);
        answer(StatusCode::OK, Some(&content))
    }

    /// Lets the layer know of a token that was issued; without facts, only that it was.
    fn learn(
        &self,
        form: &Form,
        content: Option<&str>,
        info: Option<TokenInfo>,
        issue: PendingIssue,
    ) {
        let body: Value =
            content.and_then(|content| serde_json::from_str(content).ok()).unwrap_or_default();
        let Some(access) = body["access_token"].as_str() else { return };
        let lifecycle = &self.front.lifecycle;
        lifecycle.see_issued(access, issue);
        let used = used_refresh_token(form);
        // A service may keep the refresh token, or honour it for a while (RFC 6749 §6).
        let told = body["refresh_token"].as_str();
        for refresh in used.map(Secret::expose).into_iter().chain(told) {
            lifecycle.remember_pair(refresh, access);
        }
        let bearer =
            body["token_type"].as_str().is_some_and(|it| it.eq_ignore_ascii_case("Bearer"));
        let may_be_bound =
            form.headers.contains_key(DPOP) || form.certificate.is_some() || used.is_some();
        match info.filter(|_| bearer && !may_be_bound) {
            Some(info) => lifecycle.remember(access, info, issue),
            // It may have been asked about before it existed.
            None => lifecycle.invalidate(access),
        }
    }
}

/// The refresh token that a request is about.
fn used_refresh_token(form: &Form) -> Option<&Secret> {
    form.get("grant_type").filter(|grant| grant.expose() == "refresh_token")?;
    form.get("refresh_token")
}

/// The body for the client (RFC 6749 §5.1, RFC 8693 §2.2.1).
fn body(response: &TokenCreateResponse, action: TokenAction) -> Value {
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

fn unsupported() -> Answer {
    let description = "the grant type is not supported here";
    error(StatusCode::BAD_REQUEST, "unsupported_grant_type", description)
}

impl<B> Service<Request<B>> for TokenEndpoint
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = EndpointFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        serve(self.0.clone(), request)
    }
}

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
