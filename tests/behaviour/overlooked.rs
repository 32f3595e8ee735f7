//! What goes unnoticed until two settings, or two things that happen, come together.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, SystemTime},
};

use axum::{Router, body::Body, extract, middleware};
use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::poll;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header::RETRY_AFTER};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tower::ServiceExt;
use tower_authlete::{
    AuthLayer, Authlete, BreakerState, Dpop, MessageSignatures, ProofId, Refresh, Remembered,
    Remembering, ReplayStore, Rotation,
    api::{
        IntrospectionAction, IntrospectionRequest, RequestBody, Secret, TlsRoots,
        TokenRevokeRequest, TokenUpdateRequest, Transport,
    },
    emulator::{Api, Fault},
    endpoint::{RevocationEndpoint, TokenEndpoint},
    session::{MemoryStore, SessionLayer, SessionTokens, Sessions},
};

use crate::{
    keys::Key,
    support::{Answer, Bench, Protected, send},
};

const SECOND: Duration = Duration::from_secs(1);
const ORIGIN: &str = "https://api.example.com";
const NEW: HeaderName = HeaderName::from_static("x-new-token");
const OK: StatusCode = StatusCode::OK;
const UNAVAILABLE: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

/// New values after 20 s.
fn rotation() -> Rotation {
    Rotation::in_header(NEW).every(20 * SECOND)
}

fn proven(bench: &Bench, key: &Key, token: &str) -> extract::Request {
    let now = bench.clock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let proof = key.proof_for(token, json!({ "htu": format!("{ORIGIN}/"), "iat": now }));
    let request = Request::get("/").header("authorization", format!("DPoP {token}"));
    request.header("dpop", proof).body(Body::empty()).unwrap()
}

/// A layer around itself, between which the token is revoked, or at Authlete and forgotten here.
fn revoked_between(bench: &Bench, auth: &AuthLayer, token: &str, forgets: bool) -> Router {
    let (handle, token, elsewhere) = (auth.handle(), token.to_owned(), bench.authlete.authlete());
    let between = middleware::from_fn(move |request: extract::Request, next: middleware::Next| {
        let (handle, token, elsewhere) = (handle.clone(), token.clone(), elsewhere.clone());
        async move {
            if forgets {
                let gone = TokenRevokeRequest::new().access_token_identifier(&token);
                elsewhere.token_revoke(&gone).await.unwrap();
                handle.forget(&token);
            } else {
                handle.revoke(&token).await.unwrap();
            }
            next.run(request).await
        }
    });
    Protected::new(auth).router.layer(between).layer(auth.clone())
}

#[tokio::test]
async fn a_layer_inside_sees_a_revocation_while_the_token_is_asked_about_ahead_of_time() {
    let bench = Bench::new().await;
    let auth = bench.layer().dpop(Dpop::at(ORIGIN)).build().unwrap();
    for forgets in [true, false] {
        let key = Key::es256();
        let token = bench.authlete.token().dpop_key_thumbprint(key.thumbprint()).issue().await;
        let answer = send(Protected::new(&auth).router, proven(&bench, &key, &token)).await;
        assert_eq!(answer.status, OK);
        bench.clock.advance(58 * SECOND);
        let _hold = bench.authlete.hold(Api::Introspection);
        let nested = revoked_between(&bench, &auth, &token, forgets);
        assert_ne!(send(nested, proven(&bench, &key, &token)).await.status, OK, "{forgets}");
    }
}

/// A layer that knows a token, bound to this key, only as it was before an outage that is over.
async fn out_of_date(bench: &Bench) -> (AuthLayer, Key, String) {
    let layer = bench.layer().dpop(Dpop::at(ORIGIN)).stale_on_error(600 * SECOND);
    let auth = layer.breaker(0, SECOND).build().unwrap();
    let key = Key::es256();
    let token = bench.authlete.token().dpop_key_thumbprint(key.thumbprint()).issue().await;
    let router = Protected::new(&auth).router;
    assert_eq!(send(router.clone(), proven(bench, &key, &token)).await.status, OK);
    bench.clock.advance(60 * SECOND);
    bench.authlete.fault(Fault::status(503));
    assert_eq!(send(router, proven(bench, &key, &token)).await.status, OK);
    bench.authlete.clear_faults();
    (auth, key, token)
}

