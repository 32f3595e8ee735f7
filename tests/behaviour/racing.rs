//! What happens to a token while an answer about it is on its way.

use std::time::Duration;

use axum::{Router, body::Body};
use futures_util::poll;
use http::{HeaderName, Request, StatusCode, header};
use tokio::task::JoinHandle;
use tower_authlete::{
    Refresh, Rotation,
    api::{TokenRevokeRequest, TokenUpdateRequest, TokenUpdateResponse},
    emulator::{Api, Fault},
    endpoint::RevocationEndpoint,
};

use crate::support::{Answer, Bench, Protected, send};

const SECOND: Duration = Duration::from_secs(1);
const NEW: HeaderName = HeaderName::from_static("x-new-token");

/// An API whose layer has seen a token for long enough that its next use rotates it.
async fn due(bench: &Bench) -> (Protected, String) {
    let rotation = Rotation::in_header(NEW).every(20 * SECOND).overlap(5 * SECOND);
    let api = bench.api_with(|layer| layer.rotate(rotation));
    let token = bench.authlete.token().subject("alice").issue().await;
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    bench.clock.advance(20 * SECOND);
    (api, token)
}

fn get(api: &Protected, token: &str) -> JoinHandle<Answer> {
    let (api, token) = (api.clone(), token.to_owned());
    tokio::spawn(async move { api.get(&token).await })
}

fn update(
    api: &Protected,
    token: &str,
    request: TokenUpdateRequest,
) -> JoinHandle<TokenUpdateResponse> {
    let (handle, token) = (api.handle.clone(), token.to_owned());
    tokio::spawn(async move { handle.update(&token, request).await.unwrap() })
}

/// `POST /revoke` by the emulator's client.
async fn revoke(bench: &Bench, api: &Protected, token: &str) -> StatusCode {
    let endpoint = RevocationEndpoint::new(bench.authlete.authlete(), &api.handle);
    let client = bench.authlete.client_id();
    let secret = bench.authlete.client_secret();
    let form = format!("client_id={client}&client_secret={secret}&token={token}");
    let request = Request::post("/revoke")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from(form));
    send(Router::new().route_service("/revoke", endpoint), request.unwrap()).await.status
}

#[tokio::test]
async fn a_revocation_waits_for_a_new_value_and_ends_it() {
    for by_endpoint in [false, true] {
        let bench = Bench::new().await;
        let (api, old) = due(&bench).await;
        let hold = bench.authlete.hold(Api::TokenUpdate);
        let request = get(&api, &old);
        bench.authlete.arrived(Api::TokenUpdate, 1).await;
        let revoked = async {
            if by_endpoint {
                assert_eq!(revoke(&bench, &api, &old).await, StatusCode::OK);
            } else {
                api.handle.revoke(&old).await.unwrap();
            }
        };
        tokio::pin!(revoked);
        // It must not be done before it is known what there is to be revoked.
        let early = tokio::time::timeout(Duration::from_millis(50), &mut revoked).await;
        assert!(early.is_err(), "{by_endpoint}");
        hold.release();
        revoked.await;
        assert_eq!(api.get(&old).await.status, StatusCode::UNAUTHORIZED, "{by_endpoint}");
        // A value that is told is good for nothing.
        let answer = request.await.unwrap();
        let new = Some(answer.header(NEW)).filter(|new| !new.is_empty());
        if let Some(new) = new {
            assert_eq!(api.get(new).await.status, StatusCode::UNAUTHORIZED, "{by_endpoint}");
        }
        let all =
            TokenRevokeRequest::new().client_identifier(bench.authlete.client_id().to_string());
        let left = bench.authlete.authlete().token_revoke(&all).await.unwrap();
        assert_eq!(left.count, Some(0), "{by_endpoint}");
    }
}

#[tokio::test]
async fn a_client_that_revokes_the_old_value_ends_the_new_one() {
    let bench = Bench::new().await;
    let (api, old) = due(&bench).await;
    let new = api.get(&old).await.header(NEW).to_owned();
    assert_eq!(revoke(&bench, &api, &old).await, StatusCode::OK);
    for value in [&old, &new] {
        assert_eq!(api.get(value).await.status, StatusCode::UNAUTHORIZED);
    }
    assert!(!bench.authlete.revoke(&new));
}

