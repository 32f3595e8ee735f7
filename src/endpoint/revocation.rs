//! The revocation endpoint.

use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, StatusCode};
use http_body::Body;
use tower::BoxError;
use tower_service::Service;

use super::{
    answer::{Answer, answer, failed},
    form::Form,
    front::{Endpoint, EndpointFuture, Front, FrontBuilder, Invalidation, may_be_done, serve},
    limits::Limits,
};
use crate::{
    api::{Authlete, ConfigError, RevocationAction, RevocationRequest, Secret},
    layer::AuthHandle,
    proof::ClientCertificates,
};

/// A revocation endpoint (RFC 7009).
///
/// Authlete is asked first. Nothing is invalidated for a client that it refuses. If it revokes the token,
/// or does not answer, the token is forgotten before this endpoint answers. So is the access token that
/// came with a refresh token, if it was issued by a [`TokenEndpoint`](super::TokenEndpoint) of this
/// process.
///
/// By an old value of a token that gets new ones by [`Rotation`](crate::Rotation), the newest is revoked,
/// too, for one minute after the rotation that gave it. Later it is not known any more, and the token lives
/// on: [`AuthHandle::revoke`] ends it.
#[derive(Clone)]
pub struct RevocationEndpoint(Arc<Revocation>);

struct Revocation {
    front: Front,
}

impl RevocationEndpoint {
    /// An endpoint beside the layer that the handle is of, with all settings at their defaults.
    #[must_use]
    pub fn new(authlete: Authlete, handle: &AuthHandle) -> Self {
        Self(Arc::new(Revocation { front: FrontBuilder::new(authlete, handle).finish() }))
    }

    /// Settings for an endpoint beside the layer that the handle is of.
    pub fn builder(authlete: Authlete, handle: &AuthHandle) -> RevocationEndpointBuilder {
        RevocationEndpointBuilder(FrontBuilder::new(authlete, handle))
    }
}

/// Settings of a [`RevocationEndpoint`].
#[must_use = "settings do nothing until `build` is called"]
pub struct RevocationEndpointBuilder(FrontBuilder);

impl RevocationEndpointBuilder {
    /// Where the certificates are found by which clients authenticate (RFC 8705 §2). Default: nowhere.
    pub fn client_certificates(mut self, certificates: ClientCertificates) -> Self {
        self.0.certificates = Some(certificates);
        self
    }

    /// How many requests are served, and for how long. Default: see [`Limits`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.0.limits = limits;
        self
    }

    /// The endpoint.
    ///
    /// # Errors
    /// If a setting is wrong: no request at a time, a time of zero or of more than a day, or an address
    /// of a proxy that is none.
    pub fn build(self) -> Result<RevocationEndpoint, ConfigError> {
        Ok(RevocationEndpoint(Arc::new(Revocation { front: self.0.build()? })))
    }
}

impl Endpoint for Revocation {
    fn front(&self) -> &Front {
        &self.front
    }

    async fn respond(&self, form: &Form) -> Answer {
        let Some(token) = form.get("token").map(Secret::expose) else {
            return self.revoke(form, form.body()).await.0;
        };
        let lifecycle = &*self.front.lifecycle;
        let invalidation = Invalidation::new(|| {
            lifecycle.invalidate_issues();
            lifecycle.invalidate(token);
            lifecycle.invalidate_pair(token);
        });
        let (mut answer, may_be_done) = self.revoke(form, form.body()).await;
        if !may_be_done {
            invalidation.call_off();
            return answer;
        }
        if answer.status() != StatusCode::OK {
            return answer;
        }
        // If the token has got new values, it is those which the client wants to be revoked. It gets
        // no other one before all are invalidated.
        let current = lifecycle.revocable_values(token).await;
        for value in current.values.iter().skip(1) {
            if answer.status() == StatusCode::OK {
                (answer, _) = self.revoke(form, form.body_with("token", value)).await;
            }
        }
        drop(invalidation);
        answer
    }
}

impl Revocation {
    /// What Authlete answers, and whether it may have revoked a token.
    async fn revoke(&self, form: &Form, parameters: Secret) -> (Answer, bool) {
        let request = RevocationRequest {
            parameters: Some(parameters),
            client_id: form.client_id(),
            client_secret: form.client_secret(),
            client_certificate: form.client_certificate(),
            client_certificate_path: form.client_certificate_path(),
            ..RevocationRequest::default()
        };
        let response = match self.front.authlete.revocation(&request).await {
            Ok(response) => response,
            Err(error) => return (failed(&error, self.front.lifecycle.log()), may_be_done(&error)),
        };
        let content = response.response_content.as_deref();
        match response.action {
            RevocationAction::Ok => (answer(StatusCode::OK, content), true),
            RevocationAction::InvalidClient => (form.invalid_client(content), false),
            RevocationAction::BadRequest => (answer(StatusCode::BAD_REQUEST, content), false),
            _ => (answer(StatusCode::INTERNAL_SERVER_ERROR, content), true),
        }
    }
}

impl<B> Service<Request<B>> for RevocationEndpoint
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = EndpointFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        serve(self.0.clone(), request)
    }
}

impl fmt::Debug for RevocationEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationEndpoint").finish_non_exhaustive()
    }
}

impl fmt::Debug for RevocationEndpointBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationEndpointBuilder").finish_non_exhaustive()
    }
}
