//! Outbound calls have tokens with restricted rights.

use std::{convert::Infallible, time::Duration};

use axum::body::Body;
use futures_util::future::join_all;
use http::{Request, Response, StatusCode};
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_authlete::{
    AuthLayer, CachePolicy, TokenInfo,
    api::{IntrospectionRequest, IntrospectionResponse, TokenListRequest, TokenUpdateRequest},
    delegate::{DelegateError, DelegateLayer},
    emulator::{Api, Fault},
};

use crate::{
    authorization_server::revoke,
    support::{Answer, Bench, NEW, Protected, SECOND, rotation},
};

impl Bench {
    fn delegate(&self) -> DelegateLayer {
        DelegateLayer::new(self.authlete.authlete())
            .client_id(self.authlete.client_id())
            .clock(self.clock.clone())
    }

    fn creations(&self) -> u64 {
        self.authlete.calls(Api::TokenCreate)
    }

    /// The facts of an inbound token of alice's with these scopes.
    async fn inbound(&self, scopes: &[&str]) -> TokenInfo {
        self.inbound_of("alice", scopes).await
    }

    async fn inbound_of(&self, subject: &str, scopes: &[&str]) -> TokenInfo {
        let token = self.authlete.token().subject(subject).scopes(scopes.iter().copied());
        self.facts(&token.issue().await).await
    }

    async fn facts(&self, token: &str) -> TokenInfo {
        TokenInfo::from(&self.introspect(token).await)
    }

    async fn introspect(&self, token: &str) -> IntrospectionResponse {
        let request = IntrospectionRequest::new().token(token);
        self.authlete.authlete().introspection(&request).await.unwrap()
    }
}

/// Calls `GET path` of the API, on behalf of an inbound request.
async fn call(
    delegate: &DelegateLayer,
    api: &Protected,
    path: &str,
    inbound: Option<&TokenInfo>,
) -> Result<Answer, BoxError> {
    Caller::new(delegate, api).call(path, inbound).await
}

#[derive(Clone)]
struct Caller(tower_authlete::delegate::DelegateService<axum::Router>);

impl Caller {
    fn new(delegate: &DelegateLayer, api: &Protected) -> Self {
        Self(delegate.layer(api.router.clone()))
    }

    async fn call(&self, path: &str, inbound: Option<&TokenInfo>) -> Result<Answer, BoxError> {
        let mut request = Request::get(path).body(Body::empty()).unwrap();
        request.extensions_mut().extend(inbound.cloned().map(extension).unwrap_or_default());
        Ok(Answer::of(self.0.clone().oneshot(request).await?).await)
    }
}

/// A call on behalf of an inbound request, for which something happens while its token is being made.
async fn call_during(bench: &Bench, caller: &Caller, inbound: &TokenInfo, happens: impl FnOnce()) {
    let hold = bench.authlete.hold(Api::TokenCreate);
    let calling = {
        let (caller, inbound) = (caller.clone(), inbound.clone());
        tokio::spawn(async move { caller.call("/", Some(&inbound)).await.unwrap().status })
    };
    bench.authlete.arrived(Api::TokenCreate, 1).await;
    happens();
    hold.release();
    assert_eq!(calling.await.unwrap(), StatusCode::OK);
}

fn extension(token: TokenInfo) -> http::Extensions {
    let mut extensions = http::Extensions::new();
    extensions.insert(token);
    extensions
}

fn is(error: &BoxError, expected: &DelegateError) -> bool {
    error.downcast_ref::<DelegateError>().map(ToString::to_string) == Some(expected.to_string())
}

/// Another service, which reports the tokens of its requests.
fn elsewhere(bench: &Bench) -> (Protected, UnboundedReceiver<String>) {
    let (sender, seen) = unbounded_channel();
    let router = axum::Router::new().fallback(move |headers: http::HeaderMap| async move {
        assert!(headers["authorization"].is_sensitive());
        let value = headers["authorization"].to_str().unwrap().to_owned();
        sender.send(value.trim_start_matches("Bearer ").to_owned()).unwrap();
    });
    (Protected { router, ..bench.api() }, seen)
}

/// The facts that a layer inserts into a request.
async fn admitted(auth: &AuthLayer, token: &str) -> TokenInfo {
    let inner = service_fn(|request: Request<Body>| async move {
        let mut response = Response::new(Body::empty());
        *response.extensions_mut() = request.extensions().clone();
        Ok::<_, Infallible>(response)
    });
    let request = Request::get("/").header("authorization", format!("Bearer {token}"));
    let response = auth.layer(inner).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    response.extensions().get::<TokenInfo>().unwrap().clone()
}

