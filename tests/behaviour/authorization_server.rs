//! An authorization server: the token and revocation endpoints beside an API.

use axum::{Router, body::Body, extract::Request};
use base64::{Engine, prelude::BASE64_STANDARD};
use http::{StatusCode, header};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tower_authlete::{
    AuthHandle, AuthLayer, Authlete,
    api::{GrantType, TokenAction, TokenCreateRequest, TokenFailReason},
    emulator::Emulator,
    endpoint::{
        Decision, Limits, RevocationEndpoint, RevocationEndpointBuilder, TokenEndpoint,
        TokenEndpointBuilder,
    },
    layer::AuthLayerBuilder,
};

use crate::support::{Answer, Bench, Protected, send};

/// An API and the endpoints.
pub(crate) struct Server<'b> {
    pub(crate) bench: &'b Bench,
    pub(crate) api: Protected,
    pub(crate) endpoints: Router,
}

impl<'b> Server<'b> {
    pub(crate) fn new(bench: &'b Bench) -> Self {
        Self::with(bench, |layer| layer)
    }

    pub(crate) fn with(
        bench: &'b Bench,
        settings: fn(AuthLayerBuilder) -> AuthLayerBuilder,
    ) -> Self {
        let auth = settings(bench.layer()).build().unwrap();
        Self::of(bench, &auth, &bench.authlete.authlete())
    }

    /// A server that calls Authlete by this client.
    pub(crate) fn calling_by(bench: &'b Bench, authlete: &Authlete) -> Self {
        let auth = AuthLayer::builder(authlete.clone()).clock(bench.clock.clone());
        Self::of(bench, &auth.build().unwrap(), authlete)
    }

    fn of(bench: &'b Bench, auth: &AuthLayer, authlete: &Authlete) -> Self {
        let endpoints = endpoints(authlete, &auth.handle(), bench.authlete.client_id());
        Self { bench, api: Protected::new(auth), endpoints }
    }

    pub(crate) fn basic(&self) -> String {
        let authlete = &self.bench.authlete;
        basic_of(&authlete.client_id().to_string(), authlete.client_secret())
    }

    pub(crate) async fn post(&self, path: &str, form: &str) -> Answer {
        self.post_with(path, form, &[("authorization", &self.basic())]).await
    }

    pub(crate) async fn post_with(
        &self,
        path: &str,
        form: &str,
        headers: &[(&str, &str)],
    ) -> Answer {
        let answer = send(self.endpoints.clone(), post(path, form, headers)).await;
        assert_eq!(answer.header(header::CACHE_CONTROL), "no-store");
        assert_eq!(answer.header(header::PRAGMA), "no-cache");
        answer
    }

    /// The access token and the refresh token of a successful response.
    pub(crate) async fn tokens(&self, form: &str) -> (String, String) {
        tokens_of(&self.post("/token", form).await)
    }
}

/// Endpoints that accept Alice's password, and exchange tokens.
fn endpoints(authlete: &Authlete, handle: &AuthHandle, client: i64) -> Router {
    let token =
        TokenEndpoint::builder(authlete.clone(), handle).decide(move |request| async move {
            match request.action {
                TokenAction::Password if request.username.as_deref() == Some("alice") => {
                    Decision::issue_with("alice", [("plan", "gold")])
                }
                TokenAction::Password => {
                    Decision::refuse(TokenFailReason::InvalidResourceOwnerCredentials)
                }
                TokenAction::TokenExchange => Decision::create(
                    TokenCreateRequest::new()
                        .grant_type(GrantType::TokenExchange)
                        .client_id(client)
                        .subject(request.subject_token_info.unwrap().subject.unwrap())
                        .scopes(request.scopes),
                ),
                _ => Decision::refuse(TokenFailReason::Unknown),
            }
        });
    router(token, Some(RevocationEndpoint::builder(authlete.clone(), handle)))
}

