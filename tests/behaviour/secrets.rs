//! Tokens and credentials are seen nowhere.

use http::StatusCode;
use tower_authlete::{AuthLayer, emulator::Fault};

use crate::{
    log::logged,
    support::{Bench, Protected},
};

#[tokio::test]
async fn nothing_secret_is_logged_whatever_goes_wrong() {
    let (log, _guard) = logged();
    let bench = Bench::new().await;
    let token = "S3cr3tAcc3ssT0k3n";
    bench.authlete.token().value(token).issue().await;
    let authlete = bench.authlete.client_builder().deadline(std::time::Duration::from_millis(200));
    let auth = AuthLayer::builder(authlete.build().unwrap()).no_cache();
    // Every call is made, and fails in its own way.
    let auth: AuthLayer = auth.breaker(0, std::time::Duration::ZERO).build().unwrap();
    let api = Protected::new(&auth);
    let echo = format!("{{\"action\":\"{token}\",\"expiresAt\":\"{token}\"}}");
    for fault in [
        None,
        Some(Fault::hang()),
        Some(Fault::reset()),
        Some(Fault::truncated()),
        Some(Fault::status(401)),
        Some(Fault::status(503)),
        Some(Fault::body(echo)),
        Some(Fault::body(format!("{{\"action\":\"OK\",\"scopes\":\"{token}\"}}"))),
        Some(Fault::body("{}")),
    ] {
        bench.authlete.clear_faults();
        fault.into_iter().for_each(|fault| bench.authlete.fault(fault));
        api.get(token).await;
        api.get_at("/write", token).await;
        let _ = api.handle.revoke("not this one").await;
    }
    let malformed = format!("{token} {token}");
    assert_eq!(api.get(&malformed).await.status, StatusCode::BAD_REQUEST);
    let text = log.text();
    assert!(text.contains("check this server's AUTHLETE_* settings"), "{text}");
    assert!(text.contains("request refused"), "{text}");
    // What lies beneath an error is told.
    assert!(text.contains("no answer within 200 ms"), "{text}");
    for secret in [token, bench.authlete.service_access_token()] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[tokio::test]
async fn nothing_secret_is_in_what_can_be_debugged() {
    let bench = Bench::new().await;
    let auth: AuthLayer = bench.layer().build().unwrap();
    let token = bench.authlete.token().value("S3cr3tAcc3ssT0k3n").hidden_property("risk", "h1dd3n");
    let token = token.issue().await;
    Protected::new(&auth).get(&token).await;
    let info = bench.authlete.authlete();
    let request = tower_authlete::api::IntrospectionRequest::new().token(token.as_str());
    let response = info.introspection(&request).await.unwrap();
    let facts = tower_authlete::TokenInfo::from(&response);
    let everything = format!(
        "{auth:?} {:?} {:?} {info:?} {:?} {request:?} {response:?} {facts:?}",
        auth.handle(),
        bench.layer(),
        bench.authlete.client_builder(),
    );
    for secret in [&token, "h1dd3n", bench.authlete.service_access_token()] {
        assert!(!everything.contains(secret), "{everything}");
    }
}

#[tokio::test]
async fn a_broken_clock_is_warned_of_once() {
    let (log, _guard) = logged();
    let bench = Bench::new().await;
    let ahead =
        tower_authlete::Clock::frozen(bench.clock.now() + std::time::Duration::from_secs(7200));
    let api = bench.api_with(|layer| layer.clock(ahead));
    for _ in 0..3 {
        let token = bench.authlete.token().issue().await;
        assert_eq!(api.get(&token).await.status, StatusCode::OK);
    }
    assert_eq!(log.text().matches("check that the clock is right").count(), 1);
}
