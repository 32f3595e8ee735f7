//! What a miss takes beside the same call by a bare client, and how few calls many waiters make.

use std::{
    convert::Infallible,
    fmt,
    hint::black_box,
    sync::{Arc, Mutex},
    time::Instant,
};

use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{Layer, Service, service_fn};
use tower_authlete::{
    AuthLayer, CachePolicy,
    api::{IntrospectionRequest, RequestBody},
};

use crate::{
    BoxError,
    authority::{MAX_AGE, handler, request, token},
    figures::Figures,
    upstream::Upstream,
    waiters,
};

/// How many wait for one answer.
pub const WAITERS: u64 = 1000;

/// What was found.
pub struct Miss {
    /// Microseconds.
    ours: Figures,
    bare: Figures,
    connections: u64,
    calls_for_waiters: u64,
}

impl Miss {
    /// So many misses and calls by a bare client, in turns, in one thread with the server.
    ///
    /// # Errors
    /// If an answer is not what it should be, or there were more calls than misses.
    pub async fn run(rounds: u64) -> Result<Self, BoxError> {
        let upstream = Upstream::start().await?;
        let bare = Bare::new(&upstream).await?;
        let (calls, connections) = (upstream.calls_for_good(), upstream.connections());
        let layer = AuthLayer::builder(upstream.authlete()?).max_age(MAX_AGE);
        let layer = layer.cache(CachePolicy::new().max_entries(4 * rounds)).build()?;
        let mut service = layer.layer(service_fn(handler));
        let (mut taken, mut taken_bare) = (Figures::default(), Figures::default());
        for number in 0..rounds {
            let call = bare.request(number)?;
            let (start, request) = (Instant::now(), request(number));
            let response = service.call(request).await?;
            let time = start.elapsed();
            if !response.status().is_success() {
                return Err(format!("a good token was refused: {}", response.status()).into());
            }
            let time_bare = bare.send(call).await?;
            // Connections are made first.
            if number >= rounds / 10 {
                taken.push(time.as_secs_f64() * 1e6);
                taken_bare.push(time_bare);
            }
        }
        if upstream.calls_for_good() - calls != 2 * rounds {
            return Err("there were not as many calls as misses".into());
        }
        let connections = upstream.connections() - connections;
        let before = upstream.calls_for_good();
        waiters::wait(&upstream, &layer, WAITERS, rounds, || ()).await?;
        let calls_for_waiters = upstream.calls_for_good() - before;
        Ok(Self { ours: taken, bare: taken_bare, connections, calls_for_waiters })
    }
}

/// The median of each, the difference of the two, and what else was counted.
impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ours, bare, connections, calls_for_waiters } = self;
        let own = ours.median() - bare.median();
        let (low, high) =
            (ours.quantile(0.1) - bare.quantile(0.1), ours.quantile(0.9) - bare.quantile(0.9));
        writeln!(f, "{:40}{ours:>28.1}", "a miss through the layer (µs)")?;
        writeln!(f, "{:40}{bare:>28.1}", "the same call, bare hyper client (µs)")?;
        writeln!(f, "{:40}{own:>8.1}, asked for: at most 40", "our own (µs)")?;
        writeln!(f, "{:40}{low:>8.1} and {high:.1}", "  of the quickest and slowest tenths")?;
        writeln!(f, "{:40}{connections:>8}, asked for: 1", "connections that the layer made")?;
        let name = format!("calls for {WAITERS} who wait for one token");
        writeln!(f, "{name:40}{calls_for_waiters:>8}, asked for: 1")?;
        write!(f, "what they take of the heap: cargo run --release --bin memory")
    }
}

/// A client as hyper-util makes them, which sends what the crate sends.
struct Bare {
    client: Client<HttpConnector, RequestBody>,
    like: Request<String>,
}

impl Bare {
    /// A client whose connection is there.
    async fn new(upstream: &Upstream) -> Result<Self, BoxError> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let bare = Self { client, like: sent(upstream).await? };
        bare.send(bare.request(u64::MAX)?).await?;
        Ok(bare)
    }

    /// The call that the layer makes for the token of a number.
    fn request(&self, number: u64) -> Result<Request<RequestBody>, BoxError> {
        let body = self.like.body().replace(&token(u64::MAX), &token(number));
        let mut request = Request::post(self.like.uri());
        request.headers_mut().ok_or("no legal request")?.clone_from(self.like.headers());
        Ok(request.body(Full::from(body))?)
    }

    /// Sends it and reads the answer: how long that took (µs).
    async fn send(&self, request: Request<RequestBody>) -> Result<f64, BoxError> {
        let start = Instant::now();
        let response = self.client.request(request).await?;
        let status = response.status();
        black_box(response.into_body().collect().await?.to_bytes());
        let time = start.elapsed();
        if status.is_success() { Ok(time.as_secs_f64() * 1e6) } else { Err(status.as_str().into()) }
    }
}

/// What the crate sends to ask about the last of all tokens.
async fn sent(upstream: &Upstream) -> Result<Request<String>, BoxError> {
    let kept = Arc::new(Mutex::new(None));
    let keep = kept.clone();
    let transport = service_fn(move |request: Request<RequestBody>| {
        let keep = keep.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let request = Request::from_parts(head, String::from_utf8_lossy(&body).into_owned());
            *keep.lock().unwrap_or_else(|broken| broken.into_inner()) = Some(request);
            Ok::<_, Infallible>(Response::new(RequestBody::default()))
        }
    });
    let authlete = upstream.client_builder().transport(transport).build()?;
    // The answer is of no use.
    let request = IntrospectionRequest::new().token(token(u64::MAX));
    let _ = authlete.introspection(&request).await;
    let kept = kept.lock().unwrap_or_else(|broken| broken.into_inner()).take();
    kept.ok_or_else(|| "the crate sent nothing".into())
}
