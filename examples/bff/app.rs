//! The application: a page, what it is made of, and the API that it calls.

use std::{sync::Arc, time::Duration};

use axum::{
    Form, Json, Router,
    extract::State,
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, SET_COOKIE,
            X_CONTENT_TYPE_OPTIONS,
        },
    },
    middleware::map_response,
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tower::BoxError;
use tower_authlete::{
    AuthLayer, ConfigError, TokenInfo,
    emulator::{Api, Emulator, EmulatorBuilder},
    session::{SessionLayer, SessionStore, SessionTokens, Sessions},
};
use tower_http::csrf::CsrfLayer;

/// The life of access tokens: short, so that a renewal can be watched.
pub(crate) const LIFE: Duration = Duration::from_secs(20);

/// How long before its expiry a token is renewed.
pub(crate) const MARGIN: Duration = Duration::from_secs(5);

/// Nothing but the page's own files runs, and nothing is sent elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// Settings of the emulated Authlete.
pub(crate) fn authlete() -> EmulatorBuilder {
    Emulator::builder().access_token_duration(LIFE)
}

/// The routes:
///
/// | route | |
/// |---|---|
/// | `POST /login`, `POST /logout` | begin and end a session |
/// | `GET /session` | what the page shows of the session; `null` without one |
/// | `GET /api/hello` | the API: 401 without a session |
/// | `GET /` and the others | the page and its files |
pub(crate) fn router<St: SessionStore>(
    authlete: &Arc<Emulator>,
    store: St,
) -> Result<Router, ConfigError> {
    let sessions = SessionLayer::builder(authlete.authlete(), store)
        .client(authlete.client_id().to_string(), authlete.client_secret())
        // Applications on one host need different names.
        .cookie("__Host-bff")
        .margin(MARGIN)
        .clock(authlete.clock().clone())
        .build()?;
    let auth = AuthLayer::builder(authlete.authlete()).clock(authlete.clock().clone()).build()?;
    let bff = Bff { authlete: authlete.clone(), sessions: sessions.sessions() };

    let api = Router::new().route("/api/hello", get(hello)).layer(auth.clone());
    let open = Router::new().route("/session", get(session)).layer(auth.optional());
    let app = Router::new()
        .merge(api)
        .merge(open)
        .layer(sessions)
        // These begin and end sessions whether or not the request has one, so they are not inside.
        .route("/login", post(log_in))
        .route("/logout", post(log_out))
        .merge(page())
        .layer(CsrfLayer::new())
        .layer(map_response(harden))
        .with_state(bff);
    Ok(app)
}

struct Bff<St> {
    authlete: Arc<Emulator>,
    sessions: Sessions<St>,
}

impl<St: SessionStore> Clone for Bff<St> {
    fn clone(&self) -> Self {
        Self { authlete: self.authlete.clone(), sessions: self.sessions.clone() }
    }
}

impl<St: SessionStore> Bff<St> {
    /// What the page shows of a session. No token is part of it.
    fn facts(&self, token: &TokenInfo) -> Value {
        let now = self.authlete.clock().now();
        let rest = token.expires_at().map(|at| at.duration_since(now).unwrap_or_default());
        json!({
            "subject": token.subject(),
            "scopes": token.scopes().iter().collect::<Vec<_>>(),
            "expiresInMs": rest.map(millis),
            "lifeMs": millis(LIFE),
            "marginMs": millis(MARGIN),
            "refreshRequests": self.authlete.calls(Api::Token),
        })
    }

    /// The tokens that a log-in leaves the server with.
    ///
    /// An application has no such function, since the user is authenticated elsewhere: its `/login` redirects
    /// the browser to your authorization endpoint (RFC 6749 §4.1.1), which uses Authlete's
    /// `/auth/authorization`. Then the browser is redirected back with a code, which the application exchanges
    /// for tokens at your token endpoint.
    async fn tokens_of(&self, user: User) -> SessionTokens {
        let (subject, scopes) = match user {
            User::Alice => ("alice", vec!["profile", "reports.read"]),
            User::Bob => ("bob", vec!["profile"]),
        };
        let token = self.authlete.token().subject(subject).scopes(scopes).expires_in(LIFE);
        let pair = token.issue_with_refresh().await;
        let expires_at = self.authlete.clock().now() + LIFE;
        SessionTokens::new(pair.access_token, Some(expires_at), Some(pair.refresh_token.into()))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

async fn hello<St: SessionStore>(State(bff): State<Bff<St>>, token: TokenInfo) -> Json<Value> {
    let message = format!("hello {}", token.subject().unwrap_or("service"));
    Json(json!({ "message": message, "session": bff.facts(&token) }))
}

async fn session<St: SessionStore>(
    State(bff): State<Bff<St>>,
    token: Option<TokenInfo>,
) -> Json<Value> {
    Json(token.map_or(Value::Null, |token| bff.facts(&token)))
}

#[derive(Deserialize)]
struct LogIn {
    user: User,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum User {
    Alice,
    Bob,
}

async fn log_in<St: SessionStore>(
    State(bff): State<Bff<St>>,
    headers: HeaderMap,
    Form(LogIn { user }): Form<LogIn>,
) -> Result<impl IntoResponse, StatusCode> {
    // Each log-in begins a new session, and ends the one before.
    bff.sessions.end(&headers).await.map_err(unavailable)?;
    let tokens = bff.tokens_of(user).await;
    let cookie = bff.sessions.begin(tokens).await.map_err(unavailable)?;
    Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)]))
}

/// Ends the session. Its refresh token and access token are revoked at Authlete.
async fn log_out<St: SessionStore>(
    State(bff): State<Bff<St>>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, StatusCode> {
    let removal = bff.sessions.end(&headers).await.map_err(unavailable)?;
    Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, removal)]))
}

fn unavailable(error: BoxError) -> StatusCode {
    tracing::error!(error, "a session could not be changed");
    StatusCode::SERVICE_UNAVAILABLE
}

/// The page and its files.
fn page<St: SessionStore>() -> Router<Bff<St>> {
    Router::new()
        .route("/", file("text/html; charset=utf-8", include_str!("page.html")))
        .route("/style.css", file("text/css; charset=utf-8", include_str!("style.css")))
        .route("/script.js", file("text/javascript; charset=utf-8", include_str!("script.js")))
        .route("/icon.svg", file("image/svg+xml", include_str!("icon.svg")))
}

fn file<St: SessionStore>(kind: &'static str, content: &'static str) -> MethodRouter<Bff<St>> {
    get(move || async move { ([(CONTENT_TYPE, kind)], content) })
}

async fn harden(mut response: Response) -> Response {
    let headers: [(HeaderName, &str); 4] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "same-origin"),
        (CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
