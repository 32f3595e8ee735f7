//! What a proof must contain (RFC 9449 §4.3).

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use http::StatusCode;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tower_authlete::{
    Dpop,
    proof::{DpopAlgorithm, Origin},
};

use crate::{
    holder::{Holder, assert_refused},
    keys::{Key, merged},
    support::{Bench, ORIGIN, SECOND, wrong_settings},
};

#[tokio::test]
async fn a_proof_is_for_one_method_one_url_one_time_and_one_token() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    assert_eq!(holder.get().await.status, StatusCode::OK);
    let before = bench.introspections();
    let now = 2_000_000_000;
    for changes in [
        json!({ "htm": "POST" }),
        json!({ "htm": "get" }),
        json!({ "htm": null }),
        json!({ "htu": "https://api.example.com/other" }),
        json!({ "htu": "https://evil.example/" }),
        json!({ "htu": "http://api.example.com/" }),
        json!({ "htu": null }),
        json!({ "iat": now - 61 }),
        json!({ "iat": now + 61 }),
        json!({ "iat": "now" }),
        json!({ "iat": null }),
        json!({ "iat": 1e300 }),
        json!({ "ath": BASE64.encode("other") }),
        json!({ "ath": null }),
        json!({ "jti": "" }),
        json!({ "jti": null }),
        json!({ "jti": "x".repeat(513) }),
    ] {
        holder.refused(changes).await;
    }
    assert_eq!(bench.introspections(), before, "they are refused here");
    for changes in [
        json!({ "iat": now - 60 }),
        json!({ "iat": now + 60 }),
        json!({ "htu": "HTTPS://API.EXAMPLE.COM:443/?query#fragment" }),
        json!({ "htu": "https://api.example.com" }),
    ] {
        let answer = holder.present(&holder.proof(changes.clone())).await;
        assert_eq!(answer.status, StatusCode::OK, "{changes}");
    }
}

#[tokio::test]
async fn the_header_of_a_proof_is_checked() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    assert_eq!(holder.get().await.status, StatusCode::OK);
    let key = &holder.key;
    let claims = || {
        let proof = holder.proof(json!({}));
        let claims = proof.split('.').nth(1).unwrap();
        serde_json::from_slice::<Value>(&BASE64.decode(claims).unwrap()).unwrap()
    };
    let private = merged(key.jwk.clone(), json!({ "d": "AQAB" }));
    let off = merged(key.jwk.clone(), json!({ "x": BASE64.encode([1; 32]) }));
    for changes in [
        json!({ "typ": "jwt" }),
        json!({ "typ": null }),
        json!({ "alg": "none" }),
        json!({ "alg": "HS256" }),
        json!({ "alg": "ES384" }),
        json!({ "alg": null }),
        json!({ "jwk": null }),
        json!({ "jwk": private }),
        json!({ "jwk": off }),
        json!({ "jwk": { "kty": "oct", "k": "AQAB" } }),
        json!({ "jwk": Key::es256().jwk }),
        json!({ "crit": ["x"], "x": 1 }),
    ] {
        let proof = key.signed(merged(key.header(), changes.clone()), claims());
        let answer = holder.present(&proof).await;
        assert_refused(&answer, "invalid_dpop_proof", &changes.to_string());
    }
    let good = key.signed(key.header(), claims());
    let unsigned = format!("{}.", good.rsplit_once('.').unwrap().0);
    let array = good.replacen(good.split('.').next().unwrap(), &BASE64.encode("[]"), 1);
    for proof in ["", "x", "a.b.c", "a.b.c.d", &unsigned, &array, &format!("{good}.x")] {
        assert_refused(&holder.present(proof).await, "invalid_dpop_proof", proof);
    }
    let oversized = holder.proof(json!({ "padding": "x".repeat(8192) }));
    assert_refused(&holder.present(&oversized).await, "invalid_dpop_proof", "oversized");
}

#[tokio::test]
async fn a_header_that_is_an_array_is_not_read_by_position() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    let proof = holder.proof(json!({}));
    let array = json!(["dpop+jwt", holder.key.alg, holder.key.jwk, null]);
    let header = proof.split('.').next().unwrap();
    let answer =
        holder.present(&proof.replacen(header, &BASE64.encode(array.to_string()), 1)).await;
    assert_refused(&answer, "invalid_dpop_proof", "an array");
    assert!(answer.challenge().contains("header of the DPoP proof"), "{}", answer.challenge());
}

#[tokio::test]
async fn a_request_has_exactly_one_proof() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    let token = format!("DPoP {}", holder.token);
    let (one, two) = (holder.proof(json!({})), holder.proof(json!({})));
    let answer = holder.api.send(&[("authorization", &token)]).await;
    assert_refused(&answer, "invalid_dpop_proof", "none");
    let both = [("authorization", &*token), ("dpop", &one), ("dpop", &two)];
    assert_refused(&holder.api.send(&both).await, "invalid_dpop_proof", "two");
    assert_eq!(holder.present(&one).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_proof_that_is_wrong_in_itself_is_never_sent_to_authlete() {
    let bench = Bench::new().await;
    let now = 2_000_000_000;
    for changes in [
        json!({ "htm": "POST" }),
        json!({ "htu": "https://evil.example/" }),
        json!({ "iat": now - 61 }),
        json!({ "iat": now + 61 }),
        json!({ "iat": -1 }),
        json!({ "ath": BASE64.encode("other") }),
        json!({ "jti": "" }),
    ] {
        Holder::new(&bench).await.refused(changes).await;
    }
    // A key with the name of another curve.
    let mut key = Key::es384();
    key.jwk["crv"] = json!("P-256");
    let token = Holder::bound(&bench, &key).await;
    let holder = Holder { key, token, ..Holder::new(&bench).await };
    holder.refused(json!({})).await;
    assert_eq!(bench.introspections(), 0);
}

#[tokio::test]
async fn an_algorithm_can_be_left_out() {
    let bench = Bench::new().await;
    let only = |dpop: Dpop| dpop.algorithms([DpopAlgorithm::EdDsa]);
    let holder = Holder::with(&bench, only, |layer| layer).await;
    let answer = holder.get().await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.challenge().contains("algs=\"EdDSA\""), "{}", answer.challenge());
}

