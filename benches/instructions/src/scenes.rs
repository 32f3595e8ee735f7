//! The requests that are counted. Nothing here leaves the thread: Authlete's answers come from a service
//! in its place.

use std::{
    convert::Infallible,
    hint::black_box,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::json;
use tokio::runtime::{Builder, Runtime};
use tower::{Layer, Service, service_fn};
use tower_authlete::{
    AuthLayer, Authlete, CachePolicy, Dpop, Require, TokenInfo, api::RequestBody, clock::Clock,
    layer::AuthLayerBuilder, proof::MemoryReplays,
};

#[allow(dead_code)]
#[path = "../../../tests/shared/keys.rs"]
mod keys;

use keys::Key;

/// The service without the layer, whose instructions are not the layer's.
pub(crate) const BARE: Scene = Scene { name: "bare", requests: 1000, play: bare };

/// What is held to a limit.
pub(crate) const SCENES: &[Scene] = &[
    Scene { name: "hit", requests: 1000, play: hit },
    Scene { name: "hit_token_info_alone", requests: 1000, play: hit_token_info_alone },
    Scene { name: "hit_of_many_tokens", requests: 4096, play: hit_of_many_tokens },
    Scene { name: "hit_with_proof", requests: 400, play: hit_with_proof },
    Scene { name: "refusal_scopes", requests: 1000, play: refusal_scopes },
    Scene { name: "refusal_no_credentials", requests: 1000, play: refusal_no_credentials },
    Scene { name: "refusal_known_bad_token", requests: 1000, play: refusal_known_bad_token },
    Scene { name: "refusal_illegal_token", requests: 1000, play: refusal_illegal_token },
    Scene { name: "miss", requests: 1000, play: miss },
];

/// Requests of one kind.
#[derive(Clone, Copy)]
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    /// How many of them are counted.
    pub(crate) requests: u64,
    play: fn(u64),
}

impl Scene {
    pub(crate) fn named(name: &str) -> Option<Self> {
        SCENES.iter().chain([&BARE]).find(|scene| scene.name == name).copied()
    }

    /// Sends the requests, and panics if one is not answered as it should be.
    pub(crate) fn play(self) {
        (self.play)(self.requests);
    }
}

fn bare(requests: u64) {
    Stage::of(service_fn(handler)).count(requests, StatusCode::OK, |_| good(0));
}

fn hit(requests: u64) {
    behind(auth()).count(requests, StatusCode::OK, |_| good(0));
}

fn hit_token_info_alone(requests: u64) {
    behind(auth().token_info_alone()).count(requests, StatusCode::OK, |_| good(0));
}

/// So many that what is at hand of tokens in use does not hold them, taken in turns.
fn hit_of_many_tokens(requests: u64) {
    behind(auth()).count(requests, StatusCode::OK, good);
}

fn hit_with_proof(requests: u64) {
    // The time that the keys' proofs are made at.
    let clock = Clock::frozen(UNIX_EPOCH + Duration::from_secs(2_000_000_000));
    let dpop = Dpop::for_origin("https://api.example.com").replay_store(MemoryReplays::new(10_000));
    let key = Key::es256();
    let request = |_| {
        let proof = key.proof_for(&token(0), json!({}));
        let authorization = format!("DPoP {}", token(0));
        request(&[("authorization", &authorization), ("dpop", &proof)])
    };
    behind(auth().clock(clock).dpop(dpop)).count(requests, StatusCode::OK, request);
}

fn refusal_scopes(requests: u64) {
    let layer = auth().require(Require::scopes(["reports.write"]));
    behind(layer).count(requests, StatusCode::FORBIDDEN, |_| good(0));
}

fn refusal_no_credentials(requests: u64) {
    behind(auth()).count(requests, StatusCode::UNAUTHORIZED, |_| request(&[]));
}

fn refusal_known_bad_token(requests: u64) {
    behind(auth()).count(requests, StatusCode::UNAUTHORIZED, |_| bearer(BAD));
}

fn refusal_illegal_token(requests: u64) {
    let illegal = token(0).replacen('0', ",", 1);
    behind(auth()).count(requests, StatusCode::BAD_REQUEST, |_| bearer(&illegal));
}

fn miss(requests: u64) {
    let mut stage = behind(auth());
    stage.warm_up(200, |number| good(u64::MAX - number));
    stage.count_now(requests, StatusCode::OK, good);
}

/// A service, and where it runs.
struct Stage<S> {
    runtime: Runtime,
    service: S,
}

