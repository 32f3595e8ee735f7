//! Tokens that are in use are kept alive, and no others.

use std::time::{Duration, UNIX_EPOCH};

use axum::{Router, routing::get};
use futures_util::future::join_all;
use http::{HeaderName, Request, StatusCode};
use serde_json::json;
use tower::ServiceExt;
use tower_authlete::{
    AuthLayer, AuthLayerBuilder, Refresh, Require, RequireDetails, RequireScopes, Rotation,
    TokenInfo,
    api::{
        AuthzDetails, AuthzDetailsElement, IntrospectionRequest, RequestBody, TlsRoots,
        TokenUpdateAction, TokenUpdateRequest, Transport,
    },
    emulator::{Api, Fault},
};

use crate::support::{Bench, Protected};

const SECOND: Duration = Duration::from_secs(1);

/// Below 10 s, extended to 30 s, for 100 s in all.
fn refresh() -> Refresh {
    Refresh::extend().when_below(10 * SECOND).to(30 * SECOND).never_beyond(100 * SECOND)
}

fn extending(layer: AuthLayerBuilder) -> AuthLayerBuilder {
    layer.refresh(refresh().wait())
}

impl Bench {
    fn updates(&self) -> u64 {
        self.authlete.calls(Api::TokenUpdate)
    }

    /// How much is left of a token's life (s) as Authlete sees it.
    async fn left(&self, token: &str) -> u64 {
        let request = IntrospectionRequest::new().token(token);
        let response = self.authlete.authlete().introspection(&request).await.unwrap();
        let left = response.expires_at().map(|at| at.duration_since(self.clock.now()).unwrap());
        left.unwrap_or_default().as_secs()
    }
}

#[tokio::test]
async fn a_token_with_little_left_is_extended_and_others_are_not() {
    let bench = Bench::new().await;
    let api = bench.api_with(extending);
    let short = bench.authlete.token().expires_in(9 * SECOND).issue().await;
    let long = bench.authlete.token().expires_in(10 * SECOND).issue().await;
    let persistent = bench.authlete.token().persistent().issue().await;
    for token in [&short, &long, &persistent] {
        assert_eq!(api.get(token).await.status, StatusCode::OK);
    }
    assert_eq!(bench.updates(), 1);
    assert_eq!((bench.left(&short).await, bench.left(&long).await), (30, 10));
}

#[tokio::test]
async fn what_the_update_says_is_cached() {
    let bench = Bench::new().await;
    let api = bench.api_with(extending);
    let token = bench.authlete.token().expires_in(5 * SECOND).issue().await;
    api.get(&token).await;
    // It would have expired; it is known that it has not.
    bench.clock.advance(10 * SECOND);
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    assert_eq!((bench.introspections(), bench.updates()), (1, 1));
}

#[tokio::test]
async fn a_token_in_use_lives_on_and_one_left_alone_dies() {
    let bench = Bench::new().await;
    let api = bench.api_with(extending);
    let used = bench.authlete.token().expires_in(9 * SECOND).issue().await;
    let left_alone = bench.authlete.token().expires_in(9 * SECOND).issue().await;
    for _ in 0..10 {
        assert_eq!(api.get(&used).await.status, StatusCode::OK);
        // A hit below the threshold starts a flight beside the request.
        let before = bench.updates();
        bench.clock.advance(8 * SECOND);
        if bench.left(&used).await < 10 {
            assert_eq!(api.get(&used).await.status, StatusCode::OK);
            bench.authlete.arrived(Api::TokenUpdate, before + 1).await;
        }
        if bench.clock.now() > UNIX_EPOCH + 2_000_000_060 * SECOND {
            break;
        }
    }
    assert_eq!(api.get(&left_alone).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn it_is_never_extended_beyond_its_end() {
    for by_authentication in [false, true] {
        let bench = Bench::new().await;
        let begin = bench.clock.now();
        // Without caching, every request is a flight of its own.
        let api = bench.api_with(|layer| extending(layer).no_cache());
        let token = bench.authlete.token().expires_in(9 * SECOND);
        let token = if by_authentication { token.auth_time(begin - 50 * SECOND) } else { token };
        let token = token.issue().await;
        let mut lived = 0;
        while api.get(&token).await.status == StatusCode::OK && lived < 500 {
            bench.clock.advance(5 * SECOND);
            lived += 5;
        }
        assert_eq!(lived, if by_authentication { 50 } else { 100 });
    }
}

#[tokio::test]
async fn an_expired_token_is_never_brought_back_to_life() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.refresh(refresh()));
    let token = bench.authlete.token().expires_in(20 * SECOND).issue().await;
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    // Somebody else shortens it; the cached fact says that it has 5 s left.
    bench.clock.advance(15 * SECOND);
    bench.authlete.revoke(&token);
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    bench.authlete.arrived(Api::Introspection, 2).await;
    // The flight beside the request finds that out, and the token is gone.
    let mut status = StatusCode::OK;
    for _ in 0..10_000 {
        status = api.get(&token).await.status;
        if status != StatusCode::OK {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(bench.updates(), 0);
}

#[tokio::test]
async fn the_request_does_not_wait_unless_it_is_asked_to() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.refresh(refresh()));
    let token = bench.authlete.token().expires_in(5 * SECOND).issue().await;
    let hold = bench.authlete.hold(Api::TokenUpdate);
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    bench.authlete.arrived(Api::TokenUpdate, 1).await;
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    hold.release();
    assert_eq!(bench.introspections(), 1);
}

