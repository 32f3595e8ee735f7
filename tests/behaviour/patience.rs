//! What the layer does about calls that take long or fail.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt, future::join_all};
use http::{StatusCode, header::RETRY_AFTER};
use serde_json::json;
use tower_authlete::{
    AuthLayer, Dpop,
    api::{ErrorKind, TlsRoots, Transport},
    emulator::{Api, Fault},
};

use crate::{
    keys::Key,
    support::{Bench, Protected},
};

const SECOND: Duration = Duration::from_secs(1);

/// An API whose layer makes failed calls again, at once, however many fail.
fn retrying(bench: &Bench, retries: u32) -> Protected {
    bench.api_with(|layer| layer.retries(retries, Duration::ZERO).breaker(0, Duration::ZERO))
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
    // Calls themselves could take for ever.
    let authlete = bench.authlete.client_builder().deadline(3600 * SECOND).build().unwrap();
    let auth = tower_authlete::AuthLayer::builder(authlete)
        .check_deadline(Duration::from_millis(50))
        .max_in_flight(1)
        .build();
    let api = Protected::new(&auth.unwrap());
    let _hold = bench.authlete.hold(Api::Introspection);
    // One waits for Authlete, one for that call, and one for its turn.
    let answers = join_all([api.get("one"), api.get("one"), api.get("two")]);
    let answers = tokio::time::timeout(60 * SECOND, answers).await.unwrap();
    assert!(answers.iter().all(|answer| answer.status == StatusCode::SERVICE_UNAVAILABLE));
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

#[tokio::test]
async fn in_an_outage_what_is_out_of_date_may_be_used_for_a_while() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.max_age(60 * SECOND).stale_on_error(120 * SECOND));
    let token = bench.authlete.token().subject("alice").expires_in(150 * SECOND).issue().await;
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    bench.clock.advance(60 * SECOND);
    bench.authlete.fault(Fault::status(503));
    for _ in 0..3 {
        assert_eq!(api.get(&token).await.body, "alice");
        assert_eq!(api.get_at("/read", &token).await.status, StatusCode::FORBIDDEN);
    }
    assert_eq!(api.get("another").await.status, StatusCode::SERVICE_UNAVAILABLE);
    // Never past the token's own expiry.
    bench.clock.advance(90 * SECOND);
    assert_eq!(api.get(&token).await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn nor_past_the_bound_nor_without_the_setting() {
    let bench = Bench::new().await;
    for (stale, expected) in [
        (0, StatusCode::SERVICE_UNAVAILABLE),
        (31, StatusCode::OK),
        (30, StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let api = bench.api_with(|layer| layer.stale_on_error(stale * SECOND));
        let token = bench.authlete.token().subject("alice").issue().await;
        api.get(&token).await;
        bench.clock.advance(90 * SECOND);
        bench.authlete.fault(Fault::status(503));
        assert_eq!(api.get(&token).await.status, expected, "{stale}");
        bench.authlete.clear_faults();
    }
}

#[tokio::test]
async fn what_was_forgotten_or_refused_is_never_used() {
    for how in ["forget", "revoke", "no"] {
        let bench = Bench::new().await;
        let api = bench.api_with(|layer| layer.stale_on_error(600 * SECOND));
        let token = bench.authlete.token().subject("alice").issue().await;
        api.get(&token).await;
        bench.clock.advance(60 * SECOND);
        match how {
            "forget" => api.handle.forget(&token),
            "revoke" => assert_eq!(api.handle.revoke(&token).await.unwrap(), 1),
            _ => {
                assert!(bench.authlete.revoke(&token));
                assert_eq!(api.get(&token).await.status, StatusCode::UNAUTHORIZED);
                bench.clock.advance(10 * SECOND);
            }
        }
        bench.authlete.fault(Fault::status(503));
        assert_ne!(api.get(&token).await.status, StatusCode::OK, "{how}");
    }
}

#[tokio::test]
async fn it_is_asked_again_as_soon_as_it_can_be() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.stale_on_error(600 * SECOND));
    let token = bench.authlete.token().subject("alice").issue().await;
    api.get(&token).await;
    bench.clock.advance(60 * SECOND);
    bench.authlete.fault(Fault::status(503));
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    bench.authlete.clear_faults();
    // Revoked elsewhere meanwhile.
    assert!(bench.authlete.revoke(&token));
    bench.clock.advance(SECOND);
    assert_eq!(api.get(&token).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn in_an_outage_nobody_waits_who_can_do_without() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.stale_on_error(600 * SECOND));
    let token = bench.authlete.token().subject("alice").issue().await;
    api.get(&token).await;
    bench.clock.advance(60 * SECOND);
    bench.authlete.fault(Fault::status(503).times(1));
    assert_eq!(api.get("another").await.status, StatusCode::SERVICE_UNAVAILABLE);
    let hold = bench.authlete.hold(Api::Introspection);
    // Authlete answers nothing, and yet:
    let answer = api.get(&token).now_or_never().expect("nobody waits");
    assert_eq!(answer.status, StatusCode::OK);
    bench.authlete.arrived(Api::Introspection, 3).await;
    drop(hold);
}

