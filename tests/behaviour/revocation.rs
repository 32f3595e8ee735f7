//! A token that is revoked or forgotten is gone at once, also for answers that are on their way.

use http::StatusCode;
use tokio::task::JoinHandle;
use tower_authlete::{
    AuthLayer,
    emulator::{Api, Fault},
};

use crate::support::{Answer, Bench, Protected};

fn spawn(api: &Protected, token: &str) -> JoinHandle<Answer> {
    let (api, token) = (api.clone(), token.to_owned());
    tokio::spawn(async move { api.get(&token).await })
}

#[tokio::test]
async fn a_revoked_token_dies_at_once() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().issue().await;
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    api.handle.revoke(&token).await.unwrap();
    let answer = api.get(&token).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.challenge().contains("error=\"invalid_token\""));
    // It is known to be gone, so that nobody has to ask.
    assert_eq!(bench.introspections(), 1);
    bench.clock.advance(std::time::Duration::from_secs(10));
    assert_eq!(api.get(&token).await.status, StatusCode::UNAUTHORIZED);
}

/// A call sets out, Authlete decides OK, the token is revoked, and only then does OK arrive.
async fn revoked_while_asked(bench: &Bench, auth: &AuthLayer) {
    let api = Protected::new(auth);
    let before = bench.introspections();
    let token = bench.authlete.token().issue().await;
    let hold = bench.authlete.hold(Api::Introspection);
    let requests = [spawn(&api, &token), spawn(&api, &token)];
    bench.authlete.arrived(Api::Introspection, before + 1).await;
    tokio::task::yield_now().await;
    api.handle.revoke(&token).await.unwrap();
    hold.release();
    for request in requests {
        assert_eq!(request.await.unwrap().status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(api.get(&token).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_answer_on_its_way_does_not_bring_a_revoked_token_back() {
    let bench = Bench::new().await;
    revoked_while_asked(&bench, &bench.layer().build().unwrap()).await;
}

#[tokio::test]
async fn nor_does_it_without_a_cache_or_on_a_route_without_one() {
    let bench = Bench::new().await;
    revoked_while_asked(&bench, &bench.layer().no_cache().build().unwrap()).await;
    revoked_while_asked(&bench, &bench.layer().build().unwrap().no_cache()).await;
}

#[tokio::test]
async fn a_forgotten_token_is_asked_about_again() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().issue().await;
    let other = bench.authlete.token().issue().await;
    api.get(&token).await;
    api.get(&other).await;
    api.handle.forget(&token);
    api.get(&token).await;
    api.get(&other).await;
    assert_eq!(bench.introspections(), 3);
    api.handle.forget_all();
    api.get(&token).await;
    api.get(&other).await;
    assert_eq!(bench.introspections(), 5);
}

#[tokio::test]
async fn an_answer_on_its_way_is_not_used_for_a_forgotten_token() {
    for forget_all in [false, true] {
        let bench = Bench::new().await;
        let api = bench.api();
        let token = bench.authlete.token().issue().await;
        let hold = bench.authlete.hold(Api::Introspection);
        let request = spawn(&api, &token);
        bench.authlete.arrived(Api::Introspection, 1).await;
        // Somebody else ends the token, and tells us.
        bench.authlete.revoke(&token);
        if forget_all {
            api.handle.forget_all();
        } else {
            api.handle.forget(&token);
        }
        hold.release();
        assert_eq!(request.await.unwrap().status, StatusCode::UNAUTHORIZED);
        assert_eq!(bench.introspections(), 2);
    }
}

#[tokio::test]
async fn a_revocation_that_fails_says_so_and_forgets_all_the_same() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().issue().await;
    api.get(&token).await;
    bench.authlete.fault(Fault::status(503).on(Api::TokenRevoke));
    assert!(api.handle.revoke(&token).await.unwrap_err().is_retryable());
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    assert_eq!(bench.introspections(), 2);
}

#[tokio::test]
async fn a_revocation_is_finished_even_if_its_caller_goes_away() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().issue().await;
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    let hold = bench.authlete.hold(Api::TokenRevoke);
    let caller = tokio::spawn({
        let (handle, token) = (api.handle.clone(), token.clone());
        async move { handle.revoke(&token).await }
    });
    bench.authlete.arrived(Api::TokenRevoke, 1).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    hold.release();
    // A second one takes its turn after the first on the same connection, or on one that is slower.
    let _ = api.handle.revoke("another").await;
    let mut status = StatusCode::OK;
    for _ in 0..1000 {
        status = api.get(&token).await.status;
        if status != StatusCode::OK {
            break;
        }
        let _ = api.handle.revoke("another").await;
    }
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}
