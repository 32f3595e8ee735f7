//! Nested layers of one handle: the inner one reuses the verdict of the outer one, unless the token was
//! invalidated since.

use std::{sync::Arc, time::Duration};

use axum::{extract::Request, middleware};
use http::{HeaderValue, header};
use serde_json::json;
use tower_authlete::{
    AuthLayer, CachePolicy, Dpop,
    api::TokenRevokeRequest,
    emulator::{Api, Fault},
    lifecycle::{AccessTokenRotation, ExtendLifetime},
    proof::MessageSignatures,
    resilience::Breaker,
};

use crate::{
    holder::Holder,
    support::{
        Bench, NEW, OK, ORIGIN, Protected, SECOND, UNAUTHORIZED, resilience, rotation, send,
    },
};

/// A layer that accepts proofs.
fn proving(bench: &Bench) -> AuthLayer {
    bench.layer().dpop(Dpop::for_origin(ORIGIN)).build().unwrap()
}

/// Nested layers, between which the token is revoked here, or revoked elsewhere and forgotten here.
fn revoked_between(
    bench: &Bench,
    outer: &AuthLayer,
    inner: &AuthLayer,
    token: &str,
    forgets: bool,
) -> Protected {
    let (handle, token, elsewhere) = (outer.handle(), token.to_owned(), bench.authlete.authlete());
    Protected::nested_with(outer, inner, move || {
        let (handle, token, elsewhere) = (handle.clone(), token.clone(), elsewhere.clone());
        async move {
            if forgets {
                let gone = TokenRevokeRequest::new().access_token_identifier(&token);
                elsewhere.token_revoke(&gone).await.unwrap();
                handle.forget(&token);
            } else {
                handle.revoke(&token).await.unwrap();
            }
        }
    })
}

/// Nested layers, between which a request waits until so many calls have completed.
fn after_calls(
    bench: &Arc<Bench>,
    outer: &AuthLayer,
    inner: &AuthLayer,
    api: Api,
    calls: u64,
) -> Protected {
    let bench = bench.clone();
    Protected::nested_with(outer, inner, move || {
        let bench = bench.clone();
        async move {
            bench.authlete.arrived(api, calls).await;
            bench.let_others_call().await;
        }
    })
}

/// A layer, and a holder whose token has a stale entry after an outage.
async fn stale(bench: &Bench) -> (AuthLayer, Holder<'_>) {
    let layer = bench
        .layer()
        .dpop(Dpop::for_origin(ORIGIN))
        .cache(CachePolicy::new().stale_if_error(600 * SECOND));
    let auth = layer.resilience(resilience().breaker(Breaker::disabled())).build().unwrap();
    let holder = Holder::at(bench, Protected::new(&auth)).await;
    assert_eq!(holder.get().await.status, OK);
    bench.clock.advance(60 * SECOND);
    bench.authlete.fault(Fault::status(503));
    assert_eq!(holder.get().await.status, OK);
    bench.authlete.clear_faults();
    (auth, holder)
}

/// Appends a header to responses, for counting.
fn signatures() -> MessageSignatures {
    MessageSignatures::for_origin(ORIGIN).signer(|_, _, response| {
        response.headers.append("signature", HeaderValue::from_static("x"));
        Ok(())
    })
}

#[tokio::test]
async fn an_inner_layer_sees_a_revocation_since_the_outer_one_decided() {
    let bench = Bench::new().await;
    let auth = proving(&bench);
    for inner in [auth.clone(), auth.bypass_cache()] {
        for known in [false, true] {
            let holder = Holder::at(&bench, Protected::new(&auth)).await;
            if known {
                assert_eq!(holder.get().await.status, OK);
            }
            let nested = revoked_between(&bench, &auth, &inner, &holder.token, false);
            let answer = holder.moved(nested).get().await;
            assert_ne!(answer.status, OK, "{inner:?} {known}");
        }
    }
}

