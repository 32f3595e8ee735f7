//! Which tokens a refresh and a revocation invalidate, and when.

use std::time::Duration;

use axum::Router;
use http::{StatusCode, header};
use tower_authlete::{
    emulator::{Api, Fault},
    endpoint::{Limits, RevocationEndpoint, TokenEndpoint},
};

use crate::{
    authorization_server::{
        PASSWORD, Server, basic_of, bearer_token, body_of, limited, post, refresh, spawn_post,
    },
    support::{Bench, rotation, send},
};

/// Failures of `/auth/token` and `/auth/revocation`, and whether the call may have taken effect.
fn failures() -> [(Fault, bool); 8] {
    let says = |action: &str| Fault::body(format!(r#"{{"action":"{action}"}}"#));
    [
        (Fault::status(500), true),
        (Fault::status(503), true),
        (says("INTERNAL_SERVER_ERROR"), true),
        (says("OK"), true),
        (Fault::status(401), false),
        (Fault::status(429), false),
        (says("INVALID_CLIENT"), false),
        (says("BAD_REQUEST"), false),
    ]
}

#[tokio::test]
async fn a_token_that_a_refresh_replaced_is_invalidated() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    let (old, refresh_token) = server.tokens(PASSWORD).await;
    assert_eq!(server.api.get(&old).await.status, StatusCode::OK);
    let (new, _) = server.tokens(&refresh(&refresh_token)).await;
    assert_eq!(server.api.get(&old).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(server.api.get(&new).await.body, "alice");
    // Both are introspected: the new one may have inherited a binding.
    assert_eq!(bench.introspections(), 2);
}

#[tokio::test]
async fn a_refresh_token_that_is_used_again_invalidates_its_access_token() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    // The service keeps the refresh token, and does not repeat it in the response.
    let issued = bearer_token(&bench).await;
    let access = issued["accessToken"].as_str().unwrap();
    bench.authlete.fault(Fault::json(issued.clone()).on(Api::Token).times(1));
    server.tokens(&refresh("kept")).await;
    assert_eq!(server.api.get(access).await.status, StatusCode::OK);
    assert!(bench.authlete.revoke(access));
    bench.authlete.fault(Fault::json(bearer_token(&bench).await).on(Api::Token).times(1));
    server.tokens(&refresh("kept")).await;
    assert_eq!(server.api.get(access).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_revoked_token_is_invalidated_before_the_response() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    for by_refresh_token in [false, true] {
        let (access, refresh) = server.tokens(PASSWORD).await;
        assert_eq!(server.api.get(&access).await.status, StatusCode::OK);
        let token = if by_refresh_token { &refresh } else { &access };
        let answer = server.post("/revoke", &format!("token={token}")).await;
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, ""));
        assert_eq!(server.api.get(&access).await.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn a_call_without_a_response_invalidates() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    for fault in [Fault::truncated(), Fault::reset()] {
        for (path, api) in [("/token", Api::Token), ("/revoke", Api::Revocation)] {
            let (access, used) = server.tokens(PASSWORD).await;
            assert_eq!(server.api.get(&access).await.status, StatusCode::OK);
            let form = if path == "/token" { refresh(&used) } else { format!("token={used}") };
            bench.authlete.fault(fault.clone().on(api).times(1));
            let answer = server.post(path, &form).await;
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path} {fault:?}");
            let status = server.api.get(&access).await.status;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{path} {fault:?}");
        }
    }
}

#[tokio::test]
async fn a_call_without_a_response_by_the_deadline_invalidates() {
    for (path, api) in [("/token", Api::Token), ("/revoke", Api::Revocation)] {
        let bench = Bench::new().await;
        // Less than the deadline of a call to Authlete.
        let server = limited(&bench, Limits::new().deadline(Duration::from_secs(1)));
        let (access, used) = server.tokens(PASSWORD).await;
        assert_eq!(server.api.get(&access).await.status, StatusCode::OK);
        let form = if path == "/token" { refresh(&used) } else { format!("token={used}") };
        let calls = bench.authlete.calls(api);
        let hold = bench.authlete.hold(api);
        let late = spawn_post(&server, path, &form);
        bench.authlete.arrived(api, calls + 1).await;
        tokio::time::pause();
        let before = tokio::time::Instant::now();
        let answer = late.await.unwrap();
        // The deadline of a call to Authlete is 3 s.
        assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
        tokio::time::resume();
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.header(header::RETRY_AFTER), "1");
        assert_eq!(server.api.get(&access).await.status, StatusCode::UNAUTHORIZED, "{path}");
        drop(hold);
    }
}

