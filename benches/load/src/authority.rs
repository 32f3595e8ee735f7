//! An Authlete in this process, which knows every token: a million tokens need a million answers, but
//! no million of sockets' turns.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{Layer, Service, service_fn};
use tower_authlete::{
    AuthLayer, Authlete, CachePolicy,
    api::{IntrospectionRequest, RequestBody},
    emulator::Emulator,
};

use crate::BoxError;

/// How long answers are kept: longer than a run takes.
pub const MAX_AGE: Duration = Duration::from_secs(12 * 60 * 60);

/// What the emulator answers about a good token, told of every token.
pub struct Authority {
    pub authlete: Authlete,
    calls: Arc<AtomicU64>,
}

impl Authority {
    /// # Errors
    /// If the emulator does not tell what a good token is like.
    pub async fn new() -> Result<Self, BoxError> {
        let answer = Bytes::from(answer_about_good().await?);
        let calls = Arc::new(AtomicU64::new(0));
        let counted = calls.clone();
        let transport = service_fn(move |_: Request<RequestBody>| {
            counted.fetch_add(1, Ordering::Relaxed);
            let answer = Response::new(Full::new(answer.clone()));
            async { Ok::<_, Infallible>(answer) }
        });
        let authlete = Authlete::builder()
            .base_url("http://127.0.0.1")
            .service_id("1")
            .service_access_token("secret")
            .transport(transport)
            .build()?;
        Ok(Self { authlete, calls })
    }

    /// How often it was asked.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// A layer that has room for so many tokens.
    ///
    /// # Errors
    /// If there is room for none.
    pub fn layer(&self, tokens: u64) -> Result<AuthLayer, BoxError> {
        // A cache that is full to the brim drops what it has just been given.
        let layer = AuthLayer::builder(self.authlete.clone())
            .cache(CachePolicy::new().max_entries(2 * tokens));
        Ok(layer.max_age(MAX_AGE).build()?)
    }
}

/// What Authlete says about a good token, as JSON.
pub(crate) async fn answer_about_good() -> Result<Vec<u8>, BoxError> {
    let emulator = Emulator::start().await;
    let token = emulator.token().subject("alice").scopes(["reports.read", "profile"]);
    let token = token.property("plan", "gold").expires_in(2 * MAX_AGE).issue().await;
    answer_about(&emulator, &token).await
}

/// What Authlete says about a token that it never made, as JSON.
pub(crate) async fn answer_about_bad() -> Result<Vec<u8>, BoxError> {
    answer_about(&Emulator::start().await, "made-up").await
}

async fn answer_about(emulator: &Emulator, token: &str) -> Result<Vec<u8>, BoxError> {
    let request = IntrospectionRequest::new().token(token);
    Ok(serde_json::to_vec(&emulator.authlete().introspection(&request).await?)?)
}

/// A token of a number.
#[must_use]
pub fn token(number: u64) -> String {
    // As long as those of Authlete.
    format!("{:043x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// A request with the token of a number.
#[must_use]
pub fn request(number: u64) -> Request<()> {
    request_with(&token(number))
}

/// A request with a token.
///
/// # Panics
/// If the token cannot stand in a header.
#[must_use]
pub fn request_with(token: &str) -> Request<()> {
    let request = Request::builder().uri("/reports").header("accept", "application/json");
    let request = request.header("authorization", format!("Bearer {token}"));
    request.body(()).unwrap_or_else(|error| panic!("a request that is not legal: {error}"))
}

/// A service that answers, and nothing else.
///
/// # Errors
/// Never.
pub async fn handler(_: Request<()>) -> Result<Response<()>, Infallible> {
    Ok(Response::new(()))
}

/// Makes the layer know the tokens of these numbers.
///
/// # Errors
/// If one of them is refused.
pub async fn warm_up(
    layer: &AuthLayer,
    numbers: impl IntoIterator<Item = u64>,
) -> Result<(), BoxError> {
    let mut service = layer.layer(service_fn(handler));
    for number in numbers {
        let response = service.call(request(number)).await?;
        if !response.status().is_success() {
            return Err(format!("a good token was refused: {}", response.status()).into());
        }
    }
    Ok(())
}