#[tokio::test]
async fn a_token_that_is_forgotten_has_no_overlap() {
    let bench = Bench::new().await;
    let (api, old) = due(&bench).await;
    let new = api.get(&old).await.header(NEW).to_owned();
    assert!(bench.authlete.revoke(&new));
    assert_eq!(api.get(&old).await.status, StatusCode::OK, "it is known from the cache");
    api.handle.forget(&old);
    for value in [&old, &new] {
        assert_eq!(api.get(value).await.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn a_token_that_is_forgotten_while_it_gets_a_new_value_is_asked_about() {
    let bench = Bench::new().await;
    let (api, old) = due(&bench).await;
    let hold = bench.authlete.hold(Api::TokenUpdate);
    let request = get(&api, &old);
    bench.authlete.arrived(Api::TokenUpdate, 1).await;
    api.handle.forget(&old);
    hold.release();
    let new = request.await.unwrap().header(NEW).to_owned();
    let before = bench.introspections();
    assert_eq!(api.get(&old).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(api.get(&new).await.status, StatusCode::OK);
    assert_eq!(bench.introspections() - before, 2);
}

#[tokio::test]
async fn a_failed_revocation_forgets_both_values() {
    let bench = Bench::new().await;
    let (api, old) = due(&bench).await;
    let new = api.get(&old).await.header(NEW).to_owned();
    assert!(bench.authlete.revoke(&new));
    bench.authlete.fault(Fault::status(503).on(Api::TokenRevoke));
    api.handle.revoke(&old).await.unwrap_err();
    for value in [&old, &new] {
        assert_eq!(api.get(value).await.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn a_late_update_does_not_overwrite_what_was_learnt_since() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().subject("alice").scopes(["read", "write"]).issue().await;
    assert_eq!(api.get_at("/write", &token).await.status, StatusCode::OK);
    let hold = bench.authlete.hold(Api::TokenUpdate);
    let slow = update(&api, &token, TokenUpdateRequest::new().properties([("plan", "gold")]));
    bench.authlete.arrived(Api::TokenUpdate, 1).await;
    // Somebody else narrows the token, and we are told to forget it.
    let (elsewhere, narrowed) = (bench.authlete.authlete(), token.clone());
    let elsewhere = tokio::spawn(async move {
        let request = TokenUpdateRequest::new().access_token(narrowed).scopes(["read"]);
        elsewhere.token_update(&request).await.unwrap()
    });
    bench.authlete.arrived(Api::TokenUpdate, 2).await;
    api.handle.forget(&token);
    assert_eq!(api.get_at("/write", &token).await.status, StatusCode::FORBIDDEN);
    hold.release();
    slow.await.unwrap();
    elsewhere.await.unwrap();
    assert_eq!(api.get_at("/write", &token).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn of_two_updates_at_once_neither_is_taken_for_the_last() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().subject("alice").scopes(["read", "write"]).issue().await;
    api.get(&token).await;
    let hold = bench.authlete.hold(Api::TokenUpdate);
    let wide = update(&api, &token, TokenUpdateRequest::new().properties([("a", "b")]));
    bench.authlete.arrived(Api::TokenUpdate, 1).await;
    let narrow = update(&api, &token, TokenUpdateRequest::new().scopes(["read"]));
    bench.authlete.arrived(Api::TokenUpdate, 2).await;
    hold.release();
    wide.await.unwrap();
    narrow.await.unwrap();
    let before = bench.introspections();
    assert_eq!(api.get_at("/write", &token).await.status, StatusCode::FORBIDDEN);
    assert_eq!(bench.introspections() - before, 1);
}

#[tokio::test]
async fn updates_do_not_put_off_the_next_introspection() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().subject("alice").expires_in(5000 * SECOND).issue().await;
    api.get(&token).await;
    for count in 0..12 {
        bench.clock.advance(30 * SECOND);
        let request = TokenUpdateRequest::new().properties([("n", count.to_string())]);
        api.handle.update(&token, request).await.unwrap();
        api.get(&token).await;
    }
    // A revocation elsewhere is noticed within 60 s, whatever was updated here.
    assert_eq!(bench.introspections(), 7);
}

#[tokio::test]
async fn an_update_by_which_a_token_is_none_for_bearers_forgets_it() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().subject("alice").issue().await;
    api.get(&token).await;
    // Somebody else binds it to a key; of that, our own update tells only by the type.
    let request = TokenUpdateRequest::new().access_token(&token).dpop_key_thumbprint("abc");
    bench.authlete.authlete().token_update(&request).await.unwrap();
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    let request = TokenUpdateRequest::new().properties([("a", "b")]);
    api.handle.update(&token, request).await.unwrap();
    assert_eq!(api.get(&token).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_rotation_that_is_refused_is_not_asked_for_by_every_request() {
    let bench = Bench::new().await;
    let (api, old) = due(&bench).await;
    api.get_at("/none", &old).await;
    let before = bench.introspections();
    bench.authlete.fault(Fault::body(r#"{"action":"BAD_REQUEST"}"#).on(Api::TokenUpdate));
    for _ in 0..10 {
        assert_eq!(api.get(&old).await.status, StatusCode::OK);
    }
    assert_eq!(bench.authlete.calls(Api::TokenUpdate), 1);
    assert_eq!(bench.introspections(), before, "what is known is still so");
    bench.clock.advance(5 * SECOND);
    bench.authlete.clear_faults();
    assert_ne!(api.get(&old).await.header(NEW), "");
}

#[tokio::test]
async fn an_outage_is_not_made_worse_by_looking_again_at_tokens() {
    let bench = Bench::new().await;
    let refresh = Refresh::extend().when_below(12 * SECOND).to(30 * SECOND);
    let api = bench.api_with(|layer| layer.refresh(refresh).breaker(0, SECOND));
    let token = bench.authlete.token().subject("a").expires_in(15 * SECOND).issue().await;
    api.get(&token).await;
    bench.authlete.fault(Fault::status(503));
    bench.clock.advance(4 * SECOND);
    for _ in 0..10 {
        assert_eq!(api.get(&token).await.status, StatusCode::OK);
        // A call that is answered: those before it have been, too, or will be soon.
        assert_eq!(api.get("another").await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(bench.introspections(), 1 + 1 + 10);
    // After a while it is looked at again.
    bench.clock.advance(4 * SECOND);
    while bench.introspections() < 13 {
        assert_eq!(api.get(&token).await.status, StatusCode::OK);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn nobody_waits_for_an_answer_that_may_be_older_than_max_age() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.max_age(SECOND));
    let token = bench.authlete.token().issue().await;
    let hold = bench.authlete.hold(Api::Introspection);
    let early = get(&api, &token);
    bench.authlete.arrived(Api::Introspection, 1).await;
    bench.authlete.revoke(&token);
    bench.clock.advance(SECOND - Duration::from_millis(1));
    let mut waiting = std::pin::pin!(api.get(&token));
    assert!(poll!(waiting.as_mut()).is_pending());
    bench.clock.advance(Duration::from_millis(1));
    let mut late = std::pin::pin!(api.get(&token));
    assert!(poll!(late.as_mut()).is_pending());
    hold.release();
    assert_eq!(early.await.unwrap().status, StatusCode::OK);
    assert_eq!(waiting.await.status, StatusCode::OK, "who comes in time shares the answer");
    assert_eq!(late.await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(bench.introspections(), 2);
}

#[tokio::test]
async fn a_token_that_expires_while_the_answer_is_on_its_way_has_expired() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().subject("alice").expires_in(10 * SECOND).issue().await;
    let hold = bench.authlete.hold(Api::Introspection);
    let first = get(&api, &token);
    bench.authlete.arrived(Api::Introspection, 1).await;
    bench.clock.advance(10 * SECOND);
    let second = get(&api, &token);
    hold.release();
    assert_eq!(first.await.unwrap().status, StatusCode::UNAUTHORIZED);
    assert_eq!(second.await.unwrap().status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_revocation_ends_the_value_that_an_update_is_just_giving() {
    for rotates in [false, true] {
        let bench = Bench::new().await;
        let rotation = Rotation::in_header(NEW);
        let api = bench.api_with(|layer| if rotates { layer.rotate(rotation) } else { layer });
        let token = bench.authlete.token().subject("alice").issue().await;
        let hold = bench.authlete.hold(Api::TokenUpdate);
        let request = TokenUpdateRequest::new().access_token_value_updated(true);
        let renews = update(&api, &token, request);
        bench.authlete.arrived(Api::TokenUpdate, 1).await;
        api.handle.revoke(&token).await.unwrap();
        hold.release();
        let new = renews.await.unwrap().access_token.unwrap();
        assert_eq!(api.get(new.expose()).await.status, StatusCode::UNAUTHORIZED, "{rotates}");
    }
}
