//! Tokens that are bound to a key work with its proofs only (RFC 9449), also from the cache.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use futures_util::{FutureExt, future::join_all};
use http::{HeaderName, StatusCode, header::WWW_AUTHENTICATE};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tower_authlete::{
    AuthLayerBuilder, Clock, Dpop, DpopAlgorithm, MemoryReplays, Origin, PeerAddr, Refresh,
    api::{TokenUpdateAction, TokenUpdateRequest},
    emulator::{Api, Fault},
};

use crate::{
    holder::{Holder, assert_refused},
    keys::{Key, merged},
    log::logged,
    support::{Answer, Bench, ORIGIN, Protected, SECOND},
};

const NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

#[tokio::test]
async fn further_proofs_by_the_same_key_are_answered_from_the_cache() {
    let bench = Bench::new().await;
    for key in [Key::es256(), Key::es384(), Key::ed25519()] {
        let before = bench.introspections();
        let holder = Holder::new(&bench).await;
        let token = Holder::bound(&bench, &key).await;
        let holder = Holder { key, token, ..holder };
        for _ in 0..3 {
            let answer = holder.get().await;
            assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "alice"));
        }
        assert_eq!(bench.introspections() - before, 1);
    }
}

#[tokio::test]
async fn a_bound_token_is_no_bearer_token_though_it_is_cached() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    assert_eq!(holder.get().await.status, StatusCode::OK);
    let answer = holder.api.get(&holder.token).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.challenge().starts_with("Bearer error=\"invalid_token\""));
    // That did the holder no harm.
    assert_eq!(holder.get().await.status, StatusCode::OK);
    assert_eq!(bench.introspections(), 2);
}

#[tokio::test]
async fn a_bound_token_is_refused_with_a_proof_of_another_key() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    assert_eq!(holder.get().await.status, StatusCode::OK);
    let stolen = holder.proof_of(&Key::es256(), json!({}));
    assert_refused(&holder.present(&stolen).await, "invalid_token", "another key");
    assert_eq!(bench.introspections(), 2);
    assert_eq!(holder.get().await.status, StatusCode::OK);
    assert_eq!(bench.introspections(), 2);
}

#[tokio::test]
async fn a_bearer_token_with_a_proof_is_asked_about_as_such() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    let token = bench.authlete.token().subject("alice").issue().await;
    let holder = Holder { token, ..holder };
    assert_eq!(holder.api.get(&holder.token).await.status, StatusCode::OK);
    assert_refused(&holder.get().await, "invalid_token", "not bound");
    // A proof beside a bearer token is of no interest.
    let bearer = format!("Bearer {}", holder.token);
    let answer = holder.api.send(&[("authorization", &bearer), ("dpop", "x")]).await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn a_proof_is_good_once() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    let proof = holder.proof(json!({ "jti": "one" }));
    assert_eq!(holder.present(&proof).await.status, StatusCode::OK);
    assert_refused(&holder.present(&proof).await, "invalid_dpop_proof", "replay");
    holder.refused(json!({ "jti": "one" })).await;
    // Up to the end of the time in which it would be good.
    bench.clock.advance(60 * SECOND);
    assert_refused(&holder.present(&proof).await, "invalid_dpop_proof", "late replay");
    // Somebody else's `jti` is not used up.
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
async fn headers_of_proofs_are_checked() {
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
async fn an_algorithm_can_be_left_out() {
    let bench = Bench::new().await;
    let only = |dpop: Dpop| dpop.algorithms([DpopAlgorithm::EdDsa]);
    let holder = Holder::with(&bench, only, |layer| layer).await;
    let answer = holder.get().await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.challenge().contains("algs=\"EdDSA\""), "{}", answer.challenge());
}

