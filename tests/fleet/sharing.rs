//! What one node has asked, the others need not ask.

use tower_authlete::fleet::Fleet;

use crate::{
    nodes::{Bench, OK, SECOND, SECRET, UNAUTHORIZED},
    servers::{Redis, eventually},
};

#[tokio::test]
async fn authlete_is_asked_once_by_all_nodes() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let token = bench.token().await;
    let nodes = [bench.node(&redis).await, bench.node(&redis).await, bench.node(&redis).await];
    assert_eq!(nodes[0].get(&token).await, OK);
    is_shared(&redis, 1).await;
    for node in &nodes {
        assert_eq!(node.get(&token).await, OK);
    }
    assert_eq!(bench.checks(), 1);
}

#[tokio::test]
async fn bad_answers_are_not_shared() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let nodes = [bench.node(&redis).await, bench.node(&redis).await];
    for node in &nodes {
        assert_eq!(node.get("unknown").await, UNAUTHORIZED);
    }
    assert_eq!(bench.checks(), 2);
    is_shared(&redis, 0).await;
}

#[tokio::test]
async fn redis_holds_nothing_in_clear() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let token = bench.authlete.token().subject("alice-in-clear").property("plan", "gold-in-clear");
    let token = token.scopes(["read"]).issue().await;
    let node = bench.node(&redis).await;
    assert_eq!(node.get(&token).await, OK);
    is_shared(&redis, 1).await;
    node.handle.revoke(&token).await.unwrap();
    for key in keys(&redis, "*").await {
        let dump: Vec<u8> = redis.cli(["DUMP", &key]).await.unwrap();
        for secret in [&token, "in-clear", SECRET] {
            let found = dump.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!found && !key.contains(secret), "{key}");
        }
    }
}

#[tokio::test]
async fn facts_of_another_secret_are_not_read() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let token = bench.token().await;
    let node = bench.node(&redis).await;
    assert_eq!(node.get(&token).await, OK);
    is_shared(&redis, 1).await;
    let other = "another secret of more than 32 bytes";
    let fleet = Fleet::redis(redis.url()).secret(other).connect().await.unwrap();
    let stranger = bench.node_of(fleet, |layer| layer);
    stranger.is_connected().await;
    assert_eq!(stranger.get(&token).await, OK);
    assert_eq!(bench.checks(), 2);
    // It hears of invalidations all the same.
    node.handle.revoke(&token).await.unwrap();
    stranger.answers(&token, UNAUTHORIZED).await;
}

#[tokio::test]
async fn a_secret_is_replaced_without_a_call() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let token = bench.token().await;
    let old = bench.node(&redis).await;
    assert_eq!(old.get(&token).await, OK);
    is_shared(&redis, 1).await;
    let new = "another secret of more than 32 bytes";
    let fleet = Fleet::redis(redis.url()).secret(new).old_secret(SECRET).connect().await.unwrap();
    let node = bench.node_of(fleet, |layer| layer);
    node.is_connected().await;
    assert_eq!(node.get(&token).await, OK);
    assert_eq!(bench.checks(), 1);
}

#[tokio::test]
async fn forged_facts_are_a_miss() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let (one, two) = (bench.token().await, bench.token().await);
    let nodes = [bench.node(&redis).await, bench.node(&redis).await];
    for token in [&one, &two] {
        assert_eq!(nodes[0].get(token).await, OK);
    }
    is_shared(&redis, 2).await;
    // The facts of one token in place of those of the other, and rubbish.
    let facts = keys(&redis, "*:facts:*").await;
    let first: Vec<u8> = redis.cli(["GET", &facts[0]]).await.unwrap();
    redis.cli::<()>([b"SET", facts[1].as_bytes(), &first]).await.unwrap();
    redis.cli::<()>(["SET", &facts[0], "rubbish"]).await.unwrap();
    for token in [&one, &two] {
        assert_eq!(nodes[1].get(token).await, OK);
    }
    assert_eq!(bench.checks(), 4);
}

#[tokio::test]
async fn shared_facts_are_used_for_the_readers_own_age() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let token = bench.token().await;
    let node = bench.node(&redis).await;
    let none =
        bench.node_with(Fleet::redis(redis.url()), |layer| layer.max_age(SECOND / 1000)).await;
    assert_eq!(node.get(&token).await, OK);
    is_shared(&redis, 1).await;
    // Redis' clock goes on while this test does.
    eventually(async || match (none.get(&token).await, bench.checks()) {
        (OK, 2..) => Ok(()),
        (status, checks) => Err(format!("{status}, {checks} checks")),
    })
    .await;
}

/// Waits until the facts of so many tokens are shared.
pub(crate) async fn is_shared(redis: &Redis, tokens: usize) {
    eventually(async || match keys(redis, "*:facts:*").await.len() {
        shared if shared == tokens => Ok(()),
        shared => Err(format!("{shared} tokens are shared")),
    })
    .await;
}

async fn keys(redis: &Redis, pattern: &str) -> Vec<String> {
    redis.cli(["KEYS", pattern]).await.unwrap()
}
