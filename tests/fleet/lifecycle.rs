//! Extension and rotation of tokens that other nodes have known for longer.

use std::time::Duration;

use axum::{body::Body, extract::Request};
use http::{HeaderName, header::AUTHORIZATION};
use tower_authlete::{
    api::IntrospectionRequest,
    emulator::Api,
    fleet::Fleet,
    layer::AuthLayerBuilder,
    lifecycle::{AccessTokenRotation, ExtendLifetime},
};

use crate::{
    nodes::{Bench, Node, OK, SECOND},
    servers::{Redis, eventually},
};

const NEW: HeaderName = HeaderName::from_static("x-new-token");

/// Below 10 s to 30 s, up to a life of 100 s.
fn extending(layer: AuthLayerBuilder) -> AuthLayerBuilder {
    let extension = ExtendLifetime::new().when_below(10 * SECOND).to(30 * SECOND);
    layer.extend_lifetime(extension.never_beyond(100 * SECOND).wait())
}

fn rotating(layer: AuthLayerBuilder) -> AuthLayerBuilder {
    layer.rotate(AccessTokenRotation::in_header(NEW).every(20 * SECOND))
}

impl Bench {
    /// The remaining life of a token at Authlete.
    async fn left(&self, token: &str) -> Duration {
        let request = IntrospectionRequest::new().token(token);
        let response = self.authlete.authlete().introspection(&request).await.unwrap();
        response.expires_at().unwrap().duration_since(self.clock.now()).unwrap()
    }

    fn updates(&self) -> u64 {
        self.authlete.calls(Api::TokenUpdate)
    }
}

/// The new value that the node tells with its answer, if any.
async fn new_value(node: &Node, token: &str) -> Option<String> {
    let request = Request::get("/").header(AUTHORIZATION, format!("Bearer {token}"));
    let response = node.respond(request.body(Body::empty()).unwrap()).await;
    Some(response.headers().get(NEW)?.to_str().unwrap().to_owned())
}

/// Since when (ms since the epoch) tokens are known, once it is for so many.
async fn sights(redis: &Redis, kind: &str, tokens: usize) -> Vec<(String, u64)> {
    eventually(async || {
        let keys: Vec<String> = redis.cli(["KEYS", &format!("*:seen:{kind}:*")]).await.unwrap();
        let mut sights = vec![];
        for key in keys {
            let since: u64 = redis.cli(["GET", &key]).await.unwrap();
            sights.push((key, since));
        }
        if sights.len() == tokens { Ok(sights) } else { Err(format!("{sights:?}")) }
    })
    .await
}

/// Makes what is known by now older.
async fn age(redis: &Redis, kind: &str, tokens: usize, by: Duration) {
    for (key, since) in sights(redis, kind, tokens).await {
        let since = (since - u64::try_from(by.as_millis()).unwrap()).to_string();
        redis.cli::<()>(["SET", &key, &since, "KEEPTTL"]).await.unwrap();
    }
}

#[tokio::test]
async fn a_token_is_never_extended_beyond_its_longest_life_in_the_fleet() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let one = bench.node_with(Fleet::redis(redis.url()), extending).await;
    let token = || bench.authlete.token().expires_in(60 * SECOND).issue();
    let (old, new) = (token().await, token().await);
    assert_eq!(one.get(&old).await, OK);
    age(&redis, "token", 1, 95 * SECOND).await;
    assert_eq!(one.get(&new).await, OK);
    sights(&redis, "token", 2).await;
    // Another node, which sees both for the first time.
    let two = bench.node_with(Fleet::redis(redis.url()), extending).await;
    bench.clock.advance(57 * SECOND);
    assert_eq!((two.get(&new).await, bench.left(&new).await), (OK, 30 * SECOND));
    assert_eq!((two.get(&old).await, bench.updates()), (OK, 2));
    let left = bench.left(&old).await;
    assert!(left > 3 * SECOND && left <= 5 * SECOND, "{left:?}");
}

#[tokio::test]
async fn without_redis_a_node_counts_by_itself() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let node = bench.node_with(Fleet::redis(redis.url()), extending).await;
    let token = bench.authlete.token().expires_in(60 * SECOND).issue().await;
    assert_eq!(node.get(&token).await, OK);
    redis.kill9();
    bench.clock.advance(55 * SECOND);
    assert_eq!((node.get(&token).await, bench.left(&token).await), (OK, 30 * SECOND));
}

#[tokio::test]
async fn a_value_is_rotated_that_other_nodes_have_seen_for_long_enough() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let one = bench.node_with(Fleet::redis(redis.url()), rotating).await;
    let (old, new) = (bench.token().await, bench.token().await);
    assert_eq!(new_value(&one, &old).await, None);
    age(&redis, "value", 1, 20 * SECOND).await;
    assert_eq!(new_value(&one, &new).await, None);
    let two = bench.node_with(Fleet::redis(redis.url()), rotating).await;
    assert_eq!(new_value(&two, &new).await, None);
    let value = eventually(async || new_value(&two, &old).await.ok_or("no new value".into())).await;
    assert_eq!((new_value(&two, &value).await, new_value(&two, &new).await), (None, None));
    assert_eq!(bench.updates(), 1);
}

#[tokio::test]
async fn a_new_value_is_as_old_as_its_token() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let both = |layer| rotating(extending(layer));
    let node = bench.node_with(Fleet::redis(redis.url()), both).await;
    let token = bench.authlete.token().expires_in(3600 * SECOND).issue().await;
    assert_eq!(new_value(&node, &token).await, None);
    let (_, begin) = sights(&redis, "token", 1).await.remove(0);
    bench.clock.advance(50 * SECOND);
    assert!(new_value(&node, &token).await.is_some());
    let sights = sights(&redis, "token", 2).await;
    // The node's clock was moved by 50 s, and that of Redis was not.
    let since = sights.iter().map(|(_, since)| *since).min().unwrap();
    assert!(begin - since > 40_000 && begin - since <= 50_000, "{} ms", begin - since);
}
