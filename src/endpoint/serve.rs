//! What both endpoints share: reading a request within its deadline, limiting concurrency, and finishing
//! work whose client has disconnected.

use std::{convert::Infallible, pin::Pin, sync::Arc};

use http::{Request, StatusCode};
use http_body::Body;
use tokio::time::{Instant, timeout_at};
use tower::BoxError;

use super::{
    client_request::ClientRequest,
    limits::{ConcurrencyLimit, Limits},
    response::{EndpointResponse, error, unavailable},
};
use crate::{
    api::{Authlete, Problems},
    layer::{AuthHandle, finish},
    lifecycle::Lifecycle,
    observe::{counters, limited},
    proof::ClientCertificates,
};

/// Response future of [`TokenEndpoint`](super::TokenEndpoint) and
/// [`RevocationEndpoint`](super::RevocationEndpoint).
pub type EndpointFuture =
    Pin<Box<dyn Future<Output = Result<EndpointResponse, Infallible>> + Send>>;

/// The settings that both endpoints have.
pub(super) struct EndpointSettings {
    authlete: Authlete,
    lifecycle: Arc<Lifecycle>,
    pub(super) certificates: Option<ClientCertificates>,
    pub(super) limits: Limits,
}

impl EndpointSettings {
    pub(super) fn new(authlete: Authlete, handle: &AuthHandle) -> Self {
        let lifecycle = handle.lifecycle.clone();
        Self { authlete, lifecycle, certificates: None, limits: Limits::new() }
    }

    pub(super) fn validate(&mut self, problems: &mut Problems) {
        self.limits.validate(problems);
        if let Some(certificates) = &mut self.certificates {
            certificates.validate(problems);
        }
    }

    /// Builds without validation, for settings that are known to be valid, such as the defaults.
    pub(super) fn build_validated(self) -> EndpointContext {
        let Self { authlete, lifecycle, certificates, limits } = self;
        let limit = ConcurrencyLimit::new(limits);
        EndpointContext { authlete, lifecycle, certificates, limits, limit }
    }
}

/// What both endpoints need to serve a request. The clones of an endpoint share it.
pub(super) struct EndpointContext {
    pub(super) authlete: Authlete,
    pub(super) lifecycle: Arc<Lifecycle>,
    certificates: Option<ClientCertificates>,
    limits: Limits,
    limit: ConcurrencyLimit,
}

/// The part in which the endpoints differ.
pub(super) trait Endpoint: Send + Sync + 'static {
    fn context(&self) -> &EndpointContext;

    /// Responds to a request. The future can be dropped at any time.
    fn respond(&self, request: &ClientRequest) -> impl Future<Output = EndpointResponse> + Send;
}

/// Serves a request by an endpoint.
pub(super) fn serve<E, B>(endpoint: Arc<E>, request: Request<B>) -> EndpointFuture
where
    E: Endpoint,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    Box::pin(async move { Ok(try_serve(endpoint, request).await.unwrap_or_else(|error| error)) })
}

/// The `Err` is the response to a request about which Authlete was not asked.
async fn try_serve<E, B>(
    endpoint: Arc<E>,
    request: Request<B>,
) -> Result<EndpointResponse, EndpointResponse>
where
    E: Endpoint,
    B: Body,
    B::Error: Into<BoxError>,
{
    let EndpointContext { certificates, limits, limit, .. } = endpoint.context();
    let start = Instant::now();
    let deadline = start + limits.deadline;
    let reading = ClientRequest::read(request, certificates.as_ref());
    let request = timeout_at(deadline.min(start + limits.body_timeout), reading).await;
    let request = request.map_err(|_| {
        error(StatusCode::REQUEST_TIMEOUT, "invalid_request", "the body took too long")
    })??;
    let admitted = limit.try_admit().ok_or_else(|| {
        counters::full("endpoint");
        unavailable(1)
    })?;
    let in_flight = timeout_at(deadline, limit.start()).await.map_err(|_| unavailable(1))?;
    // The work goes on if the client disconnects, since Authlete may have issued or revoked a token by
    // then. It holds its permits for as long as it runs.
    let work = async move {
        let _permits = (admitted, in_flight);
        timeout_at(deadline, endpoint.respond(&request)).await.unwrap_or_else(|_| {
            let late = "a request of a client was not answered by the endpoint's deadline";
            limited!(warn, endpoint.context().lifecycle.log(), "{late}");
            unavailable(1)
        })
    };
    Ok(finish(work).await)
}

/// Implements `Service` for an endpoint that is a newtype of the `Arc` of an [`Endpoint`].
macro_rules! impl_service {
    ($endpoint:ty) => {
        impl<B> tower_service::Service<http::Request<B>> for $endpoint
        where
            B: http_body::Body + Send + 'static,
            B::Data: Send,
            B::Error: Into<tower::BoxError>,
        {
            type Response = EndpointResponse;
            type Error = std::convert::Infallible;
            type Future = EndpointFuture;

            /// Always ready: [`Limits`] bound what is in flight and what waits.
            fn poll_ready(
                &mut self,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Result<(), std::convert::Infallible>> {
                std::task::Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: http::Request<B>) -> Self::Future {
                serve(self.0.clone(), request)
            }
        }
    };
}
pub(super) use impl_service;
