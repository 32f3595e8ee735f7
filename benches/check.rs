//! What the layer costs: a hit, a miss and a refusal, beside the same service without it.
//!
//! ```sh
//! cargo bench --features dpop,emulator
//! ```
//!
//! Compare the rows of one run with each other: figures of different runs or machines say little.

use std::{
    convert::Infallible,
    hint::black_box,
    time::{Duration, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use criterion::{Criterion, criterion_group, criterion_main};
use http::{Request, Response};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use tokio::runtime::Runtime;
use tower::{Layer, Service, service_fn};
use tower_authlete::{
    AuthLayer, Dpop, Require, TokenInfo, clock::Clock, emulator::Emulator, proof::MemoryReplays,
};

#[allow(dead_code)]
#[path = "../tests/shared/keys.rs"]
mod keys;

use keys::Key;

async fn handler(request: Request<()>) -> Result<Response<()>, Infallible> {
    black_box(request.extensions().get::<TokenInfo>());
    Ok(Response::new(()))
}

fn request(token: &str) -> Request<()> {
    let request = Request::builder().uri("/reports").header("accept", "application/json");
    let request = request.header("authorization", format!("Bearer {token}"));
    request.body(()).unwrap_or_else(|error| panic!("a request that is not legal: {error}"))
}

/// One request through a service, request and response included.
macro_rules! row {
    ($group:ident, $name:literal, $runtime:ident, $service:ident, $request:ident) => {
        $group.bench_function($name, |bencher| {
            bencher.to_async(&$runtime).iter_batched(
                || $request.clone(),
                |request| {
                    let mut service = $service.clone();
                    async move { service.call(request).await }
                },
                criterion::BatchSize::SmallInput,
            );
        });
    };
}

fn check(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap_or_else(|error| panic!("no runtime: {error}"));
    let emulator = runtime.block_on(Emulator::start());
    let token = emulator.token().subject("alice").scopes(["reports.read", "profile"]);
    let token = runtime.block_on(token.property("plan", "gold").issue());

    let bare = service_fn(handler);
    let auth = AuthLayer::new(emulator.authlete());
    let cached = auth.layer(service_fn(handler));
    let scoped = auth.layer(Require::scopes(["reports.read"]).layer(service_fn(handler)));
    let forbidden = auth.layer(Require::scopes(["reports.write"]).layer(service_fn(handler)));
    let fresh = auth.bypass_cache().layer(service_fn(handler));

    let good = request(&token);
    let bad = request("rubbish");
    let none = Request::new(());
    // What is measured as known has to be known.
    for request in [&good, &bad] {
        let _ = runtime.block_on(cached.clone().call(request.clone()));
    }

    let mut group = criterion.benchmark_group("check");
    row!(group, "bare service", runtime, bare, good);
    row!(group, "hit", runtime, cached, good);
    row!(group, "hit with scopes", runtime, scoped, good);
    row!(group, "refusal: scopes", runtime, forbidden, good);
    row!(group, "refusal: known bad token", runtime, cached, bad);
    row!(group, "refusal: no credentials", runtime, cached, none);
    row!(group, "miss (emulator)", runtime, fresh, good);
    group.finish();
}

/// A DPoP request that is answered from the cache, beside the verification of one signature by the same
/// library.
fn proofs(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap_or_else(|error| panic!("no runtime: {error}"));
    // The time that the keys' proofs are made at.
    let clock = Clock::frozen(UNIX_EPOCH + Duration::from_secs(2_000_000_000));
    let emulator = runtime.block_on(Emulator::builder().clock(clock.clone()).start());
    let emulator = emulator.unwrap_or_else(|error| panic!("no emulator: {error}"));
    let key = Key::es256();
    let token = emulator.token().subject("alice").dpop_key_thumbprint(key.thumbprint());
    let token = runtime.block_on(token.issue());
    let dpop =
        Dpop::for_origin("https://api.example.com").replay_store(MemoryReplays::new(10_000_000));
    let auth = AuthLayer::builder(emulator.authlete()).clock(clock).dpop(dpop);
    let auth = auth.build().unwrap_or_else(|error| panic!("{error}"));
    let cached = auth.layer(service_fn(handler));
    let prove = || {
        Request::get("https://api.example.com/x")
            .header("authorization", format!("DPoP {token}"))
            .header("dpop", key.proof_for(&token, serde_json::json!({})))
            .body(())
            .unwrap_or_else(|error| panic!("a request that is not legal: {error}"))
    };
    let answer = runtime.block_on(cached.clone().call(prove()));
    assert!(answer.is_ok_and(|answer| answer.status() == 200));

    let mut group = criterion.benchmark_group("proof");
    let point = [&[4][..], &key.coordinate("x"), &key.coordinate("y")].concat();
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    // Of another proof each time, too: the same one again and again is quicker.
    group.bench_function("one ES256 verification", |bencher| {
        bencher.iter_batched(
            || {
                let proof = key.proof_for(&token, serde_json::json!({}));
                let (message, signature) = proof.rsplit_once('.').unwrap_or_default();
                (message.to_owned(), BASE64.decode(signature).unwrap_or_default())
            },
            |(message, signature)| {
                assert!(public.verify(message.as_bytes(), &signature).is_ok());
            },
            criterion::BatchSize::SmallInput,
        );
    });
    group.bench_function("hit with a proof", |bencher| {
        bencher.to_async(&runtime).iter_batched(
            prove,
            |request| {
                let mut service = cached.clone();
                async move { service.call(request).await }
            },
            criterion::BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, check, proofs);
criterion_main!(benches);
