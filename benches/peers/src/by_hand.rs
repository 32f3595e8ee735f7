//! What one writes by hand: tower-http's `AsyncRequireAuthorizationLayer`, a digest of the token and
//! a cache of facts.

use std::{sync::Arc, time::SystemTime};

use axum::{body::Body, response::Response};
use http::{
    HeaderValue, Request, StatusCode,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
};
use moka::future::Cache;
use sha2::{Digest, Sha256};
use tower_authlete::{
    Authlete,
    api::{IntrospectionAction, IntrospectionRequest, IntrospectionResponse, Property},
    emulator::Emulator,
};
use tower_http::auth::AsyncRequireAuthorizationLayer;

use crate::{
    contender::{Answer, Contender, SCOPE, router},
    with_authlete::{MAX_AGE, Tokens},
};

const MAX_ENTRIES: u64 = 100_000;

/// A router behind it.
pub(crate) fn contender<A: Answer>(emulator: &Emulator, tokens: &Tokens) -> Contender {
    let guard = Guard::new(emulator.authlete());
    let layer = AsyncRequireAuthorizationLayer::new(move |request| guard.clone().admit(request));
    Contender::new("written by hand", router::<A>().layer(layer), &tokens.good)
        .refuses("rubbish", StatusCode::UNAUTHORIZED)
        .refuses(&tokens.expired, StatusCode::UNAUTHORIZED)
        .refuses(&tokens.without_scope, StatusCode::FORBIDDEN)
}

/// What handlers get to know of the token.
struct Facts {
    /// Nothing here reads it; a handler would.
    _subject: Option<String>,
    _properties: Vec<Property>,
    scopes: Vec<String>,
    expires_at: Option<SystemTime>,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Refusal {
    NoToken,
    BadToken,
    NoScope,
    Unknown,
}

#[derive(Clone)]
struct Guard {
    authlete: Authlete,
    known: Cache<[u8; 32], Arc<Facts>>,
}

impl Guard {
    fn new(authlete: Authlete) -> Self {
        let known = Cache::builder().max_capacity(MAX_ENTRIES).time_to_live(MAX_AGE).build();
        Self { authlete, known }
    }

    /// The request with the token's facts, or the response that refuses it.
    async fn admit(self, mut request: Request<Body>) -> Result<Request<Body>, Response> {
        let facts = self.facts(&mut request).await.map_err(Refusal::response)?;
        if !facts.scopes.iter().any(|scope| scope == SCOPE) {
            return Err(Refusal::NoScope.response());
        }
        request.extensions_mut().insert(facts);
        Ok(request)
    }

    /// What is known of the request's token. Authlete is asked if nothing is: once for all who want
    /// to know.
    async fn facts(&self, request: &mut Request<Body>) -> Result<Arc<Facts>, Refusal> {
        let key = Sha256::digest(bearer(request).ok_or(Refusal::NoToken)?).into();
        let facts = match self.known.get(&key).await {
            Some(facts) => facts,
            None => {
                let token = bearer(request).ok_or(Refusal::NoToken)?.to_owned();
                let asked = self.known.try_get_with(key, self.ask(token)).await;
                asked.map_err(|refusal| *refusal)?
            }
        };
        let expired = facts.expires_at.is_some_and(|at| at <= SystemTime::now());
        if expired { Err(Refusal::BadToken) } else { Ok(facts) }
    }

    async fn ask(&self, token: String) -> Result<Arc<Facts>, Refusal> {
        let request = IntrospectionRequest::new().token(token);
        let response = self.authlete.introspection(&request).await;
        let response = response.map_err(|_| Refusal::Unknown)?;
        match response.action {
            IntrospectionAction::Ok => Ok(Arc::new(Facts::of(response))),
            IntrospectionAction::Unauthorized => Err(Refusal::BadToken),
            _ => Err(Refusal::Unknown),
        }
    }
}

impl Facts {
    fn of(response: IntrospectionResponse) -> Self {
        Self {
            expires_at: response.expires_at(),
            _subject: response.subject,
            _properties: response.properties,
            scopes: response.scopes,
        }
    }
}

impl Refusal {
    fn response(self) -> Response {
        let (status, challenge) = match self {
            Self::NoToken => (StatusCode::UNAUTHORIZED, "Bearer"),
            Self::BadToken => (StatusCode::UNAUTHORIZED, r#"Bearer error="invalid_token""#),
            Self::NoScope => (StatusCode::FORBIDDEN, r#"Bearer error="insufficient_scope""#),
            Self::Unknown => (StatusCode::SERVICE_UNAVAILABLE, "Bearer"),
        };
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        response
    }
}

fn bearer(request: &Request<Body>) -> Option<&str> {
    request.headers().get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}