#[tokio::test]
async fn many_requests_make_one_update() {
    let bench = Bench::new().await;
    for layer in [refresh(), refresh().wait()] {
        let api = bench.api_with(|settings| settings.refresh(layer));
        let token = bench.authlete.token().expires_in(5 * SECOND).issue().await;
        let before = bench.updates();
        let answers = join_all((0..50).map(|_| api.get(&token))).await;
        assert!(answers.iter().all(|answer| answer.status == StatusCode::OK));
        bench.authlete.arrived(Api::TokenUpdate, before + 1).await;
        join_all((0..50).map(|_| api.get(&token))).await;
        assert_eq!(bench.updates(), before + 1);
    }
}

#[tokio::test]
async fn an_update_that_fails_never_fails_the_request_nor_is_it_tried_by_the_next() {
    let bench = Bench::new().await;
    let api = bench.api_with(extending);
    let token = bench.authlete.token().expires_in(9 * SECOND).issue().await;
    bench.authlete.fault(Fault::status(500).on(Api::TokenUpdate));
    for _ in 0..5 {
        assert_eq!(api.get(&token).await.status, StatusCode::OK);
    }
    assert_eq!((bench.introspections(), bench.updates()), (1, 1));
    // After a while it is.
    bench.authlete.clear_faults();
    bench.clock.advance(3 * SECOND);
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    bench.authlete.arrived(Api::TokenUpdate, 2).await;
}

#[tokio::test]
async fn a_token_that_the_update_does_not_find_is_forgotten() {
    for action in ["NOT_FOUND", "FORBIDDEN"] {
        let bench = Bench::new().await;
        let api = bench.api_with(extending);
        let token = bench.authlete.token().expires_in(5 * SECOND).issue().await;
        let body = json!({ "action": action }).to_string();
        bench.authlete.fault(Fault::body(body).on(Api::TokenUpdate));
        assert_eq!(api.get(&token).await.status, StatusCode::UNAUTHORIZED, "{action}");
    }
}

#[tokio::test]
async fn which_tokens_are_extended_can_be_chosen() {
    let bench = Bench::new().await;
    let chosen = refresh().wait().when(|token| token.scopes().contains("session"));
    let api = bench.api_with(|layer| layer.refresh(chosen));
    let session = bench.authlete.token().scopes(["session"]).expires_in(5 * SECOND).issue().await;
    let other = bench.authlete.token().expires_in(5 * SECOND).issue().await;
    api.get(&session).await;
    api.get(&other).await;
    assert_eq!((bench.left(&session).await, bench.left(&other).await), (30, 5));
}

