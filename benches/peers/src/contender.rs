//! A protected router, and how it must answer.

use std::{convert::Infallible, future::Future, hint::black_box, time::Instant};

use axum::{Router, body::Body, response::IntoResponse, routing::get};
use http::{Request, StatusCode, header::AUTHORIZATION};
use tower::{Service, layer::util::Identity};

use crate::BoxError;

/// The scope that the route takes.
pub(crate) const SCOPE: &str = "reports.read";

/// The route that all contenders protect.
pub(crate) const PATH: &str = "/reports";

/// What the route answers to requests that pass. It reads nothing of them.
pub(crate) trait Answer: 'static {
    type Response: IntoResponse;

    /// A response of 200.
    fn answer() -> impl Future<Output = Self::Response> + Send;
}

/// A router that is timed.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) router: Router,
    /// A token whose requests pass.
    pub(crate) good: String,
    /// Tokens whose requests are refused, and by which status.
    pub(crate) refused: Vec<(String, StatusCode)>,
}

impl Contender {
    /// A router that lets requests with this token pass.
    pub(crate) fn new(name: &'static str, router: Router, good: &str) -> Self {
        // As `axum::serve` does for each connection, so that layers are applied once and not for each
        // request.
        let router = router.with_state(());
        Self { name, router, good: good.into(), refused: Vec::new() }
    }

    /// The router without protection.
    pub(crate) fn bare<A: Answer>(token: &str) -> Self {
        Self::new("bare router", router::<A>(), token)
    }

    /// The router in a layer that does nothing: what axum takes for any layer.
    pub(crate) fn empty<A: Answer>(token: &str) -> Self {
        Self::new("an empty layer", router::<A>().layer(Identity::new()), token)
    }

    /// The router must refuse this token so.
    pub(crate) fn refuses(mut self, token: &str, status: StatusCode) -> Self {
        self.refused.push((token.into(), status));
        self
    }

    /// Makes sure that it answers as it must. The good token is known after this.
    pub(crate) async fn check(&mut self) -> Result<(), BoxError> {
        let mut cases = self.refused.clone();
        // Twice, so that it is right about what it knows as well.
        cases.extend([(self.good.clone(), StatusCode::OK), (self.good.clone(), StatusCode::OK)]);
        for (token, expected) in cases {
            let response = self.router.call(request(&token)).await?;
            if response.status() != expected {
                let (name, status) = (self.name, response.status());
                return Err(format!("{name}: {status} instead of {expected}").into());
            }
        }
        Ok(())
    }

    /// How long a request took (ns), of so many with the good token.
    pub(crate) async fn time(&mut self, requests: usize) -> Result<f64, Infallible> {
        let made: Vec<_> = (0..requests).map(|_| request(&self.good)).collect();
        let start = Instant::now();
        for request in made {
            // A router is always ready.
            black_box(self.router.call(request).await?);
        }
        Ok(start.elapsed().as_secs_f64() * 1e9 / requests as f64)
    }
}

/// The router, without protection.
pub(crate) fn router<A: Answer>() -> Router {
    Router::new().route(PATH, get(A::answer))
}

fn request(token: &str) -> Request<Body> {
    let request = Request::get(PATH).header("accept", "application/json");
    let request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    request
        .body(Body::empty())
        .unwrap_or_else(|error| panic!("a request that is not legal: {error}"))
}
