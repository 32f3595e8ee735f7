//! Entries in use are revalidated before `max_age`, in the background.

use std::time::Duration;

use tower_authlete::{
    CachePolicy,
    emulator::{Api, Fault},
};

use crate::support::{Bench, OK, SECOND, UNAUTHORIZED, UNAVAILABLE};

#[tokio::test]
async fn steady_traffic_never_waits_for_a_revalidation() {
    let bench = Bench::new().await;
    let api =
        bench.api_with(|layer| layer.cache(CachePolicy::new().revalidate_before(20 * SECOND)));
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
    // The new answer is used for 60 s; a revocation takes effect within that.
    assert!(bench.authlete.revoke(&token));
    bench.clock.advance(60 * SECOND);
    assert_eq!(api.get(&token).await.status, UNAUTHORIZED);
    assert_eq!(bench.introspections(), 3);
}

#[tokio::test]
async fn by_default_facts_in_use_are_revalidated_in_the_last_tenth_of_their_age() {
    let bench = Bench::new().await;
    let (api, off) = (
        bench.api(),
        bench.api_with(|layer| layer.cache(CachePolicy::new().revalidate_before(Duration::ZERO))),
    );
    let token = bench.authlete.token().subject("alice").issue().await;
    api.get(&token).await;
    off.get(&token).await;
    bench.clock.advance(53 * SECOND);
    api.get(&token).await;
    // A call that was started before this one would have arrived by now.
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
    let api =
        bench.api_with(|layer| layer.cache(CachePolicy::new().revalidate_before(20 * SECOND)));
    let token = bench.authlete.token().subject("alice").issue().await;
    api.get(&token).await;
    bench.clock.advance(51 * SECOND);
    bench.authlete.fault(Fault::status(503));
    for asked in 2..5 {
        // Calls that were started before this one have completed.
        assert_eq!(api.get("another").await.status, UNAVAILABLE);
        assert_eq!(bench.introspections(), asked);
        assert_eq!(api.get(&token).await.status, OK);
    }
}