#[tokio::test]
async fn who_panics_while_choosing_does_not_harm_the_check() {
    let bench = Bench::new().await;
    let token = bench.authlete.token().expires_in(5 * SECOND).issue().await;
    for waits in [true, false] {
        let chosen = refresh().when(|_| panic!("as it should"));
        let chosen = if waits { chosen.wait() } else { chosen };
        let api = bench.api_with(|layer| layer.refresh(chosen));
        for _known_or_not in 0..2 {
            assert_eq!(api.get(&token).await.status, StatusCode::OK);
        }
    }
    assert_eq!((bench.introspections(), bench.updates()), (2, 0));
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused() {
    let bench = Bench::new().await;
    for (refresh, name) in [
        (refresh().when_below(Duration::ZERO), "refresh.when_below"),
        (refresh().to(10 * SECOND), "refresh.to"),
        (refresh().never_beyond(SECOND), "refresh.never_beyond"),
    ] {
        let error = bench.layer().refresh(refresh).build().unwrap_err();
        assert_eq!(error.setting(), name);
    }
}

#[tokio::test]
async fn a_handler_can_change_a_token_and_what_is_cached_of_it() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().subject("alice").scopes(["read"]).issue().await;
    assert_eq!(api.get_at("/write", &token).await.status, StatusCode::FORBIDDEN);
    let request = TokenUpdateRequest::new().scopes(["write"]);
    let response = api.handle.update(&token, request).await.unwrap();
    assert_eq!(response.action, TokenUpdateAction::Ok);
    let answer = api.get_at("/write", &token).await;
    // The update does not know the subject, and does not make it unknown.
    assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "alice"));
    assert_eq!(api.get_at("/read", &token).await.status, StatusCode::FORBIDDEN);
    let request = TokenUpdateRequest::new().scopes([""; 0]);
    api.handle.update(&token, request).await.unwrap();
    assert_eq!(api.get_at("/write", &token).await.status, StatusCode::FORBIDDEN);
    // The update does not tell the details of an added scope: what refuses asks again, once.
    assert_eq!(bench.introspections(), 2);
}

#[tokio::test]
async fn an_update_makes_nothing_known_that_was_not() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().certificate_thumbprint("abc").issue().await;
    let request = TokenUpdateRequest::new().scopes(["read"]);
    assert_eq!(api.handle.update(&token, request).await.unwrap().action, TokenUpdateAction::Ok);
    // Authlete has to be asked, and says that a certificate is missing.
    assert_eq!(api.get(&token).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_change_of_value_or_binding_or_one_that_fails_forgets_the_token() {
    let bench = Bench::new().await;
    let change = async |api: &Protected, request: TokenUpdateRequest| {
        let token = bench.authlete.token().issue().await;
        assert_eq!(api.get(&token).await.status, StatusCode::OK);
        let _ = api.handle.update(&token, request).await;
        api.get(&token).await.status
    };
    let api = bench.api();
    let new = TokenUpdateRequest::new;
    for request in [
        new().access_token_value_updated(true),
        new().certificate_thumbprint("abc"),
        new().dpop_key_thumbprint("abc"),
    ] {
        assert_eq!(change(&api, request).await, StatusCode::UNAUTHORIZED);
    }
    bench.authlete.fault(Fault::reset().on(Api::TokenUpdate));
    let before = bench.introspections();
    assert_eq!(change(&api, new()).await, StatusCode::OK);
    assert_eq!(bench.introspections() - before, 2);
}

#[tokio::test]
async fn an_answer_that_set_out_before_an_update_is_not_used_after_it() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().scopes(["admin", "write"]).issue().await;
    let hold = bench.authlete.hold(Api::Introspection);
    let request = tokio::spawn({
        let (api, token) = (api.clone(), token.clone());
        async move { api.get_at("/write", &token).await }
    });
    bench.authlete.arrived(Api::Introspection, 1).await;
    let narrow = TokenUpdateRequest::new().scopes(["read"]);
    api.handle.update(&token, narrow).await.unwrap();
    hold.release();
    assert_eq!(request.await.unwrap().status, StatusCode::FORBIDDEN);
    assert_eq!(bench.introspections(), 2);
}

#[tokio::test]
async fn a_fresh_answer_that_set_out_before_an_extension_is_asked_for_again() {
    let bench = Bench::new().await;
    let auth = bench.layer().refresh(refresh().wait()).build().unwrap();
    let (cached, fresh) = (Protected::new(&auth), Protected::new(&auth.no_cache()));
    let token = bench.authlete.token().expires_in(5 * SECOND).issue().await;
    let get = |api: &Protected| {
        let (api, token) = (api.clone(), token.clone());
        tokio::spawn(async move { api.get(&token).await.status })
    };
    let update = bench.authlete.hold(Api::TokenUpdate);
    let extends = get(&cached);
    bench.authlete.arrived(Api::TokenUpdate, 1).await;
    let introspection = bench.authlete.hold(Api::Introspection);
    let asks = get(&fresh);
    bench.authlete.arrived(Api::Introspection, 2).await;
    update.release();
    assert_eq!(extends.await.unwrap(), StatusCode::OK);
    introspection.release();
    assert_eq!(asks.await.unwrap(), StatusCode::OK);
    assert_eq!(bench.introspections(), 3);
}

