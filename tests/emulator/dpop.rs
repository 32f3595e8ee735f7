//! Proofs of possession (RFC 9449) are verified, by the key that a token is bound to.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use serde_json::json;
use sha2::{Digest, Sha256};
use tower_authlete::{
    Authlete,
    api::{
        IntrospectionAction::{Forbidden, Ok, Unauthorized},
        IntrospectionRequest, IntrospectionResponse,
    },
    emulator::{Emulator, TokenBuilder},
};

pub(crate) use crate::keys::Key;
use crate::{
    keys::{URI, merged},
    support::{SECOND, clock, introspect, is_good, start},
};

fn request(token: &str, proof: &str) -> IntrospectionRequest {
    IntrospectionRequest::new().token(token).dpop(proof).htm("GET").htu(URI)
}

async fn present(authlete: &Authlete, token: &str, proof: &str) -> IntrospectionResponse {
    authlete.introspection(&request(token, proof)).await.unwrap()
}

fn assert_fails(response: &IntrospectionResponse, error: &str, why: &str) {
    assert_eq!(response.action, Unauthorized, "{why}");
    let content = response.response_content.as_deref().unwrap();
    assert!(content.starts_with(&format!("DPoP error=\"{error}\"")), "{why}: {content}");
    assert!(content.contains("algs=\"ES256 ES384 Ed25519 EdDSA PS256 RS256\""), "{why}: {content}");
}

fn bound<'e>(emulator: &'e Emulator, key: &Key) -> TokenBuilder<'e> {
    emulator.token().dpop_key_thumbprint(key.thumbprint())
}

#[tokio::test]
async fn a_bound_token_takes_a_proof_of_its_key() {
    let (emulator, authlete) = start().await;
    let ed25519 = Key::ed25519().named("Ed25519");
    for key in [Key::es256(), Key::es384(), Key::ed25519(), ed25519] {
        let token = bound(&emulator, &key).subject("alice").issue().await;
        let response = present(&authlete, &token, &key.proof_for(&token, json!({}))).await;
        assert_eq!((response.action, response.dpop_nonce), (Ok, None), "{}", key.alg);
        assert_eq!(response.subject.as_deref(), Some("alice"));
        let bare = introspect(&authlete, &token).await;
        assert_fails(&bare, "invalid_token", "no proof");
        let other = Key::es256().proof_for(&token, json!({}));
        assert_fails(&present(&authlete, &token, &other).await, "invalid_token", "another key");
    }
}

#[tokio::test]
async fn keys_can_be_of_rsa() {
    let (emulator, authlete) = start().await;
    // Proofs of another library, at the time of the clock.
    let thumbprint = "L24vFIeZEwdVxoJB-sqok6BRffJK8cgea1FvGDfW9rg";
    let token = emulator.token().value("abc").dpop_key_thumbprint(thumbprint).issue().await;
    for proof in [include_str!("proofs/rs256.jwt"), include_str!("proofs/ps256.jwt")] {
        assert_eq!(present(&authlete, &token, proof).await.action, Ok);
    }
}

#[tokio::test]
async fn a_token_that_is_bound_to_no_key_takes_no_proof() {
    let (emulator, authlete) = start().await;
    let token = emulator.token().issue().await;
    let proof = Key::es256().proof_for(&token, json!({}));
    assert_fails(&present(&authlete, &token, &proof).await, "invalid_token", "not bound");
    assert!(is_good(&authlete, &token).await);
}