#[tokio::test]
async fn ed25519_has_two_names() {
    let bench = Bench::new().await;
    for name in ["EdDSA", "Ed25519"] {
        let mut key = Key::ed25519().named(name);
        key.jwk["alg"] = json!(name);
        let token = Holder::bound(&bench, &key).await;
        let holder = Holder { key, token, ..Holder::new(&bench).await };
        for _asked_and_known in 0..2 {
            assert_eq!(holder.get().await.status, StatusCode::OK, "{name}");
        }
        // Keys of another type are refused.
        let other = Key::es256().named(name);
        let stolen = holder.proof_of(&other, json!({}));
        assert_refused(&holder.present(&stolen).await, "invalid_dpop_proof", name);
    }
    let only = |dpop: Dpop| dpop.algorithms([DpopAlgorithm::Ed25519]);
    let holder = Holder::with(&bench, only, |layer| layer).await;
    let key = Key::ed25519();
    let token = Holder::bound(&bench, &key).await;
    let holder = Holder { key, token, ..holder };
    let answer = holder.get().await;
    assert!(answer.challenge().contains("not accepted here"), "{}", answer.challenge());
    assert!(answer.challenge().contains("algs=\"Ed25519\""), "{}", answer.challenge());
}

#[tokio::test]
async fn the_challenge_names_an_unknown_algorithm() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    for name in ["none", "HS256", "Ed448", "ML-DSA-44", "es256", ""] {
        let key = Key::es256().named(name);
        let answer = holder.present(&holder.proof_of(&key, json!({}))).await;
        assert_refused(&answer, "invalid_dpop_proof", name);
        assert!(answer.challenge().contains("algorithm of the DPoP proof is unknown"), "{name}");
    }
}

#[tokio::test]
async fn no_url_in_a_proof_panics() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    let key = Key::ed25519();
    let holder = Holder { token: Holder::bound(&bench, &key).await, key, ..holder };
    let pieces = "http https : / // @ [ ] ::1 v1.a % %4 %41 %zz é a .. . ? # :99999999999 \
                  [::ffff:1.2.3.4] [fe80::1%25eth0] - HTTP urn \\ api.example.com %C3%A9 [v1.fe] :80 : 0";
    let pieces: Vec<_> = pieces.split(' ').chain([" "]).collect();
    let mut random = StdRng::seed_from_u64(12345);
    for _ in 0..2000 {
        let mut url = if random.random() { "https://".to_owned() } else { String::new() };
        for _ in 0..random.random_range(0..9) {
            url += pieces[random.random_range(0..pieces.len())];
        }
        let status = holder.present(&holder.proof(json!({ "htu": url }))).await.status;
        assert!([StatusCode::UNAUTHORIZED, StatusCode::OK].contains(&status), "{url}");
    }
}

#[tokio::test]
async fn wrong_settings_of_dpop_are_refused() {
    let bench = Bench::new().await;
    let wrong = [
        Dpop::for_origin("api.example.com"),
        Dpop::for_origin(ORIGIN).algorithms([]),
        Dpop::for_origin(ORIGIN).iat_tolerance(Duration::ZERO),
        Dpop::for_origin(ORIGIN).iat_tolerance(601 * SECOND),
        Dpop::for_origin(ORIGIN).nonce_key("short"),
        Dpop::for_origin(ORIGIN).nonce_key("k".repeat(32)).nonce_life(SECOND / 2),
        Dpop::for_origin(ORIGIN).nonce_life(SECOND),
        Dpop::for_origin("https://api.example.com/a/../b"),
        Dpop::for_origin("https://api.example.com/a/%2E%2e/b"),
        Dpop::for_origin(Origin::forwarded_by(["x"], ["api.example.com"])),
        Dpop::for_origin(Origin::forwarded_by(["10.0.0.1"], Vec::<String>::new())),
        Dpop::for_origin(Origin::forwarded_by(["10.0.0.1"], ["https://api.example.com"])),
        Dpop::for_origin(Origin::forwarded_by(["10.0.0.1"], ["api.example.com/"])),
        Dpop::for_origin(Origin::forwarded_by(["10.0.0.1"], ["a.example", "user@api.example.com"])),
        Dpop::for_origin(Origin::x_forwarded_by(["10.0.0.1"], ["*.example.com"])),
        Dpop::for_origin(Origin::x_forwarded_by(["10.0.0.1"], ["api.example.com:99999"])),
        Dpop::for_origin(Origin::x_forwarded_by(["10.0.0.1"], [""])),
    ];
    for dpop in wrong {
        let shown = format!("{dpop:?}");
        let error = bench.layer().dpop(dpop).build().unwrap_err();
        assert!(
            wrong_settings(&error).iter().all(|it| it.starts_with("dpop.")),
            "{shown}: {error}"
        );
        assert!(!shown.contains("short"), "{shown}");
    }
    let update =
        bench.layer().check(tower_authlete::layer::CheckApi::Update).dpop(Dpop::for_origin(ORIGIN));
    assert_eq!(wrong_settings(&update.build().unwrap_err()), ["dpop"]);
}
