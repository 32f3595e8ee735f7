//! The response futures of the layers.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{
    rejection::{Rejection, Renderer},
    service::Gate,
    token::TokenInfo,
};

/// The answer of Authlete on its way. Only what is not known is waited for, so that what is known
/// needs no box.
pub(crate) type Asking = Pin<Box<dyn Future<Output = Result<TokenInfo, Rejection>> + Send>>;

/// A request that waits for Authlete's answer, and the service that was polled ready for it.
pub(crate) struct Waiting<S, B, R> {
    pub(crate) request: Request<B>,
    pub(crate) service: S,
    pub(crate) gate: Gate<R>,
}

pin_project! {
    /// Response future of [`AuthService`](crate::AuthService).
    pub struct AuthFuture<S, B, ResB, R>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<S, B, ResB, R>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, B, ResB, R>
    where
        S: Service<Request<B>>,
    {
        Asking { asking: Asking, waiting: Option<Waiting<S, B, R>> },
        Decided { #[pin] decided: DecidedFuture<S::Future, ResB> },
    }
}

impl<S: Service<Request<B>>, B, ResB, R> AuthFuture<S, B, ResB, R> {
    pub(crate) fn asking(asking: Asking, waiting: Waiting<S, B, R>) -> Self {
        Self { state: State::Asking { asking, waiting: Some(waiting) } }
    }

    pub(crate) fn decided(decided: DecidedFuture<S::Future, ResB>) -> Self {
        Self { state: State::Decided { decided } }
    }
}

impl<S, B, ResB, R> Future for AuthFuture<S, B, ResB, R>
where
    S: Service<Request<B>, Response = Response<ResB>>,
    R: Renderer<ResB>,
    ResB: 'static,
{
    type Output = Result<Response<ResB>, S::Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let decided = match state.as_mut().project() {
                StateProjection::Decided { decided } => return decided.poll(context),
                StateProjection::Asking { asking, waiting } => {
                    let answer = ready!(asking.as_mut().poll(context));
                    let Some(Waiting { request, mut service, gate }) = waiting.take() else {
                        return Poll::Pending;
                    };
                    let decision = gate.decide(request, answer);
                    DecidedFuture::new(decision, |request| service.call(request))
                }
            };
            state.set(State::Decided { decided });
        }
    }
}

pin_project! {
    /// Response future of [`RequireService`](crate::RequireService): the inner service's response,
    /// or the one that refuses the request.
    #[project = DecidedProjection]
    pub enum DecidedFuture<F, ResB> {
        #[doc(hidden)]
        Refused { response: Option<Response<ResB>> },
        #[doc(hidden)]
        Passed { #[pin] response: F },
    }
}

impl<F, ResB> DecidedFuture<F, ResB> {
    /// The inner service is called only if the request may pass.
    pub(crate) fn new<B>(
        decision: Result<Request<B>, Response<ResB>>,
        call: impl FnOnce(Request<B>) -> F,
    ) -> Self {
        match decision {
            Ok(request) => Self::Passed { response: call(request) },
            Err(response) => Self::Refused { response: Some(response) },
        }
    }
}

impl<F, ResB, E> Future for DecidedFuture<F, ResB>
where
    F: Future<Output = Result<Response<ResB>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            DecidedProjection::Passed { response } => response.poll(context),
            // Polled again after it was ready, it never is.
            DecidedProjection::Refused { response } => {
                response.take().map_or(Poll::Pending, |response| Poll::Ready(Ok(response)))
            }
        }
    }
}
