//! A copy of a proof is refused, however it is spelt and whenever it is sent (RFC 9449 §11.1).

use axum::{Router, extract::Path, routing::get};
use futures_util::FutureExt;
use serde_json::json;
use tower_authlete::{AuthLayer, Dpop, emulator::Api, proof::Origin};

use crate::{
    holder::Holder,
    support::{Bench, OK, ORIGIN, Protected, SECOND, UNAUTHORIZED},
};

#[tokio::test]
async fn a_proof_is_good_once_however_the_path_is_spelt() {
    let bench = Bench::new().await;
    let auth: AuthLayer = bench.layer().dpop(Dpop::for_origin(ORIGIN)).build().unwrap();
    let user = get(async |Path(id): Path<String>| id);
    let api = Protected::with_routes(&auth, Router::new().route("/users/{id}", user));
    let holder = Holder::at(&bench, api).await;
    let proof = holder.proof(json!({ "htu": format!("{ORIGIN}/users/alice") }));
    let mut passed = Vec::new();
    for path in
        ["/users/alice", "/users/alice", "/users/%61lice", "/users/a%6cice", "/users/%61%6Cice"]
    {
        let answer = holder.present_at(path, &proof).await;
        if answer.status == OK {
            passed.push((path, answer.body));
        }
    }
    assert_eq!(passed.len(), 1, "{passed:?}");
}

#[tokio::test]
async fn a_proof_is_good_once_however_the_proxy_spells_the_host() {
    let bench = Bench::new().await;
    let origin = Origin::x_forwarded_by(["10.0.0.0/8"], ["api.example.com"]);
    let holder = Holder::with(&bench, |_| Dpop::for_origin(origin), |layer| layer).await;
    let proof = holder.proof(json!({}));
    let mut passed = Vec::new();
    for host in [
        "api.example.com",
        "api.example.com",
        "API.example.com",
        "api.example.com:443",
        "Api.example.com",
    ] {
        let headers = [("x-forwarded-host", host), ("x-forwarded-proto", "https")];
        if holder.present_by_proxy("/", &headers, &proof).await.status == OK {
            passed.push(host);
        }
    }
    assert_eq!(passed.len(), 1, "{passed:?}");
}

#[tokio::test]
async fn a_copy_that_waits_until_the_proof_is_forgotten_is_too_old() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    let proof = holder.proof(json!({}));
    assert_eq!(holder.present(&proof).await.status, OK);
    bench.clock.advance(59 * SECOND);
    holder.api.handle.forget(&holder.token);
    // Authlete is slow, and the thief's request joins the call of the client's.
    let before = bench.introspections();
    let hold = bench.authlete.hold(Api::Introspection);
    let own = holder.spawn_get();
    bench.authlete.arrived(Api::Introspection, before + 1).await;
    let mut thief = Box::pin(holder.present(&proof));
    assert!(thief.as_mut().now_or_never().is_none());
    bench.clock.advance(2 * SECOND);
    drop(hold);
    assert_eq!(own.await.unwrap().status, OK);
    // Other requests remove expired entries.
    for _ in 0..200 {
        assert_eq!(holder.get().await.status, OK);
    }
    assert_eq!(thief.await.status, UNAUTHORIZED);
}
