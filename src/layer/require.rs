//! A requirement as a layer for a route.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{Extensions, Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    authorize::{Require, RequireDetails},
    credentials::RequestHead,
    layer::future::{AuthFuture, Decision, Waiting},
    rejection::Rejection,
    request::{
        context::{AuthContext, Recheck},
        refuse::{guard, refuse},
    },
    token::{Scopes, TokenInfo},
    verify::{Resolved, Verifier},
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
            return AuthFuture::admitted(self.inner.call(request), None);
        };
        let context = request.extensions_mut().get_mut::<AuthContext>();
        let recheck = context.and_then(|it| Some((it.verifier.clone(), it.recheck.take()?)));
        // What was said of the token when it was issued is not all there is to know.
        let Some((verifier, recheck)) = recheck else {
            let head = RequestHead::of(&request);
            let refusal = refuse(head, request.extensions(), &rejection);
            return AuthFuture::refused(refusal);
        };
        let resolving = recheck.ask(&verifier);
        let clone = self.inner.clone();
        let service = std::mem::replace(&mut self.inner, clone);
        let require = self.require.clone();
        let decide = Box::new(move |request: &mut Request<B>, resolved| {
            decide(&require, &verifier, &recheck, request, resolved)
        });
        AuthFuture::pending(resolving, Waiting { request, service, decide })
    }
}

/// Whether the request's token meets a requirement by what is known of it: by all that can be known, if
/// the requirement can be met by what is missing.
fn check(require: &Require, extensions: &Extensions) -> Result<(), Rejection> {
    let guard = guard(extensions)?;
    let token = extensions.get::<TokenInfo>().ok_or_else(Rejection::no_credentials)?;
    require.check_known(token, guard.clock())
}

fn decide<B, ResB: Default + 'static>(
    require: &Require,
    verifier: &Arc<Verifier>,
    recheck: &Recheck,
    request: &mut Request<B>,
    resolved: Resolved,
) -> Decision<ResB> {
    let allowed = resolved.verdict.and_then(|token| recheck.admission.allow(token, verifier));
    let decided = allowed.and_then(|token| {
        let alone = request.extensions().get::<Scopes>().is_none();
        token.insert_into(request.extensions_mut(), alone);
        check(require, request.extensions())
    });
    match decided {
        Ok(()) => Decision::Admit(None),
        Err(rejection) => {
            let head = RequestHead::of(request);
            Decision::Refuse(refuse(head, request.extensions(), &rejection))
        }
    }
}