#[tokio::test]
async fn each_claim_is_verified() {
    let (emulator, authlete) = start().await;
    let key = Key::es256();
    let token = bound(&emulator, &key).issue().await;
    for (changes, is_good) in [
        (json!({}), true),
        (json!({ "jti": null }), false),
        (json!({ "jti": "" }), false),
        (json!({ "jti": 1 }), false),
        (json!({ "htm": null }), false),
        (json!({ "htm": "POST" }), false),
        (json!({ "htu": null }), false),
        (json!({ "htu": "https://api.example.com/y" }), false),
        (json!({ "htu": "HTTPS://API.example.com:443/x?a=b#c" }), true),
        (json!({ "iat": null }), false),
        (json!({ "iat": 2_000_000_000 - 300 }), true),
        (json!({ "iat": 2_000_000_000 + 300 }), true),
        (json!({ "iat": 2_000_000_000 - 301 }), false),
        (json!({ "iat": 2_000_000_000 + 301 }), false),
        (json!({ "iat": "2000000000" }), false),
        (json!({ "ath": null }), false),
        (json!({ "ath": "another" }), false),
        (json!({ "nonce": "unasked-for" }), true),
    ] {
        let response = present(&authlete, &token, &key.proof_for(&token, changes.clone())).await;
        if is_good {
            assert_eq!(response.action, Ok, "{changes}");
        } else {
            assert_fails(&response, "invalid_dpop_proof", &changes.to_string());
        }
    }
}

#[tokio::test]
async fn the_header_is_verified() {
    let (emulator, authlete) = start().await;
    let key = Key::es256();
    let token = bound(&emulator, &key).issue().await;
    let private = merged(key.jwk.clone(), json!({ "d": "abc" }));
    let symmetric = json!({ "kty": "oct", "k": "abc" });
    for changes in [
        json!({ "typ": "JWT" }),
        json!({ "typ": null }),
        json!({ "alg": "none" }),
        json!({ "alg": "HS256" }),
        json!({ "alg": "ES384" }),
        json!({ "alg": "RS256" }),
        json!({ "jwk": null }),
        json!({ "jwk": private }),
        json!({ "jwk": symmetric }),
        json!({ "jwk": Key::es256().jwk }),
        json!({ "crit": ["b64"], "b64": false }),
    ] {
        let ath = BASE64.encode(Sha256::digest(&token));
        let claims =
            json!({ "jti": "a", "htm": "GET", "htu": URI, "iat": 2_000_000_000, "ath": ath });
        let proof = key.signed(merged(key.header(), changes.clone()), claims);
        let response = present(&authlete, &token, &proof).await;
        assert_fails(&response, "invalid_dpop_proof", &changes.to_string());
    }
}

#[tokio::test]
async fn a_proof_is_for_the_request_that_is_told() {
    let (emulator, authlete) = start().await;
    let key = Key::es256();
    let token = bound(&emulator, &key).issue().await;
    let bare = |proof: &str| IntrospectionRequest::new().token(token.as_str()).dpop(proof);
    let proof = key.proof_for(&token, json!({}));
    for request in [
        bare(&proof),
        bare(&proof).htm("GET"),
        bare(&proof).htu(URI),
        bare(&proof).htm("POST").htu(URI),
        bare(&proof).htm("GET").htu("https://api.example.com/y"),
    ] {
        let response = authlete.introspection(&request).await.unwrap();
        assert_fails(&response, "invalid_dpop_proof", &format!("{request:?}"));
    }
    assert_eq!(present(&authlete, &token, &proof).await.action, Ok);
}

#[tokio::test]
async fn a_proof_is_good_once() {
    let (emulator, authlete) = start().await;
    let key = Key::es256();
    let token = bound(&emulator, &key).issue().await;
    let proof = key.proof_for(&token, json!({ "jti": "a" }));
    assert_eq!(present(&authlete, &token, &proof).await.action, Ok);
    assert_fails(&present(&authlete, &token, &proof).await, "invalid_dpop_proof", "replayed");
    let same_id = key.proof_for(&token, json!({ "jti": "a", "iat": 2_000_000_001 }));
    assert_fails(&present(&authlete, &token, &same_id).await, "invalid_dpop_proof", "same `jti`");
    emulator.clock().advance(300 * SECOND);
    let same_id = key.proof_for(&token, json!({ "jti": "a", "iat": 2_000_000_300 }));
    assert_fails(&present(&authlete, &token, &same_id).await, "invalid_dpop_proof", "remembered");
    // It is removed once its age refuses it.
    emulator.clock().advance(301 * SECOND);
    let same_id = key.proof_for(&token, json!({ "jti": "a", "iat": 2_000_000_601 }));
    assert_eq!(present(&authlete, &token, &same_id).await.action, Ok);
}

