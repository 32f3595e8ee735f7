//! Which calls are made again when they fail: those that can succeed and do the same once or twice.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::header::RETRY_AFTER;
use tower_authlete::{
    AuthLayer, AuthLayerBuilder, Check, Dpop, Refresh,
    api::{ErrorKind, IntrospectionRequest, TokenUpdateRequest},
    emulator::{Api, Fault},
    resilience::{Breaker, Retry},
};

use crate::{
    holder::Holder,
    support::{
        Bench, NEW, OK, ORIGIN, Protected, SECOND, UNAUTHORIZED, UNAVAILABLE, resilience, rotation,
    },
};

/// An API whose layer makes failed calls again, at once, however many fail.
fn retrying(bench: &Bench, retries: u32) -> Protected {
    bench.api_with(|layer| {
        layer.resilience(
            resilience()
                .retry(Retry::times(retries).backoff(Duration::ZERO))
                .breaker(Breaker::disabled()),
        )
    })
}

/// An API whose layer makes failed calls again, once and at once.
fn retrying_once(
    bench: &Bench,
    settings: impl FnOnce(AuthLayerBuilder) -> AuthLayerBuilder,
) -> Protected {
    bench.api_with(|layer| {
        settings(layer).resilience(resilience().retry(Retry::times(1).backoff(Duration::ZERO)))
    })
}

/// What may be over in a moment.
fn faults() -> [Fault; 6] {
    let [bad, unavailable, late, often] = [502, 503, 504, 429].map(Fault::status);
    [bad, unavailable, late, often, Fault::reset(), Fault::truncated()]
}

#[tokio::test]
async fn an_introspection_is_retried() {
    for fault in faults() {
        let bench = Bench::new().await;
        let api = retrying(&bench, 1);
        let token = bench.authlete.token().subject("alice").issue().await;
        bench.authlete.fault(fault.times(1));
        assert_eq!(api.get(&token).await.status, OK);
        assert_eq!(bench.introspections(), 2);
    }
}

#[tokio::test]
async fn a_call_that_cannot_succeed_is_not_retried() {
    for fault in [Fault::status(401), Fault::status(400), Fault::body("rubbish")] {
        let bench = Bench::new().await;
        let api = retrying(&bench, 3);
        bench.authlete.fault(fault);
        assert!(api.get("token").await.status.is_server_error());
        assert_eq!(bench.introspections(), 1);
    }
}

#[tokio::test]
async fn a_revocation_is_retried() {
    for fault in faults() {
        let bench = Bench::new().await;
        let api = retrying_once(&bench, |layer| layer);
        let token = bench.authlete.token().issue().await;
        assert_eq!(api.get(&token).await.status, OK);
        bench.authlete.fault(fault.times(1));
        api.handle.revoke(&token).await.unwrap();
        assert_eq!(bench.authlete.calls(Api::TokenRevoke), 2);
        assert_eq!(api.get(&token).await.status, UNAUTHORIZED);
        assert_eq!(bench.introspections(), 1, "it is known to be revoked");
    }
}

#[tokio::test]
async fn a_revocation_that_cannot_succeed_is_not_retried() {
    let bench = Bench::new().await;
    let api = retrying_once(&bench, |layer| layer);
    bench.authlete.fault(Fault::status(403));
    assert!(api.handle.revoke("token").await.unwrap_err().is_our_fault());
    assert_eq!(bench.authlete.calls(Api::TokenRevoke), 1);
}

#[tokio::test]
async fn a_check_by_an_update_that_changes_nothing_is_retried() {
    for fault in faults() {
        let bench = Bench::new().await;
        let api = retrying_once(&bench, |layer| layer.check(Check::Update));
        let token = bench.authlete.token().issue().await;
        bench.authlete.fault(fault.times(1));
        assert_eq!(api.get(&token).await.status, OK);
        assert_eq!(bench.updates(), 2);
    }
}

#[tokio::test]
async fn an_extension_to_an_absolute_expiry_is_retried() {
    for fault in faults() {
        let bench = Bench::new().await;
        let refresh = Refresh::extend().when_below(10 * SECOND).to(30 * SECOND).wait();
        let api = retrying_once(&bench, |layer| layer.refresh(refresh));
        let token = bench.authlete.token().expires_in(5 * SECOND).issue().await;
        bench.authlete.fault(fault.on(Api::TokenUpdate).times(1));
        assert_eq!(api.get(&token).await.status, OK);
        assert_eq!(bench.updates(), 2);
        bench.clock.advance(29 * SECOND);
        assert_eq!(api.get(&token).await.status, OK);
    }
}

#[tokio::test]
async fn a_rotation_is_not_retried() {
    for fault in faults() {
        let bench = Bench::new().await;
        let api = retrying_once(&bench, |layer| layer.rotate(rotation()));
        let token = bench.authlete.token().issue().await;
        api.get(&token).await;
        bench.clock.advance(20 * SECOND);
        bench.authlete.fault(fault.on(Api::TokenUpdate).times(1));
        assert_eq!(api.get(&token).await.header(NEW), "");
        assert_eq!(bench.updates(), 1);
    }
}

