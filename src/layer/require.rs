//! A requirement as a layer for a route.

use std::task::{Context, Poll};

use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::future::AuthFuture;
use crate::{
    accessors::inner_service_accessors,
    authorize::{Require, RequireDetails},
    credentials::RequestHead,
    request::{Admission, RouteIntrospection, check, refuse::refuse_inside},
};

impl<S> Layer<S> for Require {
    type Service = RequireService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequireService { inner, require: self.clone() }
    }
}

impl<S> Layer<S> for RequireDetails {
    type Service = RequireService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Require::from(self.clone()).layer(inner)
    }
}

/// The service of [`Require`] as a layer.
#[derive(Debug, Clone)]
pub struct RequireService<S> {
    inner: S,
    require: Require,
}

impl<S> RequireService<S> {
    inner_service_accessors!();
}

impl<S, B, ResB> Service<Request<B>> for RequireService<S>
where
    S: Service<Request<B>, Response = Response<ResB>> + Clone,
    B: 'static,
    ResB: Default + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = AuthFuture<S, B, ResB>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let Err(rejection) = check(&self.require, request.extensions()) else {
            let admission = Admission { admitted: None, then: None };
            return AuthFuture::admitted(&mut self.inner, request, admission);
        };
        // The answer that issued a token does not tell all facts.
        let Some(route) = RouteIntrospection::take(request.extensions_mut(), &self.require) else {
            let head = RequestHead::of(&request);
            return AuthFuture::refused(refuse_inside(head, request.extensions(), &rejection));
        };
        let verdict = route.resolve();
        let decide = move |request: &mut Request<B>, resolved| route.decide(request, resolved);
        AuthFuture::pending(verdict, request, &mut self.inner, decide)
    }
}