#[tokio::test]
async fn what_is_stale_is_marked() {
    let bench = Bench::new().await;
    let auth = bench.layer().stale_on_error(600 * SECOND).build().unwrap();
    let stale = |token: tower_authlete::TokenInfo| async move { token.is_stale().to_string() };
    let router = axum::Router::new().route("/", axum::routing::get(stale)).layer(auth.clone());
    let api = Protected { router, ..Protected::new(&auth) };
    let token = bench.authlete.token().subject("alice").issue().await;
    assert_eq!(api.get(&token).await.body, "false");
    bench.clock.advance(60 * SECOND);
    bench.authlete.fault(Fault::status(503).times(1));
    assert_eq!(api.get(&token).await.body, "true");
    bench.clock.advance(SECOND);
    assert_eq!(api.get(&token).await.body, "false");
}

#[tokio::test]
async fn steady_traffic_never_waits_for_a_new_answer() {
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
        assert_eq!(api.get(&token).await.status, StatusCode::OK);
    }
    bench.authlete.arrived(Api::Introspection, 2).await;
    hold.release();
    while api.handle.health().in_flight > 0 {
        tokio::task::yield_now().await;
    }
    // The new answer is good for another 60 s; a revocation shows within that all the same.
    assert!(bench.authlete.revoke(&token));
    bench.clock.advance(60 * SECOND);
    assert_eq!(api.get(&token).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(bench.introspections(), 3);
}

#[tokio::test]
async fn by_default_an_answer_in_use_is_renewed_in_its_last_tenth() {
    let bench = Bench::new().await;
    let (api, off) = (bench.api(), bench.api_with(|layer| layer.refresh_ahead(Duration::ZERO)));
    let token = bench.authlete.token().subject("alice").issue().await;
    api.get(&token).await;
    off.get(&token).await;
    bench.clock.advance(53 * SECOND);
    api.get(&token).await;
    // A call that is answered: one that set out before it would have arrived, too.
    api.get("another").await;
    assert_eq!(bench.introspections(), 3);
    bench.clock.advance(4 * SECOND);
    off.get(&token).await;
    off.get("another").await;
    assert_eq!(bench.introspections(), 4, "where it is off");
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    bench.authlete.arrived(Api::Introspection, 5).await;
}

#[tokio::test]
async fn health_tells_how_it_is_doing() {
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
    assert_eq!(api.get("token").await.status, StatusCode::UNAUTHORIZED);
    assert!(api.handle.health().is_ready() && api.handle.health().in_flight == 0);
}

#[tokio::test]
async fn wrong_credentials_are_found_at_the_start() {
    let bench = Bench::new().await;
    let authlete = bench.authlete.client_builder().service_access_token("wrong").build().unwrap();
    let auth: tower_authlete::AuthLayer = tower_authlete::AuthLayer::new(authlete);
    assert!(auth.handle().warm_up().await.unwrap_err().is_our_fault());
}

#[tokio::test]
async fn nonsense_is_refused_without_a_call() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.precheck(|token: &str| token.len() == 43));
    let token = bench.authlete.token().subject("alice").issue().await;
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    let answer = api.get("made-up").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.challenge().contains("error=\"invalid_token\""));
    assert_eq!(bench.introspections(), 1);
}

