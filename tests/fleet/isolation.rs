//! Nodes that Redis cannot be reached from, and a Redis that has lost its data.

use std::time::Duration;

use tower_authlete::fleet::Fleet;

use crate::{
    nodes::{Bench, Node, OK, SECOND, SECRET, UNAUTHORIZED},
    servers::{Proxy, Redis, Sentinel, eventually},
    sharing::is_shared,
};

/// How long after the last look at the log a node is isolated.
const LEASE: Duration = Duration::from_secs(2);

const ISOLATED: Duration = Duration::from_secs(5);

/// A node whose connection is cut, which knows the token, and one that is connected.
async fn cut_off(bench: &Bench, redis: &Redis, token: &str) -> (Node, Node, Proxy) {
    let proxy = Proxy::start(redis.port()).await;
    let alone = bench.node_at(&format!("redis://127.0.0.1:{}", proxy.port())).await;
    let connected = bench.node(redis).await;
    assert_eq!((alone.get(token).await, connected.get(token).await), (OK, OK));
    proxy.cut();
    (alone, connected, proxy)
}

#[tokio::test]
async fn a_node_that_is_cut_off_uses_what_it_knows_for_a_bounded_time() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let token = bench.token().await;
    let (alone, connected, _proxy) = cut_off(&bench, &redis, &token).await;
    connected.handle.revoke(&token).await.unwrap();
    connected.answers(&token, UNAUTHORIZED).await;
    assert_eq!(alone.get(&token).await, OK);
    bench.clock.advance(LEASE + ISOLATED);
    assert_eq!(alone.get(&token).await, UNAUTHORIZED);
}

#[tokio::test]
async fn a_node_that_is_cut_off_hears_of_all_it_has_missed() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let tokens = [bench.token().await, bench.token().await];
    let (alone, connected, proxy) = cut_off(&bench, &redis, &tokens[0]).await;
    assert_eq!(alone.get(&tokens[1]).await, OK);
    connected.handle.revoke(&tokens[0]).await.unwrap();
    bench.clock.advance(LEASE);
    assert!(alone.handle.health().is_isolated);
    let checks = bench.checks();
    proxy.heal().await;
    alone.answers(&tokens[0], UNAUTHORIZED).await;
    alone.is_connected().await;
    // No record was lost, so that the other one is not asked about.
    bench.clock.advance(ISOLATED);
    alone.is_connected().await;
    assert_eq!(alone.get(&tokens[1]).await, OK);
    assert!(bench.checks() <= checks + 1, "{} {checks}", bench.checks());
}

#[tokio::test]
async fn redis_in_trouble_refuses_no_request() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let node = bench.node(&redis).await;
    redis.pause();
    for _ in 0..10 {
        assert_eq!(node.get(&bench.token().await).await, OK);
    }
    redis.resume();
    redis.kill9();
    for _ in 0..10 {
        assert_eq!(node.get(&bench.token().await).await, OK);
    }
    assert_eq!(bench.checks(), 20);
}

#[tokio::test]
async fn a_node_starts_without_redis() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    redis.kill9();
    let unreachable = Fleet::redis(redis.url()).secret(SECRET).connect().await;
    assert_eq!(unreachable.unwrap_err().to_string(), "redis cannot be reached");
    let fleet = Fleet::redis(redis.url()).secret(SECRET).connect_lazily().unwrap();
    let node = bench.node_of(fleet, |layer| layer);
    let token = bench.token().await;
    assert_eq!(node.get(&token).await, OK);
    assert!(node.handle.health().is_isolated);
    redis.restart().await;
    eventually(async || {
        let other = bench.token().await;
        assert_eq!(node.get(&other).await, OK);
        let shared: Vec<String> = redis.cli(["KEYS", "*:facts:*"]).await.unwrap();
        if shared.is_empty() { Err("nothing is shared".into()) } else { Ok(()) }
    })
    .await;
}