#[tokio::test]
async fn the_host_header_means_nothing() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    let (token, evil) = (format!("DPoP {}", holder.token), "https://evil.example/");
    let forged = holder.proof(json!({ "htu": evil }));
    for name in ["host", "x-forwarded-host", "forwarded"] {
        let value =
            if name == "forwarded" { "host=evil.example;proto=https" } else { "evil.example" };
        let headers = [("authorization", &*token), ("dpop", &forged), (name, value)];
        assert_refused(&holder.api.send(&headers).await, "invalid_dpop_proof", name);
    }
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_origin_is_what_it_says() {
    let bench = Bench::new().await;
    let dpop = by_forwarded();
    let holder = Holder::with(&bench, |_| dpop, |layer| layer).await;
    let send = async |peer: Option<&str>, host: &str| {
        let proof = holder.proof(json!({}));
        let request = http::Request::get("/")
            .header("authorization", format!("DPoP {}", holder.token))
            .header("dpop", proof)
            .header("forwarded", format!("for=1.1.1.1;proto=https;host={host}"));
        let mut request = request.body(axum::body::Body::empty()).unwrap();
        request.extensions_mut().extend(
            peer.map(|peer| {
                let mut extensions = http::Extensions::new();
                extensions.insert(PeerAddr(peer.parse().unwrap()));
                extensions
            })
            .unwrap_or_default(),
        );
        crate::support::send(holder.api.router.clone(), request).await.status
    };
    assert_eq!(send(Some("10.0.0.1:1"), "api.example.com").await, StatusCode::OK);
    assert_eq!(send(Some("10.0.0.1:1"), "evil.example").await, StatusCode::UNAUTHORIZED);
    // A request that did not come through the proxy, or an address that nobody told.
    for peer in [Some("11.0.0.1:1"), None] {
        assert_eq!(send(peer, "api.example.com").await, StatusCode::INTERNAL_SERVER_ERROR);
    }
}

#[tokio::test]
async fn forget_drops_all_presentations() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    holder.get().await;
    assert!(bench.authlete.revoke(&holder.token));
    assert_eq!(holder.get().await.status, StatusCode::OK, "it is known from the cache");
    holder.api.handle.forget(&holder.token);
    assert_refused_token(&holder.get().await);
    assert_eq!(holder.api.get(&holder.token).await.status, StatusCode::UNAUTHORIZED);
}

fn assert_refused_token(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.challenge().contains("error=\"invalid_token\""), "{}", answer.challenge());
}

#[tokio::test]
async fn a_revoked_bound_token_is_refused_at_once() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    holder.get().await;
    holder.api.handle.revoke(&holder.token).await.unwrap();
    assert_refused_token(&holder.get().await);
}

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
async fn a_route_without_cache_inside_uses_the_same_proof() {
    let bench = Bench::new().await;
    let auth = bench.layer().dpop(Dpop::at(ORIGIN)).build().unwrap();
    let holder = Holder::at(&bench, Protected::nested(&auth, &auth.no_cache())).await;
    assert_eq!(holder.get().await.status, StatusCode::OK);
    let proof = holder.proof(json!({}));
    assert_eq!(holder.present(&proof).await.status, StatusCode::OK);
    assert_refused(&holder.present(&proof).await, "invalid_dpop_proof", "replay");
}

