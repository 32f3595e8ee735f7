//! Tokens of a wrong shape, and JWTs that the service did not sign, are refused without a call.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use http::StatusCode;
use serde_json::{Value, json};
use tower_authlete::{
    AuthLayerBuilder, Dpop, JwtKeys, JwtPrecheck, Precheck, Refresh, TokenSource, emulator::Fault,
};

use crate::{
    keys::{Key, merged},
    support::{Answer, Bench, OK, Protected, UNAUTHORIZED, wrong_settings},
};

/// When the tests begin, in s since the epoch.
const NOW: u64 = 2_000_000_000;

/// A JWK set of these keys, with these key IDs.
fn set(keys: &[(&str, &Key)]) -> String {
    let keys = keys.iter().map(|(id, key)| merged(key.jwk.clone(), json!({ "kid": id })));
    json!({ "keys": keys.collect::<Vec<_>>() }).to_string()
}

/// An access token as RFC 9068 has it, with changes to its header and claims.
fn jwt(key: &Key, id: &str, header: Value, claims: Value) -> String {
    let usual = json!({ "typ": "at+jwt", "alg": key.alg, "kid": id });
    let facts = json!({ "iss": "https://as.example.com", "exp": NOW + 3600 });
    key.signed(merged(usual, header), merged(facts, claims))
}

/// A service that signs its tokens.
struct Signing {
    bench: Bench,
    key: Key,
    keys: JwtKeys,
}

impl Signing {
    async fn new() -> Self {
        let (bench, key) = (Bench::new().await, Key::es256());
        let keys = JwtKeys::from_json(set(&[("one", &key)])).unwrap();
        Self { bench, key, keys }
    }

    fn api(&self, settings: impl FnOnce(JwtPrecheck) -> JwtPrecheck) -> Protected {
        let precheck = settings(JwtPrecheck::new(&self.keys));
        self.bench.api_with(|layer| layer.precheck(precheck))
    }

    /// Whether an unknown token causes a call.
    async fn is_asked(&self, api: &Protected, token: &str) -> bool {
        let before = self.bench.introspections();
        assert_eq!(api.get(token).await.status, UNAUTHORIZED);
        self.bench.introspections() > before
    }
}

#[tokio::test]
async fn a_token_of_a_wrong_shape_makes_no_call() {
    let bench = Bench::new().await;
    let shape = Precheck::length(43..=43).and(Precheck::base64url());
    let api = bench.api_with(|layer| layer.precheck(shape.or(Precheck::prefix("old_"))));
    let token = bench.authlete.token().subject("alice").issue().await;
    let old = bench.authlete.token().value("old_token").issue().await;
    for good in [&token, &old] {
        assert_eq!(api.get(good).await.status, OK);
    }
    for nonsense in ["made-up", &token[1..], &format!("{}~", &token[1..]), "new_token"] {
        let answer = api.get(nonsense).await;
        assert_eq!(answer.status, UNAUTHORIZED);
        assert!(answer.challenge().contains("error=\"invalid_token\""), "{}", answer.challenge());
    }
    assert_eq!(bench.introspections(), 2);
}

#[tokio::test]
async fn several_prechecks_must_all_pass() {
    let bench = Bench::new().await;
    let settings = |layer: AuthLayerBuilder| {
        layer.precheck(Precheck::prefix("a")).precheck(Precheck::length(..=3))
    };
    let api = bench.api_with(settings);
    for (token, calls) in [("abcd", 0), ("bcd", 0), ("abc", 1)] {
        api.get(token).await;
        assert_eq!(bench.introspections(), calls, "{token}");
    }
}

#[tokio::test]
async fn a_token_that_passes_is_still_introspected() {
    let service = Signing::new().await;
    let api = service.api(|jwt| jwt.known_keys_only().issuer("https://as.example.com"));
    let token = jwt(&service.key, "one", json!({}), json!({}));
    assert!(service.is_asked(&api, &token).await, "a good signature does not make a good token");
    let token = jwt(&service.key, "one", json!({}), json!({ "jti": "2" }));
    service.bench.authlete.token().value(&token).subject("alice").issue().await;
    assert_eq!(api.get(&token).await.body, "alice");
    assert!(service.bench.authlete.revoke(&token));
    api.handle.forget(&token);
    assert!(service.is_asked(&api, &token).await);
}