#[tokio::test]
async fn a_call_is_made_for_the_user_with_no_more_than_the_inbound_scopes() {
    let bench = Bench::new().await;
    let api = bench.api();
    let delegate = bench.delegate().scopes(["read", "write"]);
    let inbound = bench.inbound(&["read", "admin"]).await;
    let answer = call(&delegate, &api, "/read", Some(&inbound)).await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "alice"));
    let answer = call(&delegate, &api, "/write", Some(&inbound)).await.unwrap();
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn without_a_user_or_any_scope_no_call_is_made() {
    let bench = Bench::new().await;
    let api = bench.api();
    let delegate = bench.delegate().scopes(["read"]);
    let error = call(&delegate, &api, "/", None).await.unwrap_err();
    assert!(is(&error, &DelegateError::NoInboundToken), "{error}");
    let nobody = bench.facts(&bench.authlete.token().scopes(["read"]).issue().await).await;
    let error = call(&delegate, &api, "/", Some(&nobody)).await.unwrap_err();
    assert!(is(&error, &DelegateError::NoSubject), "{error}");
    let other = bench.inbound(&["other"]).await;
    let error = call(&delegate, &api, "/", Some(&other)).await.unwrap_err();
    assert!(is(&error, &DelegateError::NoScopes), "{error}");
    assert_eq!(bench.creations(), 0);
}

#[tokio::test]
async fn as_service_calls_for_no_user() {
    let bench = Bench::new().await;
    let delegate = bench.delegate().scopes(["read"]).as_service();
    let answer = call(&delegate, &bench.api(), "/read", None).await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "nobody"));
}

#[tokio::test]
async fn repeated_and_concurrent_calls_share_a_token() {
    let bench = Bench::new().await;
    let caller = Caller::new(&bench.delegate().scopes(["read"]), &bench.api());
    let inbound = bench.inbound(&["read"]).await;
    let answers = join_all((0..50).map(|_| caller.call("/read", Some(&inbound)))).await;
    assert!(answers.into_iter().all(|answer| answer.unwrap().status == StatusCode::OK));
    // Another inbound token of the same user and scopes shares it.
    let again = bench.inbound(&["read"]).await;
    caller.call("/read", Some(&again)).await.unwrap();
    assert_eq!(bench.creations(), 1);
}

#[tokio::test]
async fn tokens_are_never_shared_between_users_scopes_or_resources() {
    let bench = Bench::new().await;
    let api = bench.api();
    let caller = Caller::new(&bench.delegate().scopes(["read", "write"]), &api);
    for (subject, scopes, expected) in [
        ("alice", &["read"][..], "alice"),
        ("bob", &["read"], "bob"),
        ("alice", &["read", "write"], "alice"),
        ("bob", &["read"], "bob"),
    ] {
        let inbound = bench.inbound_of(subject, scopes).await;
        assert_eq!(caller.call("/read", Some(&inbound)).await.unwrap().body, expected);
    }
    assert_eq!(bench.creations(), 3);
    let elsewhere = bench.delegate().scopes(["read"]).resources(["https://b.example"]);
    let inbound = bench.inbound(&["read"]).await;
    call(&elsewhere, &api, "/read", Some(&inbound)).await.unwrap();
    assert_eq!(bench.creations(), 4);
}

#[tokio::test]
async fn a_token_does_not_outlive_the_inbound_one_nor_its_own_margin() {
    let bench = Bench::new().await;
    let (api, mut seen) = elsewhere(&bench);
    let caller = Caller::new(&bench.delegate().scopes(["read"]), &api);
    let token = bench.authlete.token().subject("alice").scopes(["read"]).expires_in(60 * SECOND);
    let inbound = bench.facts(&token.issue().await).await;
    caller.call("/", Some(&inbound)).await.unwrap();
    let first = seen.recv().await.unwrap();
    let expires_at = bench.introspect(&first).await.expires_at().unwrap();
    assert_eq!(expires_at.duration_since(bench.clock.now()).unwrap(), 60 * SECOND);
    // It is not used in its last ten seconds, unless a new one would expire at the same time.
    let own = bench.inbound(&["read"]).await;
    caller.call("/", Some(&own)).await.unwrap();
    let second = seen.recv().await.unwrap();
    assert_ne!(second, first);
    bench.clock.advance(59 * SECOND);
    caller.call("/", Some(&inbound)).await.unwrap();
    assert_eq!((seen.recv().await.unwrap(), bench.creations()), (first, 2));
    bench.clock.advance(231 * SECOND);
    caller.call("/", Some(&own)).await.unwrap();
    assert_ne!(seen.recv().await.unwrap(), second);
    assert_eq!(bench.creations(), 3);
}

