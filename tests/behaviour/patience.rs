//! What the layer does about calls that take long or fail.

use std::time::Duration;

use futures_util::future::join_all;
use http::{StatusCode, header::RETRY_AFTER};
use serde_json::json;
use tower_authlete::{
    Dpop,
    api::ErrorKind,
    emulator::{Api, Fault},
};

use crate::{
    keys::Key,
    support::{Bench, Protected},
};

const SECOND: Duration = Duration::from_secs(1);

/// An API whose layer makes failed calls again, at once.
fn retrying(bench: &Bench, retries: u32) -> Protected {
    bench.api_with(|layer| layer.retries(retries, Duration::ZERO))
}

#[tokio::test]
async fn a_call_that_fails_once_is_made_again() {
    for fault in [Fault::status(503), Fault::status(502), Fault::status(429), Fault::reset()] {
        let bench = Bench::new().await;
        let api = retrying(&bench, 1);
        let token = bench.authlete.token().subject("alice").issue().await;
        bench.authlete.fault(fault.times(1));
        assert_eq!(api.get(&token).await.status, StatusCode::OK);
        assert_eq!(bench.introspections(), 2);
    }
}

#[tokio::test]
async fn what_will_not_get_better_is_not() {
    for fault in [Fault::status(401), Fault::status(400), Fault::body("rubbish")] {
        let bench = Bench::new().await;
        let api = retrying(&bench, 3);
        bench.authlete.fault(fault);
        assert!(api.get("token").await.status.is_server_error());
        assert_eq!(bench.introspections(), 1);
    }
}

#[tokio::test]
async fn an_outage_is_not_multiplied() {
    let bench = Bench::new().await;
    let api = retrying(&bench, 1);
    bench.authlete.fault(Fault::status(503));
    for number in 0..100 {
        let answer = api.get(&format!("token-{number}")).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    // One a second for ten seconds, and a fifth of the calls that succeed, of which there are none.
    assert!((100..=111).contains(&bench.introspections()), "{}", bench.introspections());
}

#[tokio::test]
async fn who_is_told_to_come_back_late_does_not_come_back_early() {
    let bench = Bench::new().await;
    let api = retrying(&bench, 1);
    bench.authlete.fault(Fault::status(503).retry_after(17));
    let answer = api.get("token").await;
    assert_eq!(
        (answer.status, answer.header(RETRY_AFTER)),
        (StatusCode::SERVICE_UNAVAILABLE, "17")
    );
    assert_eq!(bench.introspections(), 1);
}

#[tokio::test]
async fn a_proof_that_was_sent_is_not_sent_again() {
    let bench = Bench::new().await;
    let dpop = Dpop::at("https://api.example.com");
    let api = bench.api_with(|layer| layer.retries(1, Duration::ZERO).dpop(dpop));
    let key = Key::es256();
    let token = bench.authlete.token().dpop_key_thumbprint(key.thumbprint()).issue().await;
    bench.authlete.fault(Fault::reset().times(1));
    let proof = key.proof_for(&token, json!({ "htu": "https://api.example.com/" }));
    let headers = [("authorization", format!("DPoP {token}")), ("dpop", proof)];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert_eq!(api.send(&headers).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(bench.introspections(), 1);
}

#[tokio::test]
async fn a_check_ends_at_its_deadline_whatever_it_waits_for() {
    let bench = Bench::new().await;
    let deadline = Duration::from_millis(50);
    let api = bench.api_with(|layer| layer.check_deadline(deadline).max_in_flight(1));
    let _hold = bench.authlete.hold(Api::Introspection);
    // One waits for Authlete, one for that call, and one for its turn.
    let answers = join_all([api.get("one"), api.get("one"), api.get("two")]).await;
    assert!(answers.iter().all(|answer| answer.status == StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(bench.introspections(), 1);
}

#[tokio::test]
async fn beyond_what_can_wait_it_is_503_at_once() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.max_in_flight(2).max_waiting(1));
    let hold = bench.authlete.hold(Api::Introspection);
    let tokens: Vec<_> = join_all((0..4).map(|_| bench.authlete.token().issue())).await;
    let waiting: Vec<_> = tokens[..3]
        .iter()
        .map(|token| {
            let (api, token) = (api.clone(), token.clone());
            tokio::spawn(async move { api.get(&token).await.status })
        })
        .collect();
    bench.authlete.arrived(Api::Introspection, 2).await;
    let refused = api.get(&tokens[3]).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_ne!(refused.header(RETRY_AFTER), "");
    assert_eq!(bench.introspections(), 2);
    hold.release();
    for status in join_all(waiting).await {
        assert_eq!(status.unwrap(), StatusCode::OK);
    }
    assert_eq!(api.get(&tokens[3]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_error_tells_whether_the_call_was_sent() {
    let bench = Bench::new().await;
    let authlete = bench.authlete.authlete();
    bench.authlete.fault(Fault::reset());
    let request = tower_authlete::api::IntrospectionRequest::new().token("x");
    let sent = authlete.introspection(&request).await.unwrap_err();
    assert!(matches!(sent.kind, ErrorKind::Connection(_)) && !sent.is_unsent());
    let nobody = bench.authlete.client_builder().base_url("http://127.0.0.1:1").build().unwrap();
    let unsent = nobody.introspection(&request).await.unwrap_err();
    assert!(unsent.is_unsent() && unsent.is_retryable());
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused() {
    let bench = Bench::new().await;
    let error = bench.layer().check_deadline(Duration::ZERO).build().unwrap_err();
    assert_eq!(error.setting(), "check_deadline");
    assert_eq!(bench.layer().max_in_flight(0).build().unwrap_err().setting(), "max_in_flight");
    assert!(bench.layer().check_deadline(SECOND).max_waiting(0).build().is_ok());
}