#[tokio::test]
async fn or_while_what_is_out_of_date_is_asked_again() {
    let bench = Bench::new().await;
    let (auth, key, token) = out_of_date(&bench).await;
    let _hold = bench.authlete.hold(Api::Introspection);
    let nested = revoked_between(&bench, &auth, &token, false);
    assert_ne!(send(nested, proven(&bench, &key, &token)).await.status, OK);
}

/// A layer around another one, between which a request waits for so many introspections, and for what
/// comes of them.
fn after_calls(
    bench: &Arc<Bench>,
    outer: &AuthLayer,
    inner: &AuthLayer,
    api: Api,
    calls: u64,
) -> Router {
    let bench = bench.clone();
    let between = middleware::from_fn(move |request: extract::Request, next: middleware::Next| {
        let bench = bench.clone();
        async move {
            bench.authlete.arrived(api, calls).await;
            let_others_call(&bench).await;
            next.run(request).await
        }
    });
    Protected::new(inner).router.layer(between).layer(outer.clone())
}

#[tokio::test]
async fn a_layer_inside_goes_by_what_the_call_has_told_meanwhile() {
    let bench = Arc::new(Bench::new().await);
    let auth = bench.layer().dpop(Dpop::at(ORIGIN)).build().unwrap();
    let key = Key::es256();
    let token = bench.authlete.token().dpop_key_thumbprint(key.thumbprint()).issue().await;
    let answer = send(Protected::new(&auth).router, proven(&bench, &key, &token)).await;
    assert_eq!(answer.status, OK);
    bench.clock.advance(58 * SECOND);
    assert!(bench.authlete.revoke(&token));
    let nested = after_calls(&bench, &auth, &auth, Api::Introspection, bench.introspections() + 1);
    let answer = send(nested, proven(&bench, &key, &token)).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn and_by_what_was_learnt_of_its_extension() {
    let bench = Arc::new(Bench::new().await);
    let refresh = Refresh::extend().when_below(10 * SECOND).to(1800 * SECOND).wait();
    let auth = bench.layer().dpop(Dpop::at(ORIGIN)).refresh(refresh).build().unwrap();
    let key = Key::es256();
    let token = bench.authlete.token().dpop_key_thumbprint(key.thumbprint());
    let token = token.expires_in(8 * SECOND).issue().await;
    let nested = after_calls(&bench, &auth, &auth, Api::TokenUpdate, 1);
    assert_eq!(send(nested, proven(&bench, &key, &token)).await.status, OK);
}

#[tokio::test]
async fn a_strict_layer_inside_lets_pass_what_was_asked_again() {
    let bench = Arc::new(Bench::new().await);
    let (auth, key, token) = out_of_date(&bench).await;
    let (strict, calls) = (auth.stale_on_error(Duration::ZERO), bench.introspections() + 1);
    let nested = after_calls(&bench, &auth, &strict, Api::Introspection, calls);
    assert_eq!(send(nested, proven(&bench, &key, &token)).await.status, OK);
}

/// Holds the first answer of an API back, until it is told to go on.
#[derive(Default)]
struct Gate {
    closed: Notify,
    open: Notify,
    used: AtomicBool,
}

impl Gate {
    /// Calls through a gate.
    fn before(bench: &Bench, api: &'static str) -> (Authlete, Arc<Self>) {
        let (gate, transport) = (Arc::<Self>::default(), Transport::new(TlsRoots::None, SECOND));
        let (it, transport) = (gate.clone(), transport.unwrap());
        let gated = tower::service_fn(move |request: Request<RequestBody>| {
            let (gate, transport) = (it.clone(), transport.clone());
            let held = request.uri().path().ends_with(api);
            async move {
                let answer = transport.oneshot(request).await;
                if held && !gate.used.swap(true, Ordering::SeqCst) {
                    gate.closed.notify_one();
                    gate.open.notified().await;
                }
                answer
            }
        });
        (bench.authlete.client_builder().transport(gated).build().unwrap(), gate)
    }
}

/// Calls of somebody else, so that all others have time to be made.
async fn let_others_call(bench: &Bench) {
    let other = bench.authlete.authlete();
    for _ in 0..50 {
        other.introspection(&IntrospectionRequest::new().token("other")).await.unwrap();
    }
}

#[tokio::test]
async fn an_extension_is_not_made_again_after_an_update() {
    let bench = Bench::new().await;
    let (authlete, gate) = Gate::before(&bench, "/auth/token/update");
    let refresh = Refresh::extend().when_below(10 * SECOND).to(1800 * SECOND);
    let layer = AuthLayer::builder(authlete).clock(bench.clock.clone()).refresh(refresh);
    let api = Protected::new(&layer.retries(1, Duration::ZERO).build().unwrap());
    let token = bench.authlete.token().expires_in(9 * SECOND).issue().await;
    bench.authlete.fault(Fault::status(503).on(Api::TokenUpdate).times(1));
    assert_eq!(api.get(&token).await.status, OK);
    gate.closed.notified().await;
    let soon = bench.clock.now() + 2 * SECOND;
    let shorter = TokenUpdateRequest::new().access_token_expires_at(soon);
    api.handle.update(&token, shorter).await.unwrap();
    gate.open.notify_one();
    let_others_call(&bench).await;
    assert_eq!(bench.authlete.calls(Api::TokenUpdate), 2);
    bench.clock.advance(60 * SECOND);
    assert_eq!(api.get(&token).await.status, StatusCode::UNAUTHORIZED);
}

#[derive(Clone)]
struct Server {
    api: Protected,
    endpoints: Router,
    basic: String,
}

impl Server {
    fn new(bench: &Bench, authlete: &Authlete) -> Self {
        let layer = AuthLayer::builder(authlete.clone()).clock(bench.clock.clone());
        let auth = layer.build().unwrap();
        let handle = auth.handle();
        let endpoints = Router::new()
            .route_service("/token", TokenEndpoint::new(authlete.clone(), &handle))
            .route_service("/revoke", RevocationEndpoint::new(authlete.clone(), &handle));
        let pair = format!("{}:{}", bench.authlete.client_id(), bench.authlete.client_secret());
        let basic = format!("Basic {}", BASE64_STANDARD.encode(pair));
        Self { api: Protected::new(&auth), endpoints, basic }
    }

    fn post(&self, path: &str, form: &str) -> impl Future<Output = Answer> + Send + 'static {
        let request = Request::post(path)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("authorization", &self.basic)
            .body(Body::from(form.to_owned()))
            .unwrap();
        send(self.endpoints.clone(), request)
    }
}