/// `POST` of a form.
pub(crate) fn post(path: &str, form: &str, headers: &[(&str, &str)]) -> Request {
    let request = Request::post(path).header("content-type", "application/x-www-form-urlencoded");
    let request = headers.iter().fold(request, |it, (name, value)| it.header(*name, *value));
    request.body(Body::from(form.to_owned())).unwrap()
}

/// `POST /token` or `POST /revoke`, in a task of its own.
pub(crate) fn spawn_post(server: &Server<'_>, path: &str, form: &str) -> JoinHandle<Answer> {
    let request = post(path, form, &[("authorization", &server.basic())]);
    tokio::spawn(send(server.endpoints.clone(), request))
}

pub(crate) fn basic_of(id: &str, secret: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{id}:{secret}")))
}

pub(crate) fn body_of(answer: &Answer) -> Value {
    assert_eq!(answer.header(header::CONTENT_TYPE), "application/json");
    serde_json::from_str(&answer.body).unwrap()
}

/// The access token and the refresh token of a successful response.
pub(crate) fn tokens_of(answer: &Answer) -> (String, String) {
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let body = body_of(answer);
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    (text("access_token"), text("refresh_token"))
}

pub(crate) fn refresh(token: &str) -> String {
    format!("grant_type=refresh_token&refresh_token={token}")
}

pub(crate) const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

pub(crate) const PASSWORD: &str = "grant_type=password&username=alice&password=x&scope=read";

/// Adds the credentials of the emulator's client to a form (RFC 6749 §2.3.1).
pub(crate) fn with_credentials(authlete: &Emulator, form: &str) -> String {
    let (id, secret) = (authlete.client_id(), authlete.client_secret());
    format!("{form}&client_id={id}&client_secret={secret}")
}

/// A token that the layer has stored when it was issued, without an introspection.
pub(crate) async fn issued(authlete: &Emulator, auth: &AuthLayer, scope: &str) -> String {
    let endpoint = TokenEndpoint::new(authlete.authlete(), &auth.handle());
    let router = Router::new().route_service("/token", endpoint);
    let form = format!("grant_type=client_credentials&scope={scope}");
    let request = post("/token", &with_credentials(authlete, &form), &[]);
    tokens_of(&send(router, request).await).0
}

/// `POST /revoke` by the emulator's client.
pub(crate) async fn revoke(bench: &Bench, handle: &AuthHandle, token: &str) -> StatusCode {
    let endpoint = RevocationEndpoint::new(bench.authlete.authlete(), handle);
    let router = Router::new().route_service("/revoke", endpoint);
    let form = with_credentials(&bench.authlete, &format!("token={token}"));
    send(router, post("/revoke", &form, &[])).await.status
}

/// The endpoints at `/token` and `/revoke`.
pub(crate) fn router(
    token: TokenEndpointBuilder,
    revoke: Option<RevocationEndpointBuilder>,
) -> Router {
    let router = Router::new().route_service("/token", token.build().unwrap());
    match revoke {
        Some(revoke) => router.route_service("/revoke", revoke.build().unwrap()),
        None => router,
    }
}

/// Endpoints with these limits.
pub(crate) fn limited<'b>(bench: &'b Bench, limits: Limits) -> Server<'b> {
    let server = Server::new(bench);
    let (authlete, handle) = (bench.authlete.authlete(), &server.api.handle);
    let token = TokenEndpoint::builder(authlete.clone(), handle)
        .decide(async |_| Decision::issue("alice"))
        .limits(limits);
    let revoke = RevocationEndpoint::builder(authlete, handle).limits(limits);
    Server { endpoints: router(token, Some(revoke)), ..server }
}

/// The response of `/auth/token` that issues a bearer token.
pub(crate) async fn bearer_token(bench: &Bench) -> Value {
    let token = bench.authlete.token().subject("alice").issue().await;
    let content = json!({ "access_token": token, "token_type": "Bearer" }).to_string();
    json!({ "action": "OK", "responseContent": content, "accessToken": token, "subject": "alice" })
}