#[tokio::test]
async fn only_a_call_that_may_have_taken_effect_invalidates() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    for (fault, may_be_done) in failures() {
        for (path, api) in [("/token", Api::Token), ("/revoke", Api::Revocation)] {
            let (access, used) = server.tokens(PASSWORD).await;
            assert_eq!(server.api.get(&access).await.status, StatusCode::OK);
            let before = bench.introspections();
            bench.authlete.fault(fault.clone().on(api).times(1));
            let form = if path == "/token" { refresh(&used) } else { format!("token={used}") };
            server.post(path, &form).await;
            assert_eq!(server.api.get(&access).await.status, StatusCode::OK);
            let asked = bench.introspections() - before;
            assert_eq!(asked, u64::from(may_be_done), "{path} {fault:?}");
            // A second attempt succeeds.
            assert_eq!(server.post(path, &form).await.status, StatusCode::OK);
            let status = server.api.get(&access).await.status;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{path} {fault:?}");
        }
    }
}

#[tokio::test]
async fn a_call_that_never_reached_authlete_invalidates_nothing() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    let (access, used) = server.tokens(PASSWORD).await;
    assert_eq!(server.api.get(&access).await.status, StatusCode::OK);
    // No server listens on this port.
    let nowhere = bench.authlete.client_builder().base_url("http://127.0.0.1:1").build().unwrap();
    let handle = &server.api.handle;
    let endpoints = Router::new()
        .route_service("/token", TokenEndpoint::new(nowhere.clone(), handle))
        .route_service("/revoke", RevocationEndpoint::new(nowhere, handle));
    let server = Server { endpoints, ..server };
    let before = bench.introspections();
    for (path, form) in [("/token", refresh(&used)), ("/revoke", format!("token={access}"))] {
        assert_eq!(server.post(path, &form).await.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(server.api.get(&access).await.status, StatusCode::OK);
    }
    assert_eq!(bench.introspections(), before);
}

#[tokio::test]
async fn a_strangers_revocation_invalidates_nothing() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    let (access, refresh) = server.tokens(PASSWORD).await;
    assert_eq!(server.api.get(&access).await.status, StatusCode::OK);
    let before = bench.introspections();
    let stranger = basic_of("mallory", "x");
    for token in [&access, &refresh] {
        for headers in [&[][..], &[("authorization", stranger.as_str())]] {
            let answer = server.post_with("/revoke", &format!("token={token}"), headers).await;
            assert_eq!(body_of(&answer)["error"], "invalid_client");
            assert_eq!(server.api.get(&access).await.status, StatusCode::OK);
        }
    }
    assert_eq!(bench.introspections(), before);
}

#[tokio::test]
async fn a_strangers_revocation_does_not_delay_another() {
    let bench = Bench::new().await;
    let auth = bench.layer().rotate(rotation()).build().unwrap();
    let revoke = RevocationEndpoint::new(bench.authlete.authlete(), &auth.handle());
    let endpoints = Router::new().route_service("/revoke", revoke);
    let token = bench.authlete.token().issue().await;
    let hold = bench.authlete.hold(Api::Revocation);
    let request = post("/revoke", &format!("token={token}"), &[]);
    let stranger = tokio::spawn(send(endpoints, request));
    bench.authlete.arrived(Api::Revocation, 1).await;
    auth.handle().revoke(&token).await.unwrap();
    assert!(!stranger.is_finished());
    hold.release();
    assert_eq!(stranger.await.unwrap().status, StatusCode::BAD_REQUEST);
}
