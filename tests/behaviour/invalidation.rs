//! An invalidated token is introspected again, and older answers are not used.

use tower_authlete::emulator::Api;

use crate::{
    holder::Holder,
    support::{Bench, NEW, OK, SECOND, UNAUTHORIZED, UNAVAILABLE, due, rotation},
};

#[tokio::test]
async fn a_forgotten_token_is_introspected_again() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().issue().await;
    let other = bench.authlete.token().issue().await;
    api.get(&token).await;
    api.get(&other).await;
    api.handle.forget(&token);
    api.get(&token).await;
    api.get(&other).await;
    assert_eq!(bench.introspections(), 3);
    api.handle.forget_all();
    api.get(&token).await;
    api.get(&other).await;
    assert_eq!(bench.introspections(), 5);
}

#[tokio::test]
async fn forget_all_invalidates_tokens_in_the_hot_cache() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().subject("alice").issue().await;
    for _ in 0..5 {
        assert_eq!(api.get(&token).await.status, OK);
    }
    assert!(bench.authlete.revoke(&token));
    api.handle.forget_all();
    assert_eq!(api.get(&token).await.status, UNAUTHORIZED);
}

#[tokio::test]
async fn an_answer_in_flight_is_not_used_for_a_forgotten_token() {
    for forget_all in [false, true] {
        let bench = Bench::new().await;
        let api = bench.api();
        let token = bench.authlete.token().issue().await;
        let hold = bench.authlete.hold(Api::Introspection);
        let request = api.spawn_get(&token);
        bench.authlete.arrived(Api::Introspection, 1).await;
        // Another server revokes the token, and calls the handle.
        bench.authlete.revoke(&token);
        if forget_all {
            api.handle.forget_all();
        } else {
            api.handle.forget(&token);
        }
        hold.release();
        assert_eq!(request.await.unwrap().status, UNAUTHORIZED);
        assert_eq!(bench.introspections(), 2);
    }
}

#[tokio::test]
async fn a_proof_that_was_sent_is_not_sent_again_for_a_token_that_is_forgotten_meanwhile() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    let hold = bench.authlete.hold(Api::Introspection);
    let waiting = holder.spawn_get();
    bench.authlete.arrived(Api::Introspection, 1).await;
    holder.api.handle.forget(&holder.token);
    drop(hold);
    // It is unknown whether the token is still valid.
    assert_eq!(waiting.await.unwrap().status, UNAVAILABLE);
}

#[tokio::test]
async fn a_forgotten_token_has_no_overlap() {
    let bench = Bench::new().await;
    let (api, old) = due(&bench, rotation().overlap(5 * SECOND)).await;
    let new = api.get(&old).await.header(NEW).to_owned();
    assert!(bench.authlete.revoke(&new));
    assert_eq!(api.get(&old).await.status, OK, "it is known from the cache");
    api.handle.forget(&old);
    for value in [&old, &new] {
        assert_eq!(api.get(value).await.status, UNAUTHORIZED);
    }
}

#[tokio::test]
async fn a_token_that_is_forgotten_during_its_rotation_is_introspected_again() {
    let bench = Bench::new().await;
    let (api, old) = due(&bench, rotation().overlap(5 * SECOND)).await;
    let hold = bench.authlete.hold(Api::TokenUpdate);
    let request = api.spawn_get(&old);
    bench.authlete.arrived(Api::TokenUpdate, 1).await;
    api.handle.forget(&old);
    hold.release();
    let new = request.await.unwrap().header(NEW).to_owned();
    let before = bench.introspections();
    assert_eq!(api.get(&old).await.status, UNAUTHORIZED);
    assert_eq!(api.get(&new).await.status, OK);
    assert_eq!(bench.introspections() - before, 2);
}
