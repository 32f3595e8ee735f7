//! Limits of calls in flight and of checks that wait for a permit.

use std::time::Duration;

use futures_util::future::join_all;
use http::header::RETRY_AFTER;
use tower_authlete::{
    BreakerState, CachePolicy,
    emulator::{Api, Fault},
    resilience::Breaker,
};

use crate::support::{Bench, OK, SECOND, UNAUTHORIZED, UNAVAILABLE, resilience};

#[tokio::test]
async fn beyond_the_limits_a_check_is_503_at_once() {
    let bench = Bench::new().await;
    let api =
        bench.api_with(|layer| layer.resilience(resilience().max_in_flight(2).max_waiting(1)));
    let hold = bench.authlete.hold(Api::Introspection);
    let tokens: Vec<_> = join_all((0..4).map(|_| bench.authlete.token().issue())).await;
    let waiting: Vec<_> = tokens[..3].iter().map(|token| api.spawn_get(token)).collect();
    bench.authlete.arrived(Api::Introspection, 2).await;
    let refused = api.get(&tokens[3]).await;
    assert_eq!(refused.status, UNAVAILABLE);
    assert_ne!(refused.header(RETRY_AFTER), "");
    assert_eq!(bench.introspections(), 2);
    hold.release();
    for answer in join_all(waiting).await {
        assert_eq!(answer.unwrap().status, OK);
    }
    assert_eq!(api.get(&tokens[3]).await.status, OK);
}

#[tokio::test]
async fn a_check_without_a_permit_is_no_failure_of_authlete() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| {
        let calls = resilience().breaker(Breaker::after(2)).max_in_flight(1).max_waiting(8);
        layer.resilience(calls.deadline(Duration::from_millis(200)))
    });
    let _hold = bench.authlete.hold(Api::Introspection);
    let tokens: Vec<_> = (0..8).map(|number| format!("made-up-{number}")).collect();
    let answers = join_all(tokens.iter().map(|token| api.get(token))).await;
    assert!(answers.iter().all(|it| it.status == UNAVAILABLE));
    // At the deadline of the first one, others may have started with the rest of theirs.
    assert!((1..8).contains(&bench.introspections()));
    assert_eq!(api.handle.health().breaker, BreakerState::Closed);
}

#[tokio::test]
async fn a_revocation_does_not_wait_for_checks() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.resilience(resilience().max_in_flight(1)));
    let (hold, check) = api.held(&bench, "token").await;
    api.handle.revoke("another").await.unwrap();
    hold.release();
    assert_eq!(check.await.unwrap().status, UNAUTHORIZED);
}

#[tokio::test]
async fn the_largest_limits_are_accepted() {
    let bench = Bench::new().await;
    let token = bench.authlete.token().issue().await;
    let api = bench.api_with(|layer| layer.resilience(resilience().max_waiting(usize::MAX)));
    assert_eq!(api.get(&token).await.status, OK);
    let api = bench.api_with(|layer| layer.resilience(resilience().max_in_flight(usize::MAX)));
    assert_eq!(api.get(&token).await.status, OK);
}

#[tokio::test]
async fn an_overload_does_not_open_the_breaker() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| {
        layer
            .cache(CachePolicy::new().stale_if_error(600 * SECOND))
            .resilience(resilience().max_in_flight(1).max_waiting(0))
    });
    let token = bench.authlete.token().subject("alice").issue().await;
    api.get(&token).await;
    assert!(bench.authlete.revoke(&token));
    bench.clock.advance(300 * SECOND);
    let (hold, other) = api.held(&bench, "made-up").await;
    assert_eq!(api.get(&token).await.status, UNAVAILABLE);
    hold.release();
    assert_eq!(other.await.unwrap().status, UNAUTHORIZED);
}

#[tokio::test]
async fn an_overload_in_an_outage_is_served_stale_facts() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| {
        let layer = layer.cache(CachePolicy::new().stale_if_error(600 * SECOND));
        let calls = resilience().breaker(Breaker::disabled());
        layer.resilience(calls.max_in_flight(1).max_waiting(0))
    });
    let token = bench.authlete.token().subject("alice").issue().await;
    api.get(&token).await;
    bench.clock.advance(300 * SECOND);
    bench.authlete.fault(Fault::status(503).times(2));
    assert_eq!(api.get("another").await.status, UNAVAILABLE);
    bench.clock.advance(10 * SECOND);
    let _hold = bench.authlete.hold(Api::Introspection);
    let calls = bench.introspections();
    let other = api.spawn_get("made-up");
    bench.authlete.arrived(Api::Introspection, calls + 1).await;
    assert_eq!(api.get(&token).await.status, OK);
    other.abort();
}
