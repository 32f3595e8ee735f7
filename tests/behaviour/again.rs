//! Which calls are made again when they fail: those that do the same once or twice.

use std::time::Duration;

use http::{HeaderName, StatusCode};
use tower_authlete::{
    AuthLayerBuilder, Check, Refresh, Rotation,
    api::TokenUpdateRequest,
    emulator::{Api, Fault},
};

use crate::support::{Bench, Protected};

const SECOND: Duration = Duration::from_secs(1);

/// An API whose layer makes failed calls again, once and at once.
fn retrying(
    bench: &Bench,
    settings: impl FnOnce(AuthLayerBuilder) -> AuthLayerBuilder,
) -> Protected {
    bench.api_with(|layer| settings(layer).retries(1, Duration::ZERO))
}

/// What may be over in a moment.
fn faults() -> [Fault; 6] {
    let [bad, unavailable, late, often] = [502, 503, 504, 429].map(Fault::status);
    [bad, unavailable, late, often, Fault::reset(), Fault::truncated()]
}

#[tokio::test]
async fn a_revocation_is() {
    for fault in faults() {
        let bench = Bench::new().await;
        let api = retrying(&bench, |layer| layer);
        let token = bench.authlete.token().issue().await;
        assert_eq!(api.get(&token).await.status, StatusCode::OK);
        bench.authlete.fault(fault.times(1));
        api.handle.revoke(&token).await.unwrap();
        assert_eq!(bench.authlete.calls(Api::TokenRevoke), 2);
        assert_eq!(api.get(&token).await.status, StatusCode::UNAUTHORIZED);
        assert_eq!(bench.introspections(), 1, "it is known to be revoked");
    }
}

#[tokio::test]
async fn a_revocation_does_not_wait_for_checks() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.max_in_flight(1));
    let hold = bench.authlete.hold(Api::Introspection);
    let check = tokio::spawn({
        let api = api.clone();
        async move { api.get("token").await.status }
    });
    bench.authlete.arrived(Api::Introspection, 1).await;
    api.handle.revoke("another").await.unwrap();
    hold.release();
    assert_eq!(check.await.unwrap(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_revocation_that_will_not_succeed_is_not() {
    let bench = Bench::new().await;
    let api = retrying(&bench, |layer| layer);
    bench.authlete.fault(Fault::status(403));
    assert!(api.handle.revoke("token").await.unwrap_err().is_our_fault());
    assert_eq!(bench.authlete.calls(Api::TokenRevoke), 1);
}

#[tokio::test]
async fn revocations_do_not_multiply_an_outage_either() {
    let bench = Bench::new().await;
    let api = retrying(&bench, |layer| layer);
    bench.authlete.fault(Fault::status(503));
    for number in 0..100 {
        assert!(api.handle.revoke(&format!("token-{number}")).await.is_err());
    }
    let calls = bench.authlete.calls(Api::TokenRevoke);
    assert!((100..=111).contains(&calls), "{calls}");
}

#[tokio::test]
async fn a_check_by_an_update_that_changes_nothing_is() {
    for fault in faults() {
        let bench = Bench::new().await;
        let api = retrying(&bench, |layer| layer.check(Check::Update));
        let token = bench.authlete.token().issue().await;
        bench.authlete.fault(fault.times(1));
        assert_eq!(api.get(&token).await.status, StatusCode::OK);
        assert_eq!(bench.authlete.calls(Api::TokenUpdate), 2);
    }
}

#[tokio::test]
async fn an_extension_to_a_certain_end_is() {
    for fault in faults() {
        let bench = Bench::new().await;
        let refresh = Refresh::extend().when_below(10 * SECOND).to(30 * SECOND).wait();
        let api = retrying(&bench, |layer| layer.refresh(refresh));
        let token = bench.authlete.token().expires_in(5 * SECOND).issue().await;
        bench.authlete.fault(fault.on(Api::TokenUpdate).times(1));
        assert_eq!(api.get(&token).await.status, StatusCode::OK);
        assert_eq!(bench.authlete.calls(Api::TokenUpdate), 2);
        bench.clock.advance(29 * SECOND);
        assert_eq!(api.get(&token).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_rotation_is_not() {
    for fault in faults() {
        let bench = Bench::new().await;
        let rotation = Rotation::in_header(HeaderName::from_static("x-new-token"));
        let api = retrying(&bench, |layer| layer.rotate(rotation.every(20 * SECOND)));
        let token = bench.authlete.token().issue().await;
        api.get(&token).await;
        bench.clock.advance(20 * SECOND);
        bench.authlete.fault(fault.on(Api::TokenUpdate).times(1));
        api.get(&token).await;
        assert_eq!(bench.authlete.calls(Api::TokenUpdate), 1);
    }
}

#[tokio::test]
async fn a_change_that_a_handle_makes_is_not() {
    for fault in faults() {
        let bench = Bench::new().await;
        let api = retrying(&bench, |layer| layer);
        let token = bench.authlete.token().issue().await;
        bench.authlete.fault(fault.times(1));
        let change = TokenUpdateRequest::new().access_token_value_updated(true);
        assert!(api.handle.update(&token, change).await.is_err());
        assert_eq!(bench.authlete.calls(Api::TokenUpdate), 1);
    }
}
