//! Routes differ in what may be out of date in an outage.

use std::time::Duration;

use axum::{Router, routing::get};
use http::StatusCode;
use serde_json::json;
use tower_authlete::{AuthLayer, Dpop, emulator::Fault};

use crate::{
    keys::Key,
    support::{Bench, Protected},
};

const SECOND: Duration = Duration::from_secs(1);
const ORIGIN: &str = "https://api.example.com";

/// A router behind a layer, with routes that have layers of their own inside of it.
fn routes(auth: &AuthLayer, inside: &[(&str, AuthLayer)]) -> Protected {
    let ok = || async { "ok" };
    let router = inside.iter().fold(Router::new().route("/", get(ok)), |router, (path, layer)| {
        router.route(path, get(ok).route_layer(layer.clone()))
    });
    Protected { router: router.layer(auth.clone()), handle: auth.handle() }
}

#[tokio::test]
async fn a_route_can_have_a_bound_of_its_own() {
    let bench = Bench::new().await;
    let auth = bench.layer().stale_on_error(600 * SECOND).build().unwrap();
    let inside = [
        ("/soon", auth.stale_on_error(30 * SECOND)),
        ("/never", auth.stale_on_error(Duration::ZERO)),
        ("/fresh", auth.no_cache()),
        ("/more", auth.stale_on_error(3600 * SECOND)),
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
async fn a_bound_of_its_own_is_never_more_than_that_of_the_layer_it_is_made_of() {
    let bench = Bench::new().await;
    let auth = bench.layer().stale_on_error(30 * SECOND).build().unwrap();
    let more = Protected::new(&auth.stale_on_error(600 * SECOND));
    let none = auth.stale_on_error(Duration::ZERO);
    let more_than_none = Protected::new(&none.stale_on_error(30 * SECOND));
    let token = bench.authlete.token().subject("alice").issue().await;
    assert_eq!(more.get(&token).await.status, StatusCode::OK);
    bench.authlete.fault(Fault::status(503));
    bench.clock.advance(89 * SECOND);
    assert_eq!(more.get(&token).await.status, StatusCode::OK);
    assert_eq!(more_than_none.get(&token).await.status, StatusCode::SERVICE_UNAVAILABLE);
    bench.clock.advance(SECOND);
    assert_eq!(more.get(&token).await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn with_a_proof_that_the_layer_outside_has_sent_it_holds_too() {
    let bench = Bench::new().await;
    let auth = bench.layer().stale_on_error(600 * SECOND).dpop(Dpop::at(ORIGIN)).build().unwrap();
    let inside = [
        ("/same", auth.stale_on_error(600 * SECOND)),
        ("/soon", auth.stale_on_error(30 * SECOND)),
        ("/never", auth.stale_on_error(Duration::ZERO)),
        ("/fresh", auth.no_cache()),
    ];
    let api = routes(&auth, &inside);
    let key = Key::es256();
    let token = bench.authlete.token().dpop_key_thumbprint(key.thumbprint()).issue().await;
    let prove = async |path: &str, at: u64| {
        let claims = json!({ "htu": format!("{ORIGIN}{path}"), "iat": at });
        let (shown, proof) = (format!("DPoP {token}"), key.proof_for(&token, claims));
        api.send_at(path, &[("authorization", &shown), ("dpop", &proof)]).await.status
    };
    for path in ["/", "/same", "/soon", "/never", "/fresh"] {
        assert_eq!(prove(path, 2_000_000_000).await, StatusCode::OK, "{path}");
    }
    bench.clock.advance(60 * SECOND);
    bench.authlete.fault(Fault::status(503));
    for _when_calls_fail_and_when_none_is_made in 0..3 {
        assert_eq!(prove("/", 2_000_000_060).await, StatusCode::OK);
        assert_eq!(prove("/same", 2_000_000_060).await, StatusCode::OK);
        assert_eq!(prove("/soon", 2_000_000_060).await, StatusCode::OK);
        assert_eq!(prove("/never", 2_000_000_060).await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(prove("/fresh", 2_000_000_060).await, StatusCode::SERVICE_UNAVAILABLE);
    }
    bench.clock.advance(30 * SECOND);
    assert_eq!(prove("/same", 2_000_000_090).await, StatusCode::OK);
    assert_eq!(prove("/soon", 2_000_000_090).await, StatusCode::SERVICE_UNAVAILABLE);
}
