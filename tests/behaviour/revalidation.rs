//! Facts in use are revalidated ahead of their end, beside the requests that use them.

use std::time::Duration;

use tower_authlete::emulator::{Api, Fault};

use crate::support::{Bench, OK, SECOND, UNAUTHORIZED, UNAVAILABLE};

#[tokio::test]
async fn steady_traffic_never_waits_for_a_revalidation() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.refresh_ahead(20 * SECOND));
    let token = bench.authlete.token().subject("alice").issue().await;
    api.get(&token).await;
    bench.clock.advance(39 * SECOND);
    api.get(&token).await;
    assert_eq!(bench.introspections(), 1, "it is too early");
    bench.clock.advance(12 * SECOND);
    let hold = bench.authlete.hold(Api::Introspection);
    for _ in 0..3 {
        assert_eq!(api.get(&token).await.status, OK);
    }
    bench.authlete.arrived(Api::Introspection, 2).await;
    hold.release();
    api.is_idle().await;
    // The new answer is good for another 60 s; a revocation shows within that all the same.
    assert!(bench.authlete.revoke(&token));
    bench.clock.advance(60 * SECOND);
    assert_eq!(api.get(&token).await.status, UNAUTHORIZED);
    assert_eq!(bench.introspections(), 3);
}

#[tokio::test]
async fn by_default_facts_in_use_are_revalidated_in_the_last_tenth_of_their_age() {
    let bench = Bench::new().await;
    let (api, off) = (bench.api(), bench.api_with(|layer| layer.refresh_ahead(Duration::ZERO)));
    let token = bench.authlete.token().subject("alice").issue().await;
    api.get(&token).await;
    off.get(&token).await;
    bench.clock.advance(53 * SECOND);
    api.get(&token).await;
    // A call that is answered: one that was made before it would have arrived, too.
    api.get("another").await;
    assert_eq!(bench.introspections(), 3);
    bench.clock.advance(4 * SECOND);
    off.get(&token).await;
    off.get("another").await;
    assert_eq!(bench.introspections(), 4, "where it is off");
    assert_eq!(api.get(&token).await.status, OK);
    bench.authlete.arrived(Api::Introspection, 5).await;
}

#[tokio::test]
async fn in_an_outage_nothing_is_revalidated_ahead_of_its_end() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.refresh_ahead(20 * SECOND));
    let token = bench.authlete.token().subject("alice").issue().await;
    api.get(&token).await;
    bench.clock.advance(51 * SECOND);
    bench.authlete.fault(Fault::status(503));
    for asked in 2..5 {
        // A call that is answered: those before it have been, too.
        assert_eq!(api.get("another").await.status, UNAVAILABLE);
        assert_eq!(bench.introspections(), asked);
        assert_eq!(api.get(&token).await.status, OK);
    }
}
