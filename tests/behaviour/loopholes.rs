//! Ways around the rules that an audit found, each closed.

use crate::{
    keys::{Key, merged},
    support::{Bench, Protected, send},
};
use ::axum::{Router, body::Body, routing::get};
use futures_util::FutureExt;
use http::{Request, StatusCode};
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};
use tokio::sync::Notify;
use tower_authlete::emulator::Api;
use tower_authlete::{
    AuthLayer, ClientCertificate, ClientCertificates, Dpop, MemoryReplays, Origin, PeerAddr,
    ProofId, Refresh, Remembering, ReplayStore,
};

const ORIGIN: &str = "https://api.example.com";
const SECOND: Duration = Duration::from_secs(1);

async fn bound(bench: &Bench, key: &Key) -> String {
    bench
        .authlete
        .token()
        .subject("alice")
        .scopes(["read"])
        .dpop_key_thumbprint(key.thumbprint())
        .issue()
        .await
}
fn proof(bench: &Bench, key: &Key, token: &str, path: &str, more: Value) -> String {
    let now = bench.clock.now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    key.proof_for(token, merged(json!({"htu": format!("{ORIGIN}{path}"), "iat": now}), more))
}
fn req(path: &str, token: &str, proof: &str) -> Request<Body> {
    Request::get(path)
        .header("authorization", format!("DPoP {token}"))
        .header("dpop", proof)
        .body(Body::empty())
        .unwrap()
}

#[tokio::test]
async fn a_proof_is_good_once_however_the_path_is_spelt() {
    let bench = Bench::new().await;
    let auth: AuthLayer = bench.layer().dpop(Dpop::at(ORIGIN)).build().unwrap();
    let router = Router::new()
        .route(
            "/users/{id}",
            get(|::axum::extract::Path(id): ::axum::extract::Path<String>| async move { id }),
        )
        .layer(auth);
    let key = Key::es256();
    let token = bound(&bench, &key).await;
    let p = proof(&bench, &key, &token, "/users/alice", json!({}));
    let mut passed = Vec::new();
    for path in
        ["/users/alice", "/users/alice", "/users/%61lice", "/users/a%6cice", "/users/%61%6Cice"]
    {
        let a = send(router.clone(), req(path, &token, &p)).await;
        if a.status == StatusCode::OK {
            passed.push((path, a.body));
        }
    }
    assert_eq!(passed.len(), 1, "{passed:?}");
}

#[tokio::test]
async fn and_however_the_proxy_spells_the_host() {
    let bench = Bench::new().await;
    let api = bench.api_with(|l| {
        l.dpop(Dpop::at(Origin::x_forwarded_by(["10.0.0.0/8"], ["api.example.com"])))
    });
    let key = Key::es256();
    let token = bound(&bench, &key).await;
    let p = proof(&bench, &key, &token, "/", json!({}));
    let mut passed = Vec::new();
    for host in [
        "api.example.com",
        "api.example.com",
        "API.example.com",
        "api.example.com:443",
        "Api.example.com",
    ] {
        let mut r = req("/", &token, &p);
        r.headers_mut().insert("x-forwarded-host", host.parse().unwrap());
        r.headers_mut().insert("x-forwarded-proto", "https".parse().unwrap());
        r.extensions_mut().insert(PeerAddr("10.0.0.1:1".parse().unwrap()));
        if send(api.router.clone(), r).await.status == StatusCode::OK {
            passed.push(host);
        }
    }
    assert_eq!(passed.len(), 1, "{passed:?}");
}

