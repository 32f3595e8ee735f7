//! A revoked token is refused at once, by every value that it had, also by responses to calls in flight.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::FutureExt;
use tokio::sync::Notify;
use tower_authlete::{
    AuthLayer, CachePolicy,
    api::TokenUpdateRequest,
    emulator::{Api, Fault},
    proof::{MemoryReplays, ProofId, ProofUseFuture, ReplayStore},
};

use crate::{
    authorization_server::revoke,
    holder::Holder,
    support::{Bench, NEW, OK, Protected, SECOND, UNAUTHORIZED, due, resilience, rotation},
};

#[tokio::test]
async fn a_revoked_token_is_refused_at_once() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().issue().await;
    assert_eq!(api.get(&token).await.status, OK);
    api.handle.revoke(&token).await.unwrap();
    let answer = api.get(&token).await;
    assert_eq!(answer.status, UNAUTHORIZED);
    assert!(answer.challenge().contains("error=\"invalid_token\""));
    // The revocation is cached, so that no call is made.
    assert_eq!(bench.introspections(), 1);
    bench.clock.advance(10 * SECOND);
    assert_eq!(api.get(&token).await.status, UNAUTHORIZED);
}

/// A token that is revoked between the decision of its introspection and the response.
async fn revoked_while_asked(bench: &Bench, auth: &AuthLayer) {
    let api = Protected::new(auth);
    let before = bench.introspections();
    let token = bench.authlete.token().issue().await;
    let hold = bench.authlete.hold(Api::Introspection);
    let requests = [api.spawn_get(&token), api.spawn_get(&token)];
    bench.authlete.arrived(Api::Introspection, before + 1).await;
    tokio::task::yield_now().await;
    api.handle.revoke(&token).await.unwrap();
    hold.release();
    for request in requests {
        assert_eq!(request.await.unwrap().status, UNAUTHORIZED);
    }
    assert_eq!(api.get(&token).await.status, UNAUTHORIZED);
}

#[tokio::test]
async fn an_answer_in_flight_does_not_admit_a_revoked_token() {
    let bench = Bench::new().await;
    revoked_while_asked(&bench, &bench.layer().build().unwrap()).await;
}

#[tokio::test]
async fn an_answer_in_flight_does_not_admit_a_revoked_token_without_a_cache() {
    let bench = Bench::new().await;
    revoked_while_asked(&bench, &bench.layer().cache(CachePolicy::disabled()).build().unwrap())
        .await;
    revoked_while_asked(&bench, &bench.layer().build().unwrap().bypass_cache()).await;
}

#[tokio::test]
async fn a_revocation_that_fails_says_so_and_forgets_all_the_same() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().issue().await;
    api.get(&token).await;
    bench.authlete.fault(Fault::status(503).on(Api::TokenRevoke));
    assert!(api.handle.revoke(&token).await.unwrap_err().is_retryable());
    assert_eq!(api.get(&token).await.status, OK);
    assert_eq!(bench.introspections(), 2);
}

#[tokio::test]
async fn a_revocation_is_finished_even_if_its_caller_goes_away() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().issue().await;
    assert_eq!(api.get(&token).await.status, OK);
    let hold = bench.authlete.hold(Api::TokenRevoke);
    let caller = tokio::spawn({
        let (handle, token) = (api.handle.clone(), token.clone());
        async move { handle.revoke(&token).await }
    });
    bench.authlete.arrived(Api::TokenRevoke, 1).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    hold.release();
    // The second call comes after the first on the same connection, or on a slower one.
    let _ = api.handle.revoke("another").await;
    let mut status = OK;
    for _ in 0..1000 {
        status = api.get(&token).await.status;
        if status != OK {
            break;
        }
        let _ = api.handle.revoke("another").await;
    }
    assert_eq!(status, UNAUTHORIZED);
}

#[tokio::test]
async fn a_revocation_tells_how_many_tokens_authlete_ended() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().issue().await;
    assert_eq!(api.handle.revoke(&token).await.unwrap().tokens, 1);
    // RFC 7009 §2.2: an unknown token is no error.
    assert_eq!(api.handle.revoke(&token).await.unwrap().tokens, 0);
}

/// An API that gives tokens new values every 20 s, and the values that a token has had.
async fn rotated(bench: &Bench, times: usize) -> (Protected, Vec<String>) {
    let api =
        bench.api_with(|layer| layer.rotate(rotation()).resilience(resilience().deadline(SECOND)));
    let mut values = vec![bench.authlete.token().issue().await];
    api.get(&values[0]).await;
    for _ in 0..times {
        bench.clock.advance(20 * SECOND);
        let new = api.get(values.last().unwrap()).await.header(NEW).to_owned();
        assert_eq!(api.get(&new).await.status, OK);
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
                assert_eq!(
                    api.handle.revoke(&values[by]).await.unwrap().tokens,
                    1,
                    "{later:?} {by}"
                );
                for value in &values {
                    assert_eq!(api.get(value).await.status, UNAUTHORIZED);
                }
                // Not only here.
                assert!(!bench.authlete.revoke(values.last().unwrap()));
            }
        }
    }
}

