//! What all endpoints do: read a request in time, keep to the share, and finish what is begun.

use std::{convert::Infallible, pin::Pin, sync::Arc};

use http::{Request, StatusCode};
use http_body::Body;
use tokio::time::{Instant, timeout_at};
use tower::BoxError;

use super::{
    answer::{Answer, error, unavailable},
    form::Form,
    limits::{Limits, Share},
};
use crate::{
    api::{Authlete, ConfigError, Error, ErrorKind},
    layer::{AuthHandle, finish},
    lifecycle::Lifecycle,
    observe::{counters, limited},
    proof::ClientCertificates,
};

/// Response future of the endpoints.
pub type EndpointFuture = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

/// Settings that all endpoints have.
pub(super) struct FrontBuilder {
    authlete: Authlete,
    lifecycle: Arc<Lifecycle>,
    pub(super) certificates: Option<ClientCertificates>,
    pub(super) limits: Limits,
}

impl FrontBuilder {
    pub(super) fn new(authlete: Authlete, handle: &AuthHandle) -> Self {
        let lifecycle = handle.lifecycle.clone();
        Self { authlete, lifecycle, certificates: None, limits: Limits::new() }
    }

    pub(super) fn build(mut self) -> Result<Front, ConfigError> {
        self.limits.validate()?;
        if let Some(certificates) = &mut self.certificates {
            certificates.validate()?;
        }
        Ok(self.finish())
    }

    /// The same, for settings that are known to be right.
    pub(super) fn finish(self) -> Front {
        let Self { authlete, lifecycle, certificates, limits } = self;
        Front { authlete, lifecycle, certificates, share: Share::new(limits) }
    }
}

/// What all endpoints have.
pub(super) struct Front {
    pub(super) authlete: Authlete,
    pub(super) lifecycle: Arc<Lifecycle>,
    certificates: Option<ClientCertificates>,
    share: Share,
}

/// What makes an endpoint.
pub(super) trait Endpoint: Send + Sync + 'static {
    fn front(&self) -> &Front;

    /// Answers a request. It can be dropped at any time.
    fn respond(&self, form: &Form) -> impl Future<Output = Answer> + Send;
}

pub(super) fn serve<E, B>(endpoint: Arc<E>, request: Request<B>) -> EndpointFuture
where
    E: Endpoint,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    Box::pin(async move { Ok(in_time(endpoint, request).await.unwrap_or_else(|refusal| refusal)) })
}

/// Answers a request, or refuses it without having asked anybody.
async fn in_time<E, B>(endpoint: Arc<E>, request: Request<B>) -> Result<Answer, Answer>
where
    E: Endpoint,
    B: Body,
    B::Error: Into<BoxError>,
{
    let Front { certificates, share, .. } = endpoint.front();
    let began = Instant::now();
    let deadline = began + share.deadline;
    let reading = Form::read(request, certificates.as_ref());
    let form = timeout_at(deadline.min(began + share.body_timeout), reading).await;
    let form = form.map_err(|_| {
        error(StatusCode::REQUEST_TIMEOUT, "invalid_request", "the body took too long")
    })??;
    let place = share.place().ok_or_else(|| {
        counters::full("endpoint");
        unavailable(1)
    })?;
    let turn = timeout_at(deadline, share.turn()).await.map_err(|_| unavailable(1))?;
    // What is begun is finished, even if the client goes away, and takes its part of the share until
    // then.
    let work = async move {
        let _taken = (place, turn);
        timeout_at(deadline, endpoint.respond(&form)).await.unwrap_or_else(|_| {
            let late = "a request of a client was not answered by the endpoint's deadline";
            limited!(warn, endpoint.front().lifecycle.log(), "{late}");
            unavailable(1)
        })
    };
    Ok(finish(work).await)
}

/// What is no longer to be used once a call to Authlete has ended, however it ends: by an answer, by a
/// failure or by being dropped. Dropping it invalidates.
pub(super) struct Invalidation<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Invalidation<F> {
    pub(super) fn new(invalidate: F) -> Self {
        Self(Some(invalidate))
    }

    /// Authlete did nothing.
    pub(super) fn call_off(mut self) {
        self.0 = None;
    }
}

impl<F: FnOnce()> Drop for Invalidation<F> {
    fn drop(&mut self) {
        if let Some(invalidate) = self.0.take() {
            invalidate();
        }
    }
}

/// Whether a call that failed may have been carried out: it may have been sent, and Authlete did not
/// refuse it.
pub(super) fn may_be_done(failure: &Error) -> bool {
    match &failure.kind {
        ErrorKind::Request(_) => false,
        ErrorKind::Connection(_) => !failure.is_unsent(),
        ErrorKind::Refused(refusal) => {
            !refusal.status.is_client_error() && !refusal.status.is_redirection()
        }
        ErrorKind::Deadline(_) | ErrorKind::Undecodable { .. } | ErrorKind::TooLarge(_) => true,
    }
}
