//! Facts are cached until they expire; decisions are not.

use std::time::Duration;

use http::StatusCode;
use serde_json::json;
use tower_authlete::{
    CachePolicy,
    emulator::{Api, Fault},
};

use crate::support::{Bench, Protected, SECOND};

#[tokio::test]
async fn a_valid_token_is_introspected_once() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().subject("alice").issue().await;
    for _ in 0..10 {
        assert_eq!(api.get(&token).await.body, "alice");
    }
    assert_eq!(bench.introspections(), 1);
}

#[tokio::test]
async fn an_answer_is_used_for_max_age_at_most() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.max_age(30 * SECOND));
    for token in [
        bench.authlete.token().issue().await,
        // A token without expiry is introspected again too.
        bench.authlete.token().persistent().issue().await,
    ] {
        let before = bench.introspections();
        api.get(&token).await;
        bench.clock.advance(30 * SECOND - Duration::from_millis(1));
        api.get(&token).await;
        assert_eq!(bench.introspections() - before, 1);
        bench.clock.advance(Duration::from_millis(1));
        assert_eq!(api.get(&token).await.status, StatusCode::OK);
        assert_eq!(bench.introspections() - before, 2);
    }
}

#[tokio::test]
async fn the_age_of_an_answer_counts_from_when_its_call_was_made() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().subject("alice").issue().await;
    let hold = bench.authlete.hold(Api::Introspection);
    let (request, ()) = tokio::join!(api.get(&token), async {
        bench.authlete.arrived(Api::Introspection, 1).await;
        // Revoked elsewhere between the decision and the response.
        assert!(bench.authlete.revoke(&token));
        bench.clock.advance(2 * SECOND);
        hold.release();
    });
    assert_eq!(request.status, StatusCode::OK);
    bench.clock.advance(58 * SECOND);
    assert_eq!(api.get(&token).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_token_that_expires_while_it_is_cached_is_refused() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().expires_in(10 * SECOND).issue().await;
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    bench.clock.advance(10 * SECOND);
    assert_eq!(api.get(&token).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_token_that_is_good_but_past_by_our_clock_is_served_and_not_cached() {
    let bench = Bench::new().await;
    let clock = tower_authlete::Clock::frozen(bench.clock.now() + 7200 * SECOND);
    let api = bench.api_with(|layer| layer.clock(clock));
    let token = bench.authlete.token().subject("alice").issue().await;
    for calls in 1..=3 {
        assert_eq!(api.get(&token).await.body, "alice");
        assert_eq!(bench.introspections(), calls);
    }
}

#[tokio::test]
async fn no_expiry_whatever_breaks_the_cache() {
    for (expires_at, cached) in [
        (json!(0), true),
        (json!(null), true),
        (json!(1), false),
        (json!(-1), false),
        (json!(i64::MIN), false),
        (json!(i64::MAX), true),
    ] {
        let bench = Bench::new().await;
        let body = json!({ "action": "OK", "subject": "alice", "expiresAt": expires_at });
        bench.authlete.fault(Fault::body(body.to_string()));
        let api = bench.api();
        for _ in 0..2 {
            assert_eq!(api.get("abc").await.status, StatusCode::OK, "{expires_at}");
        }
        assert_eq!(bench.introspections(), if cached { 1 } else { 2 }, "{expires_at}");
        // It is introspected again, whatever its expiry.
        bench.clock.advance(60 * SECOND);
        api.get("abc").await;
        assert!(bench.introspections() >= 2, "{expires_at}");
    }
}

#[tokio::test]
async fn an_unknown_token_is_introspected_once_in_negative_max_age() {
    let bench = Bench::new().await;
    let api = bench.api();
    for _ in 0..3 {
        let answer = api.get("rubbish").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert!(answer.challenge().contains("error=\"invalid_token\""));
    }
    assert_eq!(bench.introspections(), 1);
    bench.clock.advance(10 * SECOND);
    api.get("rubbish").await;
    assert_eq!(bench.introspections(), 2);
}

#[tokio::test]
async fn a_token_that_comes_to_exist_is_found_once_its_negative_entry_has_expired() {
    let bench = Bench::new().await;
    let api = bench.api();
    assert_eq!(api.get("chosen").await.status, StatusCode::UNAUTHORIZED);
    bench.authlete.token().value("chosen").issue().await;
    bench.clock.advance(10 * SECOND);
    assert_eq!(api.get("chosen").await.status, StatusCode::OK);
}

#[tokio::test]
async fn negative_entries_evict_no_positive_ones() {
    let bench = Bench::new().await;
    let api = bench
        .api_with(|layer| layer.cache(CachePolicy::new().max_entries(10).negative_max_entries(10)));
    let good = bench.authlete.token().issue().await;
    api.get(&good).await;
    for number in 0..200 {
        api.get(&format!("rubbish{number}")).await;
    }
    let before = bench.introspections();
    assert_eq!(api.get(&good).await.status, StatusCode::OK);
    assert_eq!(bench.introspections(), before);
}

#[tokio::test]
async fn policy_is_evaluated_on_a_hit_and_its_refusals_are_not_cached() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().scopes(["read"]).issue().await;
    for _ in 0..2 {
        assert_eq!(api.get_at("/read", &token).await.status, StatusCode::OK);
        assert_eq!(api.get_at("/write", &token).await.status, StatusCode::FORBIDDEN);
    }
    assert_eq!(bench.introspections(), 1);
}

#[tokio::test]
async fn requirements_are_never_sent_to_authlete() {
    // Authlete ignores scopes that the service does not support, and would answer OK.
    let bench = Bench::new().await;
    let authlete = tower_authlete::emulator::Emulator::builder().scopes(["read"]).start().await;
    let authlete = authlete.unwrap();
    let auth = tower_authlete::AuthLayer::builder(authlete.authlete())
        .clock(bench.clock.clone())
        .build()
        .unwrap();
    let api = Protected::new(&auth);
    let token = authlete.token().scopes(["read"]).issue().await;
    assert_eq!(api.get_at("/write", &token).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn the_cache_can_be_off_for_all() {
    let bench = Bench::new().await;
    for api in [
        bench.api_with(|layer| layer.cache(CachePolicy::disabled())),
        bench.api_with(|layer| {
            layer.max_age(Duration::ZERO).cache(CachePolicy::new().negative_max_age(Duration::ZERO))
        }),
    ] {
        let token = bench.authlete.token().issue().await;
        let before = bench.introspections();
        for _ in 0..3 {
            assert_eq!(api.get(&token).await.status, StatusCode::OK);
            assert_eq!(api.get("rubbish").await.status, StatusCode::UNAUTHORIZED);
        }
        assert_eq!(bench.introspections() - before, 6);
    }
}

#[tokio::test]
async fn positive_and_negative_entries_can_be_turned_off_separately() {
    let bench = Bench::new().await;
    let token = bench.authlete.token().issue().await;
    let api = bench.api_with(|layer| layer.max_age(Duration::ZERO));
    for _ in 0..2 {
        api.get(&token).await;
        api.get("rubbish").await;
    }
    assert_eq!(bench.introspections(), 3);
    let api =
        bench.api_with(|layer| layer.cache(CachePolicy::new().negative_max_age(Duration::ZERO)));
    for _ in 0..2 {
        api.get(&token).await;
        api.get("rubbish").await;
    }
    assert_eq!(bench.introspections(), 6);
}

#[tokio::test]
async fn the_cache_can_be_off_for_a_route_and_what_that_learns_is_kept() {
    let bench = Bench::new().await;
    let auth = bench.layer().build().unwrap();
    let cached = Protected::new(&auth);
    let fresh = Protected::new(&auth.bypass_cache());
    let token = bench.authlete.token().issue().await;
    for _ in 0..3 {
        assert_eq!(fresh.get(&token).await.status, StatusCode::OK);
    }
    assert_eq!(bench.introspections(), 3);
    assert_eq!(cached.get(&token).await.status, StatusCode::OK);
    assert_eq!(bench.introspections(), 3);
    // A fresh negative answer replaces the entry.
    bench.authlete.revoke(&token);
    assert_eq!(cached.get(&token).await.status, StatusCode::OK);
    assert_eq!(fresh.get(&token).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(cached.get(&token).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(bench.introspections(), 4);
}

#[tokio::test]
async fn two_services_share_no_entries() {
    let (one, two) = (Bench::new().await, Bench::new().await);
    let token = one.authlete.token().value("same").subject("one").issue().await;
    two.authlete.token().value("same").subject("two").issue().await;
    let (first, second) = (one.api(), two.api());
    for _ in 0..2 {
        assert_eq!(first.get(&token).await.body, "one");
        assert_eq!(second.get(&token).await.body, "two");
    }
}

#[tokio::test]
async fn of_many_tokens_in_use_none_is_taken_for_another() {
    let bench = Bench::new().await;
    let api = bench.api();
    // More than the hot cache has slots.
    let mut tokens = Vec::new();
    for number in 0..200 {
        let subject = number.to_string();
        tokens.push((bench.authlete.token().subject(&subject).issue().await, subject));
    }
    for (token, subject) in &tokens {
        for _ in 0..4 {
            assert_eq!(api.get(token).await.body, *subject);
        }
    }
    for (token, subject) in &tokens {
        assert_eq!(api.get(token).await.body, *subject);
    }
    assert_eq!(bench.introspections(), 200);
}

#[tokio::test]
async fn a_clock_that_is_set_back_extends_no_entry() {
    let bench = Bench::new().await;
    let api = bench.api();
    let good = bench.authlete.token().issue().await;
    let hour = Duration::from_secs(3600);
    // Enough uses to enter the hot cache.
    for _ in 0..4 {
        assert_eq!(api.get(&good).await.status, StatusCode::OK);
        assert_eq!(api.get("bad").await.status, StatusCode::UNAUTHORIZED);
    }
    assert!(bench.authlete.revoke(&good));
    bench.clock.rewind(hour);
    bench.clock.advance(Duration::from_secs(10));
    let before = bench.introspections();
    assert_eq!(api.get("bad").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(bench.introspections(), before + 1);
    bench.clock.advance(Duration::from_secs(50));
    assert_eq!(api.get(&good).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_token_that_expires_during_its_check_is_refused() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().subject("alice").expires_in(10 * SECOND).issue().await;
    let (hold, first) = api.held(&bench, &token).await;
    bench.clock.advance(10 * SECOND);
    let second = api.spawn_get(&token);
    hold.release();
    assert_eq!(first.await.unwrap().status, StatusCode::UNAUTHORIZED);
    assert_eq!(second.await.unwrap().status, StatusCode::UNAUTHORIZED);
}