#[tokio::test]
async fn a_token_of_an_inbound_token_with_another_expiry_is_not_shared() {
    let bench = Bench::new().await;
    let (api, mut seen) = elsewhere(&bench);
    let caller = Caller::new(&bench.delegate().scopes(["read"]), &api);
    let long = bench.inbound(&["read"]).await;
    caller.call("/", Some(&long)).await.unwrap();
    seen.recv().await.unwrap();
    let token = bench.authlete.token().subject("alice").scopes(["read"]).expires_in(5 * SECOND);
    let short = bench.facts(&token.issue().await).await;
    caller.call("/", Some(&short)).await.unwrap();
    let made = bench.introspect(&seen.recv().await.unwrap()).await;
    assert_eq!(made.expires_at(), short.expires_at());
    // None is created in its last second, since a life of 0 is the service's default.
    bench.clock.advance(Duration::from_millis(4001));
    let error = call(&bench.delegate().scopes(["read"]), &api, "/", Some(&short)).await;
    assert!(is(&error.unwrap_err(), &DelegateError::InboundExpired));
    bench.clock.advance(SECOND);
    let error = caller.call("/", Some(&short)).await.unwrap_err();
    assert!(is(&error, &DelegateError::InboundExpired), "{error}");
    assert_eq!(bench.creations(), 2);
}

#[tokio::test]
async fn an_invalidated_inbound_token_invalidates_its_delegated_tokens() {
    let bench = Bench::new().await;
    let auth: AuthLayer = bench.layer().build().unwrap();
    let handle = auth.handle();
    let (api, mut seen) = elsewhere(&bench);
    let caller = Caller::new(&bench.delegate().scopes(["read"]), &api);
    for way in ["forget", "forget_all", "revoke", "update", "endpoint"] {
        let token = bench.authlete.token().subject("alice").scopes(["read"]).issue().await;
        let inbound = admitted(&auth, &token).await;
        let before = bench.creations();
        caller.call("/", Some(&inbound)).await.unwrap();
        let first = seen.recv().await.unwrap();
        caller.call("/", Some(&inbound)).await.unwrap();
        assert_eq!(seen.recv().await.unwrap(), first, "{way}");
        match way {
            "forget" => handle.forget(&token),
            "forget_all" => handle.forget_all(),
            "revoke" => {
                handle.revoke(&token).await.unwrap();
            }
            "update" => drop(handle.update(&token, TokenUpdateRequest::new()).await.unwrap()),
            _ => assert_eq!(revoke(&bench, &handle, &token).await, StatusCode::OK),
        }
        caller.call("/", Some(&inbound)).await.unwrap();
        assert_ne!(seen.recv().await.unwrap(), first, "{way}");
        assert_eq!(bench.creations() - before, 2, "{way}");
    }
}

#[tokio::test]
async fn a_new_value_of_the_inbound_token_is_invalidated_by_itself() {
    let bench = Bench::new().await;
    let auth = bench.layer().rotate(rotation()).build().unwrap();
    let old = bench.authlete.token().subject("alice").scopes(["read"]).issue().await;
    Protected::new(&auth).get(&old).await;
    bench.clock.advance(20 * SECOND);
    let new = Protected::new(&auth).get(&old).await.header(NEW).to_owned();
    let before = bench.introspections();
    let inbound = admitted(&auth, &new).await;
    assert_eq!(bench.introspections(), before);
    let (api, mut seen) = elsewhere(&bench);
    let caller = Caller::new(&bench.delegate().scopes(["read"]), &api);
    caller.call("/", Some(&inbound)).await.unwrap();
    auth.handle().forget(&new);
    caller.call("/", Some(&inbound)).await.unwrap();
    assert_ne!(seen.recv().await.unwrap(), seen.recv().await.unwrap());
}

#[tokio::test]
async fn a_token_in_flight_is_not_used_after_the_inbound_one_is_invalidated() {
    let bench = Bench::new().await;
    let auth: AuthLayer = bench.layer().build().unwrap();
    let (api, mut seen) = elsewhere(&bench);
    let caller = Caller::new(&bench.delegate().scopes(["read"]), &api);
    let token = bench.authlete.token().subject("alice").scopes(["read"]).issue().await;
    let inbound = admitted(&auth, &token).await;
    call_during(&bench, &caller, &inbound, || auth.handle().forget(&token)).await;
    let sent = seen.recv().await.unwrap();
    assert_eq!(bench.creations(), 2);
    // The first is revoked, the second is kept.
    bench.authlete.arrived(Api::TokenRevoke, 1).await;
    caller.call("/", Some(&inbound)).await.unwrap();
    assert_eq!((seen.recv().await.unwrap(), bench.creations()), (sent.clone(), 2));
    assert!(bench.introspect(&sent).await.usable);
}