fn access(answer: &Answer) -> String {
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    body["access_token"].as_str().unwrap().to_owned()
}

/// A token on its way that was revoked already.
async fn revoked_at_birth(bench: &Bench, server: &Server, meanwhile: impl FnOnce()) -> String {
    let hold = bench.authlete.hold(Api::Token);
    let issued = tokio::spawn(server.post("/token", "grant_type=client_credentials&scope=read"));
    bench.authlete.arrived(Api::Token, 1).await;
    let all = TokenRevokeRequest::new().client_identifier(bench.authlete.client_id().to_string());
    let revoked = bench.authlete.authlete().token_revoke(&all).await.unwrap();
    assert_eq!(revoked.count, Some(1));
    meanwhile();
    hold.release();
    access(&issued.await.unwrap())
}

#[tokio::test]
async fn what_an_issue_told_is_not_kept_if_all_was_forgotten_meanwhile() {
    let bench = Bench::new().await;
    let server = Server::new(&bench, &bench.authlete.authlete());
    let token = revoked_at_birth(&bench, &server, || server.api.handle.forget_all()).await;
    assert_eq!(server.api.get(&token).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn what_an_issue_told_is_as_old_as_its_call() {
    let bench = Bench::new().await;
    let server = Server::new(&bench, &bench.authlete.authlete());
    let token = revoked_at_birth(&bench, &server, || bench.clock.advance(2 * SECOND)).await;
    bench.clock.advance(58 * SECOND);
    assert_eq!(server.api.get(&token).await.status, StatusCode::UNAUTHORIZED);
}

/// From then on Authlete answers token requests with this access token and refresh token, as a service
/// does that keeps refresh tokens.
async fn answers_a_pair(bench: &Bench) -> (String, String) {
    let pair = bench.authlete.token().client_id(bench.authlete.client_id()).subject("alice");
    let pair = pair.issue_with_refresh().await;
    let (access_token, refresh) = (pair.access_token.as_str(), pair.refresh_token.as_str());
    let content = json!({
        "access_token": access_token,
        "token_type": "Bearer",
        "refresh_token": refresh,
        "expires_in": 3600,
    });
    let answer = json!({
        "action": "OK",
        "responseContent": content.to_string(),
        "accessToken": access_token,
        "refreshToken": refresh,
        "subject": "alice",
    });
    bench.authlete.fault(Fault::json(answer).on(Api::Token));
    (access_token.to_owned(), refresh.to_owned())
}

#[tokio::test]
async fn what_an_issue_told_is_not_kept_if_its_refresh_token_was_revoked_meanwhile() {
    let bench = Bench::new().await;
    let (authlete, gate) = Gate::before(&bench, "/auth/token");
    let server = Server::new(&bench, &authlete);
    let (access_token, refresh) = answers_a_pair(&bench).await;
    let form = "grant_type=authorization_code&code=x";
    let issued = tokio::spawn(server.post("/token", form));
    gate.closed.notified().await;
    assert_eq!(server.post("/revoke", &format!("token={refresh}")).await.status, OK);
    gate.open.notify_one();
    assert_eq!(access(&issued.await.unwrap()), access_token);
    assert_eq!(server.api.get(&access_token).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_access_token_of_a_refresh_token_is_found_though_a_handler_gave_it_a_new_value() {
    let bench = Bench::new().await;
    let server = Server::new(&bench, &bench.authlete.authlete());
    let (access_token, refresh) = answers_a_pair(&bench).await;
    assert_eq!(server.post("/token", "grant_type=authorization_code&code=x").await.status, OK);
    let change = TokenUpdateRequest::new().access_token_value_updated(true);
    let told = server.api.handle.update(&access_token, change).await.unwrap();
    let new = told.access_token.unwrap();
    assert_eq!(server.api.get(new.expose()).await.status, OK);
    assert_eq!(server.post("/revoke", &format!("token={refresh}")).await.status, OK);
    assert_eq!(server.api.get(new.expose()).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_stranger_does_not_keep_issued_tokens_out_of_the_cache() {
    let bench = Bench::new().await;
    let server = Server::new(&bench, &bench.authlete.authlete());
    let stranger = Server { basic: "Basic YTpi".into(), ..server.clone() };
    let hold = bench.authlete.hold(Api::Token);
    let issued = tokio::spawn(server.post("/token", "grant_type=client_credentials&scope=read"));
    bench.authlete.arrived(Api::Token, 1).await;
    let answer = stranger.post("/revoke", "token=nonsense").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    hold.release();
    let token = access(&issued.await.unwrap());
    assert_eq!(server.api.get(&token).await.status, OK);
    assert_eq!(bench.introspections(), 0);
}

#[tokio::test]
async fn a_crowd_is_no_outage() {
    let bench = Bench::new().await;
    let api =
        bench.api_with(|layer| layer.stale_on_error(600 * SECOND).max_in_flight(1).max_waiting(0));
    let token = bench.authlete.token().subject("alice").issue().await;
    api.get(&token).await;
    assert!(bench.authlete.revoke(&token));
    bench.clock.advance(300 * SECOND);
    let hold = bench.authlete.hold(Api::Introspection);
    let crowd = tokio::spawn({
        let api = api.clone();
        async move { api.get("made-up").await.status }
    });
    bench.authlete.arrived(Api::Introspection, 2).await;
    assert_eq!(api.get(&token).await.status, UNAVAILABLE);
    hold.release();
    assert_eq!(crowd.await.unwrap(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn but_a_crowd_in_an_outage_is_served_what_is_out_of_date() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| {
        let layer = layer.stale_on_error(600 * SECOND).breaker(0, SECOND);
        layer.max_in_flight(1).max_waiting(0)
    });
    let token = bench.authlete.token().subject("alice").issue().await;
    api.get(&token).await;
    bench.clock.advance(300 * SECOND);
    bench.authlete.fault(Fault::status(503).times(2));
    assert_eq!(api.get("another").await.status, UNAVAILABLE);
    bench.clock.advance(10 * SECOND);
    let _hold = bench.authlete.hold(Api::Introspection);
    let crowd = tokio::spawn({
        let api = api.clone();
        async move { api.get("made-up").await.status }
    });
    let calls = bench.introspections();
    bench.authlete.arrived(Api::Introspection, calls + 1).await;
    assert_eq!(api.get(&token).await.status, OK);
    crowd.abort();
}

#[tokio::test]
async fn calls_that_overlap_keep_what_an_outage_needs() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.max_age(SECOND).stale_on_error(600 * SECOND));
    let token = bench.authlete.token().subject("alice").issue().await;
    let hold = bench.authlete.hold(Api::Introspection);
    let get = || {
        let (api, token) = (api.clone(), token.clone());
        tokio::spawn(async move { api.get(&token).await.status })
    };
    let first = get();
    bench.authlete.arrived(Api::Introspection, 1).await;
    // Authlete takes longer than answers may be used.
    bench.clock.advance(SECOND);
    let second = get();
    bench.authlete.arrived(Api::Introspection, 2).await;
    hold.release();
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (OK, OK));
    bench.clock.advance(5 * SECOND);
    bench.authlete.fault(Fault::status(503));
    assert_eq!(api.get(&token).await.status, OK);
}

#[tokio::test]
async fn in_an_outage_what_is_cached_serves_on_where_tokens_get_new_values() {
    for status in [503, 429] {
        let bench = Bench::new().await;
        let api = bench.api_with(|layer| layer.rotate(rotation()));
        let token = bench.authlete.token().subject("alice").issue().await;
        api.get(&token).await;
        bench.clock.advance(20 * SECOND);
        bench.authlete.fault(Fault::status(status));
        assert_eq!(api.get(&token).await.status, OK);
        assert_eq!(api.get(&token).await.status, OK);
        assert_eq!(bench.authlete.calls(Api::TokenUpdate), 1);
    }
}

#[tokio::test]
async fn and_so_does_what_is_out_of_date() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.stale_on_error(600 * SECOND).rotate(rotation()));
    let token = bench.authlete.token().subject("alice").issue().await;
    api.get(&token).await;
    bench.clock.advance(60 * SECOND);
    bench.authlete.fault(Fault::status(503));
    for _ in 0..3 {
        assert_eq!(api.get(&token).await.status, OK);
    }
    assert_eq!(bench.authlete.calls(Api::TokenUpdate), 0);
}

#[tokio::test]
async fn no_new_value_is_asked_for_while_the_breaker_is_open() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.breaker(1, 30 * SECOND).rotate(rotation()));
    let token = bench.authlete.token().subject("alice").issue().await;
    api.get(&token).await;
    bench.clock.advance(20 * SECOND);
    bench.authlete.fault(Fault::status(502).on(Api::Introspection));
    assert_eq!(api.get("another").await.status, UNAVAILABLE);
    assert_eq!(api.handle.health().breaker, BreakerState::Open);
    assert_eq!(api.get(&token).await.status, OK);
    assert_eq!(bench.authlete.calls(Api::TokenUpdate), 0);
    bench.clock.advance(30 * SECOND);
    bench.authlete.clear_faults();
    api.get("another").await;
    assert!(!api.get(&token).await.header(NEW).is_empty(), "it is asked for later");
}

