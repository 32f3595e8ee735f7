//! The token endpoint.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderName, Request, StatusCode};
use http_body::Body;
use serde_json::{Value, json};
use tower::BoxError;
use tower_service::Service;

use super::form::{Answer, EndpointFuture, Form, answer, error, failed};
use crate::{
    api::{
        Authlete, Property, Secret, TokenAction, TokenCreateAction, TokenCreateRequest,
        TokenCreateResponse, TokenFailAction, TokenFailReason, TokenFailRequest, TokenIssueAction,
        TokenIssueRequest, TokenRequest, TokenResponse,
    },
    layer::AuthHandle,
    observe::limited,
    token::TokenInfo,
    verifier::Issue,
};

const DPOP: HeaderName = HeaderName::from_static("dpop");
const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// What becomes of a token request that needs a decision.
#[derive(Debug, Clone)]
pub struct Decision(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Issue(TokenIssueRequest),
    Create(Box<TokenCreateRequest>),
    Refuse(TokenFailReason),
}

impl Decision {
    /// Tokens are issued to this user (`/auth/token/issue`).
    #[must_use]
    pub fn issue(subject: impl Into<String>) -> Self {
        Self::issue_with(subject, Vec::<Property>::new())
    }

    /// The same, with extra properties.
    #[must_use]
    pub fn issue_with(
        subject: impl Into<String>,
        properties: impl IntoIterator<Item = impl Into<Property>>,
    ) -> Self {
        Self(Kind::Issue(TokenIssueRequest::new().subject(subject).properties(properties)))
    }

    /// A token is made as said (`/auth/token/create`), which suits token exchange.
    #[must_use]
    pub fn create(request: TokenCreateRequest) -> Self {
        Self(Kind::Create(Box::new(request)))
    }

    /// The request is refused (`/auth/token/fail`).
    #[must_use]
    pub fn refuse(reason: TokenFailReason) -> Self {
        Self(Kind::Refuse(reason))
    }
}

type Deciding = Pin<Box<dyn Future<Output = Decision> + Send>>;
type Decide = Arc<dyn Fn(TokenResponse) -> Deciding + Send + Sync>;

/// A token endpoint (RFC 6749 §3.2).
///
/// Requests that Authlete answers with `PASSWORD`, `TOKEN_EXCHANGE` or `JWT_BEARER` are up to the
/// [decision](Self::decide) of the user; without one they are unsupported.
///
/// A token that is issued here is known to the layer at once, so that its first use asks nobody; but
/// only if it is plain Bearer beyond doubt: its type is `Bearer`, and there was no DPoP proof in the
/// request. (Client certificates are not passed on, so that no token is bound to one.) The access
/// token that a refresh has replaced is forgotten, if it was issued here.
#[derive(Clone)]
pub struct TokenEndpoint {
    authlete: Authlete,
    handle: AuthHandle,
    url: Option<String>,
    decide: Option<Decide>,
}

impl TokenEndpoint {
    /// An endpoint beside the layer that the handle is of.
    #[must_use]
    pub fn new(authlete: Authlete, handle: &AuthHandle) -> Self {
        Self { authlete, handle: handle.clone(), url: None, decide: None }
    }

    /// The endpoint's public URL, which DPoP proofs have to name. Default: the service's setting.
    #[must_use]
    pub fn url(self, url: impl Into<String>) -> Self {
        Self { url: Some(url.into()), ..self }
    }

    /// Decides about requests that Authlete does not decide about. Its argument is the answer of
    /// `/auth/token`.
    #[must_use]
    pub fn decide<F, D>(self, decide: F) -> Self
    where
        F: Fn(TokenResponse) -> D + Send + Sync + 'static,
        D: Future<Output = Decision> + Send + 'static,
    {
        let decide: Decide = Arc::new(move |request| Box::pin(decide(request)));
        Self { decide: Some(decide), ..self }
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
            parameters: Some(form.parameters.clone()),
            client_id: form.client_id(),
            client_secret: form.client_secret(),
            dpop: dpop.map(Into::into),
            htm: dpop.map(|_| "POST".into()),
            htu: dpop.and(self.url.clone()),
            ..TokenRequest::default()
        };
        let issue = self.handle.verifier.issue();
        let response = match self.authlete.token(&request).await {
            Ok(response) => response,
            Err(error) => return failed(&error, &self.handle.verifier.log),
        };
        let nonce = response.dpop_nonce.as_deref().and_then(|nonce| nonce.parse().ok());
        let mut answer = self.act(form, response, issue).await;
        if let Some(nonce) = nonce {
            answer.headers_mut().insert(DPOP_NONCE, nonce);
        }
        answer
    }

    async fn act(&self, form: &Form, response: TokenResponse, issue: Issue) -> Answer {
        let content = response.response_content.as_ref().map(Secret::expose);
        match response.action {
            TokenAction::Ok => {
                self.learn(form, content, TokenInfo::from(&response), issue);
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
        let issue = self.handle.verifier.issue();
        let response = match self.authlete.token_issue(&request).await {
            Ok(response) => response,
            Err(error) => return failed(&error, &self.handle.verifier.log),
        };
        let content = response.response_content.as_ref().map(Secret::expose);
        if response.action != TokenIssueAction::Ok {
            return answer(StatusCode::INTERNAL_SERVER_ERROR, content);
        }
        self.learn(form, content, TokenInfo::from(&response), issue);
        answer(StatusCode::OK, content)
    }

    async fn fail(&self, ticket: Option<Secret>, reason: TokenFailReason) -> Answer {
        let request = TokenFailRequest { ticket, reason: Some(reason) };
        let response = match self.authlete.token_fail(&request).await {
            Ok(response) => response,
            Err(error) => return failed(&error, &self.handle.verifier.log),
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
        let issue = self.handle.verifier.issue();
        let response = match self.authlete.token_create(request).await {
            Ok(response) => response,
            Err(error) => return failed(&error, &self.handle.verifier.log),
        };
        if response.action != TokenCreateAction::Ok {
            let (action, code) = (response.action, response.result_code);
            limited!(
                error,
                self.handle.verifier.log,
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
        if !bound {
            self.learn(form, Some(&content), TokenInfo::from(&response), issue);
        }
        answer(StatusCode::OK, Some(&content))
    }

    /// Lets the layer know of a token that was issued.
    fn learn(&self, form: &Form, content: Option<&str>, info: TokenInfo, issue: Issue) {
        let body: Value =
            content.and_then(|content| serde_json::from_str(content).ok()).unwrap_or_default();
        let Some(access) = body["access_token"].as_str() else { return };
        let verifier = &self.handle.verifier;
        if let Some(used) = form.get("refresh_token") {
            verifier.forget_pair(used.expose());
        }
        if let Some(refresh) = body["refresh_token"].as_str() {
            verifier.remember_pair(refresh, access);
        }
        let bearer =
            body["token_type"].as_str().is_some_and(|it| it.eq_ignore_ascii_case("Bearer"));
        if bearer && !form.headers.contains_key(DPOP) {
            verifier.remember(access, info, issue);
        } else {
            // It may have been asked about before it existed.
            verifier.forget(access);
        }
    }
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
        let endpoint = self.clone();
        Form::serve(request, move |form| async move { endpoint.respond(&form).await })
    }
}

impl fmt::Debug for TokenEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenEndpoint").field("url", &self.url).finish_non_exhaustive()
    }
}