#[tokio::test]
async fn invalidations_of_other_inbound_tokens_cost_no_token() {
    let bench = Bench::new().await;
    let auth: AuthLayer = bench.layer().build().unwrap();
    let (api, mut seen) = elsewhere(&bench);
    let caller = Caller::new(&bench.delegate().scopes(["read"]), &api);
    let token = bench.authlete.token().subject("alice").scopes(["read"]).issue().await;
    let inbound = admitted(&auth, &token).await;
    let invalidate_others = || (0..20_000).for_each(|it| auth.handle().forget(&it.to_string()));
    call_during(&bench, &caller, &inbound, invalidate_others).await;
    invalidate_others();
    caller.call("/", Some(&inbound)).await.unwrap();
    assert_eq!(seen.recv().await, seen.recv().await);
    assert_eq!(bench.creations(), 1);
}

#[tokio::test]
async fn a_token_that_exceeds_what_was_asked_for_is_revoked_and_not_sent() {
    let bench = Bench::new().await;
    let inbound = bench.inbound(&["read"]).await;
    let narrow = bench.delegate().scopes(["read"]);
    for (delegate, made, what, revocations) in [
        (narrow.clone(), json!({ "scopes": ["read", "admin"] }), "scopes", 1),
        (bench.delegate(), json!({ "scopes": ["default"] }), "scopes", 2),
        (bench.delegate().as_service(), json!({ "scopes": ["default"] }), "scopes", 3),
        (narrow.clone(), json!({ "scopes": ["read"], "expiresIn": 301 }), "a longer life", 4),
    ] {
        let (api, mut seen) = elsewhere(&bench);
        let mut answer = json!({ "action": "OK", "accessToken": "t0ken", "expiresIn": 300 });
        answer.as_object_mut().unwrap().extend(made.as_object().unwrap().clone());
        bench.authlete.fault(Fault::json(answer).on(Api::TokenCreate).times(1));
        let error = call(&delegate, &api, "/", Some(&inbound)).await.unwrap_err();
        assert!(is(&error, &DelegateError::Excess(what)), "{error}");
        bench.authlete.arrived(Api::TokenRevoke, revocations).await;
        assert!(seen.try_recv().is_err());
    }
    // Fewer scopes and a shorter life are accepted.
    let (api, mut seen) = elsewhere(&bench);
    let answer = json!({ "action": "OK", "accessToken": "t0ken", "expiresIn": 1 });
    bench.authlete.fault(Fault::json(answer).on(Api::TokenCreate).times(1));
    call(&narrow, &api, "/", Some(&inbound)).await.unwrap();
    assert_eq!(seen.recv().await.unwrap(), "t0ken");
}

#[tokio::test]
async fn a_layer_without_scopes_makes_tokens_without_any() {
    let bench = Bench::new().await;
    let (api, mut seen) = elsewhere(&bench);
    let inbound = bench.inbound(&["read"]).await;
    call(&bench.delegate(), &api, "/", Some(&inbound)).await.unwrap();
    let made = bench.introspect(&seen.recv().await.unwrap()).await;
    assert_eq!((made.scopes.len(), made.subject.as_deref()), (0, Some("alice")));
}

#[tokio::test]
async fn no_refresh_token_outlives_the_token_that_it_comes_with() {
    let bench = Bench::new().await;
    let inbound = bench.inbound(&["read"]).await;
    let delegate = bench.delegate().scopes(["read"]);
    call(&delegate, &bench.api(), "/read", Some(&inbound)).await.unwrap();
    let all = TokenListRequest::new().subject("alice");
    let list = bench.authlete.authlete().token_list(&all).await.unwrap();
    let ends: Vec<_> =
        list.access_tokens.iter().filter_map(|token| token.refresh_token_expires_at()).collect();
    assert_eq!(ends, [bench.clock.now() + 300 * SECOND]);
}

#[tokio::test]
async fn a_clock_that_is_set_back_extends_no_delegated_token() {
    let bench = Bench::new().await;
    let (api, mut seen) = elsewhere(&bench);
    let caller = Caller::new(&bench.delegate().scopes(["read"]).as_service(), &api);
    caller.call("/", None).await.unwrap();
    let first = seen.recv().await.unwrap();
    bench.clock.advance(290 * SECOND);
    bench.clock.rewind(280 * SECOND);
    caller.call("/", None).await.unwrap();
    assert_ne!(seen.recv().await.unwrap(), first);
}

