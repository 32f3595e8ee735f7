//! The circuit breaker.

use std::time::Duration;

use http::{StatusCode, header::RETRY_AFTER};
use tower_authlete::{
    AuthLayer, BreakerState, CachePolicy, Check, EmptyBody,
    emulator::{Api, Fault},
    resilience::{Breaker, Retry},
};
use tracing::Level;

use crate::{
    log::logged,
    support::{Bench, Protected, SECOND, resilience},
};

/// An API whose breaker opens for up to a second after two failures.
fn breaking(bench: &Bench) -> Protected {
    bench.api_with(|layer| {
        layer
            .resilience(resilience().breaker(Breaker::after(2).pause(SECOND)))
            .cache(CachePolicy::new().stale_if_error(600 * SECOND))
    })
}

/// Makes calls fail until the breaker is open.
async fn fail(bench: &Bench, api: &Protected) {
    bench.authlete.fault(Fault::status(503));
    for number in 0..2 {
        assert_eq!(api.handle.health().breaker, BreakerState::Closed);
        let answer = api.get(&format!("failing-{number}")).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(api.handle.health().breaker, BreakerState::Open);
}

#[tokio::test]
async fn after_failures_in_a_row_checks_are_503_at_once_and_no_call_is_made() {
    for fault in [Fault::status(503), Fault::status(500), Fault::status(429), Fault::reset()] {
        let bench = Bench::new().await;
        let api = bench.api();
        bench.authlete.fault(fault);
        for number in 0..20 {
            let answer = api.get(&format!("token-{number}")).await;
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!((answer.header(RETRY_AFTER), answer.challenge()), ("1", ""));
        }
        assert_eq!(bench.introspections(), 5);
    }
}

#[tokio::test]
async fn a_route_without_cache_fails_at_once_while_the_breaker_is_open() {
    let bench = Bench::new().await;
    let auth = bench
        .layer()
        .resilience(resilience().breaker(Breaker::after(2).pause(SECOND)))
        .build()
        .unwrap();
    let (api, fresh) = (Protected::new(&auth), Protected::new(&auth.bypass_cache()));
    let token = bench.authlete.token().subject("alice").issue().await;
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    fail(&bench, &fresh).await;
    assert_eq!(fresh.get(&token).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(bench.introspections(), 3);
    // Cached tokens are served.
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
}

#[tokio::test]
async fn checks_by_update_fail_at_once_while_the_breaker_is_open() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| {
        layer.check(Check::Update).resilience(resilience().breaker(Breaker::after(2).pause(SECOND)))
    });
    fail(&bench, &api).await;
    assert_eq!(api.get("token").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(bench.authlete.calls(Api::TokenUpdate), 2);
}

#[tokio::test]
async fn answers_about_tokens_and_refusals_of_single_calls_are_no_failures() {
    for (fault, status) in [
        (None, StatusCode::UNAUTHORIZED),
        (Some(Fault::status(400)), StatusCode::INTERNAL_SERVER_ERROR),
        // Without a `resultCode`, for example of a firewall that refused this request.
        (Some(Fault::status(403).with_body("<html>")), StatusCode::INTERNAL_SERVER_ERROR),
        (Some(Fault::body("rubbish")), StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let bench = Bench::new().await;
        let api = breaking(&bench);
        fault.into_iter().for_each(|fault| bench.authlete.fault(fault));
        for number in 0..10 {
            assert_eq!(api.get(&format!("token-{number}")).await.status, status);
        }
        assert_eq!(bench.introspections(), 10);
        assert_eq!(api.handle.health().breaker, BreakerState::Closed);
    }
}

#[tokio::test]
async fn an_answer_between_failures_starts_the_count_again() {
    let bench = Bench::new().await;
    let api = breaking(&bench);
    for number in 0..5 {
        bench.authlete.fault(Fault::status(503).times(1));
        let answer = api.get(&format!("failing-{number}")).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        let answer = api.get(&format!("bad-{number}")).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(api.handle.health().breaker, BreakerState::Closed);
}

#[tokio::test]
async fn after_a_pause_one_call_at_a_time_is_a_probe() {
    let bench = Bench::new().await;
    let api = breaking(&bench);
    fail(&bench, &api).await;
    bench.clock.advance(SECOND);
    assert_eq!(api.handle.health().breaker, BreakerState::HalfOpen);
    bench.authlete.clear_faults();
    let (hold, probe) = api.held(&bench, "probe").await;
    for number in 0..10 {
        let answer = api.get(&format!("token-{number}")).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.header(RETRY_AFTER), "1");
    }
    assert_eq!(bench.introspections(), 3);
    hold.release();
    assert_eq!(probe.await.unwrap().status, StatusCode::UNAUTHORIZED);
    assert_eq!(api.handle.health().breaker, BreakerState::Closed);
    assert_eq!(api.get("token").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn each_pause_after_a_failed_probe_is_longer() {
    let bench = Bench::new().await;
    let api = breaking(&bench);
    fail(&bench, &api).await;
    for (number, pause) in [(1, SECOND), (2, 2 * SECOND), (3, 4 * SECOND)] {
        bench.clock.advance(pause);
        assert_eq!(api.get("probe").await.status, StatusCode::SERVICE_UNAVAILABLE);
        // The next pause is twice as long, of which the second half is random.
        bench.clock.advance(pause - Duration::from_millis(1));
        assert_eq!(api.get("token").await.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(bench.introspections(), 2 + number);
    }
}

#[tokio::test]
async fn a_probe_is_not_retried() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| {
        layer.resilience(
            resilience()
                .breaker(Breaker::after(2).pause(SECOND))
                .retry(Retry::times(3).backoff(Duration::ZERO)),
        )
    });
    fail(&bench, &api).await;
    let before = bench.introspections();
    bench.clock.advance(SECOND);
    assert_eq!(api.get("probe").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(bench.introspections(), before + 1);
}

#[tokio::test]
async fn stale_facts_serve_at_once_and_their_revalidation_is_the_probe() {
    let bench = Bench::new().await;
    let api = breaking(&bench);
    let token = bench.authlete.token().subject("alice").issue().await;
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    bench.clock.advance(60 * SECOND);
    fail(&bench, &api).await;
    let before = bench.introspections();
    for _ in 0..10 {
        assert_eq!(api.get(&token).await.body, "alice");
    }
    assert_eq!(bench.introspections(), before, "no call is made");
    bench.authlete.clear_faults();
    bench.clock.advance(SECOND);
    let hold = bench.authlete.hold(Api::Introspection);
    assert_eq!(api.get(&token).await.body, "alice");
    bench.authlete.arrived(Api::Introspection, before + 1).await;
    assert_eq!(api.get(&token).await.body, "alice");
    hold.release();
    while api.handle.health().breaker != BreakerState::Closed {
        tokio::task::yield_now().await;
    }
    assert!(api.handle.health().is_ready());
    assert_eq!(bench.introspections(), before + 1);
}

#[tokio::test]
async fn the_pause_is_as_long_as_retry_after() {
    let bench = Bench::new().await;
    let api = breaking(&bench);
    bench.authlete.fault(Fault::status(503).retry_after(17));
    for _ in 0..3 {
        assert_eq!(api.get("token").await.header(RETRY_AFTER), "17");
    }
    bench.clock.advance(SECOND / 2);
    assert_eq!(api.get("token").await.header(RETRY_AFTER), "17", "rounded up");
    bench.clock.advance(16 * SECOND);
    assert_eq!(api.get("token").await.header(RETRY_AFTER), "1");
    assert_eq!(bench.introspections(), 2);
    bench.clock.advance(SECOND / 2);
    bench.authlete.clear_faults();
    assert_eq!(api.get("token").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn no_pause_is_longer_than_30_s() {
    let bench = Bench::new().await;
    let api = breaking(&bench);
    bench.authlete.fault(Fault::status(503).retry_after(3600));
    for _ in 0..2 {
        assert_eq!(api.get("token").await.header(RETRY_AFTER), "3600");
    }
    assert_eq!(api.get("token").await.header(RETRY_AFTER), "30");
    assert_eq!(bench.introspections(), 2);
}

#[tokio::test]
async fn a_warm_up_is_made_while_the_breaker_is_open_and_its_success_closes_it() {
    let bench = Bench::new().await;
    let api = breaking(&bench);
    fail(&bench, &api).await;
    assert!(api.handle.warm_up().await.is_err());
    assert_eq!(api.handle.health().breaker, BreakerState::Open);
    bench.authlete.clear_faults();
    api.handle.warm_up().await.unwrap();
    assert_eq!(api.handle.health().breaker, BreakerState::Closed);
    assert_eq!(api.get("token").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_revocation_is_made_while_the_breaker_is_open() {
    let bench = Bench::new().await;
    let api = breaking(&bench);
    let token = bench.authlete.token().subject("alice").issue().await;
    fail(&bench, &api).await;
    bench.authlete.clear_faults();
    api.handle.revoke(&token).await.unwrap();
    assert_eq!(bench.authlete.calls(Api::TokenRevoke), 1);
}

#[tokio::test]
async fn the_breaker_can_be_turned_off() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.resilience(resilience().breaker(Breaker::disabled())));
    bench.authlete.fault(Fault::status(503));
    for number in 0..20 {
        api.get(&format!("token-{number}")).await;
    }
    assert_eq!(bench.introspections(), 20);
}

#[tokio::test]
async fn calls_that_are_not_made_are_counted() {
    let bench = Bench::new().await;
    let api = breaking(&bench);
    let recorder = metrics_util::debugging::DebuggingRecorder::new();
    let _guard = metrics::set_default_local_recorder(&recorder);
    fail(&bench, &api).await;
    for _ in 0..3 {
        api.get("token").await;
    }
    let counted = recorder.snapshotter().snapshot().into_vec();
    let of = |outcome: &str| {
        counted.iter().find_map(|(key, .., value)| {
            let key = key.key();
            let fits = key.labels().any(|label| label.value() == outcome);
            (key.name() == "tower_authlete_calls_total" && fits).then_some(value)
        })
    };
    let counter = metrics_util::debugging::DebugValue::Counter;
    assert_eq!(of("failed"), Some(&counter(2)));
    assert_eq!(of("suspended"), Some(&counter(3)));
}

#[tokio::test]
async fn refused_credentials_of_this_server_make_few_calls_and_log_lines() {
    let (log, _guard) = logged();
    let bench = Bench::new().await;
    let authlete = bench.authlete.client_builder().service_access_token("wr0ngCr3d3nt1al");
    let layer = AuthLayer::builder(authlete.build().unwrap()).clock(bench.clock.clone());
    let api = Protected::new::<EmptyBody>(&layer.build().unwrap());
    for number in 0..60 {
        let answer = api.get(&format!("token-{number}")).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(answer.challenge(), "");
    }
    assert_eq!(bench.introspections(), 5);
    let refused = "check this server's AUTHLETE_* settings";
    assert_eq!(log.lines(Level::ERROR, "").len(), 1, "{}", log.text());
    // Each probe fails, and the error is logged again with a count.
    for _ in 0..3 {
        bench.clock.advance(10 * SECOND);
        assert_eq!(api.get("token").await.status, StatusCode::INTERNAL_SERVER_ERROR);
    }
    assert_eq!(bench.introspections(), 8);
    let lines = log.lines(Level::ERROR, refused);
    let left_out = |line: &&String| line.contains("left_out=4");
    assert_eq!((lines.len(), lines.iter().filter(left_out).count()), (4, 1), "{lines:?}");
    assert!(!log.text().contains("wr0ngCr3d3nt1al"));
}

#[tokio::test]
async fn calls_resume_once_the_credentials_are_accepted() {
    for status in [401, 403] {
        let bench = Bench::new().await;
        let api = breaking(&bench);
        let token = bench.authlete.token().subject("alice").issue().await;
        assert_eq!(api.get(&token).await.status, StatusCode::OK);
        bench.clock.advance(SECOND);
        bench.authlete.fault(Fault::status(status));
        for number in 0..10 {
            let answer = api.get(&format!("token-{number}")).await;
            assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
        }
        assert_eq!(bench.introspections(), 3);
        let health = api.handle.health();
        assert_eq!((health.breaker, health.credentials_refused), (BreakerState::Open, true));
        assert!(!health.is_ready());
        assert_eq!(api.get(&token).await.status, StatusCode::OK, "what is cached serves on");
        bench.authlete.clear_faults();
        assert_eq!(api.get("bad").await.status, StatusCode::INTERNAL_SERVER_ERROR);
        bench.clock.advance(SECOND);
        assert_eq!(api.get("bad").await.status, StatusCode::UNAUTHORIZED);
        let health = api.handle.health();
        assert_eq!((health.breaker, health.credentials_refused), (BreakerState::Closed, false));
        assert!(health.is_ready());
        assert_eq!(bench.introspections(), 4);
    }
}

#[tokio::test]
async fn stale_answers_are_not_used_while_the_credentials_are_refused() {
    let bench = Bench::new().await;
    let api = breaking(&bench);
    let token = bench.authlete.token().subject("alice").issue().await;
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    bench.clock.advance(90 * SECOND);
    bench.authlete.fault(Fault::status(401));
    for _when_calls_fail_and_when_none_is_made in 0..5 {
        assert_eq!(api.get(&token).await.status, StatusCode::INTERNAL_SERVER_ERROR);
    }
    assert_eq!(bench.introspections(), 3);
    // In an outage after that, it does.
    bench.authlete.clear_faults();
    bench.authlete.fault(Fault::status(503));
    bench.clock.advance(SECOND);
    assert_eq!(api.get(&token).await.body, "alice");
    assert!(!api.handle.health().credentials_refused);
}

#[tokio::test]
async fn errors_in_an_outage_are_logged_at_a_limited_rate() {
    for (fault, level, part) in [
        (Fault::status(503), Level::WARN, "an access token could not be checked"),
        (Fault::status(400), Level::ERROR, "Authlete refuses our calls"),
        (Fault::body("{\"action\":\"INTERNAL_SERVER_ERROR\"}"), Level::ERROR, "gave no verdict"),
    ] {
        let (log, _guard) = logged();
        let bench = Bench::new().await;
        let api =
            bench.api_with(|layer| layer.resilience(resilience().breaker(Breaker::disabled())));
        bench.authlete.fault(fault);
        for number in 0..100 {
            api.get(&format!("token-{number}")).await;
        }
        assert_eq!(log.lines(level, part).len(), 1, "{}", log.text());
        bench.clock.advance(10 * SECOND);
        api.get("token").await;
        let lines = log.lines(level, part);
        assert!(lines.len() == 2 && lines[1].contains("left_out=99"), "{lines:?}");
        assert_eq!(bench.introspections(), 101);
    }
}

#[tokio::test]
async fn the_revalidation_of_a_token_in_use_can_be_the_probe() {
    let bench = Bench::new().await;
    let api = bench
        .api_with(|layer| layer.resilience(resilience().breaker(Breaker::after(1).pause(SECOND))));
    let token = bench.authlete.token().subject("alice").issue().await;
    api.get(&token).await;
    bench.clock.advance(55 * SECOND);
    bench.authlete.fault(Fault::status(503));
    assert_eq!(api.get("another").await.status, StatusCode::SERVICE_UNAVAILABLE);
    bench.authlete.clear_faults();
    bench.clock.advance(3 * SECOND);
    assert_eq!(api.handle.health().breaker, BreakerState::HalfOpen);
    let before = bench.introspections();
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    bench.authlete.arrived(Api::Introspection, before + 1).await;
    while api.handle.health().breaker != BreakerState::Closed {
        tokio::task::yield_now().await;
    }
}
