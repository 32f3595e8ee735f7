//! Handlers refuse as their layer does, and renderers see what is known of a request.

use std::{convert::Infallible, time::Duration};

use axum::{
    Router,
    body::Body,
    response::{AppendHeaders, IntoResponse},
    routing::{any, get},
};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::{Layer, ServiceExt, service_fn};
use tower_authlete::{
    AuthLayer, Dpop, ProblemDetails, Refresh, Refusal, Rejection, Renderer, Require, RequireScopes,
    TokenInfo, emulator::Fault,
};

use crate::{
    holder::Holder,
    support::{Answer, Bench, NEW, OK, ORIGIN, Protected, SECOND, UNAUTHORIZED, rotation, send},
};

const FORBIDDEN: StatusCode = StatusCode::FORBIDDEN;

async fn scope() -> Rejection {
    Rejection::insufficient_scope(["a", "b"])
}

async fn step_up() -> Rejection {
    Rejection::insufficient_authentication()
        .with_acr_values(["gold", "silver"])
        .with_max_age(Duration::from_millis(60_900))
}

async fn forbidden() -> Rejection {
    Rejection::forbidden(format!("note {} is of another user", 7))
}

async fn account(token: Option<TokenInfo>) -> Result<&'static str, Rejection> {
    token.map(|_| "in").ok_or_else(Rejection::no_credentials)
}

fn refusing() -> Router {
    Router::new()
        .route("/scope", get(scope))
        .route("/step_up", get(step_up))
        .route("/forbidden", get(forbidden))
        .route("/account", get(account))
        .route("/", get(async || "in"))
}

fn problem(answer: &Answer) -> Value {
    assert_eq!(answer.header(header::CONTENT_TYPE), "application/problem+json", "{answer:?}");
    let length = answer.header(header::CONTENT_LENGTH);
    assert!(length.is_empty() || length == answer.body.len().to_string(), "{answer:?}");
    serde_json::from_str(&answer.body).unwrap()
}

#[tokio::test]
async fn a_handler_refuses_by_the_renderer_and_the_challenge_of_the_layer() {
    let bench = Bench::new().await;
    let auth = bench.layer().realm("api").renderer(ProblemDetails).build().unwrap();
    let api = Protected::with_routes(&auth, refusing());
    let token = bench.authlete.token().subject("alice").issue().await;

    let answer = api.get_at("/scope", &token).await;
    let challenge = answer.challenge();
    assert_eq!(answer.status, FORBIDDEN);
    assert!(challenge.starts_with("Bearer realm=\"api\", error=\"insufficient_scope\""));
    assert!(challenge.ends_with("scope=\"a b\""), "{challenge}");
    assert_eq!(answer.header(header::CACHE_CONTROL), "no-store");
    let by_layer = bench.api_with(|layer| {
        layer.realm("api").renderer(ProblemDetails).require(RequireScopes::all(["a", "b"]))
    });
    assert_eq!(by_layer.get(&token).await, answer, "as the layer itself refuses");

    let answer = api.get_at("/step_up", &token).await;
    assert_eq!(answer.status, UNAUTHORIZED);
    assert!(answer.challenge().contains("error=\"insufficient_user_authentication\""));
    assert!(answer.challenge().ends_with("acr_values=\"gold silver\", max_age=\"60\""));

    let answer = api.get_at("/forbidden", &token).await;
    assert_eq!((answer.status, answer.challenge()), (FORBIDDEN, ""));
    let expected = json!({
        "title": "Forbidden",
        "status": 403,
        "detail": "note 7 is of another user",
        "error": "access_denied",
    });
    assert_eq!(problem(&answer), expected);
}

#[tokio::test]
async fn a_handler_of_an_optional_route_asks_for_a_token() {
    let bench = Bench::new().await;
    let auth = bench.layer().realm("api").renderer(ProblemDetails).build().unwrap();
    let api = Protected::with_routes(&auth.optional(), refusing());
    let answer = api.send_at("/account", &[]).await;
    assert_eq!((answer.status, answer.challenge()), (UNAUTHORIZED, "Bearer realm=\"api\""));
    assert_eq!(problem(&answer)["status"], 401);
    let token = bench.authlete.token().issue().await;
    assert_eq!(api.get_at("/account", &token).await.body, "in");
}

#[tokio::test]
async fn without_a_layer_a_handler_refuses_by_status_and_challenge() {
    let bench = Bench::new().await;
    let api = Protected { router: refusing(), ..bench.api() };
    let answer = api.get_at("/scope", "any").await;
    assert_eq!((answer.status, answer.body.as_str()), (FORBIDDEN, ""));
    assert!(answer.challenge().starts_with("Bearer error=\"insufficient_scope\""));
}

