//! The service of [`AuthLayer`](crate::AuthLayer).

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use super::future::AuthFuture;
use crate::{
    accessors::inner_service_accessors,
    rejection::Renderer,
    request::{Authenticator, Begin, Outcome, RequestState, Settings, Variant},
};

/// The service of [`AuthLayer`](crate::AuthLayer).
pub struct AuthService<S, R> {
    inner: S,
    auth: Authenticator<R>,
}

impl<S, R> AuthService<S, R> {
    pub(super) fn new(inner: S, settings: Arc<Settings<R>>, variant: Variant) -> Self {
        Self { inner, auth: Authenticator::new(settings, variant) }
    }

    inner_service_accessors!();
}

impl<S, R, B, ResB> Service<Request<B>> for AuthService<S, R>
where
    S: Service<Request<B>, Response = Response<ResB>> + Clone,
    R: Renderer<ResB>,
    B: 'static,
    ResB: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = AuthFuture<S, B, ResB>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let mut state = RequestState::default();
        let verdict = match self.auth.begin(&request, &mut state) {
            Begin::Anonymous => {
                let admission = self.auth.admit_anonymous(&mut request);
                return AuthFuture::admitted(&mut self.inner, request, admission);
            }
            Begin::Ready(resolved) => match self.auth.decide(&mut request, &mut state, resolved) {
                Outcome::Admit(admission) => {
                    return AuthFuture::admitted(&mut self.inner, request, admission);
                }
                Outcome::Refuse(response) => return AuthFuture::refused(response),
                Outcome::Wait(verdict) => verdict,
            },
            Begin::Pending(verdict) => verdict,
        };
        let auth = self.auth.clone();
        let decide = move |request: &mut Request<B>, it| auth.decide(request, &mut state, it);
        AuthFuture::pending(verdict, request, &mut self.inner, decide)
    }
}

impl<S: Clone, R> Clone for AuthService<S, R> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), auth: self.auth.clone() }
    }
}

impl<S: fmt::Debug, R> fmt::Debug for AuthService<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthService").field("inner", &self.inner).finish_non_exhaustive()
    }
}
