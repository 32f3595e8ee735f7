//! Bounds of stale answers for single routes.

use std::time::Duration;

use axum::{Router, routing::get};
use tower_authlete::{AuthLayer, CachePolicy, Dpop, emulator::Fault};

use crate::{
    holder::Holder,
    support::{Bench, OK, ORIGIN, Protected, SECOND, UNAVAILABLE},
};

/// Routes behind a layer, with further layers inside of it.
fn routes(auth: &AuthLayer, inside: &[(&str, AuthLayer)]) -> Protected {
    let ok = || async { "ok" };
    let router = inside.iter().fold(Router::new().route("/", get(ok)), |router, (path, layer)| {
        router.route(path, get(ok).route_layer(layer.clone()))
    });
    Protected::with_routes(auth, router)
}

#[tokio::test]
async fn a_route_can_have_its_own_bound() {
    let bench = Bench::new().await;
    let auth =
        bench.layer().cache(CachePolicy::new().stale_if_error(600 * SECOND)).build().unwrap();
    let inside = [
        ("/soon", auth.stale_if_error(30 * SECOND)),
        ("/never", auth.stale_if_error(Duration::ZERO)),
        ("/fresh", auth.bypass_cache()),
        ("/more", auth.stale_if_error(3600 * SECOND)),
    ];
    let api = routes(&auth, &inside);
    let token = bench.authlete.token().subject("alice").issue().await;
    let statuses = async || {
        let mut statuses = Vec::new();
        for path in ["/", "/soon", "/never", "/fresh", "/more"] {
            statuses.push(api.get_at(path, &token).await.status.as_u16());
        }
        statuses
    };
    assert_eq!(statuses().await, [200; 5]);
    bench.authlete.fault(Fault::status(503));
    assert_eq!(statuses().await, [200, 200, 200, 503, 200]);
    bench.clock.advance(60 * SECOND);
    for _when_calls_fail_and_when_none_is_made in 0..3 {
        assert_eq!(statuses().await, [200, 200, 503, 503, 200]);
    }
    bench.clock.advance(30 * SECOND);
    assert_eq!(statuses().await, [200, 503, 503, 503, 200]);
    bench.clock.advance(570 * SECOND);
    assert_eq!(statuses().await, [503; 5], "never more than the layer outside");
    bench.authlete.clear_faults();
    bench.clock.advance(60 * SECOND);
    assert_eq!(statuses().await, [200; 5]);
}

#[tokio::test]
async fn the_bound_of_a_route_is_never_above_that_of_its_layer() {
    let bench = Bench::new().await;
    let auth = bench.layer().cache(CachePolicy::new().stale_if_error(30 * SECOND)).build().unwrap();
    let more = Protected::new(&auth.stale_if_error(600 * SECOND));
    let none = auth.stale_if_error(Duration::ZERO);
    let more_than_none = Protected::new(&none.stale_if_error(30 * SECOND));
    let token = bench.authlete.token().subject("alice").issue().await;
    assert_eq!(more.get(&token).await.status, OK);
    bench.authlete.fault(Fault::status(503));
    bench.clock.advance(89 * SECOND);
    assert_eq!(more.get(&token).await.status, OK);
    assert_eq!(more_than_none.get(&token).await.status, UNAVAILABLE);
    bench.clock.advance(SECOND);
    assert_eq!(more.get(&token).await.status, UNAVAILABLE);
}

#[tokio::test]
async fn the_bound_of_a_route_holds_for_a_proof_that_the_outer_layer_has_sent() {
    let bench = Bench::new().await;
    let auth = bench
        .layer()
        .cache(CachePolicy::new().stale_if_error(600 * SECOND))
        .dpop(Dpop::at(ORIGIN))
        .build()
        .unwrap();
    let inside = [
        ("/same", auth.stale_if_error(600 * SECOND)),
        ("/soon", auth.stale_if_error(30 * SECOND)),
        ("/never", auth.stale_if_error(Duration::ZERO)),
        ("/fresh", auth.bypass_cache()),
    ];
    let api = routes(&auth, &inside);
    let holder = Holder::at(&bench, api).await;
    let prove = async |path: &str| holder.get_at(path).await.status;
    for path in ["/", "/same", "/soon", "/never", "/fresh"] {
        assert_eq!(prove(path).await, OK, "{path}");
    }
    bench.clock.advance(60 * SECOND);
    bench.authlete.fault(Fault::status(503));
    for _when_calls_fail_and_when_none_is_made in 0..3 {
        assert_eq!(prove("/").await, OK);
        assert_eq!(prove("/same").await, OK);
        assert_eq!(prove("/soon").await, OK);
        assert_eq!(prove("/never").await, UNAVAILABLE);
        assert_eq!(prove("/fresh").await, UNAVAILABLE);
    }
    bench.clock.advance(30 * SECOND);
    assert_eq!(prove("/same").await, OK);
    assert_eq!(prove("/soon").await, UNAVAILABLE);
}
