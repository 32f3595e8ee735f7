//! Which proofs are sent to Authlete, and which requests share a call.

use futures_util::FutureExt;
use http::StatusCode;
use serde_json::json;
use tower_authlete::{
    CachePolicy, Dpop,
    emulator::{Api, Fault},
};

use crate::{
    holder::{Holder, assert_invalid_token, assert_refused},
    support::{Bench, ORIGIN, Protected, SECOND, send},
};

#[tokio::test]
async fn every_proof_can_be_sent_to_authlete() {
    let bench = Bench::new().await;
    let holder = Holder::with(&bench, Dpop::always_remote, |layer| layer).await;
    for asked in 1..=3 {
        assert_eq!(holder.get().await.status, StatusCode::OK);
        assert_eq!(bench.introspections(), asked);
    }
    holder.refused(json!({ "htm": "POST" })).await;
}

#[tokio::test]
async fn with_always_remote_a_request_does_not_join_the_call_of_another() {
    let bench = Bench::new().await;
    let holder = Holder::with(&bench, Dpop::always_remote, |layer| layer).await;
    let mut waiting = Box::pin(holder.get());
    assert!(waiting.as_mut().now_or_never().is_none());
    bench.authlete.arrived(Api::Introspection, 1).await;
    holder.api.handle.forget(&holder.token);
    assert_eq!(holder.get().await.status, StatusCode::OK);
    assert_eq!(waiting.await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn the_proof_of_the_leader_does_not_fail_the_waiters() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    let hold = bench.authlete.hold(Api::Introspection);
    bench.authlete.fault(
        Fault::json(json!({
            "action": "UNAUTHORIZED",
            "responseContent": "DPoP error=\"invalid_dpop_proof\"",
        }))
        .on(Api::Introspection)
        .times(1),
    );
    let (one, two) = tokio::join!(holder.get(), async {
        bench.authlete.arrived(Api::Introspection, 1).await;
        drop(hold);
        holder.get().await
    });
    assert_refused(&one, "invalid_dpop_proof", "the first");
    assert_eq!(two.status, StatusCode::OK);
}

#[tokio::test]
async fn an_older_positive_answer_does_not_replace_a_newer_negative_one() {
    let bench = Bench::new().await;
    let mut holder = Holder::new(&bench).await;
    // The order of the two responses is not determined.
    for _ in 0..10 {
        holder.token = Holder::bound(&bench, &holder.key).await;
        let hold = bench.authlete.hold(Api::Introspection);
        let before = bench.introspections();
        let arrived = |calls| bench.authlete.arrived(Api::Introspection, before + calls);
        // A proof with a nonce of Authlete is checked by a call of its own.
        let proof = holder.proof(json!({ "nonce": "one" }));
        let newer = async {
            arrived(1).await;
            assert!(bench.authlete.revoke(&holder.token));
            holder.get().await
        };
        let release = async {
            arrived(2).await;
            hold.release();
        };
        let (older, newer, ()) = tokio::join!(holder.present(&proof), newer, release);
        assert_eq!((older.status, newer.status), (StatusCode::OK, StatusCode::UNAUTHORIZED));
        assert_eq!(holder.get().await.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn invalidations_of_other_tokens_refuse_no_request_in_flight() {
    let bench = Bench::new().await;
    let holder =
        Holder::with(&bench, |dpop| dpop, |layer| layer.cache(CachePolicy::disabled())).await;
    let hold = bench.authlete.hold(Api::Introspection);
    let (answer, ()) = tokio::join!(holder.get(), async {
        bench.authlete.arrived(Api::Introspection, 1).await;
        // They are in all shards.
        (0..20_000).for_each(|other| holder.api.handle.forget(&other.to_string()));
        hold.release();
    });
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn a_nested_layer_without_cache_uses_the_same_proof() {
    let bench = Bench::new().await;
    let auth = bench.layer().dpop(Dpop::at(ORIGIN)).build().unwrap();
    let holder = Holder::at(&bench, Protected::nested(&auth, &auth.bypass_cache())).await;
    assert_eq!(holder.get().await.status, StatusCode::OK);
    let proof = holder.proof(json!({}));
    assert_eq!(holder.present(&proof).await.status, StatusCode::OK);
    assert_refused(&holder.present(&proof).await, "invalid_dpop_proof", "replay");
}

#[tokio::test]
async fn a_nested_layer_without_cache_calls_once_for_a_request() {
    let bench = Bench::new().await;
    let auth = bench.layer().dpop(Dpop::at(ORIGIN)).build().unwrap();
    let holder = Holder::at(&bench, Protected::nested(&auth, &auth.bypass_cache())).await;
    for asked in 1..=3 {
        assert_eq!(holder.get().await.status, StatusCode::OK);
        assert_eq!(bench.introspections(), asked);
    }
    assert!(bench.authlete.revoke(&holder.token));
    assert_invalid_token(&holder.get().await);
}

#[tokio::test]
async fn a_nested_layer_without_cache_waits_for_a_revalidation_in_flight() {
    let bench = Bench::new().await;
    let auth = bench.layer().dpop(Dpop::at(ORIGIN)).build().unwrap();
    let outer = Protected::new(&auth);
    let nested = Holder::at(&bench, Protected::nested(&auth, &auth.bypass_cache())).await;
    for good in [true, false] {
        let proof = nested.proof(json!({}));
        let answer = send(outer.router.clone(), nested.request("/", &proof)).await;
        assert_eq!(answer.status, StatusCode::OK);
        // In the last tenth of `max_age`, the entry is revalidated with the request's proof.
        bench.clock.advance(57 * SECOND);
        let before = bench.introspections();
        if good {
            assert_eq!(nested.get().await.status, StatusCode::OK);
        } else {
            assert!(bench.authlete.revoke(&nested.token));
            assert_invalid_token(&nested.get().await);
        }
        assert_eq!(bench.introspections(), before + 1);
    }
}

#[tokio::test]
async fn a_layer_of_another_handle_checks_the_proof_again() {
    let (bench, other) = (Bench::new().await, Bench::new().await);
    let holder = Holder::new(&bench).await;
    let outer = bench.layer().dpop(Dpop::at(ORIGIN)).build().unwrap();
    for inner in [
        other.layer().dpop(Dpop::at(ORIGIN)).build().unwrap(),
        bench.layer().dpop(Dpop::at("https://other.example")).build().unwrap(),
    ] {
        let api = Protected::nested(&outer, &inner);
        let request = holder.request("/", &holder.proof(json!({})));
        assert_eq!(send(api.router, request).await.status, StatusCode::UNAUTHORIZED);
        outer.handle().forget(&holder.token);
    }
}
