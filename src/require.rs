//! A requirement as a layer for a route.

use std::task::{Context, Poll};

use http::{Extensions, Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    future::DecidedFuture,
    policy::Require,
    rejection::{self, Guard, Rejection},
    token::TokenInfo,
};

impl<S> Layer<S> for Require {
    type Service = RequireService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequireService { inner, require: self.clone() }
    }
}

/// The service of [`Require`] as a layer.
#[derive(Debug, Clone)]
pub struct RequireService<S> {
    inner: S,
    require: Require,
}

impl<S, B, ResB> Service<Request<B>> for RequireService<S>
where
    S: Service<Request<B>, Response = Response<ResB>>,
    ResB: Default + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = DecidedFuture<S::Future, ResB>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let decision = match self.check(request.extensions()) {
            Ok(()) => Ok(request),
            Err(rejection) => Err(rejection::refuse(request.extensions(), &rejection)),
        };
        DecidedFuture::new(decision, |request| self.inner.call(request))
    }
}

impl<S> RequireService<S> {
    fn check(&self, extensions: &Extensions) -> Result<(), Rejection> {
        let guard = Guard::find(extensions)?;
        let token = extensions.get::<TokenInfo>().ok_or_else(Rejection::no_credentials)?;
        self.require.check(token, guard.clock().now())
    }
}
