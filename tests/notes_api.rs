//! `examples/notes_api`: its handlers alone, and the application on an emulator.

#[path = "../examples/notes_api/app.rs"]
mod app;

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use app::Notes;
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, Response, StatusCode, header},
};
use serde_json::Value;
use tokio::net::TcpListener;
use tower::ServiceExt;
use tower_authlete::{
    AuthLayer, ProblemDetails, TokenInfo,
    emulator::{Api, Emulator, Fault, TokenBuilder},
    resilience::{Resilience, Retry},
    testing,
};

fn layer(emulator: &Emulator) -> AuthLayer<ProblemDetails> {
    let resilience = Resilience::new().retry(Retry::disabled());
    let builder = AuthLayer::builder(emulator.authlete()).resilience(resilience);
    builder.renderer(ProblemDetails).build().unwrap()
}

fn app(emulator: &Emulator) -> Router {
    app::app(layer(emulator), Notes::default())
}

/// A user who may read and write, on a plan with room for one note.
fn writer<'e>(emulator: &'e Emulator, subject: &str) -> TokenBuilder<'e> {
    let token = emulator.token().subject(subject).scopes(["notes.read", "notes.write"]);
    token.property("plan", "free").property("max_notes", "1")
}

async fn send(app: &Router, method: &str, path: &str, token: &str) -> Response<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if !token.is_empty() {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    app.clone().oneshot(request.body(Body::from("milk")).unwrap()).await.unwrap()
}

async fn status(app: &Router, method: &str, path: &str, token: &str) -> u16 {
    send(app, method, path, token).await.status().as_u16()
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(to_bytes(response.into_body(), 10_000).await.unwrap().into()).unwrap()
}

fn challenge(response: &Response<Body>) -> &str {
    response.headers().get(header::WWW_AUTHENTICATE).map_or("", |value| value.to_str().unwrap())
}

/// The status for a token that a unit test has made, without a layer.
async fn admitted(method: &str, path: &str, token: TokenInfo) -> StatusCode {
    let mut request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    testing::admit(request.extensions_mut(), token);
    let routes: Router = app::protected().with_state(Notes::default());
    routes.oneshot(request).await.unwrap().status()
}

#[tokio::test]
async fn each_method_has_its_requirement() {
    let reader = || TokenInfo::builder().subject("bob").scopes(["notes.read"]).build();
    assert_eq!(admitted("GET", "/notes", reader()).await, 200);
    assert_eq!(admitted("POST", "/notes", reader()).await, 403);
    let writer = TokenInfo::builder().subject("bob").scopes(["notes.write"]);
    let writer = writer.property("plan", "free").property("max_notes", "1").build();
    assert_eq!(admitted("POST", "/notes", writer.clone()).await, 201);
    assert_eq!(admitted("GET", "/notes", writer).await, 403);
}

#[tokio::test]
async fn a_token_without_a_user_has_no_notes() {
    let service = TokenInfo::builder().scopes(["notes.read"]).build();
    assert_eq!(admitted("GET", "/notes", service).await, 403);
}

#[tokio::test]
async fn properties_that_are_no_plan_are_refused() {
    let token = TokenInfo::builder().subject("bob").scopes(["notes.write"]);
    let token = token.property("plan", "free").property("max_notes", "many").build();
    assert_eq!(admitted("POST", "/notes", token).await, 403);
}

#[tokio::test]
async fn all_of_admin_takes_the_scope_and_deletion_a_recent_log_in() {
    let token = |age| {
        let at = SystemTime::now() - Duration::from_secs(age);
        TokenInfo::builder().subject("carol").scopes(["admin"]).auth_time(at).build()
    };
    let none = TokenInfo::builder().subject("bob").build();
    assert_eq!(admitted("GET", "/admin/notes", none).await, 403);
    assert_eq!(admitted("GET", "/admin/notes", token(3600)).await, 200);
    assert_eq!(admitted("DELETE", "/admin/notes", token(3600)).await, 401);
    assert_eq!(admitted("DELETE", "/admin/notes", token(10)).await, 204);
}

#[tokio::test]
async fn the_front_page_greets_by_name_who_has_a_token() {
    let emulator = Emulator::start().await;
    let (app, alice) = (app(&emulator), writer(&emulator, "alice").issue().await);
    assert_eq!(text(send(&app, "GET", "/", "").await).await, "hello stranger\n");
    assert_eq!(text(send(&app, "GET", "/", &alice).await).await, "hello alice\n");
    assert_eq!(status(&app, "GET", "/", "rubbish").await, 401);
}

#[tokio::test]
async fn only_what_is_public_answers_without_a_token() {
    let emulator = Emulator::start().await;
    let app = app(&emulator);
    for (method, path, expected) in [
        ("GET", "/docs", 200),
        ("GET", "/health", 204),
        ("GET", "/notes", 401),
        ("POST", "/notes", 401),
        ("GET", "/notes/0", 401),
        ("DELETE", "/notes/0", 401),
        ("GET", "/admin/notes", 401),
        ("DELETE", "/admin/notes", 401),
        ("GET", "/nowhere", 404),
    ] {
        assert_eq!(status(&app, method, path, "").await, expected, "{method} {path}");
    }
}

