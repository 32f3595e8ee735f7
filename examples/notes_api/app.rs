//! The application. `main.rs` serves it, `tests/notes_api.rs` tests it.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, Request, State},
    handler::Handler,
    http::{HeaderValue, Method, StatusCode, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpListener;
use tower_authlete::{
    AuthHandle, AuthLayer, ProblemDetails, Require, TokenInfo, axum::TokenProperties,
    rejection::Rejection,
};
use tower_http::{
    cors::CorsLayer,
    trace::{DefaultOnResponse, TraceLayer},
};
use tracing::{Level, Span, field::Empty};

#[derive(Clone, Serialize)]
pub(crate) struct Note {
    id: usize,
    owner: String,
    text: String,
}

/// Stands for a database. Deleted notes leave a gap, so that no number is used again.
pub(crate) type Notes = Arc<Mutex<Vec<Option<Note>>>>;

fn lock(notes: &Notes) -> MutexGuard<'_, Vec<Option<Note>>> {
    notes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What goes wrong in handlers. Refusals look like those of the layer, which renders them.
pub(crate) enum AppError {
    Refused(Rejection),
    NotFound,
}

impl From<Rejection> for AppError {
    fn from(rejection: Rejection) -> Self {
        Self::Refused(rejection)
    }
}

impl IntoResponse for AppError {
    fn into_response(self) -> Response {
        let Self::Refused(rejection) = self else {
            let problem = Json(json!({ "title": "Not Found", "status": 404 }));
            let json = [(header::CONTENT_TYPE, "application/problem+json")];
            return (StatusCode::NOT_FOUND, json, problem).into_response();
        };
        rejection.into_response()
    }
}

/// The whole application.
pub(crate) fn app(auth: AuthLayer<ProblemDetails>, notes: Notes) -> Router {
    let public = Router::new()
        .route("/docs", get(|| async { "GET, POST /notes; GET, DELETE /notes/{id}\n" }))
        .route("/health", get(health))
        .with_state(auth.handle());
    let front = Router::new()
        .route("/", get(greet))
        .route_layer(from_fn(record))
        .route_layer(auth.optional());
    let protected = protected().route_layer(from_fn(record)).route_layer(auth);
    // Tokens are in no span: a client can send one in the query too, so that is left out.
    let trace = TraceLayer::new_for_http()
        .make_span_with(|request: &Request| {
            let (method, path) = (request.method(), request.uri().path());
            tracing::info_span!("request", %method, path, subject = Empty)
        })
        .on_response(DefaultOnResponse::new().level(Level::INFO));
    public.merge(front).merge(protected).with_state(notes).layer(cors()).layer(trace)
}

/// Serves until `stop`. Then there are no new requests, and those under way get their responses.
pub(crate) async fn serve(
    listener: TcpListener,
    app: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, app).with_graceful_shutdown(stop).await
}

/// The routes that need a token, without the layer: unit tests admit their requests themselves.
pub(crate) fn protected() -> Router<Notes> {
    let read = Require::scopes(["notes.read"]);
    let write = Require::scopes(["notes.write"]);
    let recent = Require::max_auth_age(Duration::from_secs(300));
    let notes = Router::new()
        .route("/", get(list.layer(read.clone())).post(create.layer(write.clone())))
        .route("/{id}", get(show.layer(read)).delete(remove.layer(write)));
    let admin = Router::new()
        .route("/notes", get(list_all).delete(remove_all.layer(recent)))
        .route_layer(Require::scopes(["admin"]));
    Router::new().nest("/notes", notes).nest("/admin", admin)
}

/// A browser's preflight request has no token, so this goes around the layer.
fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(HeaderValue::from_static("https://notes.example.com"))
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE])
        .expose_headers([header::WWW_AUTHENTICATE, header::RETRY_AFTER])
}

/// Puts the subject into the span of the request.
async fn record(token: Option<TokenInfo>, request: Request, next: Next) -> Response {
    if let Some(subject) = token.as_ref().and_then(TokenInfo::subject) {
        Span::current().record("subject", subject);
    }
    next.run(request).await
}

async fn health(State(handle): State<AuthHandle>) -> StatusCode {
    match handle.health().is_ready() || handle.warm_up().await.is_ok() {
        true => StatusCode::NO_CONTENT,
        false => StatusCode::SERVICE_UNAVAILABLE,
    }
}

async fn greet(token: Option<TokenInfo>) -> String {
    let subject = token.as_ref().and_then(TokenInfo::subject);
    format!("hello {}\n", subject.unwrap_or("stranger"))
}

async fn list(State(notes): State<Notes>, token: TokenInfo) -> Result<Json<Vec<Note>>, AppError> {
    let user = user(&token)?;
    Ok(Json(lock(&notes).iter().flatten().filter(|note| note.owner == user).cloned().collect()))
}

/// Properties that the authorization server attaches to tokens.
#[derive(Deserialize)]
struct Plan {
    plan: String,
    max_notes: usize,
}

async fn create(
    State(notes): State<Notes>,
    token: TokenInfo,
    TokenProperties(Plan { plan, max_notes }): TokenProperties<Plan>,
    text: String,
) -> Result<(StatusCode, Json<Note>), AppError> {
    let owner = user(&token)?.to_owned();
    let mut notes = lock(&notes);
    if notes.iter().flatten().filter(|note| note.owner == owner).count() >= max_notes {
        return Err(Rejection::forbidden(format!("the plan {plan} is full")).into());
    }
    let note = Note { id: notes.len(), owner, text };
    notes.push(Some(note.clone()));
    Ok((StatusCode::CREATED, Json(note)))
}

async fn show(
    State(notes): State<Notes>,
    Path(id): Path<usize>,
    token: TokenInfo,
) -> Result<Json<Note>, AppError> {
    let note = lock(&notes).get(id).cloned().flatten().ok_or(AppError::NotFound)?;
    if note.owner != user(&token)? && !token.scopes().contains("notes.read.all") {
        return Err(Rejection::insufficient_scope(["notes.read", "notes.read.all"]).into());
    }
    Ok(Json(note))
}

async fn remove(
    State(notes): State<Notes>,
    Path(id): Path<usize>,
    token: TokenInfo,
) -> Result<StatusCode, AppError> {
    let mut notes = lock(&notes);
    let slot = notes.get_mut(id).filter(|slot| slot.is_some()).ok_or(AppError::NotFound)?;
    if slot.as_ref().map(|note| note.owner.as_str()) != Some(user(&token)?) {
        return Err(Rejection::forbidden("the note belongs to another user").into());
    }
    *slot = None;
    Ok(StatusCode::NO_CONTENT)
}

async fn list_all(State(notes): State<Notes>) -> Json<Vec<Note>> {
    Json(lock(&notes).iter().flatten().cloned().collect())
}

async fn remove_all(State(notes): State<Notes>) -> StatusCode {
    lock(&notes).fill(None);
    StatusCode::NO_CONTENT
}

/// Notes are of users: a service's own token has no subject.
fn user(token: &TokenInfo) -> Result<&str, Rejection> {
    token.subject().ok_or_else(|| Rejection::forbidden("only users have notes"))
}