#[tokio::test]
async fn an_inner_layer_sees_a_revocation_during_a_revalidation_ahead_of_time() {
    let bench = Bench::new().await;
    let auth = proving(&bench);
    for forgets in [true, false] {
        let holder = Holder::at(&bench, Protected::new(&auth)).await;
        assert_eq!(holder.get().await.status, OK);
        bench.clock.advance(58 * SECOND);
        let _hold = bench.authlete.hold(Api::Introspection);
        let nested = revoked_between(&bench, &auth, &auth, &holder.token, forgets);
        assert_ne!(holder.moved(nested).get().await.status, OK, "{forgets}");
    }
}

#[tokio::test]
async fn an_inner_layer_sees_a_revocation_during_the_revalidation_of_stale_facts() {
    let bench = Bench::new().await;
    let (auth, holder) = stale(&bench).await;
    let _hold = bench.authlete.hold(Api::Introspection);
    let nested = revoked_between(&bench, &auth, &auth, &holder.token, false);
    assert_ne!(holder.moved(nested).get().await.status, OK);
}

#[tokio::test]
async fn an_inner_layer_uses_the_result_of_a_revalidation() {
    let bench = Arc::new(Bench::new().await);
    let auth = proving(&bench);
    let holder = Holder::at(&bench, Protected::new(&auth)).await;
    assert_eq!(holder.get().await.status, OK);
    bench.clock.advance(58 * SECOND);
    assert!(bench.authlete.revoke(&holder.token));
    let nested = after_calls(&bench, &auth, &auth, Api::Introspection, bench.introspections() + 1);
    assert_eq!(holder.moved(nested).get().await.status, UNAUTHORIZED);
}

#[tokio::test]
async fn an_inner_layer_uses_the_result_of_an_extension() {
    let bench = Arc::new(Bench::new().await);
    let extension = ExtendLifetime::new().when_below(10 * SECOND).to(1800 * SECOND).wait();
    let auth =
        bench.layer().dpop(Dpop::for_origin(ORIGIN)).extend_lifetime(extension).build().unwrap();
    let nested = after_calls(&bench, &auth, &auth, Api::TokenUpdate, 1);
    let holder = Holder::at(&bench, nested).await;
    let holder = holder.with_token(|token| token.expires_in(8 * SECOND)).await;
    assert_eq!(holder.get().await.status, OK);
}

#[tokio::test]
async fn a_strict_inner_layer_admits_what_was_revalidated_meanwhile() {
    let bench = Arc::new(Bench::new().await);
    let (auth, holder) = stale(&bench).await;
    let (strict, calls) = (auth.stale_if_error(Duration::ZERO), bench.introspections() + 1);
    let nested = after_calls(&bench, &auth, &strict, Api::Introspection, calls);
    assert_eq!(holder.moved(nested).get().await.status, OK);
}

#[tokio::test]
async fn a_route_without_cache_does_not_join_the_call_of_another_request() {
    let bench = Bench::new().await;
    let auth = proving(&bench);
    let holder = Holder::at(&bench, Protected::new(&auth)).await;
    let hold = bench.authlete.hold(Api::Introspection);
    let first = holder.spawn_get();
    bench.authlete.arrived(Api::Introspection, 1).await;
    assert!(bench.authlete.revoke(&holder.token));
    let nested = holder.moved(Protected::nested(&auth, &auth.bypass_cache()));
    let second = nested.spawn_get();
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    hold.release();
    // The first was decided before the token was revoked.
    assert_eq!(first.await.unwrap().status, OK);
    assert_eq!(second.await.unwrap().status, UNAUTHORIZED);
}

#[tokio::test]
async fn three_layers_take_one_proof() {
    let bench = Bench::new().await;
    let auth = proving(&bench);
    let inner = Protected::nested(&auth.bypass_cache(), &auth.bypass_cache());
    let holder = Holder::at(&bench, Protected::with_routes(&auth, inner.router)).await;
    for _ in 0..2 {
        let answer = holder.get().await;
        assert_eq!(answer.status, OK, "{}", answer.challenge());
    }
}