#[tokio::test]
async fn new_values_are_not_asked_for_all_at_once() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.rotate(rotation()));
    let mut tokens = Vec::new();
    for _ in 0..100 {
        let token = bench.authlete.token().subject("alice").issue().await;
        assert_eq!(api.get(&token).await.status, OK);
        tokens.push(token);
    }
    bench.clock.advance(20 * SECOND);
    let hold = bench.authlete.hold(Api::TokenUpdate);
    let mut all: Vec<_> = tokens.iter().map(|token| Box::pin(api.get(token))).collect();
    let mut answered = 0;
    for request in &mut all {
        answered += u32::from(poll!(request).is_ready());
    }
    assert_eq!(answered, 36, "there is room for 64");
    hold.release();
}

#[tokio::test]
async fn layers_in_layers_tell_one_new_value() {
    let bench = Bench::new().await;
    for rotation in [rotation(), Rotation::in_cookie("token").every(20 * SECOND)] {
        let auth = bench.layer().rotate(rotation).build().unwrap();
        let router = Protected::new(&auth.no_cache()).router.layer(auth.clone());
        let api = Protected { router, handle: auth.handle() };
        let token = bench.authlete.token().subject("alice").issue().await;
        api.get(&token).await;
        bench.clock.advance(20 * SECOND);
        let answer = api.get(&token).await;
        let told =
            [NEW, http::header::SET_COOKIE].map(|it| answer.headers.get_all(it).iter().count());
        assert_eq!(told.iter().sum::<usize>(), 1, "{told:?}");
    }
}