#[tokio::test]
async fn a_token_that_is_refused_is_not_extended() {
    for waits in [false, true] {
        let refresh = || if waits { refresh().wait() } else { refresh() };
        let bench = Bench::new().await;
        let layer = bench.layer().refresh(refresh()).require(Require::audience(["https://us"]));
        let api = Protected::new(&layer.build().unwrap());
        let for_others = bench.authlete.token().expires_in(5 * SECOND).issue().await;
        let bound = bench.authlete.token().resources(["https://us"]).expires_in(5 * SECOND);
        let bound = bound.certificate_thumbprint("abc").issue().await;
        // Introspected first, then known.
        for _ in 0..2 {
            assert_eq!(api.get(&for_others).await.status, StatusCode::UNAUTHORIZED);
            assert_eq!(api.get(&bound).await.status, StatusCode::UNAUTHORIZED);
        }
        assert_eq!((bench.left(&for_others).await, bench.updates()), (5, 0), "{waits}");
    }
}

#[tokio::test]
async fn a_token_that_may_not_be_used_by_its_introspection_is_not_extended() {
    for waits in [false, true] {
        let refresh = || if waits { refresh().wait() } else { refresh() };
        let bench = Bench::new().await;
        let layer = bench.layer().refresh(refresh()).require(RequireScopes::all(["read"]));
        let api = Protected::new(&layer.build().unwrap());
        let token = bench.authlete.token().scopes(["read"]).expires_in(15 * SECOND).issue().await;
        assert_eq!(api.get(&token).await.status, StatusCode::OK);
        let none = TokenUpdateRequest::new().scopes(Vec::<String>::new());
        let none = none.access_token(token.as_str());
        bench.authlete.authlete().token_update(&none).await.unwrap();
        bench.clock.advance(6 * SECOND);
        // Admitted by what is known, which is introspected for the extension.
        assert_eq!(api.get(&token).await.status, StatusCode::OK);
        while api.get(&token).await.status == StatusCode::OK {
            tokio::task::yield_now().await;
        }
        assert_eq!(api.get(&token).await.status, StatusCode::FORBIDDEN);
        assert_eq!((bench.left(&token).await, bench.updates()), (9, 1), "{waits}");
    }
}

#[tokio::test]
async fn a_route_that_refuses_extends_nothing() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.refresh(refresh()));
    let token = bench.authlete.token().scopes(["read"]).expires_in(5 * SECOND).issue().await;
    for _ in 0..2 {
        assert_eq!(api.get_at("/write", &token).await.status, StatusCode::FORBIDDEN);
    }
    assert_eq!((bench.left(&token).await, bench.updates()), (5, 0));
    // What the handler answers does not matter.
    assert_eq!(api.get_at("/none", &token).await.status, StatusCode::NOT_FOUND);
    bench.authlete.arrived(Api::TokenUpdate, 1).await;
}

#[tokio::test]
async fn who_waits_for_the_extension_of_a_token_that_is_known_sees_its_new_expiry() {
    let bench = Bench::new().await;
    let auth = extending(bench.layer()).build().unwrap();
    let expiry = get(|token: TokenInfo| async move { format!("{:?}", token.expires_at()) });
    let router = Router::new().route("/", expiry).layer(auth.clone());
    let api = Protected { router, ..Protected::new(&auth) };
    let token = bench.authlete.token().expires_in(12 * SECOND).issue().await;
    let before = api.get(&token).await.body;
    bench.clock.advance(5 * SECOND);
    let requests = join_all((0..10).map(|_| api.get(&token))).await;
    let after = format!("{:?}", Some(bench.clock.now() + 30 * SECOND));
    assert_ne!(before, after);
    for answer in requests {
        assert_eq!(answer.body, after);
    }
    assert_eq!((bench.introspections(), bench.updates()), (2, 1));
}

/// A layer that calls through a transport by which the clock moves on with each update.
fn with_slow_updates(bench: &Bench, by: Duration, fails: bool) -> AuthLayerBuilder {
    let (transport, clock) = (Transport::new(TlsRoots::None, SECOND).unwrap(), bench.clock.clone());
    let transport = tower::service_fn(move |request: Request<RequestBody>| {
        let (transport, clock) = (transport.clone(), clock.clone());
        let update = request.uri().path().ends_with("/auth/token/update");
        async move {
            let answer = transport.oneshot(request).await;
            if update && fails {
                clock.advance(by);
            }
            answer
        }
    });
    let authlete = bench.authlete.client_builder().transport(transport).build().unwrap();
    AuthLayer::builder(authlete).clock(bench.clock.clone()).retries(3, Duration::ZERO)
}