#[tokio::test]
async fn a_note_is_its_owners() {
    let emulator = Emulator::start().await;
    let app = app(&emulator);
    let (alice, bob) =
        (writer(&emulator, "alice").issue().await, writer(&emulator, "bob").issue().await);
    let all =
        emulator.token().subject("bob").scopes(["notes.read", "notes.read.all"]).issue().await;
    assert_eq!(status(&app, "POST", "/notes", &alice).await, 201);

    let refused = send(&app, "GET", "/notes/0", &bob).await;
    assert_eq!(refused.status(), 403);
    assert!(challenge(&refused).contains(r#"scope="notes.read notes.read.all""#));
    assert_eq!(status(&app, "GET", "/notes/0", &all).await, 200);
    assert_eq!(status(&app, "DELETE", "/notes/0", &bob).await, 403);
    assert_eq!(text(send(&app, "GET", "/notes", &bob).await).await, "[]");

    let mine = text(send(&app, "GET", "/notes", &alice).await).await;
    assert_eq!(mine, r#"[{"id":0,"owner":"alice","text":"milk"}]"#);
    assert_eq!(status(&app, "DELETE", "/notes/0", &alice).await, 204);
    assert_eq!(status(&app, "GET", "/notes/0", &alice).await, 404);
}

#[tokio::test]
async fn a_full_plan_is_refused_as_problem_details_of_the_layer() {
    let emulator = Emulator::start().await;
    let (app, alice) = (app(&emulator), writer(&emulator, "alice").issue().await);
    assert_eq!(status(&app, "POST", "/notes", &alice).await, 201);
    let refused = send(&app, "POST", "/notes", &alice).await;
    assert_eq!(refused.status(), 403);
    assert_eq!(challenge(&refused), "");
    assert_eq!(refused.headers()[header::CONTENT_TYPE], "application/problem+json");
    let problem: Value = serde_json::from_str(&text(refused).await).unwrap();
    assert_eq!(problem["detail"], "the plan free is full");
    assert_eq!(problem["error"], "access_denied");
}

#[tokio::test]
async fn a_page_may_send_the_token_and_read_why_it_is_refused() {
    let emulator = Emulator::start().await;
    let app = app(&emulator);
    let preflight = Request::options("/notes/0")
        .header(header::ORIGIN, "https://notes.example.com")
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "DELETE")
        .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization");
    let response = app.clone().oneshot(preflight.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    let listed = |response: &Response<Body>, name| {
        response.headers()[name].to_str().unwrap().to_ascii_lowercase()
    };
    // A wildcard would not cover it.
    assert!(listed(&response, header::ACCESS_CONTROL_ALLOW_HEADERS).contains("authorization"));
    assert!(listed(&response, header::ACCESS_CONTROL_ALLOW_METHODS).contains("delete"));

    let refused = Request::get("/notes").header(header::ORIGIN, "https://notes.example.com");
    let refused = app.oneshot(refused.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(refused.status(), 401);
    let exposed = listed(&refused, header::ACCESS_CONTROL_EXPOSE_HEADERS);
    assert!(exposed.contains("www-authenticate"));
    let origin = listed(&refused, header::ACCESS_CONTROL_ALLOW_ORIGIN);
    assert_eq!(origin, "https://notes.example.com");
}

#[tokio::test]
async fn an_outage_is_503_and_shows_in_health() {
    let emulator = Emulator::start().await;
    let (app, alice) = (app(&emulator), writer(&emulator, "alice").issue().await);
    emulator.fault(Fault::status(503));
    let refused = send(&app, "GET", "/notes", &alice).await;
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key(header::RETRY_AFTER));
    assert_eq!(status(&app, "GET", "/health", "").await, 503);
    emulator.clear_faults();
    assert_eq!(status(&app, "GET", "/health", "").await, 204);
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_request_is_traced_with_its_subject_and_without_its_token() {
    let lines = Lines::default();
    let writer_of_lines = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer_of_lines.clone())
        .with_ansi(false)
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let emulator = Emulator::start().await;
    let (app, alice) = (app(&emulator), writer(&emulator, "alice").issue().await);
    assert_eq!(status(&app, "GET", "/notes", &alice).await, 200);
    // RFC 6750 §2.3: some clients send it here too.
    let in_query = format!("/notes?access_token={alice}");
    assert_eq!(status(&app, "GET", &in_query, "").await, 401);

    let lines = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(lines.contains(r#"path="/notes" subject="alice""#), "{lines}");
    assert!(!lines.contains(&alice), "{lines}");
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_server_stops() {
    let emulator = Emulator::start().await;
    let (app, alice) = (app(&emulator), writer(&emulator, "alice").issue().await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(app::serve(listener, app, async { stopped.await.unwrap() }));

    let hold = emulator.hold(Api::Introspection);
    let request = format!(
        "GET /notes HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {alice}\r\nConnection: close\r\n\r\n"
    );
    let response = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response
    });
    emulator.arrived(Api::Introspection, 1).await;
    stop.send(()).unwrap();
    drop(hold);
    assert!(response.await.unwrap().starts_with("HTTP/1.1 200"));
    server.await.unwrap().unwrap();
}