#[tokio::test]
async fn who_wants_to_know_for_sure_gets_nothing_out_of_date() {
    let bench = Bench::new().await;
    let auth = bench.layer().stale_on_error(600 * SECOND).build().unwrap();
    let (cached, fresh) = (Protected::new(&auth), Protected::new(&auth.no_cache()));
    let token = bench.authlete.token().subject("alice").issue().await;
    assert_eq!(cached.get(&token).await.status, StatusCode::OK);
    bench.clock.advance(60 * SECOND);
    bench.authlete.fault(Fault::status(503));
    assert_eq!(fresh.get(&token).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(cached.get(&token).await.status, StatusCode::OK);
    assert_eq!(fresh.get(&token).await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn what_is_no_outage_lets_nothing_out_of_date_pass() {
    let bench = Bench::new().await;
    let origin = "https://api.example.com";
    let api = bench.api_with(|layer| layer.stale_on_error(600 * SECOND).dpop(Dpop::at(origin)));
    let token = bench.authlete.token().subject("alice").issue().await;
    let key = Key::es256();
    let bound = bench.authlete.token().dpop_key_thumbprint(key.thumbprint()).issue().await;
    let prove = async |at: u64| {
        let claims = json!({ "htu": format!("{origin}/"), "iat": at });
        let (token, proof) = (format!("DPoP {bound}"), key.proof_for(&bound, claims));
        api.send(&[("authorization", &token), ("dpop", &proof)]).await
    };
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    assert_eq!(prove(2_000_000_000).await.status, StatusCode::OK);
    bench.clock.advance(60 * SECOND);
    // Authlete wants another proof.
    bench.authlete.set_dpop_nonce(Some("nonce".into()));
    let answer = prove(2_000_000_060).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.challenge().contains("use_dpop_nonce"), "{}", answer.challenge());
    // Our own credentials are wrong.
    bench.authlete.fault(Fault::status(401));
    for _ in 0..2 {
        assert_eq!(api.get(&token).await.status, StatusCode::INTERNAL_SERVER_ERROR);
    }
}

#[tokio::test]
async fn what_is_out_of_date_is_for_its_holder_only() {
    let bench = Bench::new().await;
    let origin = "https://api.example.com";
    let api = bench.api_with(|layer| layer.stale_on_error(600 * SECOND).dpop(Dpop::at(origin)));
    let (holder, thief) = (Key::es256(), Key::es256());
    let token = bench.authlete.token().dpop_key_thumbprint(holder.thumbprint()).issue().await;
    let prove = async |key: &Key, at: u64| {
        let claims = json!({ "htu": format!("{origin}/"), "iat": at });
        let (shown, proof) = (format!("DPoP {token}"), key.proof_for(&token, claims));
        api.send(&[("authorization", &shown), ("dpop", &proof)]).await.status
    };
    assert_eq!(prove(&holder, 2_000_000_000).await, StatusCode::OK);
    bench.clock.advance(60 * SECOND);
    bench.authlete.fault(Fault::status(503));
    for _first_and_while_it_is_down in 0..2 {
        assert_eq!(prove(&thief, 2_000_000_060).await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(api.get(&token).await.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(prove(&holder, 2_000_000_060).await, StatusCode::OK);
    }
}

#[tokio::test]
async fn one_answer_ends_an_outage() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.stale_on_error(600 * SECOND));
    let token = bench.authlete.token().subject("alice").issue().await;
    api.get(&token).await;
    bench.clock.advance(60 * SECOND);
    bench.authlete.fault(Fault::status(503).times(1));
    assert_eq!(api.get("another").await.status, StatusCode::SERVICE_UNAVAILABLE);
    bench.clock.advance(Duration::from_millis(100));
    assert_eq!(api.get("another").await.status, StatusCode::UNAUTHORIZED);
    assert!(bench.authlete.revoke(&token));
    assert_eq!(api.get(&token).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn in_an_outage_nobody_is_asked_ahead_of_time() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.refresh_ahead(20 * SECOND));
    let token = bench.authlete.token().subject("alice").issue().await;
    api.get(&token).await;
    bench.clock.advance(51 * SECOND);
    bench.authlete.fault(Fault::status(503));
    for asked in 2..5 {
        // A call that is answered: those before it have been, too.
        assert_eq!(api.get("another").await.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(bench.introspections(), asked);
        assert_eq!(api.get(&token).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_proof_that_was_never_sent_is_sent_again() {
    let bench = Bench::new().await;
    let calls = Arc::new(AtomicUsize::new(0));
    let authlete = {
        let (calls, plain) = (calls.clone(), Transport::new(TlsRoots::None, SECOND).unwrap());
        let spy = tower::ServiceBuilder::new()
            .map_request(move |request: http::Request<http_body_util::Full<bytes::Bytes>>| {
                calls.fetch_add(1, Ordering::Relaxed);
                request
            })
            .service(plain);
        // Nobody listens there.
        bench.authlete.client_builder().base_url("http://127.0.0.1:1").transport(spy)
    };
    let auth = AuthLayer::builder(authlete.build().unwrap())
        .clock(bench.clock.clone())
        .retries(1, Duration::ZERO)
        .dpop(Dpop::at("https://api.example.com"))
        .build()
        .unwrap();
    let proof = Key::es256().proof_for("token", json!({ "htu": "https://api.example.com/" }));
    let headers = [("authorization", "DPoP token"), ("dpop", &proof)];
    let answer = Protected::new(&auth).send(&headers).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn calls_that_succeed_pay_for_those_that_are_made_again() {
    let bench = Bench::new().await;
    let api = retrying(&bench, 1);
    for number in 0..100 {
        assert_eq!(api.get(&format!("good-{number}")).await.status, StatusCode::UNAUTHORIZED);
    }
    bench.authlete.fault(Fault::status(503));
    for number in 0..30 {
        api.get(&format!("bad-{number}")).await;
    }
    // Ten in any case, and a fifth of the hundred, of which a slow machine loses some again.
    let again = bench.introspections() - 130;
    assert!((12..=30).contains(&again), "{again}");
}
