//! One call for many requests: a leader makes it, and waiters share its outcome.

use std::time::Duration;

use futures_util::{FutureExt, future::join_all, poll};
use tower_authlete::{
    CachePolicy,
    emulator::{Api, Fault},
};

use crate::support::{Bench, OK, SECOND, UNAUTHORIZED, UNAVAILABLE};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_first_requests_make_one_call() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().subject("alice").issue().await;
    let requests = (0..1000).map(|_| api.spawn_get(&token));
    for answer in join_all(requests.collect::<Vec<_>>()).await {
        assert_eq!(answer.unwrap().body, "alice");
    }
    assert_eq!(bench.introspections(), 1);
}

#[tokio::test]
async fn concurrent_requests_with_an_unknown_token_make_one_call() {
    let bench = Bench::new().await;
    let api = bench.api();
    let answers = join_all((0..20).map(|_| api.get("rubbish"))).await;
    assert!(answers.iter().all(|answer| answer.status == UNAUTHORIZED));
    assert_eq!(bench.introspections(), 1);
}

#[tokio::test]
async fn calls_about_different_tokens_do_not_wait_for_each_other() {
    let bench = Bench::new().await;
    let api = bench.api();
    let (one, two) = (bench.authlete.token().issue().await, bench.authlete.token().issue().await);
    let (hold, first) = api.held(&bench, &one).await;
    let second = api.spawn_get(&two);
    // The second call arrives while the first is still unanswered.
    bench.authlete.arrived(Api::Introspection, 2).await;
    hold.release();
    assert_eq!(first.await.unwrap().status, OK);
    assert_eq!(second.await.unwrap().status, OK);
}

#[tokio::test]
async fn a_failure_is_shared_and_not_cached() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().issue().await;
    bench.authlete.fault(Fault::status(503).times(1));
    let answers = join_all((0..20).map(|_| api.get(&token))).await;
    assert!(answers.iter().all(|answer| answer.status == UNAVAILABLE));
    assert_eq!(bench.introspections(), 1);
    assert_eq!(api.get(&token).await.status, OK);
    assert_eq!(bench.introspections(), 2);
}

#[tokio::test]
async fn a_leader_that_goes_away_fails_nobody() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().subject("alice").issue().await;
    let (hold, leader) = api.held(&bench, &token).await;
    let waiter = api.spawn_get(&token);
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    hold.release();
    assert_eq!(waiter.await.unwrap().body, "alice");
    assert_eq!(bench.introspections(), 1);
}

#[tokio::test]
async fn an_answer_that_nobody_waits_for_any_more_is_cached() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().subject("alice").issue().await;
    let (hold, only) = api.held(&bench, &token).await;
    only.abort();
    hold.release();
    // No second call is made, whether the first has completed or is in flight.
    assert_eq!(api.get(&token).await.body, "alice");
    assert_eq!(bench.introspections(), 1);
}

#[tokio::test]
async fn without_a_cache_no_request_joins_the_call_of_another() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.cache(CachePolicy::disabled()));
    let token = bench.authlete.token().issue().await;
    let answers = join_all((0..20).map(|_| api.get(&token))).await;
    assert!(answers.iter().all(|answer| answer.status == OK));
    assert_eq!(bench.introspections(), 20);
}

#[test]
fn a_request_outside_of_a_runtime_does_not_block_those_that_come_after() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bench = runtime.block_on(Bench::new());
    let api = bench.api();
    let token = runtime.block_on(bench.authlete.token().subject("alice").issue());
    // Without a runtime to spawn on, the request panics and leaves no entry.
    let outside = std::panic::AssertUnwindSafe(|| api.get(&token).now_or_never());
    assert!(std::panic::catch_unwind(outside).is_err());
    assert_eq!(runtime.block_on(api.get(&token)).body, "alice");
}

#[tokio::test]
async fn a_call_is_joined_only_within_max_age() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.max_age(SECOND));
    let token = bench.authlete.token().issue().await;
    let (hold, early) = api.held(&bench, &token).await;
    bench.authlete.revoke(&token);
    bench.clock.advance(SECOND - Duration::from_millis(1));
    let mut waiting = std::pin::pin!(api.get(&token));
    assert!(poll!(waiting.as_mut()).is_pending());
    bench.clock.advance(Duration::from_millis(1));
    let mut late = std::pin::pin!(api.get(&token));
    assert!(poll!(late.as_mut()).is_pending());
    hold.release();
    assert_eq!(early.await.unwrap().status, OK);
    assert_eq!(waiting.await.status, OK, "who comes in time shares the answer");
    assert_eq!(late.await.status, UNAUTHORIZED);
    assert_eq!(bench.introspections(), 2);
}