#[tokio::test]
async fn layers_in_layers_sign_once() {
    let bench = Bench::new().await;
    let signatures = MessageSignatures::at(ORIGIN).signer(|_, _, response| {
        response.headers.append("signature", HeaderValue::from_static("x"));
        Ok(())
    });
    let auth = bench.layer().message_signatures(signatures).build().unwrap();
    let router = Protected::new(&auth.no_cache()).router.layer(auth.clone());
    let api = Protected { router, handle: auth.handle() };
    let token = bench.authlete.token().subject("alice").response_signing_required().issue().await;
    let answer = api.get(&token).await;
    assert_eq!(answer.headers.get_all("signature").iter().count(), 1);
}

#[tokio::test]
async fn a_layer_inside_signs_for_its_own_token() {
    let bench = Bench::new().await;
    let signatures = MessageSignatures::at(ORIGIN).signer(|_, _, response| {
        response.headers.append("signature", HeaderValue::from_static("x"));
        Ok(())
    });
    let layer = bench.layer().message_signatures(signatures).rotate(rotation());
    let auth = layer.build().unwrap();
    let token = bench.authlete.token().subject("alice").issue().await;
    let other = bench.authlete.token().subject("bob").response_signing_required().issue().await;
    let exchanged = middleware::map_request(move |mut request: extract::Request| {
        let other = format!("Bearer {other}").parse().unwrap();
        request.headers_mut().insert("authorization", other);
        async { request }
    });
    let router = Protected::new(&auth).router.layer(exchanged).layer(auth.clone());
    let api = Protected { router, handle: auth.handle() };
    for _when_the_first_is_due_for_a_new_value_and_not in 0..2 {
        let answer = api.get(&token).await;
        assert_eq!((answer.status, answer.body.as_str()), (OK, "bob"));
        assert_eq!(answer.headers.get_all("signature").iter().count(), 1);
        bench.clock.advance(20 * SECOND);
    }
}

