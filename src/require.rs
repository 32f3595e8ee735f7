//! A requirement as a layer for a route.

use std::task::{Context, Poll};

use http::{Extensions, Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    credentials::RequestHead,
    future::{AuthFuture, Decision, Waiting},
    policy::Require,
    rejection::{self, Guard, Rejection},
    token::{Scopes, TokenInfo},
    verdict::Answer,
    verifier::Recheck,
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
            return AuthFuture::decided(Ok(None), request, &mut self.inner);
        };
        // What was said of the token when it was issued is not all there is to know.
        let Some(recheck) = request.extensions_mut().remove::<Recheck>() else {
            let refusal =
                rejection::refuse(RequestHead::of(&request), request.extensions(), &rejection);
            return AuthFuture::decided(Err(refusal), request, &mut self.inner);
        };
        let clone = self.inner.clone();
        let service = std::mem::replace(&mut self.inner, clone);
        let require = self.require.clone();
        let decide =
            Box::new(move |request: &mut Request<B>, answer| decide(&require, request, answer));
        AuthFuture::asking(recheck.ask(), Waiting { request, service, decide })
    }
}

fn check(require: &Require, extensions: &Extensions) -> Result<(), Rejection> {
    let guard = Guard::find(extensions)?;
    let token = extensions.get::<TokenInfo>().ok_or_else(Rejection::no_credentials)?;
    require.check(token, guard.clock())
}

fn decide<B, ResB: Default + 'static>(
    require: &Require,
    request: &mut Request<B>,
    answer: Answer,
) -> Decision<ResB> {
    let decided = answer.and_then(|token| {
        if token.needs_signed_response() {
            // The layer did not know, and will not sign.
            return Err(Rejection::misconfigured("responses cannot be signed here"));
        }
        let alone = request.extensions().get::<Scopes>().is_none();
        token.insert_into(request.extensions_mut(), alone);
        check(require, request.extensions())
    });
    match decided {
        Ok(()) => Ok(None),
        Err(rejection) => {
            Err(rejection::refuse(RequestHead::of(request), request.extensions(), &rejection))
        }
    }
}
