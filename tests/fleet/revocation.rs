//! What one node invalidates, all invalidate.

use std::time::Duration;

use tower_authlete::{
    api::TokenUpdateRequest,
    emulator::{Api, Fault},
    fleet::Fleet,
    layer::Reach,
};

use crate::{
    nodes::{Bench, OK, SECOND, SECRET, UNAUTHORIZED},
    servers::{Proxy, Redis, eventually},
    sharing::is_shared,
};

#[tokio::test]
async fn a_token_that_is_revoked_at_one_node_is_refused_by_all() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let token = bench.token().await;
    let nodes = [bench.node(&redis).await, bench.node(&redis).await, bench.node(&redis).await];
    for node in &nodes {
        assert_eq!(node.get(&token).await, OK);
    }
    let revoked = nodes[0].handle.revoke(&token).await.unwrap();
    assert_eq!((revoked.tokens, revoked.reach), (1, Reach::Fleet));
    for node in &nodes {
        node.answers(&token, UNAUTHORIZED).await;
    }
    is_shared(&redis, 0).await;
}

#[tokio::test]
async fn forgotten_tokens_are_asked_about_anew_by_all() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let (one, two) = (bench.token().await, bench.token().await);
    let nodes = [bench.node(&redis).await, bench.node(&redis).await];
    for node in &nodes {
        assert_eq!((node.get(&one).await, node.get(&two).await), (OK, OK));
    }
    bench.authlete.revoke(&one);
    bench.authlete.revoke(&two);
    nodes[0].handle.forget(&one);
    nodes[1].answers(&one, UNAUTHORIZED).await;
    assert_eq!(nodes[1].get(&two).await, OK);
    nodes[0].handle.forget_all();
    nodes[1].answers(&two, UNAUTHORIZED).await;
    // Sharing goes on with the new generation.
    eventually(async || {
        let three = bench.token().await;
        assert_eq!(nodes[0].get(&three).await, OK);
        // It is shared beside the request.
        for _ in 0..20 {
            redis.cli::<()>(["PING"]).await.unwrap();
        }
        let checks = bench.checks();
        assert_eq!(nodes[1].get(&three).await, OK);
        if bench.checks() == checks { Ok(()) } else { Err("nothing is shared".into()) }
    })
    .await;
}

#[tokio::test]
async fn an_update_at_one_node_is_seen_by_all() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let token = bench.token().await;
    let nodes = [bench.node(&redis).await, bench.node(&redis).await];
    for node in &nodes {
        assert_eq!(node.get(&token).await, OK);
    }
    let expired = bench.clock.now() - SECOND;
    let request = TokenUpdateRequest::new().access_token_expires_at(expired);
    nodes[0].handle.update(&token, request).await.unwrap();
    nodes[1].answers(&token, UNAUTHORIZED).await;
}

#[tokio::test]
async fn an_answer_from_before_a_revocation_is_neither_used_nor_shared() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let token = bench.token().await;
    let nodes = [bench.node(&redis).await, bench.node(&redis).await];
    // It has set out, and says that the token is good.
    let hold = bench.authlete.hold(Api::Introspection);
    let asking = tokio::spawn({
        let (token, node) = (token.clone(), bench.node(&redis).await);
        async move { (node.get(&token).await, node) }
    });
    bench.authlete.arrived(Api::Introspection, 1).await;
    let revoked = nodes[0].handle.revoke(&token).await.unwrap();
    assert_eq!(revoked.reach, Reach::Fleet);
    hold.release();
    let (_, node) = asking.await.unwrap();
    node.answers(&token, UNAUTHORIZED).await;
    nodes[1].answers(&token, UNAUTHORIZED).await;
    is_shared(&redis, 0).await;
}

#[tokio::test]
async fn a_revocation_that_cannot_be_sent_waits() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let token = bench.token().await;
    let proxy = Proxy::start(redis.port()).await;
    let one = bench.node_at(&format!("redis://127.0.0.1:{}", proxy.port())).await;
    let two = bench.node(&redis).await;
    assert_eq!((one.get(&token).await, two.get(&token).await), (OK, OK));
    proxy.refuse().await;
    proxy.reset();
    let revoked = one.handle.revoke(&token).await.unwrap();
    assert_eq!((revoked.tokens, revoked.reach), (1, Reach::Process));
    assert_eq!((one.get(&token).await, two.get(&token).await), (UNAUTHORIZED, OK));
    proxy.heal().await;
    two.answers(&token, UNAUTHORIZED).await;
}

#[tokio::test]
async fn a_revocation_that_fails_is_asked_about_by_all() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let token = bench.token().await;
    let nodes = [bench.node(&redis).await, bench.node(&redis).await];
    for node in &nodes {
        assert_eq!(node.get(&token).await, OK);
    }
    bench.authlete.fault(Fault::status(500).on(Api::TokenRevoke));
    bench.authlete.revoke(&token);
    assert!(nodes[0].handle.revoke(&token).await.is_err());
    nodes[1].answers(&token, UNAUTHORIZED).await;
}

#[tokio::test]
async fn a_change_of_our_credentials_keeps_the_fleet_together() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let token = bench.token().await;
    let one = bench.node(&redis).await;
    let fleet = Fleet::redis(redis.url()).secret(SECRET).connect().await.unwrap();
    let version = bench.authlete.client_builder().deadline(Duration::from_secs(2)).build().unwrap();
    let two = bench.node_by(version, fleet);
    two.is_connected().await;
    assert_eq!(one.get(&token).await, OK);
    is_shared(&redis, 1).await;
    assert_eq!(two.get(&token).await, OK);
    assert_eq!(bench.checks(), 1);
    two.handle.revoke(&token).await.unwrap();
    one.answers(&token, UNAUTHORIZED).await;
}
