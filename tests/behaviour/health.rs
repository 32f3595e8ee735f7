//! `AuthHandle::health` and `warm_up`.

use tower_authlete::{AuthLayer, emulator::Fault};

use crate::support::{Bench, SECOND, UNAUTHORIZED};

#[tokio::test]
async fn a_layer_is_ready_while_its_last_call_succeeded() {
    let bench = Bench::new().await;
    let api = bench.api();
    assert!(!api.handle.health().is_ready(), "nothing is known yet");
    api.handle.warm_up().await.unwrap();
    let health = api.handle.health();
    assert!(health.is_ready() && health.last_success == Some(bench.clock.now()));
    bench.clock.advance(SECOND);
    bench.authlete.fault(Fault::status(503));
    api.get("token").await;
    assert!(!api.handle.health().is_ready());
    bench.authlete.clear_faults();
    bench.clock.advance(SECOND);
    assert_eq!(api.get("token").await.status, UNAUTHORIZED);
    assert!(api.handle.health().is_ready() && api.handle.health().in_flight == 0);
}

#[tokio::test]
async fn a_warm_up_fails_with_wrong_credentials() {
    let bench = Bench::new().await;
    let authlete = bench.authlete.client_builder().service_access_token("wrong").build().unwrap();
    let auth: AuthLayer = AuthLayer::new(authlete);
    assert!(auth.handle().warm_up().await.unwrap_err().is_our_fault());
}

#[tokio::test]
async fn a_warm_up_shows_refused_credentials_in_health() {
    let bench = Bench::new().await;
    let api = bench.api();
    bench.authlete.fault(Fault::status(401));
    assert!(api.handle.warm_up().await.unwrap_err().is_our_fault());
    assert!(api.handle.health().credentials_refused);
    bench.authlete.clear_faults();
    api.handle.warm_up().await.unwrap();
    assert!(!api.handle.health().credentials_refused);
}