#[tokio::test]
async fn what_is_added_to_a_refusal_stays() {
    let bench = Bench::new().await;
    let auth = bench.layer().renderer(ProblemDetails).build().unwrap();
    let hidden = async || {
        let headers = AppendHeaders([("x-trace", "1"), ("x-trace", "2"), ("vary", "accept")]);
        (StatusCode::NOT_FOUND, headers, Rejection::forbidden("there is nothing"))
    };
    let api = Protected::with_routes(&auth, Router::new().route("/", get(hidden)));
    let token = bench.authlete.token().issue().await;
    let answer = api.get(&token).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.headers.get_all("x-trace").iter().count(), 2);
    assert_eq!(answer.header(header::VARY), "accept");
    assert_eq!(problem(&answer)["detail"], "there is nothing");
}

#[tokio::test]
async fn the_nearest_layer_renders_it_once() {
    let bench = Bench::new().await;
    let text = |_: &Refusal<'_>, head: Response<()>| head.map(|()| Body::from("inner"));
    let inner = bench.layer().realm("inner").renderer(text).build().unwrap();
    let outer = bench.layer().realm("outer").renderer(ProblemDetails).build().unwrap();
    let api = Protected::with_routes(&outer, refusing().layer(inner));
    let token = bench.authlete.token().issue().await;
    let answer = api.get_at("/scope", &token).await;
    assert_eq!(answer.body, "inner");
    assert!(answer.challenge().starts_with("Bearer realm=\"inner\""), "{answer:?}");
}

#[tokio::test]
async fn a_refusal_of_a_handler_neither_rotates_nor_extends_the_token() {
    let bench = Bench::new().await;
    let rotating = bench.layer().rotate(rotation()).build().unwrap();
    let teapot = async || (StatusCode::OK, Rejection::forbidden("in disguise"));
    let routes = refusing().route("/disguised", get(teapot));
    let api = Protected::with_routes(&rotating, routes);
    let token = bench.authlete.token().issue().await;
    api.get(&token).await;
    bench.clock.advance(20 * SECOND);
    for path in ["/forbidden", "/disguised"] {
        assert_eq!(api.get_at(path, &token).await.headers.get(NEW), None, "{path}");
    }
    assert_eq!(bench.updates(), 0);
    assert!(api.get(&token).await.headers.contains_key(NEW));

    let bench = Bench::new().await;
    let extending = bench
        .layer()
        .refresh(Refresh::extend().when_below(200 * SECOND).to(600 * SECOND))
        .build()
        .unwrap();
    let api = Protected::with_routes(&extending, refusing());
    let token = bench.authlete.token().expires_in(100 * SECOND).issue().await;
    assert_eq!(api.get_at("/forbidden", &token).await.status, FORBIDDEN);
    bench.let_others_call().await;
    assert_eq!(bench.updates(), 0);
    assert_eq!(api.get(&token).await.status, OK);
    api.is_idle().await;
    bench.let_others_call().await;
    assert_eq!(bench.updates(), 1);
}

#[tokio::test]
async fn the_challenge_of_a_handler_is_of_the_scheme_of_the_request() {
    let bench = Bench::new().await;
    let auth = bench.layer().dpop(Dpop::at(ORIGIN)).build().unwrap();
    let api = Protected::with_routes(&auth, Router::new().route("/", get(scope)));
    let holder = Holder::at(&bench, api).await;
    let answer = holder.get().await;
    assert_eq!(answer.status, FORBIDDEN);
    assert!(answer.challenge().starts_with("DPoP error=\"insufficient_scope\""), "{answer:?}");
}

#[tokio::test]
async fn services_that_are_not_axums_refuse_alike() {
    let bench = Bench::new().await;
    let auth = bench.layer().realm("api").renderer(ProblemDetails).build().unwrap();
    let service = auth.layer(service_fn(|_: Request<String>| async {
        Ok::<Response<Full<Bytes>>, Infallible>(Rejection::forbidden("not yours").into())
    }));
    let token = bench.authlete.token().issue().await;
    let request = Request::get("/").header("authorization", format!("Bearer {token}"));
    let response = service.oneshot(request.body(String::new()).unwrap()).await.unwrap();
    assert_eq!(response.status(), FORBIDDEN);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["detail"], "not yours");
}