#[tokio::test]
async fn a_token_is_revoked_by_the_value_that_a_handler_has_replaced() {
    let bench = Bench::new().await;
    let api = bench.api();
    let old = bench.authlete.token().issue().await;
    let change = TokenUpdateRequest::new().access_token_value_updated(true);
    let response = api.handle.update(&old, change).await.unwrap();
    let new = response.access_token.unwrap();
    assert_eq!(api.get(new.expose()).await.status, OK);
    assert_eq!(api.handle.revoke(&old).await.unwrap().tokens, 1);
    assert_eq!(api.get(new.expose()).await.status, UNAUTHORIZED);
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
        ended += revocation.await.unwrap().tokens;
    }
    assert_eq!(ended, 1);
}

#[tokio::test(start_paused = true)]
async fn a_new_value_after_the_deadline_of_a_revocation_is_revoked_and_not_sent() {
    let bench = Bench::new().await;
    let (api, values) = rotated(&bench, 0).await;
    bench.clock.advance(20 * SECOND);
    let hold = bench.authlete.hold(Api::TokenUpdate);
    let rotates = api.spawn_get(&values[0]);
    bench.authlete.arrived(Api::TokenUpdate, 1).await;
    // Only the deadline ends the wait for the rotation.
    assert_eq!(api.handle.revoke(&values[0]).await.unwrap().tokens, 0);
    hold.release();
    assert_eq!(rotates.await.unwrap().header(NEW), "");
    assert_eq!(bench.revoke_all().await, 0);
}

#[tokio::test]
async fn a_waiter_does_not_use_a_completed_answer_after_a_revocation() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().subject("alice").issue().await;
    let mut waiting = Box::pin(api.get(&token));
    assert!(waiting.as_mut().now_or_never().is_none());
    // Completed: it is known to others.
    while api.get(&token).await.status != OK {}
    assert_eq!(bench.introspections(), 1);
    api.handle.revoke(&token).await.unwrap();
    assert_eq!(api.get(&token).await.status, UNAUTHORIZED);
    assert_eq!(waiting.await.status, UNAUTHORIZED);
}

/// A store that responds when it is released.
struct Slow {
    replays: MemoryReplays,
    asked: Arc<Notify>,
    go: Arc<Notify>,
}

impl ReplayStore for Slow {
    fn record_use(&self, proof: ProofId, until: SystemTime, now: SystemTime) -> ProofUseFuture<'_> {
        Box::pin(async move {
            self.asked.notify_one();
            self.go.notified().await;
            self.replays.record_use(proof, until, now).await
        })
    }
}

#[tokio::test]
async fn a_revocation_while_the_replay_store_is_asked_refuses_the_request() {
    let bench = Bench::new().await;
    let (asked, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = Slow { replays: MemoryReplays::default(), asked: asked.clone(), go: go.clone() };
    let holder = Holder::with(&bench, |dpop| dpop.replay_store(slow), |layer| layer).await;
    let waiting = holder.spawn_get();
    asked.notified().await;
    holder.api.handle.revoke(&holder.token).await.unwrap();
    go.notify_one();
    assert_ne!(waiting.await.unwrap().status, OK);
}

#[tokio::test]
async fn a_revocation_waits_for_a_rotation_and_ends_the_new_value() {
    for by_endpoint in [false, true] {
        let bench = Bench::new().await;
        let (api, old) = due(&bench, rotation().overlap(5 * SECOND)).await;
        let hold = bench.authlete.hold(Api::TokenUpdate);
        let request = api.spawn_get(&old);
        bench.authlete.arrived(Api::TokenUpdate, 1).await;
        let revoked = async {
            if by_endpoint {
                assert_eq!(revoke(&bench, &api.handle, &old).await, OK);
            } else {
                api.handle.revoke(&old).await.unwrap();
            }
        };
        tokio::pin!(revoked);
        // It must not complete before the new value is known.
        let early = tokio::time::timeout(Duration::from_millis(50), &mut revoked).await;
        assert!(early.is_err(), "{by_endpoint}");
        hold.release();
        revoked.await;
        assert_eq!(api.get(&old).await.status, UNAUTHORIZED, "{by_endpoint}");
        // A value that reaches the client is invalid.
        let answer = request.await.unwrap();
        let new = Some(answer.header(NEW)).filter(|new| !new.is_empty());
        if let Some(new) = new {
            assert_eq!(api.get(new).await.status, UNAUTHORIZED, "{by_endpoint}");
        }
        assert_eq!(bench.revoke_all().await, 0, "{by_endpoint}");
    }
}

#[tokio::test]
async fn a_client_that_revokes_the_old_value_ends_the_new_one() {
    let bench = Bench::new().await;
    let (api, old) = due(&bench, rotation().overlap(5 * SECOND)).await;
    let new = api.get(&old).await.header(NEW).to_owned();
    assert_eq!(revoke(&bench, &api.handle, &old).await, OK);
    for value in [&old, &new] {
        assert_eq!(api.get(value).await.status, UNAUTHORIZED);
    }
    assert!(!bench.authlete.revoke(&new));
}

#[tokio::test]
async fn a_failed_revocation_forgets_both_values_of_a_rotated_token() {
    let bench = Bench::new().await;
    let (api, old) = due(&bench, rotation().overlap(5 * SECOND)).await;
    let new = api.get(&old).await.header(NEW).to_owned();
    assert!(bench.authlete.revoke(&new));
    bench.authlete.fault(Fault::status(503).on(Api::TokenRevoke));
    api.handle.revoke(&old).await.unwrap_err();
    for value in [&old, &new] {
        assert_eq!(api.get(value).await.status, UNAUTHORIZED);
    }
}