#[tokio::test]
async fn after_an_outage_tokens_in_use_find_out_that_it_is_over() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.breaker(1, SECOND));
    let token = bench.authlete.token().subject("alice").issue().await;
    api.get(&token).await;
    bench.clock.advance(55 * SECOND);
    bench.authlete.fault(Fault::status(503));
    assert_eq!(api.get("another").await.status, UNAVAILABLE);
    bench.authlete.clear_faults();
    bench.clock.advance(3 * SECOND);
    assert_eq!(api.handle.health().breaker, BreakerState::HalfOpen);
    let before = bench.introspections();
    assert_eq!(api.get(&token).await.status, OK);
    bench.authlete.arrived(Api::Introspection, before + 1).await;
    while api.handle.health().breaker != BreakerState::Closed {
        tokio::task::yield_now().await;
    }
}

/// While this lives, tokio does not move its clock by itself.
fn keep_the_time() -> mpsc::Sender<()> {
    let (keep, blocked) = mpsc::channel();
    tokio::task::spawn_blocking(move || blocked.recv());
    keep
}

async fn turns() {
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_extension_that_is_waited_for_is_part_of_the_check() {
    let _keep = keep_the_time();
    let bench = Bench::new().await;
    let refresh = Refresh::extend().when_below(10 * SECOND).to(30 * SECOND).wait();
    let api = bench.api_with(|layer| layer.refresh(refresh).check_deadline(3 * SECOND));
    let token = bench.authlete.token().expires_in(5 * SECOND).issue().await;
    let hold = bench.authlete.hold(Api::Introspection);
    let _extension = bench.authlete.hold(Api::TokenUpdate);
    let request = tokio::spawn(async move { api.get(&token).await.status });
    bench.authlete.arrived(Api::Introspection, 1).await;
    tokio::time::advance(2 * SECOND).await;
    hold.release();
    bench.authlete.arrived(Api::TokenUpdate, 1).await;
    tokio::time::advance(SECOND).await;
    turns().await;
    assert!(request.is_finished(), "it waits on");
    assert_eq!(request.await.unwrap(), OK);
}

/// A store that does not answer at once.
struct Remote;

impl ReplayStore for Remote {
    fn remember(&self, _: ProofId, _: SystemTime, _: SystemTime) -> Remembering<'_> {
        Box::pin(async {
            tokio::task::yield_now().await;
            Remembered::New
        })
    }
}

