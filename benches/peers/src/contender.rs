//! A protected router, and how it must answer.

use std::{convert::Infallible, error::Error, hint::black_box, time::Instant};

use axum::{Router, body::Body, routing::get};
use http::{Request, StatusCode, header::AUTHORIZATION};
use tower::{Service, layer::util::Identity};

/// The scope that the route takes.
pub(crate) const SCOPE: &str = "reports.read";

/// The route that all contenders protect.
pub(crate) const PATH: &str = "/reports";

/// A router that is timed.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    router: Router,
    good: String,
    refused: Vec<(String, StatusCode)>,
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
    pub(crate) fn bare(token: &str) -> Self {
        Self::new("bare router", router(), token)
    }

    /// The router in a layer that does nothing: what axum takes for any layer.
    pub(crate) fn empty(token: &str) -> Self {
        Self::new("an empty layer", router().layer(Identity::new()), token)
    }

    /// The router must refuse this token so.
    pub(crate) fn refuses(mut self, token: &str, status: StatusCode) -> Self {
        self.refused.push((token.into(), status));
        self
    }

    /// Makes sure that it answers as it must. The good token is known after this.
    pub(crate) async fn check(&mut self) -> Result<(), Box<dyn Error>> {
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
pub(crate) fn router() -> Router {
    Router::new().route(PATH, get(ok))
}

/// A handler that reads nothing.
pub(crate) async fn ok() -> &'static str {
    "ok"
}

fn request(token: &str) -> Request<Body> {
    let request = Request::get(PATH).header("accept", "application/json");
    let request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    request
        .body(Body::empty())
        .unwrap_or_else(|error| panic!("a request that is not legal: {error}"))
}