#[tokio::test]
async fn no_attempt_is_made_for_a_token_that_has_expired_by_then() {
    let bench = Bench::new().await;
    for (passes, updates) in [(1, 4), (5, 1)] {
        let before = bench.updates();
        let layer = with_slow_updates(&bench, passes * SECOND, true);
        let api = Protected::new(&layer.refresh(refresh().wait()).build().unwrap());
        let token = bench.authlete.token().expires_in(5 * SECOND).issue().await;
        bench.authlete.fault(Fault::status(503).on(Api::TokenUpdate));
        api.get(&token).await;
        bench.authlete.clear_faults();
        assert_eq!(bench.updates() - before, updates, "{passes}");
    }
}

#[tokio::test]
async fn a_token_has_one_longest_life_whatever_its_value() {
    let bench = Bench::new().await;
    let new = HeaderName::from_static("x-new-token");
    let rotation = Rotation::in_header(new.clone()).every(20 * SECOND);
    let api = bench.api_with(|layer| extending(layer).rotate(rotation));
    let mut token = bench.authlete.token().expires_in(9 * SECOND).issue().await;
    let mut lived = 0;
    loop {
        let answer = api.get(&token).await;
        if answer.status != StatusCode::OK || lived > 200 {
            break;
        }
        if !answer.header(new.clone()).is_empty() {
            answer.header(new.clone()).clone_into(&mut token);
        }
        bench.clock.advance(SECOND);
        lived += 1;
    }
    assert_eq!(lived, 100);
}

#[tokio::test]
async fn a_clock_that_is_set_back_makes_no_life_longer() {
    let bench = Bench::new().await;
    let api = bench.api_with(extending);
    let token = bench.authlete.token().expires_in(9 * SECOND).issue().await;
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    bench.clock.advance(25 * SECOND);
    bench.clock.rewind(20 * SECOND);
    // It has 25 s left by Authlete's clock, and has lived for 25 s of its 100.
    bench.clock.advance(20 * SECOND);
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    assert_eq!(bench.left(&token).await, 30);
    for _ in 0..3 {
        bench.clock.advance(25 * SECOND);
        bench.clock.rewind(20 * SECOND);
    }
    // 120 s have passed since it was first seen.
    bench.clock.advance(10 * SECOND);
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    assert_eq!(bench.left(&token).await, 5);
}

fn payment() -> AuthzDetailsElement {
    AuthzDetailsElement::new().r#type("payment").actions(["initiate"])
}

#[tokio::test]
async fn authorization_details_that_an_update_removes_are_gone() {
    let update = TokenUpdateRequest::new;
    let none = || update().authorization_details(AuthzDetails::new());
    for (request, answers) in [(none(), false), (none(), true), (update(), true)] {
        let bench = Bench::new().await;
        let auth = bench.layer().build().unwrap();
        let pays = get(|| async {}).route_layer(RequireDetails::of_type("payment"));
        let router = Router::new().route("/", pays).layer(auth.clone());
        let api = Protected { router, ..Protected::new(&auth) };
        let details = AuthzDetails::new().elements([payment()]);
        let token = bench.authlete.token().authorization_details(details).issue().await;
        assert_eq!(api.get(&token).await.status, StatusCode::OK);
        if answers {
            let answer =
                json!({ "action": "OK", "tokenType": "Bearer", "authorizationDetails": null });
            bench.authlete.fault(Fault::json(answer).on(Api::TokenUpdate));
            let gone = json!({ "action": "OK", "usable": true, "existent": true });
            bench.authlete.fault(Fault::json(gone).on(Api::Introspection));
        }
        api.handle.update(&token, request).await.unwrap();
        assert_eq!(api.get(&token).await.status, StatusCode::FORBIDDEN);
    }
}

#[tokio::test]
async fn details_of_scopes_that_an_update_removes_are_gone() {
    let bench = Bench::new().await;
    let auth = bench.layer().build().unwrap();
    let details = get(|token: TokenInfo| async move {
        let known = token.introspection().map(|it| it.scope_details).unwrap_or_default();
        let names: Vec<_> = known.into_iter().filter_map(|scope| scope.name).collect();
        names.join(" ")
    });
    let router = Router::new().route("/", details).layer(auth.clone());
    let api = Protected { router, ..Protected::new(&auth) };
    let token = bench.authlete.token().scopes(["read", "write"]).issue().await;
    assert_eq!(api.get(&token).await.body, "read write");
    let narrow = TokenUpdateRequest::new().scopes(["read"]);
    api.handle.update(&token, narrow).await.unwrap();
    assert_eq!(api.get(&token).await.body, "read");
    assert_eq!(bench.introspections(), 1);
}