#[tokio::test(start_paused = true)]
async fn who_waited_for_an_extension_in_vain_has_time_for_the_replay_store() {
    let _keep = keep_the_time();
    let bench = Bench::new().await;
    let refresh = Refresh::extend().when_below(10 * SECOND).to(30 * SECOND).wait();
    let layer = bench.layer().refresh(refresh).check_deadline(3 * SECOND);
    let layer = layer.dpop(Dpop::at(ORIGIN).replay_store(Remote));
    let api = Protected::new(&layer.build().unwrap());
    let key = Key::es256();
    let token = bench.authlete.token().dpop_key_thumbprint(key.thumbprint());
    let token = token.expires_in(9 * SECOND).issue().await;
    let _extension = bench.authlete.hold(Api::TokenUpdate);
    let request = tokio::spawn(send(api.router, proven(&bench, &key, &token)));
    bench.authlete.arrived(Api::TokenUpdate, 1).await;
    for _ in 0..12 {
        tokio::time::advance(SECOND / 4).await;
        turns().await;
    }
    assert!(request.is_finished(), "it waits on");
    assert_eq!(request.await.unwrap().status, OK);
}

/// A store that never answers.
struct Silent;

impl ReplayStore for Silent {
    fn remember(&self, _: ProofId, _: SystemTime, _: SystemTime) -> Remembering<'_> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_store_that_does_not_answer_is_not_waited_for_in_vain() {
    let _keep = keep_the_time();
    let bench = Bench::new().await;
    let layer = bench.layer().dpop(Dpop::at(ORIGIN).replay_store(Silent));
    let api = Protected::new(&layer.check_deadline(3 * SECOND).build().unwrap());
    let key = Key::es256();
    let token = bench.authlete.token().dpop_key_thumbprint(key.thumbprint()).issue().await;
    let request = tokio::spawn(send(api.router, proven(&bench, &key, &token)));
    bench.authlete.arrived(Api::Introspection, 1).await;
    tokio::time::advance(3 * SECOND).await;
    turns().await;
    assert!(request.is_finished(), "it waits on");
    assert_eq!(request.await.unwrap().status, UNAVAILABLE);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_try_that_would_come_too_late() {
    let _keep = keep_the_time();
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| {
        layer.retries(2, Duration::ZERO).check_deadline(Duration::from_millis(2500))
    });
    bench.authlete.fault(Fault::status(429).retry_after(2));
    let request = tokio::spawn(async move { api.get("token").await });
    bench.authlete.arrived(Api::Introspection, 1).await;
    turns().await;
    tokio::time::advance(2 * SECOND).await;
    bench.authlete.arrived(Api::Introspection, 2).await;
    turns().await;
    assert!(request.is_finished(), "it waits on");
    assert_eq!(request.await.unwrap().header(RETRY_AFTER), "2");
}