#[tokio::test]
async fn authletes_nonce_is_relayed_and_asked_for() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    assert_eq!(holder.get().await.status, StatusCode::OK);
    bench.authlete.set_dpop_nonce(Some("one".into()));
    // Cached facts do not tell; a proof with a nonce is for Authlete to judge.
    let wrong = holder.present(&holder.proof(json!({ "nonce": "none" }))).await;
    assert_refused(&wrong, "use_dpop_nonce", "a wrong nonce");
    assert_eq!(wrong.header(NONCE), "one");
    // From now on, proofs without one are none.
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
async fn an_older_positive_answer_does_not_replace_a_newer_negative_one() {
    let bench = Bench::new().await;
    let mut holder = Holder::new(&bench).await;
    // Which of the answers comes first is left to chance.
    for _ in 0..10 {
        holder.token = Holder::bound(&bench, &holder.key).await;
        let hold = bench.authlete.hold(Api::Introspection);
        let before = bench.introspections();
        let arrived = |calls| bench.authlete.arrived(Api::Introspection, before + calls);
        // A nonce that is not ours is asked about by a call of its own.
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
async fn nonces_of_our_own_need_nobody() {
    let bench = Bench::new().await;
    let nonces = |dpop: Dpop| dpop.nonces("k".repeat(32), 60 * SECOND);
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
    // Another server with the same key knows them.
    let other = Holder::with(&bench, nonces, |layer| layer).await;
    let nonce = holder.get().await.header(NONCE).to_owned();
    let proof = other.proof(json!({ "nonce": nonce }));
    assert_eq!(other.present(&proof).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_flood_of_proofs_is_503_and_nothing_is_forgotten() {
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
async fn both_schemes_are_challenged_and_the_error_stands_with_the_one_used() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    let challenges = |answer: &Answer| -> Vec<String> {
        let values = answer.headers.get_all(WWW_AUTHENTICATE);
        values.iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    };
    let algs = "DPoP algs=\"ES256 ES384 Ed25519 EdDSA PS256 RS256\"";
    assert_eq!(challenges(&holder.api.send(&[]).await), ["Bearer", algs]);
    let bearer = challenges(&holder.api.get("rubbish").await);
    assert!(bearer[0].starts_with("Bearer error=\"invalid_token\""), "{bearer:?}");
    assert_eq!(bearer[1], algs);
    // Also for a route's requirement.
    let proof = holder.proof(json!({ "htu": format!("{ORIGIN}/write") }));
    let token = format!("DPoP {}", holder.token);
    let headers = [("authorization", &*token), ("dpop", &proof)];
    let answer = holder.api.send_at("/write", &headers).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let dpop = challenges(&answer);
    assert!(dpop[0].starts_with("DPoP error=\"insufficient_scope\""), "{dpop:?}");
    assert_eq!(dpop[1], "Bearer");
}

#[tokio::test]
async fn bearer_tokens_can_be_refused() {
    let bench = Bench::new().await;
    let holder = Holder::with(&bench, Dpop::required, |layer| layer).await;
    let token = bench.authlete.token().issue().await;
    let answer = holder.api.get(&token).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.challenge().starts_with("DPoP algs="), "{}", answer.challenge());
    assert_eq!(bench.introspections(), 0);
    assert_eq!(holder.get().await.status, StatusCode::OK);
}

#[tokio::test]
async fn without_the_setting_credentials_of_dpop_are_none() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    for optional in [false, true] {
        let layer = |layer: AuthLayerBuilder| if optional { layer.optional() } else { layer };
        let api = bench.api_with(layer);
        let authorization = format!("DPoP {}", holder.token);
        let answer = api.send(&[("authorization", &authorization)]).await;
        assert_eq!((answer.status, answer.challenge()), (StatusCode::UNAUTHORIZED, "Bearer"));
    }
}

#[tokio::test]
async fn an_outage_says_nothing_about_a_proof() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    bench.authlete.fault(Fault::status(503));
    let proof = holder.proof(json!({}));
    assert_eq!(holder.present(&proof).await.status, StatusCode::SERVICE_UNAVAILABLE);
    bench.authlete.clear_faults();
    // It has not been used up.
    assert_eq!(holder.present(&proof).await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_proof_of_who_asked_first_fails_nobody_else() {
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
async fn an_update_keeps_a_bound_token_bound() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    holder.get().await;
    let request = TokenUpdateRequest::new().properties([("plan", "gold")]);
    let response = holder.api.handle.update(&holder.token, request).await.unwrap();
    assert_eq!(response.action, TokenUpdateAction::Ok);
    assert_eq!(holder.get().await.status, StatusCode::OK);
    assert_eq!(bench.introspections(), 1);
    assert_eq!(holder.api.get(&holder.token).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_bound_token_is_extended_by_a_proof_that_came_with_it() {
    let bench = Bench::new().await;
    let refresh = Refresh::extend().when_below(10 * SECOND).to(30 * SECOND);
    let holder = Holder::with(&bench, |dpop| dpop, |layer| layer.refresh(refresh)).await;
    let token = bench.authlete.token().subject("alice").expires_in(15 * SECOND);
    let token = token.dpop_key_thumbprint(holder.key.thumbprint()).issue().await;
    let holder = Holder { token, ..holder };
    holder.get().await;
    bench.clock.advance(6 * SECOND);
    assert_eq!(holder.get().await.status, StatusCode::OK);
    bench.authlete.arrived(Api::TokenUpdate, 1).await;
    assert_eq!(bench.introspections(), 2);
}

#[tokio::test]
async fn wrong_settings_of_dpop_are_refused() {
    let bench = Bench::new().await;
    let wrong = [
        Dpop::at("api.example.com"),
        Dpop::at(ORIGIN).algorithms([]),
        Dpop::at(ORIGIN).window(Duration::ZERO),
        Dpop::at(ORIGIN).window(601 * SECOND),
        Dpop::at(ORIGIN).nonces("short", SECOND),
        Dpop::at("https://api.example.com/a/../b"),
        Dpop::at("https://api.example.com/a/%2E%2e/b"),
        Dpop::at(Origin::forwarded_by(["x"], ["api.example.com"])),
        Dpop::at(Origin::forwarded_by(["10.0.0.1"], Vec::<String>::new())),
        Dpop::at(Origin::forwarded_by(["10.0.0.1"], ["https://api.example.com"])),
        Dpop::at(Origin::forwarded_by(["10.0.0.1"], ["api.example.com/"])),
        Dpop::at(Origin::forwarded_by(["10.0.0.1"], ["a.example", "user@api.example.com"])),
        Dpop::at(Origin::x_forwarded_by(["10.0.0.1"], ["*.example.com"])),
        Dpop::at(Origin::x_forwarded_by(["10.0.0.1"], ["api.example.com:99999"])),
        Dpop::at(Origin::x_forwarded_by(["10.0.0.1"], [""])),
    ];
    for dpop in wrong {
        let shown = format!("{dpop:?}");
        let error = bench.layer().dpop(dpop).build().unwrap_err();
        assert!(error.setting().starts_with("dpop."), "{shown}: {error}");
        assert!(!shown.contains("short"), "{shown}");
    }
    let update = bench.layer().check(tower_authlete::Check::Update).dpop(Dpop::at(ORIGIN));
    assert_eq!(update.build().unwrap_err().setting(), "dpop");
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
    // A key that says that it is on another curve, and signs all the same.
    let mut key = Key::es384();
    key.jwk["crv"] = json!("P-256");
    let token = Holder::bound(&bench, &key).await;
    let holder = Holder { key, token, ..Holder::new(&bench).await };
    holder.refused(json!({})).await;
    assert_eq!(bench.introspections(), 0);
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
        let token = format!("DPoP {}", holder.token);
        let answer = holder.api.send_at(path, &[("authorization", &token), ("dpop", &proof)]).await;
        assert_eq!(answer.status, expected, "{path}");
    }
}

#[tokio::test]
async fn the_nonce_of_a_server_whose_clock_is_ahead_by_one_period_is_known() {
    let bench = Bench::new().await;
    let nonces = |dpop: Dpop| dpop.nonces("k".repeat(32), 60 * SECOND);
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

#[tokio::test]
async fn a_proof_that_is_always_checked_remotely_does_not_go_by_the_call_of_another_request() {
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
async fn a_layer_believes_no_layer_of_another_make() {
    let (bench, other) = (Bench::new().await, Bench::new().await);
    let holder = Holder::new(&bench).await;
    let outer = bench.layer().dpop(Dpop::at(ORIGIN)).build().unwrap();
    for inner in [
        other.layer().dpop(Dpop::at(ORIGIN)).build().unwrap(),
        bench.layer().dpop(Dpop::at("https://other.example")).build().unwrap(),
    ] {
        let api = Protected::nested(&outer, &inner);
        let proof = holder.proof(json!({}));
        let headers = [("authorization", &*format!("DPoP {}", holder.token)), ("dpop", &proof)];
        assert_eq!(api.send(&headers).await.status, StatusCode::UNAUTHORIZED);
        outer.handle().forget(&holder.token);
    }
}

#[tokio::test]
async fn a_route_without_cache_inside_asks_unless_that_was_just_done() {
    let bench = Bench::new().await;
    let auth = bench.layer().dpop(Dpop::at(ORIGIN)).build().unwrap();
    let holder = Holder::at(&bench, Protected::nested(&auth, &auth.no_cache())).await;
    for asked in 1..=3 {
        assert_eq!(holder.get().await.status, StatusCode::OK);
        assert_eq!(bench.introspections(), asked);
    }
    assert!(bench.authlete.revoke(&holder.token));
    assert_refused_token(&holder.get().await);
}

#[tokio::test]
async fn a_route_without_cache_inside_waits_for_what_is_asked_in_the_background() {
    let bench = Bench::new().await;
    let auth = bench.layer().dpop(Dpop::at(ORIGIN)).build().unwrap();
    let outer = Protected::new(&auth);
    let nested = Holder::at(&bench, Protected::nested(&auth, &auth.no_cache())).await;
    for good in [true, false] {
        let proof = nested.proof(json!({}));
        let headers = [("authorization", &*format!("DPoP {}", nested.token)), ("dpop", &proof)];
        assert_eq!(outer.send(&headers).await.status, StatusCode::OK);
        // In the last tenth of its age, what is known is asked for again with the request's proof.
        bench.clock.advance(57 * SECOND);
        let before = bench.introspections();
        if good {
            assert_eq!(nested.get().await.status, StatusCode::OK);
        } else {
            assert!(bench.authlete.revoke(&nested.token));
            assert_refused_token(&nested.get().await);
        }
        assert_eq!(bench.introspections(), before + 1);
    }
}

#[tokio::test]
async fn of_several_headers_of_proxies_the_last_one_counts() {
    let bench = Bench::new().await;
    let dpop = by_forwarded();
    let holder = Holder::with(&bench, |_| dpop, |layer| layer).await;
    let send = async |hosts: [&str; 2]| {
        let lines = hosts.map(|host| format!("proto=https;host={host}"));
        let lines = lines.each_ref().map(|line| ("forwarded", line.as_str()));
        holder.through_proxy("/", &lines, &format!("{ORIGIN}/")).await.status
    };
    assert_eq!(send(["evil.example", "api.example.com"]).await, StatusCode::OK);
    assert_eq!(send(["api.example.com", "evil.example"]).await, StatusCode::UNAUTHORIZED);
}

fn by_forwarded() -> Dpop {
    Dpop::at(Origin::forwarded_by(["10.0.0.0/8"], ["api.example.com"]))
}

fn by_x_forwarded(hosts: &[&str]) -> Dpop {
    Dpop::at(Origin::x_forwarded_by(["10.0.0.0/8"], hosts.iter().copied()))
}

#[tokio::test]
async fn a_host_that_a_header_names_is_one_of_ours() {
    let bench = Bench::new().await;
    let hosts = ["API.example.com", "shop.example:8443", "[2001:DB8::1]"];
    let holder = Holder::with(&bench, |_| by_x_forwarded(&hosts), |layer| layer).await;
    let get = async |proto: &str, host: &str, url: &str| {
        let headers = [("x-forwarded-proto", proto), ("x-forwarded-host", host)];
        holder.through_proxy("/", &headers, url).await
    };
    for (proto, host, url) in [
        ("https", "api.example.com", "https://api.example.com/"),
        ("HTTPS", "Api.Example.Com:443", "https://api.example.com/"),
        ("https", "api.example.com:", "https://api.example.com/"),
        ("http", "api.example.com:80", "http://api.example.com/"),
        ("https", "shop.example:8443", "https://SHOP.example:8443/"),
        ("https", "[2001:db8::1]:443", "https://[2001:db8::1]/"),
    ] {
        assert_eq!(get(proto, host, url).await.status, StatusCode::OK, "{proto} {host}");
    }
    for (proto, host) in [
        ("https", "evil.example"),
        ("https", "api.example.com.evil.example"),
        ("https", "evil.api.example.com"),
        ("https", "api.example.com."),
        ("https", "api.example.com:444"),
        ("http", "api.example.com:443"),
        ("https", "api.example.com:65979"),
        ("https", "shop.example"),
        ("https", "user@api.example.com"),
        ("ftp", "api.example.com"),
        ("https", ""),
        ("https", "api.example.com, "),
    ] {
        for url in [format!("{proto}://{host}/"), format!("{ORIGIN}/")] {
            let answer = get(proto, host, &url).await;
            assert_refused(&answer, "invalid_dpop_proof", &format!("{proto} {host} {url}"));
        }
    }
}

#[tokio::test]
async fn what_a_client_writes_of_forwarded_takes_nothing_of_what_its_proxy_adds() {
    let bench = Bench::new().await;
    let holder = Holder::with(&bench, |_| by_forwarded(), |layer| layer).await;
    let own = "for=192.0.2.1;proto=https;host=api.example.com";
    for chosen in [
        "host=evil.example;proto=https;by=\"",
        "host=api.example.com;proto=https;by=\"",
        "host=api.example.com;proto=https;by=\"\\",
        "host=api.example.com;proto=https;host=api.example.com",
        "rubbish",
        "for=\u{e9}",
    ] {
        for line in [
            &[("forwarded", &*format!("{chosen}, {own}"))][..],
            &[("forwarded", chosen), ("forwarded", own)],
        ] {
            for url in ["https://evil.example/", "https://api.example.com/"] {
                let (log, _guard) = logged();
                let answer = holder.through_proxy("/", line, url).await;
                assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{chosen} {url}");
                assert!(answer.challenge().contains("error=\"invalid_request\""), "{chosen}");
                assert!(!log.text().contains("ERROR"), "{chosen}: {}", log.text());
            }
        }
    }
    for chosen in
        ["host=evil.example;proto=https", "for=\"a, \\\" b;c\"", ",", "for=1;for2=\"[::1]:80\""]
    {
        let line = [("forwarded", &*format!("{chosen}, {own}"))];
        let answer = holder.through_proxy("/", &line, "https://evil.example/").await;
        assert_refused(&answer, "invalid_dpop_proof", chosen);
        let answer = holder.through_proxy("/", &line, "https://api.example.com/").await;
        assert_eq!(answer.status, StatusCode::OK, "{chosen}");
    }
}

#[tokio::test]
async fn a_header_that_a_proxy_should_have_set_is_this_servers_fault() {
    let bench = Bench::new().await;
    let holder = Holder::with(&bench, |_| by_forwarded(), |layer| layer).await;
    for headers in [&[][..], &[("forwarded", "for=192.0.2.1")], &[("forwarded", "")]] {
        let (log, _guard) = logged();
        let answer = holder.through_proxy("/", headers, ORIGIN).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{headers:?}");
        assert!(log.text().contains("ERROR"), "{headers:?}");
        // The line is written once in 10 s.
        bench.clock.advance(10 * SECOND);
    }
}

#[tokio::test]
async fn no_proof_is_for_a_path_with_dot_segments() {
    let bench = Bench::new().await;
    let (prefixed, plain) = ("https://example.com/api", "https://example.com");
    for origin in [prefixed, plain] {
        let holder = Holder::with(&bench, |_| Dpop::at(origin), |layer| layer).await;
        let at = async |path: &str, url: &str| {
            let proof = holder.proof(json!({ "htu": url }));
            let token = format!("DPoP {}", holder.token);
            let headers = [("authorization", &*token), ("dpop", &proof)];
            holder.api.send_at(path, &headers).await
        };
        // Token and key are known.
        assert_eq!(at("/", &format!("{origin}/")).await.status, StatusCode::OK);
        for path in [
            "/../shop/buy",
            "/%2e%2e/shop/buy",
            "/%2E%2e/shop/buy",
            "/.%2E/shop/buy",
            "/%2e./shop/buy",
            "/x/../../shop/buy",
            "/./read",
            "/%2e/read",
            "/read/..",
            "/read/.",
            "/read/%2E%2E",
            "/read/%2e?a=b",
        ] {
            let urls = [
                format!("{plain}/shop/buy"),
                format!("{origin}{path}"),
                format!("{origin}/read"),
                format!("{origin}/read/"),
                format!("{origin}/"),
            ];
            for url in urls {
                assert_refused(
                    &at(path, &url).await,
                    "invalid_dpop_proof",
                    &format!("{path} {url}"),
                );
            }
        }
        // These are no dot segments.
        for path in ["/..a", "/a..", "/...", "/.well-known/x", "/a%2e%2e", "/?../x"] {
            let url = format!("{origin}{}", path.split('?').next().unwrap());
            let status = at(path, &url).await.status;
            assert!([StatusCode::OK, StatusCode::NOT_FOUND].contains(&status), "{path} {status}");
        }
    }
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
        // It is for keys of its kind alone.
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
async fn an_unknown_algorithm_is_called_so() {
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
async fn a_used_proof_is_not_good_again_when_the_clock_is_set_back() {
    let bench = Bench::new().await;
    let hour = 3600 * SECOND;
    for (forth, back) in [(hour, hour), (hour, 2 * hour), (121 * SECOND, 100 * SECOND)] {
        let holder = Holder::new(&bench).await;
        let token = bench.authlete.token().dpop_key_thumbprint(holder.key.thumbprint());
        let holder = Holder { token: token.expires_in(24 * hour).issue().await, ..holder };
        let mut used = Vec::new();
        for _ in 0..40 {
            let proof = holder.proof(json!({}));
            assert_eq!(holder.present(&proof).await.status, StatusCode::OK);
            used.push(proof);
        }
        bench.clock.advance(forth);
        // What is over is forgotten.
        for _ in 0..200 {
            assert_eq!(holder.get().await.status, StatusCode::OK);
        }
        bench.clock.rewind(back);
        for proof in &used {
            assert_refused(&holder.present(proof).await, "invalid_dpop_proof", "replay");
        }
        // Once the clock is where it was, proofs are good.
        bench.clock.advance(back);
        assert_eq!(holder.get().await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_clock_that_was_ahead_while_no_proof_passed_does_no_harm() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    let (early, used) = (holder.proof(json!({})), holder.proof(json!({})));
    assert_eq!(holder.present(&used).await.status, StatusCode::OK);
    bench.clock.advance(3600 * SECOND);
    assert_refused(&holder.present(&early).await, "invalid_dpop_proof", "too old");
    bench.clock.rewind(3600 * SECOND);
    assert_eq!(holder.present(&early).await.status, StatusCode::OK);
    assert_refused(&holder.present(&used).await, "invalid_dpop_proof", "replay");
    // Nor does a clock that is set right by a little.
    bench.clock.rewind(SECOND);
    assert_eq!(holder.get().await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_unbound_token_gains_nothing_by_a_proof_where_proofs_are_required() {
    let bench = Bench::new().await;
    let holder = Holder::with(&bench, Dpop::required, |layer| layer).await;
    let unbound = bench.authlete.token().subject("alice").issue().await;
    let thief =
        Holder { token: unbound, key: Key::es256(), api: holder.api.clone(), bench: &bench };
    let pass = Fault::json(json!({ "action": "OK", "subject": "alice" })).on(Api::Introspection);
    for authlete_looks_at_proofs in [true, false] {
        if !authlete_looks_at_proofs {
            // It takes no notice of the proof, as the token needs none.
            bench.authlete.fault(pass.clone().times(1));
        }
        thief.api.handle.forget(&thief.token);
        for _asked_and_known in 0..2 {
            let answer = thief.get().await;
            assert_refused(&answer, "invalid_token", &authlete_looks_at_proofs.to_string());
        }
        bench.authlete.clear_faults();
    }
    // Who holds the key of a bound one passes, and is asked about once.
    let before = bench.introspections();
    for _ in 0..3 {
        assert_eq!(holder.get().await.status, StatusCode::OK);
    }
    assert_eq!(bench.introspections() - before, 2, "with the proof, and without");
    // What is not known is no yes.
    let other = Holder { token: Holder::bound(&bench, &holder.key).await, ..holder };
    bench.authlete.fault(pass.times(1));
    bench.authlete.fault(Fault::status(503).on(Api::Introspection));
    assert_eq!(other.get().await.status, StatusCode::SERVICE_UNAVAILABLE);
    bench.authlete.clear_faults();
    assert_eq!(other.get().await.status, StatusCode::OK);
}

#[tokio::test]
async fn other_tokens_that_are_forgotten_meanwhile_refuse_nobody() {
    let bench = Bench::new().await;
    let holder = Holder::with(&bench, |dpop| dpop, AuthLayerBuilder::no_cache).await;
    let hold = bench.authlete.hold(Api::Introspection);
    let (answer, ()) = tokio::join!(holder.get(), async {
        bench.authlete.arrived(Api::Introspection, 1).await;
        // They fall on all shards.
        (0..20_000).for_each(|other| holder.api.handle.forget(&other.to_string()));
        hold.release();
    });
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn an_extension_refuses_no_request_of_the_same_token_that_is_under_way() {
    let bench = Bench::new().await;
    let refresh = Refresh::extend().when_below(10 * SECOND).to(30 * SECOND);
    let settings = |layer: AuthLayerBuilder| layer.no_cache().refresh(refresh.wait());
    let holder = Holder::with(&bench, |dpop| dpop, settings).await;
    let token = bench.authlete.token().subject("alice").expires_in(5 * SECOND);
    let token = token.dpop_key_thumbprint(holder.key.thumbprint()).issue().await;
    let holder = Holder { token, ..holder };
    let (update, extended) = (bench.authlete.hold(Api::TokenUpdate), Notify::new());
    let extends = async {
        let answer = holder.get().await;
        extended.notify_one();
        answer
    };
    let (one, other) = tokio::join!(extends, async {
        bench.authlete.arrived(Api::TokenUpdate, 1).await;
        let introspection = bench.authlete.hold(Api::Introspection);
        let (answer, ()) = tokio::join!(holder.get(), async {
            bench.authlete.arrived(Api::Introspection, 2).await;
            update.release();
            extended.notified().await;
            introspection.release();
        });
        answer
    });
    assert_eq!((one.status, other.status), (StatusCode::OK, StatusCode::OK));
}

#[tokio::test]
async fn only_the_header_that_was_chosen_tells_the_origin() {
    let bench = Bench::new().await;
    let hosts = ["api.example.com"];
    let holder = Holder::with(&bench, |_| by_x_forwarded(&hosts), |layer| layer).await;
    let headers = [
        ("forwarded", "proto=https;host=evil.example"),
        ("x-forwarded-host", "api.example.com"),
        ("x-forwarded-proto", "https"),
    ];
    let answer = holder.through_proxy("/", &headers, "https://evil.example/").await;
    assert_ne!(answer.status, StatusCode::OK);
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