#[tokio::test]
async fn problems_that_are_not_the_clients_have_a_code() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.renderer(ProblemDetails));
    for (status, code, answer) in
        [(503, "temporarily_unavailable", 503), (401, "server_error", 500)]
    {
        bench.authlete.fault(Fault::status(status));
        let refused = api.get(&format!("token-{status}")).await;
        assert_eq!((refused.status.as_u16(), refused.challenge()), (answer, ""));
        assert_eq!(problem(&refused)["error"], code);
        bench.authlete.clear_faults();
    }
    assert_eq!(problem(&api.send(&[]).await).get("error"), None);
}

/// Tells path and subject.
fn told(refusal: &Refusal<'_>) -> String {
    let path = refusal.request.map_or("unknown", |request| request.uri.path());
    let subject = refusal.token.map_or("nobody", |token| token.subject().unwrap_or_default());
    format!("{path} {subject}")
}

/// Tells what it knows, of handlers' refusals too.
struct Telling;

impl Renderer<Body> for Telling {
    fn render(&self, refusal: &Refusal<'_>, head: Response<()>) -> Response<Body> {
        if head.headers().contains_key("grpc-status") {
            return head.map(|()| Body::empty());
        }
        head.map(|()| Body::from(told(refusal)))
    }

    fn keeps_requests(&self) -> bool {
        true
    }
}

/// Routes that refuse in different places.
fn telling<R: Renderer<Body>>(auth: &AuthLayer<R>) -> Protected {
    let routes = refusing()
        .route("/token", get(|_: TokenInfo| async {}))
        .route("/any", any(scope))
        .route("/read", get(async || "in").route_layer(RequireScopes::all(["read"])))
        .route("/else", get(async || "in").route_layer(Require::audience(["https://else"])));
    Protected::with_routes(auth, routes)
}

#[tokio::test]
async fn a_renderer_sees_the_request_and_the_token() {
    let bench = Bench::new().await;
    let closure = |refusal: &Refusal<'_>, head: Response<()>| head.map(|()| told(refusal).into());
    let plain = telling(&bench.layer().renderer(closure).build().unwrap());
    let keeping = telling(&bench.layer().renderer(Telling).build().unwrap());
    let token = bench.authlete.token().subject("alice").issue().await;
    for (api, of_handler) in [(&plain, "unknown alice"), (&keeping, "/forbidden alice")] {
        assert_eq!(api.get_at("/read", "rubbish").await.body, "/read nobody");
        assert_eq!(api.get_at("/read", &token).await.body, "/read alice");
        // For another resource server: it is none of the facts that concern this one.
        assert_eq!(api.get_at("/else", &token).await.body, "/else nobody");
        assert_eq!(api.get_at("/forbidden", &token).await.body, of_handler);
    }
    let demanding = bench.layer().require(RequireScopes::all(["read"])).renderer(Telling);
    let demanding = telling(&demanding.build().unwrap());
    assert_eq!(demanding.get_at("/", &token).await.body, "/ alice");
    let optional = telling(&bench.layer().optional().renderer(Telling).build().unwrap());
    assert_eq!(optional.send_at("/token", &[]).await.body, "/token nobody");
    assert_eq!(optional.send_at("/account", &[]).await.body, "/account nobody");
}

#[tokio::test]
async fn a_renderer_that_keeps_requests_lets_handlers_refuse_grpc() {
    let bench = Bench::new().await;
    let api = telling(&bench.layer().renderer(Telling).build().unwrap());
    let token = bench.authlete.token().issue().await;
    let request = Request::builder()
        .method(Method::POST)
        .version(Version::HTTP_2)
        .uri("/any")
        .header("content-type", "application/grpc")
        .header("authorization", format!("Bearer {token}"));
    let answer = send(api.router.clone(), request.body(Body::empty()).unwrap()).await;
    assert_eq!((answer.status, &answer.headers["grpc-status"]), (OK, &"7".parse().unwrap()));
    assert_eq!(answer.header(header::CONTENT_TYPE), "application/grpc");
}

#[test]
fn what_a_handler_writes_cannot_leave_its_parameter() {
    let rejection = Rejection::insufficient_scope(["a\"b", "c\r\nd"]);
    let response = rejection.into_response();
    let challenge = response.headers()[header::WWW_AUTHENTICATE].to_str().unwrap();
    assert!(challenge.ends_with("scope=\"a'b c??d\""), "{challenge}");
    let none = Rejection::insufficient_scope(Vec::<String>::new());
    assert_eq!(none.scope(), None);
}