/// A session, and the headers that name it.
async fn session(
    bench: &Bench,
    access: &str,
    refresh: &str,
) -> (SessionLayer<MemoryStore>, Sessions<MemoryStore>, HeaderMap) {
    let layer = SessionLayer::builder(bench.authlete.authlete(), MemoryStore::default())
        .client(bench.authlete.client_id().to_string(), bench.authlete.client_secret())
        .clock(bench.clock.clone());
    let layer = layer.build().unwrap();
    let sessions = layer.sessions();
    let tokens = SessionTokens::new(access, None, Some(Secret::from(refresh)));
    let set = sessions.begin(tokens).await.unwrap();
    let cookie = set.to_str().unwrap().split(';').next().unwrap().to_owned();
    (layer, sessions, HeaderMap::from_iter([(http::header::COOKIE, cookie.parse().unwrap())]))
}

#[tokio::test]
async fn a_session_whose_revocation_failed_can_be_ended_again() {
    let bench = Bench::new().await;
    let pair = bench.authlete.token().subject("alice").issue_with_refresh().await;
    let (layer, sessions, headers) = session(&bench, &pair.access_token, &pair.refresh_token).await;
    bench.authlete.fault(Fault::status(503).on(Api::TokenRevoke));
    assert!(sessions.end(&headers).await.is_err());
    let again = sessions.end(&headers).await;
    assert!(again.is_err(), "its tokens are not revoked yet");
    let request = Request::get("/").header("cookie", &headers["cookie"]).body(Body::empty());
    let router = Protected::new(&bench.layer().build().unwrap()).router.layer(layer);
    assert_eq!(send(router, request.unwrap()).await.status, StatusCode::UNAUTHORIZED);
    bench.authlete.clear_faults();
    assert!(sessions.end(&headers).await.is_ok());
    assert!(!bench.authlete.revoke(&pair.access_token), "its token lives on");
}

#[tokio::test]
async fn the_end_of_a_session_is_finished_though_its_caller_goes_away() {
    let bench = Bench::new().await;
    let pair = bench.authlete.token().subject("alice").issue_with_refresh().await;
    let (_, sessions, headers) = session(&bench, &pair.access_token, &pair.refresh_token).await;
    assert!(poll!(Box::pin(sessions.end(&headers))).is_pending());
    bench.authlete.arrived(Api::TokenRevoke, 1).await;
    let request = IntrospectionRequest::new().token(pair.access_token.as_str());
    let told = bench.authlete.authlete().introspection(&request).await.unwrap();
    assert_eq!(told.action, IntrospectionAction::Unauthorized);
}
