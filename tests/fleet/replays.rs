//! DPoP proofs that are used once by all nodes (RFC 9449 §11.1).

use std::time::{Duration, UNIX_EPOCH};

use axum::{body::Body, extract::Request};
use futures_util::future::join_all;
use http::{StatusCode, header::AUTHORIZATION};
use serde_json::json;
use tower_authlete::{
    Dpop,
    fleet::{Fleet, FleetReplays},
};

use crate::{
    keys::{Key, merged},
    nodes::{Bench, Node, OK, SECRET, UNAUTHORIZED},
    servers::{Redis, Sentinel, eventually},
};

const ORIGIN: &str = "https://api.example.com";

const UNAVAILABLE: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

/// The holder of a token that is bound to a key.
struct Holder<'b> {
    bench: &'b Bench,
    key: Key,
    token: String,
}

impl<'b> Holder<'b> {
    async fn new(bench: &'b Bench) -> Self {
        let key = Key::es256();
        let token = bench.authlete.token().dpop_key_thumbprint(key.thumbprint()).issue().await;
        Self { bench, key, token }
    }

    /// A request with a new proof.
    fn proof(&self) -> String {
        let now = self.bench.clock.now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({ "htu": format!("{ORIGIN}/"), "iat": now });
        self.key.proof_for(&self.token, merged(claims, json!({})))
    }

    async fn present(&self, node: &Node, proof: &str) -> StatusCode {
        let request = Request::get("/").header(AUTHORIZATION, format!("DPoP {}", self.token));
        node.send(request.header("dpop", proof).body(Body::empty()).unwrap()).await
    }
}

/// A node whose store of proofs has these settings.
async fn node(
    bench: &Bench,
    fleet: tower_authlete::fleet::FleetBuilder,
    settings: impl AsyncFnOnce(FleetReplays) -> FleetReplays,
) -> Node {
    let fleet = fleet.secret(SECRET).connect().await.unwrap();
    let replays = settings(fleet.replays()).await;
    let dpop = Dpop::for_origin(ORIGIN).replay_store(replays);
    let node = bench.node_of(fleet, |layer| layer.dpop(dpop));
    node.is_connected().await;
    node
}

async fn nodes(bench: &Bench, redis: &Redis) -> [Node; 2] {
    let node = async || node(bench, Fleet::redis(redis.url()), async |replays| replays).await;
    [node().await, node().await]
}

#[tokio::test]
async fn a_proof_that_one_node_has_accepted_is_refused_by_all() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let (nodes, holder) = (nodes(&bench, &redis).await, Holder::new(&bench).await);
    let proof = holder.proof();
    assert_eq!(holder.present(&nodes[0], &proof).await, OK);
    assert_eq!(holder.present(&nodes[1], &proof).await, UNAUTHORIZED);
    assert_eq!(holder.present(&nodes[0], &proof).await, UNAUTHORIZED);
    // Another proof of the same holder passes.
    assert_eq!(holder.present(&nodes[1], &holder.proof()).await, OK);
}

#[tokio::test]
async fn of_many_copies_of_a_proof_at_two_nodes_one_passes() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    // By itself, none of them decides, however slow the machine is.
    let strict = async |replays: FleetReplays| replays.refuse_without_redis();
    let strict = async || node(&bench, Fleet::redis(redis.url()), strict).await;
    let nodes = [strict().await, strict().await];
    eventually(async || {
        let proof = holder.proof();
        let answers = join_all((0..20).map(|n| holder.present(&nodes[n % 2], &proof))).await;
        let count = |status| answers.iter().filter(|it| **it == status).count();
        assert!(count(OK) <= 1 && count(OK) + count(UNAUTHORIZED) + count(UNAVAILABLE) == 20);
        if count(OK) == 1 { Ok(()) } else { Err(format!("{answers:?}")) }
    })
    .await;
}