#[tokio::test]
async fn without_another_token_a_401_is_passed_on() {
    let bench = Bench::new().await;
    let router = axum::Router::new().fallback(|| async { StatusCode::UNAUTHORIZED });
    let caller = Caller::new(&bench.delegate().as_service(), &Protected { router, ..bench.api() });
    caller.call("/", None).await.unwrap();
    let hold = bench.authlete.hold(Api::TokenCreate);
    let calling = {
        let caller = caller.clone();
        tokio::spawn(async move { caller.call("/", None).await.unwrap().status })
    };
    bench.authlete.arrived(Api::TokenCreate, 3).await;
    bench.authlete.fault(Fault::status(503).on(Api::TokenCreate));
    hold.release();
    assert_eq!(calling.await.unwrap(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_token_is_renewed_ahead_of_its_end_beside_the_call() {
    let bench = Bench::new().await;
    let delegate = bench.delegate().as_service().life(110 * SECOND);
    let caller = Caller::new(&delegate, &bench.api());
    caller.call("/", None).await.unwrap();
    // Used for 100 s, and renewed from 80 s on.
    bench.clock.advance(79 * SECOND);
    caller.call("/", None).await.unwrap();
    assert_eq!(bench.creations(), 1);
    bench.clock.advance(SECOND);
    let hold = bench.authlete.hold(Api::TokenCreate);
    for _ in 0..5 {
        assert_eq!(caller.call("/", None).await.unwrap().status, StatusCode::OK);
    }
    bench.authlete.arrived(Api::TokenCreate, 2).await;
    hold.release();
    // The new one replaces it, and is used after its expiry.
    bench.clock.advance(19 * SECOND);
    for _ in 0..5 {
        assert_eq!(caller.call("/", None).await.unwrap().status, StatusCode::OK);
    }
    bench.clock.advance(2 * SECOND);
    assert_eq!(caller.call("/", None).await.unwrap().status, StatusCode::OK);
    assert_eq!(bench.creations(), 2);
}

#[tokio::test]
async fn a_401_drops_the_token_and_the_call_is_made_once_more() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.cache(CachePolicy::disabled()));
    let caller = Caller::new(&bench.delegate().scopes(["read"]), &api);
    let inbound = bench.inbound(&["read"]).await;
    caller.call("/read", Some(&inbound)).await.unwrap();
    // Another server revokes all of alice's tokens.
    let all = tower_authlete::api::TokenRevokeRequest::new().subject("alice");
    bench.authlete.authlete().token_revoke(&all).await.unwrap();
    let answer = caller.call("/read", Some(&inbound)).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(bench.creations(), 2);
    // A call with a body is not repeated; the next call has a new token.
    bench.authlete.authlete().token_revoke(&all).await.unwrap();
    let mut request = Request::get("/read").body(Body::from("once")).unwrap();
    request.extensions_mut().insert(inbound.clone());
    let response = caller.0.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(caller.call("/read", Some(&inbound)).await.unwrap().status, StatusCode::OK);
    assert_eq!(bench.creations(), 3);
}

#[tokio::test]
async fn a_401_that_stays_is_passed_on_after_one_more_try() {
    let bench = Bench::new().await;
    let router = axum::Router::new().fallback(|| async { StatusCode::UNAUTHORIZED });
    let caller = Caller::new(&bench.delegate().as_service(), &Protected { router, ..bench.api() });
    let answer = caller.call("/", None).await.unwrap();
    assert_eq!((answer.status, bench.creations()), (StatusCode::UNAUTHORIZED, 2));
}

#[tokio::test]
async fn without_a_token_no_call_is_made_and_the_failure_is_not_cached() {
    let bench = Bench::new().await;
    let caller = Caller::new(&bench.delegate().as_service(), &bench.api());
    bench.authlete.fault(Fault::status(503).times(1));
    let error = caller.call("/", None).await.unwrap_err();
    let error = error.downcast_ref::<DelegateError>().unwrap();
    assert!(matches!(error, DelegateError::Authlete(error) if error.is_retryable()), "{error}");
    assert_eq!(caller.call("/", None).await.unwrap().status, StatusCode::OK);
    let unknown = DelegateLayer::new(bench.authlete.authlete()).client_id(1).as_service();
    let error = call(&unknown, &bench.api(), "/", None).await.unwrap_err();
    let error = error.downcast_ref::<DelegateError>().unwrap();
    assert!(matches!(error, DelegateError::Refused { .. }), "{error}");
}