#[tokio::test]
async fn an_inner_layer_does_not_send_a_proof_that_was_sent_in_the_background() {
    let bench = Bench::new().await;
    let extension = ExtendLifetime::new().when_below(10 * SECOND).to(30 * SECOND);
    let auth: AuthLayer =
        bench.layer().dpop(Dpop::for_origin(ORIGIN)).extend_lifetime(extension).build().unwrap();
    let holder = Holder::at(&bench, Protected::new(&auth)).await;
    let holder = holder.with_token(|token| token.expires_in(15 * SECOND)).await;
    assert_eq!(holder.get().await.status, OK);
    bench.clock.advance(6 * SECOND);
    let answer = holder.moved(Protected::nested(&auth, &auth.bypass_cache())).get().await;
    assert_eq!(answer.status, OK, "{}", answer.challenge());
}

#[tokio::test]
async fn nested_layers_send_one_nonce() {
    let bench = Bench::new().await;
    let dpop = Dpop::for_origin(ORIGIN).nonce_key("k".repeat(32));
    let auth: AuthLayer = bench.layer().dpop(dpop).build().unwrap();
    let holder = Holder::at(&bench, Protected::nested(&auth, &auth.bypass_cache())).await;
    let refused = holder.get().await;
    let nonce = refused.headers["dpop-nonce"].to_str().unwrap();
    let answer = holder.present(&holder.proof(json!({ "nonce": nonce }))).await;
    assert_eq!(answer.status, OK);
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.headers.get_all("dpop-nonce").iter().count(), 1);
}

#[tokio::test]
async fn nested_layers_send_one_new_value() {
    let bench = Bench::new().await;
    for rotation in [rotation(), AccessTokenRotation::in_cookie("token").every(20 * SECOND)] {
        let auth = bench.layer().rotate(rotation).build().unwrap();
        let api = Protected::nested(&auth, &auth.bypass_cache());
        let token = bench.authlete.token().subject("alice").issue().await;
        api.get(&token).await;
        bench.clock.advance(20 * SECOND);
        let answer = api.get(&token).await;
        let told = [NEW, header::SET_COOKIE].map(|it| answer.headers.get_all(it).iter().count());
        assert_eq!(told.iter().sum::<usize>(), 1, "{told:?}");
    }
}

#[tokio::test]
async fn nested_layers_sign_once() {
    let bench = Bench::new().await;
    let auth = bench.layer().message_signatures(signatures()).build().unwrap();
    let api = Protected::nested(&auth, &auth.bypass_cache());
    let token = bench.authlete.token().subject("alice").response_signing_required().issue().await;
    let answer = api.get(&token).await;
    assert_eq!(answer.headers.get_all("signature").iter().count(), 1);
}

#[tokio::test]
async fn an_inner_layer_signs_for_its_own_token() {
    let bench = Bench::new().await;
    let layer = bench.layer().message_signatures(signatures()).rotate(rotation());
    let auth = layer.build().unwrap();
    let token = bench.authlete.token().subject("alice").issue().await;
    let other = bench.authlete.token().subject("bob").response_signing_required().issue().await;
    let exchanged = middleware::map_request(move |mut request: Request| {
        let other = format!("Bearer {other}").parse().unwrap();
        request.headers_mut().insert("authorization", other);
        async { request }
    });
    let api = Protected::with_routes(&auth, Protected::new(&auth).router.layer(exchanged));
    for _when_the_first_is_due_for_a_new_value_and_not in 0..2 {
        let answer = api.get(&token).await;
        assert_eq!((answer.status, answer.body.as_str()), (OK, "bob"));
        assert_eq!(answer.headers.get_all("signature").iter().count(), 1);
        bench.clock.advance(20 * SECOND);
    }
}

#[tokio::test]
async fn a_proof_is_not_accepted_for_a_token_that_replaces_its_own() {
    let bench = Bench::new().await;
    let auth = proving(&bench);
    let swaps = middleware::from_fn(|mut request: Request, next: middleware::Next| async move {
        let other = HeaderValue::from_static("DPoP another");
        request.headers_mut().insert(header::AUTHORIZATION, other);
        next.run(request).await
    });
    let router = Protected::new(&auth).router.layer(swaps).layer(auth.clone());
    let api = Protected { router, ..Protected::new(&auth) };
    let holder = Holder::at(&bench, api).await;
    let request = holder.request("/", &holder.proof(json!({})));
    let answer = send(holder.api.router.clone(), request).await;
    assert_eq!(answer.status, UNAUTHORIZED);
}