impl<S> Stage<S>
where
    S: Service<Request<()>, Response = Response<()>, Error = Infallible>,
{
    fn of(service: S) -> Self {
        let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
        Self { runtime, service }
    }

    /// Counts requests that have come before.
    fn count(&mut self, requests: u64, expected: StatusCode, request: impl Fn(u64) -> Request<()>) {
        // The first time a token becomes known, the second time it comes to be at hand.
        for _ in 0..3 {
            self.warm_up(requests, &request);
        }
        self.count_now(requests, expected, request);
    }

    fn warm_up(&mut self, requests: u64, request: impl Fn(u64) -> Request<()>) {
        for number in 0..requests {
            let answer = self.service.call(request(number));
            let _ = self.runtime.block_on(async { black_box(answer.await) });
        }
    }

    fn count_now(
        &mut self,
        requests: u64,
        expected: StatusCode,
        request: impl Fn(u64) -> Request<()>,
    ) {
        for number in 0..requests {
            let status = counted(&self.runtime, &mut self.service, request(number));
            assert_eq!(status, expected);
        }
    }
}

/// What is inside of here is counted: `callgrind.rs` goes by the name.
#[inline(never)]
fn counted<S>(runtime: &Runtime, service: &mut S, request: Request<()>) -> StatusCode
where
    S: Service<Request<()>, Response = Response<()>, Error = Infallible>,
{
    let Ok(response) = runtime.block_on(service.call(request));
    response.status()
}

async fn handler(request: Request<()>) -> Result<Response<()>, Infallible> {
    black_box(request.extensions().get::<TokenInfo>());
    Ok(Response::new(()))
}

fn good(number: u64) -> Request<()> {
    bearer(&token(number))
}

fn bearer(token: &str) -> Request<()> {
    request(&[("authorization", &format!("Bearer {token}"))])
}

fn request(headers: &[(&str, &str)]) -> Request<()> {
    let request = Request::get("https://api.example.com/x").header("accept", "application/json");
    let request =
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(()).expect("a legal request")
}

/// A token of a number, as long as those of Authlete.
fn token(number: u64) -> String {
    format!("{:043x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// How long answers are kept: longer than a run takes.
const MAX_AGE: Duration = Duration::from_secs(12 * 60 * 60);

/// The one token that is not good.
const BAD: &str = "bad-but-just-as-long-as-those-that-are-good";

/// The service behind a layer.
fn behind(
    layer: AuthLayerBuilder,
) -> Stage<impl Service<Request<()>, Response = Response<()>, Error = Infallible>> {
    Stage::of(layer.build().expect("a layer").layer(service_fn(handler)))
}

fn auth() -> AuthLayerBuilder {
    let layer = AuthLayer::builder(authlete()).require(Require::scopes(["reports.read"]));
    layer.max_age(MAX_AGE).cache(CachePolicy::new().negative_max_age(MAX_AGE))
}

/// An Authlete that knows every token but one.
fn authlete() -> Authlete {
    let good = Bytes::from(answer_about_a_good_token());
    let bad = Bytes::from(answer_about_a_bad_token());
    let transport = service_fn(move |request: Request<RequestBody>| {
        let (good, bad) = (good.clone(), bad.clone());
        async move {
            let asked = request.into_body().collect().await?.to_bytes();
            let is_bad = asked.windows(BAD.len()).any(|part| part == BAD.as_bytes());
            Ok::<_, Infallible>(Response::new(Full::new(if is_bad { bad } else { good })))
        }
    });
    let client = Authlete::builder().base_url("http://127.0.0.1").service_id("715948317");
    let client = client.service_access_token("secret").transport(transport);
    client.build().expect("a client")
}

fn answer_about_a_good_token() -> String {
    json!({
        "type": "introspectionResponse",
        "resultCode": "A056001",
        "resultMessage": "[A056001] The access token is valid.",
        "action": "OK",
        "clientId": 4_326_385_670_u64,
        "clientIdAliasUsed": false,
        "existent": true,
        "expiresAt": 4_102_444_800_000_u64,
        "properties": [{ "key": "plan", "value": "gold", "hidden": false }],
        "refreshable": true,
        "responseContent": "Bearer error=\"invalid_request\"",
        "scopes": ["profile", "reports.read"],
        "subject": "alice",
        "sufficient": true,
        "usable": true,
    })
    .to_string()
}

fn answer_about_a_bad_token() -> String {
    json!({
        "type": "introspectionResponse",
        "resultCode": "A057301",
        "resultMessage": "[A057301] The access token does not exist.",
        "action": "UNAUTHORIZED",
        "existent": false,
        "responseContent": "Bearer error=\"invalid_token\",\
            error_description=\"[A057301] The access token does not exist.\"",
    })
    .to_string()
}
