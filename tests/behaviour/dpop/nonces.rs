//! Nonces of Authlete and of the layer itself (RFC 9449 §8, §9).

use http::{HeaderName, StatusCode};
use serde_json::json;
use tower_authlete::{Dpop, clock::Clock};

use crate::{
    holder::{Holder, assert_refused},
    support::{Bench, SECOND},
};

const NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

#[tokio::test]
async fn authletes_nonce_is_relayed_and_asked_for() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    assert_eq!(holder.get().await.status, StatusCode::OK);
    bench.authlete.set_dpop_nonce(Some("one".into()));
    // A proof with a nonce is sent to Authlete, since cached facts do not include the nonce.
    let wrong = holder.present(&holder.proof(json!({ "nonce": "none" }))).await;
    assert_refused(&wrong, "use_dpop_nonce", "a wrong nonce");
    assert_eq!(wrong.header(NONCE), "one");
    // From now on, proofs need a nonce.
    let answer = holder.get().await;
    assert_refused(&answer, "use_dpop_nonce", "no nonce");
    for _ in 0..2 {
        let answer = holder.present(&holder.proof(json!({ "nonce": "one" }))).await;
        assert_eq!((answer.status, answer.header(NONCE)), (StatusCode::OK, "one"));
    }
    bench.authlete.set_dpop_nonce(None);
    assert_eq!(holder.get().await.status, StatusCode::OK);
    let before = bench.introspections();
    let answer = holder.get().await;
    assert_eq!((answer.status, answer.header(NONCE)), (StatusCode::OK, ""));
    assert_eq!(bench.introspections(), before, "the cache is used again");
}

#[tokio::test]
async fn nonces_of_the_layer_need_no_call() {
    let bench = Bench::new().await;
    let nonces = |dpop: Dpop| dpop.nonce_key("k".repeat(32));
    let holder = Holder::with(&bench, nonces, |layer| layer).await;
    let answer = holder.get().await;
    assert_refused(&answer, "use_dpop_nonce", "no nonce");
    assert_eq!(bench.introspections(), 0);
    let nonce = answer.header(NONCE).to_owned();
    let with = |nonce: &str| holder.proof(json!({ "nonce": nonce }));
    for _ in 0..2 {
        let answer = holder.present(&with(&nonce)).await;
        assert_eq!((answer.status, answer.header(NONCE)), (StatusCode::OK, nonce.as_str()));
    }
    assert_eq!(bench.introspections(), 1);
    bench.clock.advance(120 * SECOND);
    assert_refused(&holder.present(&with(&nonce)).await, "use_dpop_nonce", "an old nonce");
    // Another server with the same secret accepts them.
    let other = Holder::with(&bench, nonces, |layer| layer).await;
    let nonce = holder.get().await.header(NONCE).to_owned();
    let proof = other.proof(json!({ "nonce": nonce }));
    assert_eq!(other.present(&proof).await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_nonce_of_a_server_whose_clock_is_ahead_by_one_period_is_known() {
    let bench = Bench::new().await;
    let nonces = |dpop: Dpop| dpop.nonce_key("k".repeat(32));
    let holder = Holder::with(&bench, nonces, |layer| layer).await;
    for (ahead, known) in [(60, true), (120, false)] {
        let clock = Clock::frozen(bench.clock.now() + ahead * SECOND);
        let other = Holder::with(&bench, nonces, |layer| layer.clock(clock)).await;
        let proof = other.proof(json!({ "iat": 2_000_000_000 + ahead }));
        let nonce = other.present(&proof).await.header(NONCE).to_owned();
        assert_ne!(nonce, "");
        let answer = holder.present(&holder.proof(json!({ "nonce": nonce }))).await;
        assert_eq!(answer.status == StatusCode::OK, known, "{ahead}");
    }
}
