//! Updates by a handle change the cache entry, and older answers are not used.

use axum::{Router, routing::get};
use futures_util::FutureExt;
use http::StatusCode;
use serde_json::json;
use tokio::task::JoinHandle;
use tower_authlete::{
    TokenInfo,
    api::{
        AuthzDetails, AuthzDetailsElement, TokenUpdateAction, TokenUpdateRequest,
        TokenUpdateResponse,
    },
    emulator::{Api, Fault},
    require::RequireDetails,
};

use crate::support::{Bench, OK, Protected, SECOND, UNAUTHORIZED, rotation};

/// An update in a task of its own.
fn spawn_update(
    api: &Protected,
    token: &str,
    request: TokenUpdateRequest,
) -> JoinHandle<TokenUpdateResponse> {
    let (handle, token) = (api.handle.clone(), token.to_owned());
    tokio::spawn(async move { handle.update(&token, request).await.unwrap() })
}

#[tokio::test]
async fn a_handler_can_update_a_token_and_its_entry() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().subject("alice").scopes(["read"]).issue().await;
    assert_eq!(api.get_at("/write", &token).await.status, StatusCode::FORBIDDEN);
    let request = TokenUpdateRequest::new().scopes(["write"]);
    let response = api.handle.update(&token, request).await.unwrap();
    assert_eq!(response.action, TokenUpdateAction::Ok);
    let answer = api.get_at("/write", &token).await;
    // The response of the update has no subject; the cached one is kept.
    assert_eq!((answer.status, answer.body.as_str()), (OK, "alice"));
    assert_eq!(api.get_at("/read", &token).await.status, StatusCode::FORBIDDEN);
    let request = TokenUpdateRequest::new().scopes([""; 0]);
    api.handle.update(&token, request).await.unwrap();
    assert_eq!(api.get_at("/write", &token).await.status, StatusCode::FORBIDDEN);
    // The update does not tell the details of an added scope: what refuses asks again, once.
    assert_eq!(bench.introspections(), 2);
}

#[tokio::test]
async fn an_update_of_a_token_that_is_not_cached_caches_nothing() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().certificate_thumbprint("abc").issue().await;
    let request = TokenUpdateRequest::new().scopes(["read"]);
    assert_eq!(api.handle.update(&token, request).await.unwrap().action, TokenUpdateAction::Ok);
    // It is introspected, and the certificate is missing.
    assert_eq!(api.get(&token).await.status, UNAUTHORIZED);
}

#[tokio::test]
async fn an_update_of_value_or_binding_or_one_that_fails_invalidates_the_token() {
    let bench = Bench::new().await;
    let change = async |api: &Protected, request: TokenUpdateRequest| {
        let token = bench.authlete.token().issue().await;
        assert_eq!(api.get(&token).await.status, OK);
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
        assert_eq!(change(&api, request).await, UNAUTHORIZED);
    }
    bench.authlete.fault(Fault::reset().on(Api::TokenUpdate));
    let before = bench.introspections();
    assert_eq!(change(&api, new()).await, OK);
    assert_eq!(bench.introspections() - before, 2);
}

#[tokio::test]
async fn an_update_that_tells_of_another_token_type_invalidates_the_token() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().subject("alice").issue().await;
    api.get(&token).await;
    // Somebody else binds it to a key; of that, our own update tells only by the type.
    let request = TokenUpdateRequest::new().access_token(&token).dpop_key_thumbprint("abc");
    bench.authlete.authlete().token_update(&request).await.unwrap();
    assert_eq!(api.get(&token).await.status, OK);
    let request = TokenUpdateRequest::new().properties([("a", "b")]);
    api.handle.update(&token, request).await.unwrap();
    assert_eq!(api.get(&token).await.status, UNAUTHORIZED);
}