#[tokio::test]
async fn what_redis_has_lost_is_in_doubt() {
    for flush in [false, true] {
        let Some(redis) = Redis::start().await else { return };
        let bench = Bench::new().await;
        let (token, gone) = (bench.token().await, bench.token().await);
        let (alone, connected, proxy) = cut_off(&bench, &redis, &gone).await;
        assert_eq!(alone.get(&token).await, OK);
        connected.handle.revoke(&gone).await.unwrap();
        // The record is lost before the other node has read it.
        if flush {
            redis.cli::<()>(["FLUSHALL"]).await.unwrap();
        } else {
            redis.kill9();
            redis.restart().await;
        }
        proxy.heal().await;
        bench.clock.advance(LEASE);
        alone.is_isolated().await;
        alone.is_connected().await;
        assert_eq!(alone.get(&token).await, OK);
        bench.clock.advance(ISOLATED);
        assert_eq!(
            (alone.get(&token).await, alone.get(&gone).await),
            (OK, UNAUTHORIZED),
            "{flush}"
        );
        // Sharing works again.
        let new = bench.token().await;
        connected.is_connected().await;
        eventually(async || {
            bench.clock.advance(SECOND / 1000);
            let other = bench.token().await;
            let before = bench.checks();
            assert_eq!((alone.get(&other).await, connected.get(&new).await), (OK, OK));
            assert_eq!(connected.get(&other).await, OK);
            if bench.checks() <= before + 2 { Ok(()) } else { Err("nothing is shared".into()) }
        })
        .await;
    }
}

#[tokio::test]
async fn scripts_that_redis_has_lost_are_loaded_again() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let token = bench.token().await;
    let nodes = [bench.node(&redis).await, bench.node(&redis).await];
    redis.cli::<()>(["SCRIPT", "FLUSH"]).await.unwrap();
    assert_eq!(nodes[0].get(&token).await, OK);
    is_shared(&redis, 1).await;
    assert_eq!(nodes[1].get(&token).await, OK);
    assert_eq!(bench.checks(), 1);
}

#[tokio::test]
async fn a_log_that_was_trimmed_leaves_doubt() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let (token, gone) = (bench.token().await, bench.token().await);
    let (alone, connected, proxy) = cut_off(&bench, &redis, &gone).await;
    assert_eq!(alone.get(&token).await, OK);
    connected.handle.revoke(&gone).await.unwrap();
    let logs: Vec<String> = redis.cli(["KEYS", "*:log"]).await.unwrap();
    for log in logs {
        redis.cli::<()>(["XTRIM", &log, "MAXLEN", "0"]).await.unwrap();
    }
    proxy.heal().await;
    bench.clock.advance(LEASE);
    alone.is_isolated().await;
    alone.is_connected().await;
    bench.clock.advance(ISOLATED);
    assert_eq!((alone.get(&token).await, alone.get(&gone).await), (OK, UNAUTHORIZED));
}

#[tokio::test]
async fn after_a_failover_without_the_record_what_is_known_is_in_doubt() {
    let Some(sentinel) = Sentinel::start(1).await else { return };
    let bench = Bench::new().await;
    let fleet = || Fleet::sentinel(sentinel.urls(), Sentinel::NAME);
    let (one, two) =
        (bench.node_with(fleet(), |it| it).await, bench.node_with(fleet(), |it| it).await);
    let token = bench.token().await;
    assert_eq!((one.get(&token).await, two.get(&token).await), (OK, OK));
    bench.authlete.revoke(&token);
    sentinel.failover().await;
    eventually(async || {
        bench.clock.advance(SECOND / 10);
        match (one.get(&token).await, two.get(&token).await) {
            (UNAUTHORIZED, UNAUTHORIZED) => Ok(()),
            got => Err(format!("{got:?}")),
        }
    })
    .await;
    // The fleet works with the new master.
    let token = bench.token().await;
    one.is_connected().await;
    two.is_connected().await;
    assert_eq!((one.get(&token).await, two.get(&token).await), (OK, OK));
    one.handle.revoke(&token).await.unwrap();
    two.answers(&token, UNAUTHORIZED).await;
}