#[tokio::test]
async fn an_update_of_a_handler_is_not_retried() {
    for fault in faults() {
        let bench = Bench::new().await;
        let api = retrying_once(&bench, |layer| layer);
        let token = bench.authlete.token().issue().await;
        bench.authlete.fault(fault.times(1));
        let change = TokenUpdateRequest::new().access_token_value_updated(true);
        assert!(api.handle.update(&token, change).await.is_err());
        assert_eq!(bench.updates(), 1);
    }
}

#[tokio::test]
async fn retries_of_checks_do_not_multiply_an_outage() {
    let bench = Bench::new().await;
    let api = retrying(&bench, 1);
    bench.authlete.fault(Fault::status(503));
    for number in 0..100 {
        let answer = api.get(&format!("token-{number}")).await;
        assert_eq!(answer.status, UNAVAILABLE);
    }
    // One a second for ten seconds, and a fifth of the calls that succeed, of which there are none.
    assert!((100..=111).contains(&bench.introspections()), "{}", bench.introspections());
}

#[tokio::test]
async fn retries_of_revocations_do_not_multiply_an_outage() {
    let bench = Bench::new().await;
    let api = retrying_once(&bench, |layer| layer);
    bench.authlete.fault(Fault::status(503));
    for number in 0..100 {
        assert!(api.handle.revoke(&format!("token-{number}")).await.is_err());
    }
    let calls = bench.authlete.calls(Api::TokenRevoke);
    assert!((100..=111).contains(&calls), "{calls}");
}

#[tokio::test]
async fn calls_that_succeed_fill_the_retry_budget() {
    let bench = Bench::new().await;
    let api = retrying(&bench, 1);
    for number in 0..100 {
        assert_eq!(api.get(&format!("good-{number}")).await.status, UNAUTHORIZED);
    }
    bench.authlete.fault(Fault::status(503));
    for number in 0..30 {
        api.get(&format!("bad-{number}")).await;
    }
    // Ten in any case, and a fifth of the hundred, of which a slow machine loses some again.
    let again = bench.introspections() - 130;
    assert!((12..=30).contains(&again), "{again}");
}

#[tokio::test]
async fn a_retry_is_not_made_before_retry_after() {
    let bench = Bench::new().await;
    let api = retrying(&bench, 1);
    bench.authlete.fault(Fault::status(503).retry_after(17));
    let answer = api.get("token").await;
    assert_eq!((answer.status, answer.header(RETRY_AFTER)), (UNAVAILABLE, "17"));
    assert_eq!(bench.introspections(), 1);
}

#[tokio::test]
async fn a_proof_that_was_sent_is_not_sent_by_a_retry() {
    let bench = Bench::new().await;
    let holder = Holder::with(
        &bench,
        |dpop| dpop,
        |layer| layer.resilience(resilience().retry(Retry::times(1).backoff(Duration::ZERO))),
    )
    .await;
    bench.authlete.fault(Fault::reset().times(1));
    assert_eq!(holder.get().await.status, UNAVAILABLE);
    assert_eq!(bench.introspections(), 1);
}

#[tokio::test]
async fn a_proof_that_was_never_sent_is_sent_by_a_retry() {
    let bench = Bench::new().await;
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let authlete = bench.watched(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    // Nobody listens there.
    let authlete = authlete.base_url("http://127.0.0.1:1").build().unwrap();
    let auth = AuthLayer::builder(authlete).clock(bench.clock.clone()).dpop(Dpop::at(ORIGIN));
    let api = Protected::new(
        &auth
            .resilience(resilience().retry(Retry::times(1).backoff(Duration::ZERO)))
            .build()
            .unwrap(),
    );
    assert_eq!(Holder::at(&bench, api).await.get().await.status, UNAVAILABLE);
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn an_error_tells_whether_the_call_was_sent() {
    let bench = Bench::new().await;
    let authlete = bench.authlete.authlete();
    bench.authlete.fault(Fault::reset());
    let request = IntrospectionRequest::new().token("x");
    let sent = authlete.introspection(&request).await.unwrap_err();
    assert!(matches!(sent.kind, ErrorKind::Connection(_)) && !sent.is_unsent());
    let nobody = bench.authlete.client_builder().base_url("http://127.0.0.1:1").build().unwrap();
    let unsent = nobody.introspection(&request).await.unwrap_err();
    assert!(unsent.is_unsent() && unsent.is_retryable());
}

#[tokio::test]
async fn the_longest_pause_between_retries_does_not_overflow() {
    let bench = Bench::new().await;
    let token = bench.authlete.token().issue().await;
    let api = bench.api_with(|layer| {
        layer.resilience(resilience().retry(Retry::times(4).backoff(Duration::MAX / 2)))
    });
    bench.authlete.fault(Fault::status(503).retry_after(Duration::ZERO).times(3));
    assert_eq!(api.get(&token).await.status, OK);
}