#[tokio::test]
async fn a_refused_proof_is_not_used_up() {
    let (emulator, authlete) = start().await;
    let key = Key::es256();
    let token = bound(&emulator, &key).issue().await;
    let proof = key.proof_for(&token, json!({}));
    let elsewhere = request(&token, &proof).htu("https://api.example.com/y");
    assert_eq!(authlete.introspection(&elsewhere).await.unwrap().action, Unauthorized);
    assert_eq!(present(&authlete, &token, &proof).await.action, Ok);
}

#[tokio::test]
async fn a_nonce_is_asked_for_and_told() {
    let emulator = Emulator::builder().clock(clock()).dpop_nonce("one").start().await.unwrap();
    let authlete = emulator.authlete();
    let key = Key::es256();
    let token = bound(&emulator, &key).scopes(["read"]).issue().await;
    for changes in [json!({}), json!({ "nonce": "two" })] {
        let response = present(&authlete, &token, &key.proof_for(&token, changes)).await;
        assert_fails(&response, "use_dpop_nonce", "the nonce is wrong");
        assert_eq!(response.dpop_nonce.as_deref(), Some("one"));
    }
    let proof = key.proof_for(&token, json!({ "nonce": "one" }));
    let response = present(&authlete, &token, &proof).await;
    assert_eq!((response.action, response.dpop_nonce.as_deref()), (Ok, Some("one")));
    // Other failures of a token with a proof have the nonce too.
    let proof = key.proof_for(&token, json!({ "nonce": "one" }));
    let response =
        authlete.introspection(&request(&token, &proof).scopes(["write"])).await.unwrap();
    assert_eq!((response.action, response.dpop_nonce.as_deref()), (Forbidden, Some("one")));
    emulator.set_dpop_nonce(None);
    let response = present(&authlete, &token, &key.proof_for(&token, json!({}))).await;
    assert_eq!((response.action, response.dpop_nonce), (Ok, None));
}

#[tokio::test]
async fn the_previous_nonce_is_good_once_more() {
    let emulator = Emulator::builder().clock(clock()).dpop_nonce("one").start().await.unwrap();
    let authlete = emulator.authlete();
    let key = Key::es256();
    let token = bound(&emulator, &key).issue().await;
    let ask = async |nonce: &str| {
        let proof = key.proof_for(&token, json!({ "nonce": nonce }));
        let response = present(&authlete, &token, &proof).await;
        (response.action, response.dpop_nonce.unwrap())
    };
    emulator.set_dpop_nonce(Some("two".into()));
    emulator.set_dpop_nonce(Some("two".into()));
    assert_eq!(ask("two").await, (Ok, "two".into()));
    assert_eq!(ask("one").await, (Ok, "two".into()));
    assert_eq!(ask("one").await, (Unauthorized, "two".into()));
    emulator.set_dpop_nonce(Some("three".into()));
    emulator.set_dpop_nonce(Some("four".into()));
    assert_eq!(ask("two").await, (Unauthorized, "four".into()));
    assert_eq!(ask("three").await, (Ok, "four".into()));
    assert_eq!(ask("four").await, (Ok, "four".into()));
}

#[tokio::test]
async fn a_nonce_is_made_up_for_who_requires_one() {
    let (emulator, authlete) = start().await;
    let key = Key::es256();
    let token = bound(&emulator, &key).issue().await;
    let proof = key.proof_for(&token, json!({}));
    let strict = request(&token, &proof).dpop_nonce_required(true);
    let response = authlete.introspection(&strict).await.unwrap();
    assert_fails(&response, "use_dpop_nonce", "a nonce is required");
    let nonce = response.dpop_nonce.unwrap();
    let proof = key.proof_for(&token, json!({ "nonce": nonce }));
    let response = present(&authlete, &token, &proof).await;
    assert_eq!((response.action, response.dpop_nonce), (Ok, Some(nonce)));
}
