//! A proof is accepted once (RFC 9449 §11.1).

use futures_util::future::join_all;
use http::StatusCode;
use serde_json::json;
use tower_authlete::{Dpop, emulator::Fault, proof::MemoryReplays};

use crate::{
    holder::{Holder, assert_refused},
    keys::Key,
    support::{Bench, ORIGIN, SECOND},
};

#[tokio::test]
async fn a_proof_is_accepted_once() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    let proof = holder.proof(json!({ "jti": "one" }));
    assert_eq!(holder.present(&proof).await.status, StatusCode::OK);
    assert_refused(&holder.present(&proof).await, "invalid_dpop_proof", "replay");
    holder.refused(json!({ "jti": "one" })).await;
    // Until the proof expires.
    bench.clock.advance(60 * SECOND);
    assert_refused(&holder.present(&proof).await, "invalid_dpop_proof", "late replay");
    // The same `jti` of another key is not used.
    let other = Key::es256();
    let token = Holder::bound(&bench, &other).await;
    let other = Holder { api: holder.api.clone(), key: other, token, bench: &bench };
    assert_eq!(other.present(&other.proof(json!({ "jti": "one" }))).await.status, StatusCode::OK);
}

#[tokio::test]
async fn of_a_hundred_copies_of_a_proof_one_passes() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    for _first_and_later in 0..2 {
        let proof = holder.proof(json!({}));
        let answers = join_all((0..100).map(|_| holder.present(&proof))).await;
        let passed = answers.iter().filter(|answer| answer.status == StatusCode::OK).count();
        assert_eq!(passed, 1);
    }
}

#[tokio::test]
async fn a_jti_is_used_up_for_one_url_only() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    for (path, expected) in [
        ("/", StatusCode::OK),
        ("/read", StatusCode::OK),
        ("/", StatusCode::UNAUTHORIZED),
        ("/read", StatusCode::UNAUTHORIZED),
    ] {
        let proof = holder.proof(json!({ "jti": "one", "htu": format!("{ORIGIN}{path}") }));
        assert_eq!(holder.present_at(path, &proof).await.status, expected, "{path}");
    }
}

#[tokio::test]
async fn a_full_replay_store_is_503_and_evicts_nothing() {
    let bench = Bench::new().await;
    let small = |dpop: Dpop| dpop.replay_store(MemoryReplays::new(16));
    let holder = Holder::with(&bench, small, |layer| layer).await;
    let proof = holder.proof(json!({}));
    assert_eq!(holder.present(&proof).await.status, StatusCode::OK);
    let recorder = metrics_util::debugging::DebuggingRecorder::new();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let mut full = 0;
    for _ in 0..60 {
        full += u32::from(holder.get().await.status == StatusCode::SERVICE_UNAVAILABLE);
    }
    assert!(full >= 60 - 16, "{full}");
    let counted = recorder.snapshotter().snapshot().into_vec();
    let counted = counted.iter().find(|(key, ..)| key.key().name() == "tower_authlete_full_total");
    let expected = metrics_util::debugging::DebugValue::Counter(u64::from(full));
    assert_eq!(counted.map(|(.., value)| value), Some(&expected));
    assert_refused(&holder.present(&proof).await, "invalid_dpop_proof", "replay");
    bench.clock.advance(121 * SECOND);
    assert_eq!(holder.get().await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_proof_is_not_used_by_a_check_that_fails() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    bench.authlete.fault(Fault::status(503));
    let proof = holder.proof(json!({}));
    assert_eq!(holder.present(&proof).await.status, StatusCode::SERVICE_UNAVAILABLE);
    bench.authlete.clear_faults();
    // The proof is not marked as used.
    assert_eq!(holder.present(&proof).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_used_proof_is_refused_after_the_clock_is_set_back() {
    let bench = Bench::new().await;
    let hour = 3600 * SECOND;
    for (forth, back) in [(hour, hour), (hour, 2 * hour), (121 * SECOND, 100 * SECOND)] {
        let holder = Holder::new(&bench).await;
        let holder = holder.with_token(|token| token.expires_in(24 * hour)).await;
        let mut used = Vec::new();
        for _ in 0..40 {
            let proof = holder.proof(json!({}));
            assert_eq!(holder.present(&proof).await.status, StatusCode::OK);
            used.push(proof);
        }
        bench.clock.advance(forth);
        // Expired entries are removed.
        for _ in 0..200 {
            assert_eq!(holder.get().await.status, StatusCode::OK);
        }
        bench.clock.rewind(back);
        for proof in &used {
            assert_refused(&holder.present(proof).await, "invalid_dpop_proof", "replay");
        }
        // Once the clock is set right, proofs are accepted.
        bench.clock.advance(back);
        assert_eq!(holder.get().await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_clock_that_was_ahead_without_an_accepted_proof_has_no_effect() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    let (early, used) = (holder.proof(json!({})), holder.proof(json!({})));
    assert_eq!(holder.present(&used).await.status, StatusCode::OK);
    bench.clock.advance(3600 * SECOND);
    assert_refused(&holder.present(&early).await, "invalid_dpop_proof", "too old");
    bench.clock.rewind(3600 * SECOND);
    assert_eq!(holder.present(&early).await.status, StatusCode::OK);
    assert_refused(&holder.present(&used).await, "invalid_dpop_proof", "replay");
    // Setting the clock back by a little is harmless too.
    bench.clock.rewind(SECOND);
    assert_eq!(holder.get().await.status, StatusCode::OK);
}
