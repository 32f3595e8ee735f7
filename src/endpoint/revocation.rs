//! The revocation endpoint.

use std::{fmt, sync::Arc};

use http::StatusCode;

use super::{
    client_request::ClientRequest,
    invalidation::{InvalidateOnDrop, may_have_taken_effect},
    limits::Limits,
    response::{EndpointResponse, call_failed, json_response},
    serve::{Endpoint, EndpointContext, EndpointFuture, EndpointSettings, impl_service, serve},
};
use crate::{
    api::{Authlete, ConfigError, Problems, RevocationAction, RevocationRequest, Secret},
    layer::AuthHandle,
    proof::ClientCertificates,
};

/// A revocation endpoint (RFC 7009).
///
/// Each request calls `/auth/revocation`. If Authlete refuses the client, nothing is invalidated. If it
/// revokes the token, or its response is missing, the token is invalidated before this endpoint responds.
/// So is the access token that was issued with a refresh token, if it was issued by a
/// [`TokenEndpoint`](super::TokenEndpoint) of this process.
///
/// [`Rotation`](crate::Rotation) gives a token new values. If a request names an old value, the newest is
/// revoked too, within one minute after the rotation that made it. Later it is not known any more, and the
/// token stays valid: [`AuthHandle::revoke`] revokes it.
///
/// A call to Authlete that fails is 503, or 500 if this server's own configuration is wrong; it is never
/// reported as an error of the client.
#[derive(Clone)]
pub struct RevocationEndpoint(Arc<RevocationHandler>);

struct RevocationHandler {
    context: EndpointContext,
}

impl RevocationEndpoint {
    /// An endpoint with default settings, which invalidates in the cache of the handle's layer.
    #[must_use]
    pub fn new(authlete: Authlete, handle: &AuthHandle) -> Self {
        let context = EndpointSettings::new(authlete, handle).build_validated();
        Self(Arc::new(RevocationHandler { context }))
    }

    /// Settings of an endpoint, which invalidates in the cache of the handle's layer.
    pub fn builder(authlete: Authlete, handle: &AuthHandle) -> RevocationEndpointBuilder {
        RevocationEndpointBuilder(EndpointSettings::new(authlete, handle))
    }
}

/// Settings of a [`RevocationEndpoint`].
#[must_use = "settings do nothing until `build` is called"]
pub struct RevocationEndpointBuilder(EndpointSettings);

impl RevocationEndpointBuilder {
    /// Where to find the certificates by which clients authenticate (RFC 8705 §2). Default: nowhere.
    pub fn client_certificates(mut self, certificates: ClientCertificates) -> Self {
        self.0.certificates = Some(certificates);
        self
    }

    /// Limits of concurrency and time. Default: see [`Limits`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.0.limits = limits;
        self
    }

    /// Builds the endpoint.
    ///
    /// # Errors
    /// If a setting is wrong: `max_in_flight` of 0, a time of zero or of more than a day, or a malformed
    /// address of a proxy.
    pub fn build(mut self) -> Result<RevocationEndpoint, ConfigError> {
        Problems::of(|problems| self.0.validate(problems))?;
        let context = self.0.build_validated();
        Ok(RevocationEndpoint(Arc::new(RevocationHandler { context })))
    }
}

impl Endpoint for RevocationHandler {
    fn context(&self) -> &EndpointContext {
        &self.context
    }

    async fn respond(&self, request: &ClientRequest) -> EndpointResponse {
        let Some(token) = request.get("token").map(Secret::expose) else {
            return self.revoke(request, request.body()).await.response;
        };
        let lifecycle = &*self.context.lifecycle;
        let invalidation = InvalidateOnDrop::new(|| {
            lifecycle.invalidate_issues();
            lifecycle.invalidate(token);
            lifecycle.invalidate_pair(token);
        });
        let Revoked { mut response, may_be_revoked } = self.revoke(request, request.body()).await;
        if !may_be_revoked {
            invalidation.cancel();
            return response;
        }
        if response.status() != StatusCode::OK {
            return response;
        }
        // A client that names an old value wants the token revoked, so its newer values are revoked too.
        // The token gets no further value until the invalidation is dropped.
        let current = lifecycle.revocable_values(token).await;
        for value in current.values.iter().skip(1) {
            if response.status() == StatusCode::OK {
                let body = request.body_with("token", value);
                response = self.revoke(request, body).await.response;
            }
        }
        drop(invalidation);
        response
    }
}

/// The outcome of a call to `/auth/revocation`.
struct Revoked {
    response: EndpointResponse,
    may_be_revoked: bool,
}

impl RevocationHandler {
    async fn revoke(&self, request: &ClientRequest, parameters: Secret) -> Revoked {
        let call = RevocationRequest {
            parameters: Some(parameters),
            client_id: request.client_id(),
            client_secret: request.client_secret(),
            client_certificate: request.client_certificate(),
            client_certificate_path: request.client_certificate_path(),
            ..RevocationRequest::default()
        };
        let answer = match self.context.authlete.revocation(&call).await {
            Ok(answer) => answer,
            Err(error) => {
                let response = call_failed(&error, self.context.lifecycle.log());
                return Revoked { response, may_be_revoked: may_have_taken_effect(&error) };
            }
        };
        let body = answer.response_content.as_deref();
        let (response, may_be_revoked) = match answer.action {
            RevocationAction::Ok => (json_response(StatusCode::OK, body), true),
            RevocationAction::InvalidClient => (request.invalid_client(body), false),
            RevocationAction::BadRequest => (json_response(StatusCode::BAD_REQUEST, body), false),
            _ => (json_response(StatusCode::INTERNAL_SERVER_ERROR, body), true),
        };
        Revoked { response, may_be_revoked }
    }
}

impl_service!(RevocationEndpoint);

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