#[tokio::test]
async fn a_jwt_of_another_issuer_makes_no_call() {
    let service = Signing::new().await;
    let api = service.api(|jwt| jwt.issuer("https://as.example.com"));
    let (key, thief) = (&service.key, Key::es256());
    let good = jwt(key, "one", json!({}), json!({}));
    let unsigned = &good[..good.rfind('.').unwrap()];
    let other = jwt(key, "one", json!({}), json!({ "scope": "admin" }));
    let swapped = format!("{}{}", &other[..other.rfind('.').unwrap()], &good[unsigned.len()..]);
    let arrays = r#"[2000003600,"https://as.example.com"]"#;
    for (what, token) in [
        ("a random string", "made-up".to_owned()),
        ("two parts", unsigned.to_owned()),
        ("no signature", format!("{unsigned}.")),
        ("another's signature", swapped),
        ("four parts", format!("{good}.x")),
        ("no JSON", "a.b.c".to_owned()),
        ("arrays", key.signed_text(r#"["ES256","at+jwt","one"]"#, arrays)),
        ("another's key", jwt(&thief, "one", json!({}), json!({}))),
        ("no type", jwt(key, "one", json!({ "typ": null }), json!({}))),
        ("an ID token", jwt(key, "one", json!({ "typ": "JWT" }), json!({}))),
        ("a proof", jwt(key, "one", json!({ "typ": "dpop+jwt" }), json!({}))),
        ("no algorithm", jwt(key, "one", json!({ "alg": null }), json!({}))),
        ("none", jwt(key, "one", json!({ "alg": "none" }), json!({}))),
        ("NONE, of an unknown key", jwt(key, "two", json!({ "alg": "NoNe" }), json!({}))),
        ("a shared secret", jwt(key, "one", json!({ "alg": "HS256" }), json!({}))),
        ("a shared secret, too", jwt(key, "two", json!({ "alg": "HS512" }), json!({}))),
        ("another algorithm", jwt(key, "one", json!({ "alg": "ES384" }), json!({}))),
        ("RSA by no key of RSA", jwt(key, "one", json!({ "alg": "RS256" }), json!({}))),
        ("an unknown algorithm", jwt(key, "one", json!({ "alg": "ES256K" }), json!({}))),
        ("another issuer", jwt(key, "one", json!({}), json!({ "iss": "https://evil.example" }))),
        ("no issuer", jwt(key, "one", json!({}), json!({ "iss": null }))),
        ("expired", jwt(key, "one", json!({}), json!({ "exp": NOW - 60 }))),
        ("of another time", jwt(key, "one", json!({}), json!({ "exp": "tomorrow" }))),
    ] {
        assert!(!service.is_asked(&api, &token).await, "{what}");
    }
    for (what, token) in [
        ("a good one", good),
        ("no expiry", jwt(key, "one", json!({}), json!({ "exp": null }))),
        ("just expired", jwt(key, "one", json!({}), json!({ "exp": NOW - 59 }))),
        ("its other type", jwt(key, "one", json!({ "typ": "application/AT+JWT" }), json!({}))),
    ] {
        assert!(service.is_asked(&api, &token).await, "{what}");
    }
}

#[tokio::test]
async fn a_key_that_is_not_known_yet_is_passed_on_unless_it_is_said_not_to() {
    let service = Signing::new().await;
    let new = Key::ed25519();
    let (tolerant, strict) = (service.api(|jwt| jwt), service.api(JwtPrecheck::known_keys_only));
    let token = |key: &Key, id: Value| {
        jwt(key, "", json!({ "kid": id }), json!({ "jti": rand::random::<u64>().to_string() }))
    };
    assert!(service.is_asked(&tolerant, &token(&new, json!("two"))).await);
    assert!(service.is_asked(&tolerant, &token(&new, Value::Null)).await);
    assert!(!service.is_asked(&strict, &token(&new, json!("two"))).await);
    assert!(!service.is_asked(&strict, &token(&new, Value::Null)).await);
    assert!(service.is_asked(&strict, &token(&service.key, Value::Null)).await);
    // Its `kid` is that of another key.
    assert!(!service.is_asked(&strict, &token(&service.key, json!("two"))).await);
}

#[tokio::test]
async fn ed25519_has_two_names() {
    let service = Signing::new().await;
    let api = service.api(JwtPrecheck::known_keys_only);
    let key = Key::ed25519();
    for only in [None, Some("EdDSA"), Some("Ed25519")] {
        let jwk = merged(key.jwk.clone(), json!({ "kid": "ed" }));
        let jwk = only.map_or(jwk.clone(), |only| merged(jwk, json!({ "alg": only })));
        service.keys.replace(json!({ "keys": [jwk] }).to_string()).unwrap();
        for name in ["EdDSA", "Ed25519"] {
            let changes = json!({ "jti": format!("{only:?} {name}") });
            let token = jwt(&key, "ed", json!({ "alg": name }), changes.clone());
            assert!(service.is_asked(&api, &token).await, "{only:?} {name}");
            let other = jwt(&Key::ed25519(), "ed", json!({ "alg": name }), changes);
            assert!(!service.is_asked(&api, &other).await, "{only:?} {name}");
        }
    }
}

#[tokio::test]
async fn keys_change_while_the_layer_is_in_use() {
    let service = Signing::new().await;
    let api = service.api(JwtPrecheck::known_keys_only);
    let new = Key::es384();
    let by_new =
        || jwt(&new, "two", json!({}), json!({ "jti": rand::random::<u64>().to_string() }));
    assert!(!service.is_asked(&api, &by_new()).await);
    service.keys.replace(set(&[("two", &new), ("one", &service.key)])).unwrap();
    assert!(service.is_asked(&api, &by_new()).await);
    assert!(service.is_asked(&api, &jwt(&service.key, "one", json!({}), json!({}))).await);
    // A document that cannot be used changes nothing.
    for document in ["", "[]", "{}", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#] {
        let error = service.keys.replace(document).unwrap_err();
        assert_eq!(wrong_settings(&error), ["precheck.jwt"]);
    }
    assert!(service.is_asked(&api, &by_new()).await);
}

#[tokio::test]
async fn of_two_keys_by_one_name_one_that_cannot_be_verified_may_have_signed() {
    let service = Signing::new().await;
    let (tolerant, strict) = (service.api(|jwt| jwt), service.api(JwtPrecheck::known_keys_only));
    let odd = json!({ "kty": "EC", "crv": "P-521", "kid": "one" });
    let ours = merged(service.key.jwk.clone(), json!({ "kid": "one" }));
    service.keys.replace(json!({ "keys": [odd, ours] }).to_string()).unwrap();
    let by = |key: &Key| jwt(key, "one", json!({}), json!({ "jti": rand::random::<u64>() }));
    for (api, may_be) in [(tolerant, true), (strict, false)] {
        assert!(service.is_asked(&api, &by(&service.key)).await);
        assert_eq!(service.is_asked(&api, &by(&Key::es256())).await, may_be);
    }
}

#[tokio::test]
async fn keys_that_are_for_something_else_are_left_out() {
    let (usable, mut odd) = (Key::es256(), Vec::new());
    for change in [
        json!({ "kid": "enc", "use": "enc" }),
        json!({ "kid": "alg", "alg": "ES384" }),
        json!({ "kid": "kty", "kty": "none" }),
        json!({ "kid": "crv", "crv": "P-521" }),
    ] {
        odd.push(merged(usable.jwk.clone(), change));
    }
    // RSA of 1024 bits.
    let short = "A".repeat(170);
    odd.push(json!({ "kid": "short", "kty": "RSA", "n": format!("w{short}"), "e": "AQAB" }));
    odd.push(json!("text"));
    assert!(JwtKeys::from_json(json!({ "keys": odd }).to_string()).is_err());
    odd.push(merged(usable.jwk.clone(), json!({ "use": "sig", "alg": "ES256" })));
    let keys = JwtKeys::from_json(json!({ "keys": odd }).to_string()).unwrap();
    assert_eq!(format!("{keys:?}"), "JwtKeys { keys: 1 }");
}

#[tokio::test]
async fn signatures_are_not_looked_at_again_while_the_token_is_known() {
    let service = Signing::new().await;
    let api = service.api(JwtPrecheck::known_keys_only);
    let token = jwt(&service.key, "one", json!({}), json!({}));
    service.bench.authlete.token().value(&token).subject("alice").issue().await;
    assert_eq!(api.get(&token).await.status, OK);
    // Its key is gone: if it were looked at, it would show.
    service.keys.replace(set(&[("two", &Key::es256())])).unwrap();
    assert_eq!(api.get(&token).await.status, OK);
    service.bench.clock.advance(Duration::from_secs(60));
    assert_eq!(api.get(&token).await.status, UNAUTHORIZED);
    assert_eq!(service.bench.introspections(), 1);
}

#[tokio::test]
async fn a_precheck_is_made_of_tokens_that_come_with_a_proof() {
    let service = Signing::new().await;
    let precheck = JwtPrecheck::new(&service.keys).known_keys_only();
    let dpop = Dpop::at("https://api.example.com");
    let api = service.bench.api_with(|layer| layer.precheck(precheck).dpop(dpop));
    let holder = Key::es256();
    let prove = async |token: &str| -> Answer {
        let proof = holder.proof_for(token, json!({ "htu": "https://api.example.com/" }));
        api.send(&[("authorization", &format!("DPoP {token}")), ("dpop", &proof)]).await
    };
    let forged = jwt(&holder, "one", json!({}), json!({}));
    let answer = prove(&forged).await;
    assert!(answer.challenge().contains("error=\"invalid_token\""), "{}", answer.challenge());
    assert_eq!(service.bench.introspections(), 0);
    let token = jwt(&service.key, "one", json!({}), json!({}));
    let thumbprint = holder.thumbprint();
    service.bench.authlete.token().value(&token).dpop_key_thumbprint(thumbprint).issue().await;
    assert_eq!(prove(&token).await.status, OK);
    service.keys.replace(set(&[("two", &Key::es256())])).unwrap();
    assert_eq!(prove(&token).await.status, OK);
    assert_eq!(service.bench.introspections(), 1);
}

#[tokio::test]
async fn random_strings_can_be_allowed_beside_jwts() {
    let service = Signing::new().await;
    let random = Precheck::length(43..=43).and(Precheck::base64url());
    let precheck = random.or(Precheck::jwt(&service.keys));
    let api = service.bench.api_with(|layer| layer.precheck(precheck));
    let token = service.bench.authlete.token().issue().await;
    assert_eq!(api.get(&token).await.status, OK);
    assert!(!service.is_asked(&api, "made-up").await);
    assert!(!service.is_asked(&api, &jwt(&Key::es256(), "one", json!({}), json!({}))).await);
    assert!(service.is_asked(&api, &jwt(&service.key, "one", json!({}), json!({}))).await);
}

#[tokio::test]
async fn an_expired_jwt_is_introspected_where_its_token_may_be_valid() {
    let service = Signing::new().await;
    let past = |id: &str| jwt(&service.key, "one", json!({}), json!({ "exp": 1, "jti": id }));
    assert!(!service.is_asked(&service.api(|jwt| jwt), &past("a")).await);
    assert!(service.is_asked(&service.api(JwtPrecheck::ignore_expiry), &past("b")).await);
    let precheck = JwtPrecheck::new(&service.keys);
    let extends = |layer: AuthLayerBuilder| layer.refresh(Refresh::extend()).precheck(precheck);
    assert!(service.is_asked(&service.bench.api_with(extends), &past("c")).await);
    let patient = service.api(|jwt| jwt.leeway(Duration::from_secs(NOW)));
    assert!(service.is_asked(&patient, &past("d")).await);
}

#[tokio::test]
async fn in_an_outage_prechecks_still_refuse_and_other_tokens_are_503() {
    let service = Signing::new().await;
    let api = service.api(|jwt| jwt);
    service.bench.authlete.fault(Fault::status(503));
    let forged = jwt(&Key::es256(), "one", json!({}), json!({}));
    assert_eq!(api.get(&forged).await.status, UNAUTHORIZED);
    let token = jwt(&service.key, "one", json!({}), json!({}));
    assert_eq!(api.get(&token).await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[cfg(feature = "metrics")]
#[tokio::test]
async fn refusals_of_prechecks_are_counted() {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    let recorder = DebuggingRecorder::new();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let service = Signing::new().await;
    let api = service.api(|jwt| jwt);
    for token in ["nonsense", "more", &jwt(&Key::es256(), "one", json!({}), json!({}))] {
        assert!(!service.is_asked(&api, token).await);
    }
    let mut counted: Vec<_> = recorder.snapshotter().snapshot().into_vec();
    counted.retain(|(key, ..)| key.key().name() == "tower_authlete_precheck_refused_total");
    let counted = counted.into_iter().map(|(key, _, _, value)| {
        (key.key().labels().map(|label| label.value().to_owned()).collect::<String>(), value)
    });
    let mut counted: Vec<_> = counted.collect();
    counted.sort_by(|one, other| one.0.cmp(&other.0));
    let expected =
        [("jwt".to_owned(), DebugValue::Counter(1)), ("shape".into(), DebugValue::Counter(2))];
    assert_eq!(counted, expected);
}

/// A source that accepts any value as a token.
struct Anything;

impl TokenSource for Anything {
    fn token<'r>(
        &self,
        head: tower_authlete::RequestHead<'r>,
    ) -> Result<Option<&'r str>, tower_authlete::MalformedCredentials> {
        Ok(head.headers.get("x-token").and_then(|value| value.to_str().ok()))
    }
}

#[tokio::test]
async fn illegal_syntax_is_refused_first() {
    let bench = Bench::new().await;
    let looked_at = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = looked_at.clone();
    // The precheck precedes hashing and the cache.
    let count = move |_: &str| counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 1000;
    let api = bench.api_with(|layer| layer.token_source(Anything).precheck(count));
    let long = "x".repeat(16 * 1024 + 1);
    for token in ["a b", "a,b", "a\"b", "=", "a=b", "a\tb", "{}", "", &long, "a\\b", "a%00"] {
        let shown = format!("Bearer {token}");
        for header in [("authorization", shown.as_str()), ("x-token", token)] {
            let answer = api.send(&[header]).await;
            assert!(answer.status.is_client_error(), "{header:?}");
        }
    }
    assert_eq!(looked_at.load(std::sync::atomic::Ordering::Relaxed), 0);
    assert_eq!((bench.authlete.total_calls(), api.handle.health().entries), (0, 0));
}

#[tokio::test]
async fn a_closure_can_be_a_precheck() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.precheck(|token: &str| token.len() == 43));
    let token = bench.authlete.token().subject("alice").issue().await;
    assert_eq!(api.get(&token).await.status, OK);
    let answer = api.get("made-up").await;
    assert_eq!(answer.status, UNAUTHORIZED);
    assert!(answer.challenge().contains("error=\"invalid_token\""));
    assert_eq!(bench.introspections(), 1);
}

#[tokio::test]
async fn keys_that_can_verify_nothing_are_left_out() {
    let key = Key::es256();
    let x = BASE64.decode(key.jwk["x"].as_str().unwrap()).unwrap();
    let rsa = |n: &[u8]| json!({ "kty": "RSA", "e": "AQAB", "kid": "one", "n": BASE64.encode(n) });
    let zero = [&[0][..], &[0xff; 256]].concat();
    let low = [&[0x7f][..], &[0xff; 255]].concat();
    for odd in [
        merged(key.jwk.clone(), json!({ "x": BASE64.encode(&x[1..]) })),
        json!({ "kty": "OKP", "crv": "Ed25519", "x": BASE64.encode(&x[1..]) }),
        rsa(&zero),
        rsa(&low),
    ] {
        let keys = JwtKeys::from_json(json!({ "keys": [odd] }).to_string());
        assert!(keys.is_err(), "{odd}");
    }
}

#[test]
fn an_alphabet_without_characters_panics() {
    assert!(std::panic::catch_unwind(|| Precheck::alphabet([])).is_err());
}