#[tokio::test]
async fn proofs_are_kept_in_redis_for_longer_than_clocks_differ() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let (nodes, holder) = (nodes(&bench, &redis).await, Holder::new(&bench).await);
    assert_eq!(holder.present(&nodes[0], &holder.proof()).await, OK);
    let keys: Vec<String> = redis.cli(["KEYS", "authlete:1:proof:*"]).await.unwrap();
    assert_eq!(keys.len(), 1);
    let left: i64 = redis.cli(["PTTL", &keys[0]]).await.unwrap();
    assert!(left > 60_000 && left <= 240_000, "{left} ms");
}

#[tokio::test]
async fn without_redis_a_node_knows_its_own_proofs() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let (nodes, holder) = (nodes(&bench, &redis).await, Holder::new(&bench).await);
    let before = holder.proof();
    assert_eq!(holder.present(&nodes[0], &before).await, OK);
    redis.kill9();
    let proof = holder.proof();
    for node in &nodes {
        assert_eq!(holder.present(node, &proof).await, OK);
        assert_eq!(holder.present(node, &proof).await, UNAUTHORIZED);
    }
    assert_eq!(holder.present(&nodes[0], &before).await, UNAUTHORIZED);
    // Redis has lost what it knew, and the node has not.
    redis.restart().await;
    eventually(async || {
        let proof = holder.proof();
        match (holder.present(&nodes[0], &proof).await, holder.present(&nodes[1], &proof).await) {
            (OK, UNAUTHORIZED) => Ok(()),
            got => Err(format!("{got:?}")),
        }
    })
    .await;
    for used in [&before, &proof] {
        assert_eq!(holder.present(&nodes[0], used).await, UNAUTHORIZED);
    }
}

#[tokio::test]
async fn a_node_can_refuse_proofs_without_redis() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    let strict = async |replays: FleetReplays| replays.refuse_without_redis();
    let node = node(&bench, Fleet::redis(redis.url()), strict).await;
    assert_eq!(holder.present(&node, &holder.proof()).await, OK);
    redis.pause();
    assert_eq!(holder.present(&node, &holder.proof()).await, UNAVAILABLE);
    // Plain tokens pass.
    assert_eq!(node.get(&bench.token().await).await, OK);
    redis.resume();
    eventually(async || match holder.present(&node, &holder.proof()).await {
        OK => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
}

#[tokio::test]
async fn a_replica_that_is_waited_for_knows_each_proof() {
    // A master and its replica.
    let Some(servers) = Sentinel::start(0).await else { return };
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    let waits = async |replays: FleetReplays| {
        let replays = replays.refuse_without_redis();
        replays.wait_for_replicas(1, Duration::from_millis(400)).await.unwrap()
    };
    let node = node(&bench, Fleet::redis(servers.master.url()), waits).await;
    eventually(async || match holder.present(&node, &holder.proof()).await {
        OK => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    let known: Vec<String> = servers.master.cli(["KEYS", "authlete:1:proof:*"]).await.unwrap();
    let replicated: Vec<String> =
        servers.replica.cli(["KEYS", "authlete:1:proof:*"]).await.unwrap();
    assert!(!known.is_empty() && known.len() == replicated.len());
    // The replica is cut off.
    servers.proxy.cut();
    assert_eq!(holder.present(&node, &holder.proof()).await, UNAVAILABLE);
    // Nothing else waits for it.
    assert_eq!(node.get(&bench.token().await).await, OK);
}

#[tokio::test]
async fn more_replicas_than_there_are_leave_it_to_the_node() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    let waits = async |replays: FleetReplays| {
        replays.wait_for_replicas(1, Duration::from_millis(1)).await.unwrap()
    };
    let node = node(&bench, Fleet::redis(redis.url()), waits).await;
    let proof = holder.proof();
    assert_eq!(holder.present(&node, &proof).await, OK);
    assert_eq!(holder.present(&node, &proof).await, UNAUTHORIZED);
}