#[tokio::test]
async fn a_copy_that_waits_until_the_proof_is_forgotten_is_too_old() {
    let bench = Bench::new().await;
    let api = bench.api_with(|l| l.dpop(Dpop::at(ORIGIN)));
    let key = Key::es256();
    let token = bound(&bench, &key).await;
    let p = proof(&bench, &key, &token, "/", json!({}));
    assert_eq!(send(api.router.clone(), req("/", &token, &p)).await.status, StatusCode::OK);
    bench.clock.advance(59 * SECOND);
    api.handle.forget(&token);
    // Authlete is slow; the client itself has a request under way, which the thief joins.
    let before = bench.introspections();
    let hold = bench.authlete.hold(Api::Introspection);
    let own = proof(&bench, &key, &token, "/", json!({}));
    let own = tokio::spawn(send(api.router.clone(), req("/", &token, &own)));
    bench.authlete.arrived(Api::Introspection, before + 1).await;
    let mut thief = Box::pin(send(api.router.clone(), req("/", &token, &p)));
    assert!(thief.as_mut().now_or_never().is_none());
    bench.clock.advance(2 * SECOND);
    drop(hold);
    assert_eq!(own.await.unwrap().status, StatusCode::OK);
    // Others' requests clear what is past.
    for _ in 0..200 {
        let q = proof(&bench, &key, &token, "/", json!({}));
        assert_eq!(send(api.router.clone(), req("/", &token, &q)).await.status, StatusCode::OK);
    }
    assert_eq!(thief.await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_answer_that_has_just_arrived_is_not_used_after_a_revocation() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().subject("alice").issue().await;
    let mut waiting = Box::pin(api.get(&token));
    assert!(waiting.as_mut().now_or_never().is_none());
    // Landed: it is known to others.
    while api.get(&token).await.status != StatusCode::OK {}
    assert_eq!(bench.introspections(), 1);
    api.handle.revoke(&token).await.unwrap();
    assert_eq!(api.get(&token).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(waiting.await.status, StatusCode::UNAUTHORIZED);
}

struct Slow(MemoryReplays, Arc<Notify>, Arc<Notify>);
impl ReplayStore for Slow {
    fn remember(
        &self,
        proof: ProofId,
        until: std::time::SystemTime,
        now: std::time::SystemTime,
    ) -> Remembering<'_> {
        Box::pin(async move {
            self.1.notify_one();
            self.2.notified().await;
            self.0.remember(proof, until, now).await
        })
    }
}

#[tokio::test]
async fn a_revocation_while_the_replay_store_is_asked_counts() {
    let bench = Bench::new().await;
    let (inside, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = Slow(MemoryReplays::default(), inside.clone(), go.clone());
    let api = bench.api_with(|l| l.dpop(Dpop::at(ORIGIN).replay_store(slow)));
    let key = Key::es256();
    let token = bound(&bench, &key).await;
    let p = proof(&bench, &key, &token, "/", json!({}));
    let waiting = tokio::spawn(send(api.router.clone(), req("/", &token, &p)));
    inside.notified().await;
    api.handle.revoke(&token).await.unwrap();
    go.notify_one();
    assert_ne!(waiting.await.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn layers_in_layers_tell_one_nonce() {
    let bench = Bench::new().await;
    let auth: AuthLayer =
        bench.layer().dpop(Dpop::at(ORIGIN).nonces("k".repeat(32), 60 * SECOND)).build().unwrap();
    let inner = Protected::new(&auth.no_cache());
    let router = inner.router.layer(auth);
    let key = Key::es256();
    let token = bound(&bench, &key).await;
    let p = proof(&bench, &key, &token, "/", json!({}));
    let a = send(router.clone(), req("/", &token, &p)).await;
    let nonce = a.headers["dpop-nonce"].to_str().unwrap().to_owned();
    let p = proof(&bench, &key, &token, "/", json!({"nonce": nonce}));
    let a = send(router, req("/", &token, &p)).await;
    assert_eq!(a.status, StatusCode::OK);
    assert_eq!(a.headers["cache-control"], "no-store");
    assert_eq!(a.headers.get_all("dpop-nonce").iter().count(), 1);
}

#[tokio::test]
async fn three_layers_take_one_proof() {
    let bench = Bench::new().await;
    let auth: AuthLayer = bench.layer().dpop(Dpop::at(ORIGIN)).build().unwrap();
    let inner = Protected::new(&auth.no_cache());
    let router = inner.router.layer(auth.no_cache()).layer(auth);
    let key = Key::es256();
    let token = bound(&bench, &key).await;
    for _ in 0..2 {
        let p = proof(&bench, &key, &token, "/", json!({}));
        let a = send(router.clone(), req("/", &token, &p)).await;
        assert_eq!(a.status, StatusCode::OK, "{}", a.challenge());
    }
}

fn thumb(der: &[u8]) -> String {
    use base64::Engine;
    use sha2::Digest;
    base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(sha2::Sha256::digest(der))
}
fn escaped(der: &[u8]) -> String {
    let pem = ClientCertificate::from_der(der.to_vec()).to_pem();
    percent_encoding::utf8_percent_encode(&pem, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[tokio::test]
async fn a_subject_with_quotes_brings_no_other_certificate_in() {
    let bench = Bench::new().await;
    let api =
        bench.api_with(|l| l.client_certificates(ClientCertificates::from_envoy(["10.0.0.1"])));
    let (victim, thief) = (b"victim certificate".as_slice(), b"thief certificate".as_slice());
    let token = bench
        .authlete
        .token()
        .subject("victim")
        .certificate_thumbprint(thumb(victim))
        .issue()
        .await;
    let get = async |xfcc: String| {
        let mut r = Request::get("/")
            .header("authorization", format!("Bearer {token}"))
            .header("x-forwarded-client-cert", xfcc)
            .body(Body::empty())
            .unwrap();
        r.extensions_mut().insert(PeerAddr("10.0.0.1:1".parse().unwrap()));
        send(api.router.clone(), r).await.status
    };
    let plain = |der: &[u8], subject: &str| {
        format!("By=spiffe://me;Hash=00;Cert=\"{}\";Subject=\"{subject}\";URI=", escaped(der))
    };
    assert_eq!(get(plain(victim, "CN=v")).await, StatusCode::OK);
    assert_eq!(get(plain(thief, "CN=t")).await, StatusCode::UNAUTHORIZED);
    // What OpenSSL's RFC 2253 form of `CN=a",Cert=…;x="` is: quotes and commas with a backslash.
    let subject = format!(r#"CN=a\"\,Cert={}\;x=\""#, escaped(victim));
    assert_eq!(get(plain(thief, &subject)).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn only_the_header_that_was_chosen_tells_the_origin() {
    let bench = Bench::new().await;
    let api = bench.api_with(|l| {
        l.dpop(Dpop::at(Origin::x_forwarded_by(["10.0.0.0/8"], ["api.example.com"])))
    });
    let key = Key::es256();
    let token = bound(&bench, &key).await;
    let p = proof(&bench, &key, &token, "/", json!({"htu": "https://evil.example/"}));
    let mut r = req("/", &token, &p);
    r.headers_mut().insert("forwarded", "proto=https;host=evil.example".parse().unwrap());
    r.headers_mut().insert("x-forwarded-host", "api.example.com".parse().unwrap());
    r.headers_mut().insert("x-forwarded-proto", "https".parse().unwrap());
    r.extensions_mut().insert(PeerAddr("10.0.0.1:1".parse().unwrap()));
    assert_ne!(send(api.router.clone(), r).await.status, StatusCode::OK);
}

#[tokio::test]
async fn who_has_not_the_certificate_does_the_holder_no_harm() {
    let bench = Bench::new().await;
    let refresh = Refresh::extend().when_below(10 * SECOND).to(30 * SECOND);
    for keep in [false, true] {
        let settings = bench.layer().client_certificates(ClientCertificates::from_connection());
        let settings = if keep { settings.refresh(refresh.clone()) } else { settings };
        let auth: AuthLayer = settings.build().unwrap();
        let cached = Protected::new(&auth);
        let fresh = Protected::new(&auth.no_cache());
        let der = b"victim certificate".as_slice();
        let token = bench
            .authlete
            .token()
            .subject("v")
            .expires_in(15 * SECOND)
            .certificate_thumbprint(thumb(der))
            .issue()
            .await;
        let get = async |api: &Protected, own: bool| {
            let mut r = Request::get("/")
                .header("authorization", format!("Bearer {token}"))
                .body(Body::empty())
                .unwrap();
            if own {
                r.extensions_mut().insert(ClientCertificate::from_der(der.to_vec()));
            }
            send(api.router.clone(), r).await.status
        };
        assert_eq!(get(&cached, true).await, StatusCode::OK);
        if keep {
            bench.clock.advance(6 * SECOND);
            assert_eq!(get(&cached, false).await, StatusCode::UNAUTHORIZED);
            let _ = cached.get("another").await;
        } else {
            assert_eq!(get(&fresh, false).await, StatusCode::UNAUTHORIZED);
        }
        let before = bench.introspections();
        assert_eq!(get(&cached, true).await, StatusCode::OK);
        if !keep {
            assert_eq!(bench.introspections(), before, "the entry was lost");
        }
    }
}

#[test]
fn headers_of_described_requests_are_not_shown() {
    let r = tower_authlete::api::IntrospectionRequest::new()
        .token("x")
        .headers([("authorization", "Bearer s3cret"), ("cookie", "a=s3cret")]);
    let shown = format!("{r:?}");
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[tokio::test]
async fn no_url_in_a_proof_panics() {
    let bench = Bench::new().await;
    let api = bench.api_with(|l| l.dpop(Dpop::at(ORIGIN)));
    let key = Key::ed25519();
    let token = bound(&bench, &key).await;
    let pieces = [
        "http",
        "https",
        ":",
        "/",
        "//",
        "@",
        "[",
        "]",
        "::1",
        "v1.a",
        "%",
        "%4",
        "%41",
        "%zz",
        "é",
        "a",
        "..",
        ".",
        "?",
        "#",
        ":99999999999",
        "[::ffff:1.2.3.4]",
        "[fe80::1%25eth0]",
        "-",
        "HTTP",
        "urn",
        " ",
        "\\",
        "api.example.com",
        "%C3%A9",
        "[v1.fe]",
        ":80",
        ":",
        "0",
    ];
    let mut seed = 12345u64;
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for _ in 0..2000 {
        let n = next() % 9;
        let mut htu: String = if next() % 2 == 0 { "https://".into() } else { String::new() };
        for _ in 0..n {
            htu += pieces[(next() % pieces.len() as u64) as usize];
        }
        let p = proof(&bench, &key, &token, "/", json!({"htu": htu}));
        let a = send(api.router.clone(), req("/", &token, &p)).await;
        assert!(a.status == StatusCode::UNAUTHORIZED || a.status == StatusCode::OK, "{htu}");
    }
}

#[tokio::test]
async fn a_proof_that_was_sent_in_the_background_is_not_sent_again() {
    let bench = Bench::new().await;
    let refresh = Refresh::extend().when_below(10 * SECOND).to(30 * SECOND);
    let auth: AuthLayer = bench.layer().dpop(Dpop::at(ORIGIN)).refresh(refresh).build().unwrap();
    let outer = Protected::new(&auth);
    let inner = Protected::new(&auth.no_cache());
    let router = inner.router.layer(auth.clone());
    let key = Key::es256();
    let token = bench
        .authlete
        .token()
        .subject("alice")
        .expires_in(15 * SECOND)
        .dpop_key_thumbprint(key.thumbprint())
        .issue()
        .await;
    let p = proof(&bench, &key, &token, "/", json!({}));
    assert_eq!(send(outer.router.clone(), req("/", &token, &p)).await.status, StatusCode::OK);
    bench.clock.advance(6 * SECOND);
    let p = proof(&bench, &key, &token, "/", json!({}));
    let a = send(router, req("/", &token, &p)).await;
    assert_eq!(a.status, StatusCode::OK, "{}", a.challenge());
}

#[tokio::test]
async fn a_request_that_is_refused_asks_nobody_in_the_background() {
    let bench = Bench::new().await;
    let refresh = Refresh::extend().when_below(10 * SECOND).to(30 * SECOND);
    let auth: AuthLayer = bench
        .layer()
        .client_certificates(ClientCertificates::from_connection())
        .refresh(refresh)
        .build()
        .unwrap();
    let cached = Protected::new(&auth);
    let der = b"victim certificate".as_slice();
    let token = bench
        .authlete
        .token()
        .subject("v")
        .expires_in(15 * SECOND)
        .certificate_thumbprint(thumb(der))
        .issue()
        .await;
    let get = async |own: bool| {
        let mut r = Request::get("/")
            .header("authorization", format!("Bearer {token}"))
            .body(Body::empty())
            .unwrap();
        if own {
            r.extensions_mut().insert(ClientCertificate::from_der(der.to_vec()));
        }
        send(cached.router.clone(), r).await.status
    };
    assert_eq!(get(true).await, StatusCode::OK);
    bench.clock.advance(6 * SECOND);
    assert_eq!(get(false).await, StatusCode::UNAUTHORIZED);
    let _ = cached.get("another").await;
    assert_eq!(bench.introspections(), 2, "a request that is refused asked Authlete");
}

fn failing() -> tower_authlete::MessageSignatures {
    tower_authlete::MessageSignatures::at(ORIGIN).signer(|_, _, _| Err("no".into()))
}

#[tokio::test]
async fn a_response_of_grpc_that_cannot_be_signed_is_a_refusal_of_grpc() {
    let bench = Bench::new().await;
    let api = bench.api_with(|l| l.message_signatures(failing()));
    let token = bench.authlete.token().subject("alice").response_signing_required().issue().await;
    let request = Request::post("/")
        .version(http::Version::HTTP_2)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/grpc");
    let a = send(api.router.clone(), request.body(Body::empty()).unwrap()).await;
    assert_eq!((a.status, a.headers.get("grpc-status").is_some()), (StatusCode::OK, true));
}

#[tokio::test]
async fn the_token_endpoint_takes_one_legal_proof() {
    let bench = Bench::new().await;
    let auth: AuthLayer = bench.layer().build().unwrap();
    let endpoint =
        tower_authlete::endpoint::TokenEndpoint::builder(bench.authlete.authlete(), &auth.handle())
            .url("https://as.example.com/token")
            .build()
            .unwrap();
    let key = Key::es256();
    let one = key.proof(json!({"htm": "POST", "htu": "https://as.example.com/token"}));
    let client = bench.authlete.client_id();
    let secret = bench.authlete.client_secret();
    for second in ["garbage", "\u{e9}"] {
        let mut r = Request::post("/token")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(format!(
                "grant_type=client_credentials&scope=read&client_id={client}&client_secret={secret}"
            )))
            .unwrap();
        if second == "garbage" {
            r.headers_mut().append("dpop", one.parse().unwrap());
        }
        r.headers_mut().append("dpop", http::HeaderValue::from_bytes(second.as_bytes()).unwrap());
        let a = send(Router::new().route_service("/token", endpoint.clone()), r).await;
        assert_eq!(a.status, StatusCode::BAD_REQUEST, "{second}: {}", a.body);
    }
}

#[tokio::test]
async fn a_proof_is_not_sent_twice_if_the_token_is_forgotten_meanwhile() {
    let bench = Bench::new().await;
    let api = bench.api_with(|l| l.dpop(Dpop::at(ORIGIN)));
    let key = Key::es256();
    let token = bound(&bench, &key).await;
    let p = proof(&bench, &key, &token, "/", json!({}));
    let hold = bench.authlete.hold(Api::Introspection);
    let waiting = tokio::spawn(send(api.router.clone(), req("/", &token, &p)));
    bench.authlete.arrived(Api::Introspection, 1).await;
    api.handle.forget(&token);
    drop(hold);
    // Whether the token is still good is not known.
    assert_eq!(waiting.await.unwrap().status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn an_answer_that_has_just_arrived_is_not_used_after_an_update() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().subject("alice").scopes(["read"]).issue().await;
    let mut waiting = Box::pin(api.get_at("/read", &token));
    assert!(waiting.as_mut().now_or_never().is_none());
    while api.get(&token).await.status != StatusCode::OK {}
    let request = tower_authlete::api::TokenUpdateRequest::new().scopes(["write"]);
    let r = api.handle.update(&token, request).await.unwrap();
    assert_eq!(r.action, tower_authlete::api::TokenUpdateAction::Ok);
    assert_eq!(api.get_at("/read", &token).await.status, StatusCode::FORBIDDEN);
    assert_eq!(waiting.await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_session_that_ends_while_it_is_renewed_stays_ended() {
    use tower_authlete::{
        TokenInfo,
        api::Secret,
        session::{MemoryStore, SessionLayer, SessionTokens},
    };
    let bench = Bench::new().await;
    let store = MemoryStore::default();
    let layer = SessionLayer::builder(bench.authlete.authlete(), store.clone())
        .client(bench.authlete.client_id().to_string(), bench.authlete.client_secret())
        .clock(bench.clock.clone())
        .build()
        .unwrap();
    let sessions = layer.sessions();
    let auth: AuthLayer = bench.layer().build().unwrap();
    let router = Router::new()
        .route("/", get(|t: TokenInfo| async move { t.subject().unwrap().to_owned() }))
        .layer(tower::ServiceBuilder::new().layer(layer).layer(auth));
    let pair =
        bench.authlete.token().subject("alice").expires_in(100 * SECOND).issue_with_refresh().await;
    let tokens = SessionTokens::new(
        pair.access_token.as_str(),
        Some(bench.clock.now() + 100 * SECOND),
        Some(Secret::from(pair.refresh_token.as_str())),
    );
    let set = sessions.begin(tokens).await.unwrap();
    let cookie = set.to_str().unwrap().split(';').next().unwrap().to_owned();
    let r = || Request::get("/").header("cookie", &cookie).body(Body::empty()).unwrap();
    assert_eq!(send(router.clone(), r()).await.status, StatusCode::OK);
    bench.clock.advance(80 * SECOND);
    let hold = bench.authlete.hold(Api::Token);
    let renewing = tokio::spawn(send(router.clone(), r()));
    bench.authlete.arrived(Api::Token, 1).await;
    let headers = r().headers().clone();
    let (ended, ()) = tokio::join!(sessions.end(&headers), async { drop(hold) });
    ended.unwrap();
    renewing.await.unwrap();
    let after = send(router.clone(), r()).await;
    assert_eq!(after.status, StatusCode::UNAUTHORIZED, "{}", after.body);
}
