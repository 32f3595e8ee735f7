//! The revocation endpoint.

use std::{
    convert::Infallible,
    fmt,
    task::{Context, Poll},
};

use http::{Request, StatusCode};
use http_body::Body;
use tower::BoxError;
use tower_service::Service;

use super::form::{Answer, EndpointFuture, Form, answer, failed};
use crate::{
    api::{Authlete, RevocationAction, RevocationRequest, Secret},
    layer::AuthHandle,
};

/// A revocation endpoint (RFC 7009). A token that it revokes is forgotten before it answers; so is
/// the access token that came with a refresh token, if it was issued by a
/// [`TokenEndpoint`](super::TokenEndpoint) of this process.
#[derive(Clone)]
pub struct RevocationEndpoint {
    authlete: Authlete,
    handle: AuthHandle,
}

impl RevocationEndpoint {
    /// An endpoint beside the layer that the handle is of.
    #[must_use]
    pub fn new(authlete: Authlete, handle: &AuthHandle) -> Self {
        Self { authlete, handle: handle.clone() }
    }

    async fn respond(&self, form: &Form) -> Answer {
        let Some(token) = form.get("token") else {
            return self.revoke(form, form.parameters.clone()).await;
        };
        let verifier = &self.handle.verifier;
        let line = verifier.line(token.expose()).await;
        let mut answer = self.revoke(form, form.parameters.clone()).await;
        // If the token has just got a new value, it is that which the client wants to be revoked.
        for value in line.values.iter().skip(1) {
            if answer.status() == StatusCode::OK {
                answer = self.revoke(form, form.with("token", value)).await;
            }
        }
        // Whatever was answered, and if nothing was: what is known may not be so any more.
        if !answer.status().is_client_error() {
            verifier.overtake_issues();
        }
        verifier.forget(token.expose());
        verifier.forget_pair(token.expose());
        answer
    }

    async fn revoke(&self, form: &Form, parameters: Secret) -> Answer {
        let request = RevocationRequest {
            parameters: Some(parameters),
            client_id: form.client_id(),
            client_secret: form.client_secret(),
            ..RevocationRequest::default()
        };
        let response = match self.authlete.revocation(&request).await {
            Ok(response) => response,
            Err(error) => return failed(&error, &self.handle.verifier.log),
        };
        let content = response.response_content.as_deref();
        match response.action {
            RevocationAction::Ok => answer(StatusCode::OK, content),
            RevocationAction::InvalidClient => form.invalid_client(content),
            RevocationAction::BadRequest => answer(StatusCode::BAD_REQUEST, content),
            _ => answer(StatusCode::INTERNAL_SERVER_ERROR, content),
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
        let endpoint = self.clone();
        Form::serve(request, move |form| async move { endpoint.respond(&form).await })
    }
}

impl fmt::Debug for RevocationEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationEndpoint").finish_non_exhaustive()
    }
}
