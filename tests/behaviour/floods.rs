//! Floods of unknown tokens and of unauthenticated requests do not affect valid tokens.

use axum::Router;
use futures_util::{FutureExt, future::join_all};
use http::{StatusCode, header::RETRY_AFTER};
use tower::{ServiceBuilder, limit::ConcurrencyLimitLayer};
use tower_authlete::{
    AuthLayer, BreakerState, CachePolicy,
    emulator::Api,
    endpoint::{RevocationEndpoint, TokenEndpoint},
};

use crate::{
    authorization_server::post,
    support::{Bench, OK, Protected, UNAVAILABLE, resilience, send},
    transports::transport,
};

/// Asserts that cached tokens are served without a call.
async fn are_at_hand(api: &Protected, tokens: &[String]) {
    for token in tokens {
        let answer = api.get(token).now_or_never().expect("nobody waits");
        assert_eq!(answer.status, OK);
    }
}

#[tokio::test]
async fn five_thousand_unknown_tokens_neither_evict_nor_delay_a_valid_one() {
    const GOOD: usize = 50;
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| {
        // Exactly the capacity that the valid ones need.
        let layer =
            layer.cache(CachePolicy::new().max_entries(GOOD as u64).negative_max_entries(100));
        layer.resilience(resilience().max_in_flight(4).max_waiting(8))
    });
    let mut good = Vec::new();
    for _ in 0..GOOD {
        let token = bench.authlete.token().issue().await;
        assert_eq!(api.get(&token).await.status, OK);
        good.push(token);
    }
    are_at_hand(&api, &good).await;
    let entries = api.handle.health().entries;

    let hold = bench.authlete.hold(Api::Introspection);
    let mut flood = Vec::new();
    for number in 0..5_000 {
        let there = api.clone();
        flood.push(tokio::spawn(
            async move { there.get(&format!("made-up-{number}")).await.status },
        ));
        if number % 250 == 0 {
            tokio::task::yield_now().await;
            are_at_hand(&api, &good).await;
        }
    }
    bench.authlete.arrived(Api::Introspection, GOOD as u64 + 4).await;
    are_at_hand(&api, &good).await;
    assert_eq!(
        bench.introspections(),
        GOOD as u64 + 4,
        "no more at a time, and none for good ones"
    );
    assert_eq!(api.handle.health().in_flight, 4);
    hold.release();
    let statuses = join_all(flood).await;
    let of = |status| statuses.iter().filter(|it| *it.as_ref().unwrap() == status).count();
    assert_eq!((of(StatusCode::UNAUTHORIZED), of(UNAVAILABLE)), (12, 4_988));

    // One after another, as fast as Authlete answers: many more than either pool holds.
    for number in 0..1_000 {
        let answer = api.get(&format!("another-{number}")).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    are_at_hand(&api, &good).await;
    assert_eq!(bench.introspections(), GOOD as u64 + 12 + 1_000);
    assert_eq!((api.handle.health().entries, api.handle.health().in_flight), (entries, 0));
}

#[tokio::test]
async fn checks_do_not_wait_behind_endpoints() {
    const LIMIT: usize = 64;
    let bench = Bench::new().await;
    let transport = ServiceBuilder::new().layer(ConcurrencyLimitLayer::new(LIMIT));
    let transport = transport.service(self::transport());
    let authlete = bench.authlete.client_builder().transport(transport).build().unwrap();
    let auth: AuthLayer =
        AuthLayer::builder(authlete.clone()).clock(bench.clock.clone()).build().unwrap();
    let api = Protected::new(&auth);
    let endpoints = Router::new()
        .route_service("/token", TokenEndpoint::new(authlete.clone(), &auth.handle()))
        .route_service("/revoke", RevocationEndpoint::new(authlete, &auth.handle()));
    let holds = [bench.authlete.hold(Api::Token), bench.authlete.hold(Api::Revocation)];
    let mut flood = Vec::new();
    for number in 0..8_000 {
        let (path, form) = match number % 2 {
            0 => ("/token", "grant_type=client_credentials"),
            _ => ("/revoke", "token=abc"),
        };
        flood.push(tokio::spawn(send(endpoints.clone(), post(path, form, &[]))));
    }
    bench.authlete.arrived(Api::Token, 16).await;
    bench.authlete.arrived(Api::Revocation, 16).await;
    for _ in 0..100 {
        let token = bench.authlete.token().issue().await;
        assert_eq!(api.get(&token).await.status, OK);
    }
    assert_eq!(api.handle.health().breaker, BreakerState::Closed);
    assert_eq!(bench.authlete.calls(Api::Token), 16, "no more at a time");
    assert_eq!(bench.authlete.calls(Api::Revocation), 16, "no more at a time");
    drop(holds);
    let answers: Vec<_> = join_all(flood).await.into_iter().map(Result::unwrap).collect();
    let of = |status| answers.iter().filter(|it| it.status == status).count();
    // For each of two endpoints 16 in flight and 256 waiting.
    assert_eq!((of(StatusCode::BAD_REQUEST), of(UNAVAILABLE)), (544, 8_000 - 544));
    let mut refused = answers.iter().filter(|it| it.status == UNAVAILABLE);
    assert!(refused.all(|it| it.header(RETRY_AFTER) == "1"));
}