#[tokio::test]
async fn an_introspection_that_is_older_than_an_update_is_not_used_after_it() {
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
async fn a_waiter_does_not_use_a_completed_answer_after_an_update() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().subject("alice").scopes(["read"]).issue().await;
    let mut waiting = Box::pin(api.get_at("/read", &token));
    assert!(waiting.as_mut().now_or_never().is_none());
    while api.get(&token).await.status != OK {}
    let request = TokenUpdateRequest::new().scopes(["write"]);
    let response = api.handle.update(&token, request).await.unwrap();
    assert_eq!(response.action, TokenUpdateAction::Ok);
    assert_eq!(api.get_at("/read", &token).await.status, StatusCode::FORBIDDEN);
    assert_eq!(waiting.await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_late_update_does_not_overwrite_a_newer_introspection() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().subject("alice").scopes(["read", "write"]).issue().await;
    assert_eq!(api.get_at("/write", &token).await.status, OK);
    let hold = bench.authlete.hold(Api::TokenUpdate);
    let slow = spawn_update(&api, &token, TokenUpdateRequest::new().properties([("plan", "gold")]));
    bench.authlete.arrived(Api::TokenUpdate, 1).await;
    // Another server removes scopes, and calls `forget` here.
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
async fn after_concurrent_updates_the_token_is_introspected() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().subject("alice").scopes(["read", "write"]).issue().await;
    api.get(&token).await;
    let hold = bench.authlete.hold(Api::TokenUpdate);
    let wide = spawn_update(&api, &token, TokenUpdateRequest::new().properties([("a", "b")]));
    bench.authlete.arrived(Api::TokenUpdate, 1).await;
    let narrow = spawn_update(&api, &token, TokenUpdateRequest::new().scopes(["read"]));
    bench.authlete.arrived(Api::TokenUpdate, 2).await;
    hold.release();
    wide.await.unwrap();
    narrow.await.unwrap();
    let before = bench.introspections();
    assert_eq!(api.get_at("/write", &token).await.status, StatusCode::FORBIDDEN);
    assert_eq!(bench.introspections() - before, 1);
}

#[tokio::test]
async fn updates_do_not_delay_the_next_introspection() {
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
    // A revocation elsewhere takes effect within 60 s, whatever is updated here.
    assert_eq!(bench.introspections(), 7);
}

#[tokio::test]
async fn an_update_that_is_not_answered_invalidates_the_token() {
    let bench = Bench::new().await;
    let api = bench.api_with_short_deadline(|layer| layer);
    let token = bench.authlete.token().scopes(["write"]).issue().await;
    assert_eq!(api.get_at("/write", &token).await.status, OK);
    let _lost = bench.authlete.hold(Api::TokenUpdate);
    let narrow = TokenUpdateRequest::new().scopes(["read"]);
    assert!(api.handle.update(&token, narrow).await.is_err());
    assert_eq!(api.get_at("/write", &token).await.status, StatusCode::FORBIDDEN);
}

fn payment() -> AuthzDetailsElement {
    AuthzDetailsElement::new().r#type("payment").actions(["initiate"])
}

#[tokio::test]
async fn authorization_details_that_an_update_removes_are_removed() {
    let update = TokenUpdateRequest::new;
    let none = || update().authorization_details(AuthzDetails::new());
    for (request, answers) in [(none(), false), (none(), true), (update(), true)] {
        let bench = Bench::new().await;
        let auth = bench.layer().build().unwrap();
        let pays = get(|| async {}).route_layer(RequireDetails::of_type("payment"));
        let api = Protected::with_routes(&auth, Router::new().route("/", pays));
        let details = AuthzDetails::new().elements([payment()]);
        let token = bench.authlete.token().authorization_details(details).issue().await;
        assert_eq!(api.get(&token).await.status, OK);
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
async fn details_of_scopes_that_an_update_removes_are_removed() {
    let bench = Bench::new().await;
    let auth = bench.layer().build().unwrap();
    let details = get(|token: TokenInfo| async move {
        let known = token.introspection().map(|it| it.scope_details).unwrap_or_default();
        let names: Vec<_> = known.into_iter().filter_map(|scope| scope.name).collect();
        names.join(" ")
    });
    let api = Protected::with_routes(&auth, Router::new().route("/", details));
    let token = bench.authlete.token().scopes(["read", "write"]).issue().await;
    assert_eq!(api.get(&token).await.body, "read write");
    let narrow = TokenUpdateRequest::new().scopes(["read"]);
    api.handle.update(&token, narrow).await.unwrap();
    assert_eq!(api.get(&token).await.body, "read");
    assert_eq!(bench.introspections(), 1);
}

#[tokio::test]
async fn a_revocation_ends_the_value_that_an_update_is_just_giving() {
    for rotates in [false, true] {
        let bench = Bench::new().await;
        let rotation = rotation();
        let api = bench.api_with(|layer| if rotates { layer.rotate(rotation) } else { layer });
        let token = bench.authlete.token().subject("alice").issue().await;
        let hold = bench.authlete.hold(Api::TokenUpdate);
        let request = TokenUpdateRequest::new().access_token_value_updated(true);
        let renews = spawn_update(&api, &token, request);
        bench.authlete.arrived(Api::TokenUpdate, 1).await;
        api.handle.revoke(&token).await.unwrap();
        hold.release();
        let new = renews.await.unwrap().access_token.unwrap();
        assert_eq!(api.get(new.expose()).await.status, UNAUTHORIZED, "{rotates}");
    }
}
