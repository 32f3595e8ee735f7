//! A token that is revoked or forgotten is gone at once, also for answers that are on their way.

use std::time::Duration;

use http::{HeaderName, StatusCode};
use tokio::task::JoinHandle;
use tower_authlete::{
    AuthLayer, Rotation,
    api::TokenUpdateRequest,
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

#[tokio::test]
async fn it_tells_how_many_tokens_authlete_ended() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().issue().await;
    assert_eq!(api.handle.revoke(&token).await.unwrap(), 1);
    // RFC 7009 §2.2: what is not there is no error.
    assert_eq!(api.handle.revoke(&token).await.unwrap(), 0);
}

const NEW: HeaderName = HeaderName::from_static("x-new-token");
const SECOND: Duration = Duration::from_secs(1);

/// An API that gives tokens new values every 20 s, and the values that a token has had.
async fn rotated(bench: &Bench, times: usize) -> (Protected, Vec<String>) {
    let rotation = Rotation::in_header(NEW).every(20 * SECOND);
    let api = bench.api_with(|layer| layer.rotate(rotation).check_deadline(SECOND));
    let mut values = vec![bench.authlete.token().issue().await];
    api.get(&values[0]).await;
    for _ in 0..times {
        bench.clock.advance(20 * SECOND);
        let new = api.get(values.last().unwrap()).await.header(NEW).to_owned();
        assert_eq!(api.get(&new).await.status, StatusCode::OK);
        values.push(new);
    }
    (api, values)
}

#[tokio::test]
async fn a_token_is_revoked_by_any_value_that_it_has_had() {
    for times in [1, 3] {
        for later in [SECOND, 600 * SECOND] {
            for by in 0..=times {
                let bench = Bench::new().await;
                let (api, values) = rotated(&bench, times).await;
                bench.clock.advance(later);
                assert_eq!(api.handle.revoke(&values[by]).await.unwrap(), 1, "{later:?} {by}");
                for value in &values {
                    assert_eq!(api.get(value).await.status, StatusCode::UNAUTHORIZED);
                }
                // Not only here.
                assert!(!bench.authlete.revoke(values.last().unwrap()));
            }
        }
    }
}

#[tokio::test]
async fn also_if_a_handler_gave_it_the_new_value() {
    let bench = Bench::new().await;
    let api = bench.api();
    let old = bench.authlete.token().issue().await;
    let change = TokenUpdateRequest::new().access_token_value_updated(true);
    let response = api.handle.update(&old, change).await.unwrap();
    let new = response.access_token.unwrap();
    assert_eq!(api.get(new.expose()).await.status, StatusCode::OK);
    assert_eq!(api.handle.revoke(&old).await.unwrap(), 1);
    assert_eq!(api.get(new.expose()).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn revocations_of_one_token_do_not_wait_for_each_other() {
    let bench = Bench::new().await;
    let (api, values) = rotated(&bench, 0).await;
    let hold = bench.authlete.hold(Api::TokenRevoke);
    let revocations = [(); 3].map(|()| {
        let (handle, token) = (api.handle.clone(), values[0].clone());
        tokio::spawn(async move { handle.revoke(&token).await.unwrap() })
    });
    bench.authlete.arrived(Api::TokenRevoke, 3).await;
    hold.release();
    let mut ended = 0;
    for revocation in revocations {
        ended += revocation.await.unwrap();
    }
    assert_eq!(ended, 1);
}

#[tokio::test(start_paused = true)]
async fn a_value_that_comes_after_the_deadline_of_a_revocation_is_revoked_and_told_to_nobody() {
    let bench = Bench::new().await;
    let (api, values) = rotated(&bench, 0).await;
    bench.clock.advance(20 * SECOND);
    let hold = bench.authlete.hold(Api::TokenUpdate);
    let rotates = spawn(&api, &values[0]);
    bench.authlete.arrived(Api::TokenUpdate, 1).await;
    // Nothing but time ends the wait for the rotation.
    assert_eq!(api.handle.revoke(&values[0]).await.unwrap(), 0);
    hold.release();
    assert_eq!(rotates.await.unwrap().header(NEW), "");
    let all = tower_authlete::api::TokenRevokeRequest::new()
        .client_identifier(bench.authlete.client_id().to_string());
    let left = bench.authlete.authlete().token_revoke(&all).await.unwrap();
    assert_eq!(left.count, Some(0));
}
