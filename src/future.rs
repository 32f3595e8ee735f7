//! The response future of the layers.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{
    rotate::{Turn, Turning},
    verdict::Answer,
};

/// The answer of Authlete on its way. Only what is not known is waited for, so that what is known
/// needs no box.
pub(crate) type Asking = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// The request that may pass, or the response that refuses it.
pub(crate) type Decision<B, ResB> = Result<Pass<B, ResB>, Response<ResB>>;

/// A request that may pass, and what is to be done when it was answered.
pub(crate) struct Pass<B, ResB> {
    pub(crate) request: Request<B>,
    pub(crate) after: Option<Box<After<ResB>>>,
}

impl<B, ResB> From<Request<B>> for Pass<B, ResB> {
    fn from(request: Request<B>) -> Self {
        Self { request, after: None }
    }
}

/// What is to be done to the response.
pub(crate) struct After<ResB> {
    pub(crate) turn: Option<Turn>,
    pub(crate) finish: Finish<ResB>,
}

/// The last touch to a response.
pub(crate) type Finish<ResB> = Box<dyn FnOnce(Response<ResB>) -> Response<ResB> + Send>;

/// What is done with a request when Authlete has answered.
pub(crate) type Decide<B, ResB> = Box<dyn FnOnce(Request<B>, Answer) -> Decision<B, ResB> + Send>;

/// A request that waits for Authlete's answer, and the service that was polled ready for it.
pub(crate) struct Waiting<S, B, ResB> {
    pub(crate) request: Request<B>,
    pub(crate) service: S,
    pub(crate) decide: Decide<B, ResB>,
}

pin_project! {
    /// Response future of [`AuthService`](crate::AuthService) and
    /// [`RequireService`](crate::RequireService).
    pub struct AuthFuture<S, B, ResB>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<S, B, ResB>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, B, ResB>
    where
        S: Service<Request<B>>,
    {
        Asking { asking: Asking, waiting: Option<Waiting<S, B, ResB>> },
        Passed { #[pin] response: S::Future, after: Option<Box<After<ResB>>> },
        Turning { turning: Turning, answered: Option<(Response<ResB>, Finish<ResB>)> },
        // Taken when it is ready; polled again after that, it never is.
        Refused { response: Option<Response<ResB>> },
    }
}

impl<S: Service<Request<B>>, B, ResB> AuthFuture<S, B, ResB> {
    pub(crate) fn asking(asking: Asking, waiting: Waiting<S, B, ResB>) -> Self {
        Self { state: State::Asking { asking, waiting: Some(waiting) } }
    }

    /// The inner service is called only if the request may pass.
    pub(crate) fn decided(decision: Decision<B, ResB>, service: &mut S) -> Self {
        Self { state: State::decided(decision, service) }
    }
}

impl<S: Service<Request<B>>, B, ResB> State<S, B, ResB> {
    fn decided(decision: Decision<B, ResB>, service: &mut S) -> Self {
        match decision {
            Ok(Pass { request, after }) => Self::Passed { response: service.call(request), after },
            Err(response) => Self::Refused { response: Some(response) },
        }
    }
}

impl<S, B, ResB> Future for AuthFuture<S, B, ResB>
where
    S: Service<Request<B>, Response = Response<ResB>>,
{
    type Output = Result<Response<ResB>, S::Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Passed { response, after } => {
                    let response = ready!(response.poll(context))?;
                    let Some(after) = after.take() else {
                        return Poll::Ready(Ok(response));
                    };
                    let succeeded = response.status().as_u16() < 400;
                    let Some(turn) = after.turn.filter(|_| succeeded) else {
                        return Poll::Ready(Ok((after.finish)(response)));
                    };
                    State::Turning {
                        turning: turn.take(),
                        answered: Some((response, after.finish)),
                    }
                }
                StateProjection::Turning { turning, answered } => {
                    let told = ready!(turning.as_mut().poll(context));
                    let Some((mut response, finish)) = answered.take() else {
                        return Poll::Pending;
                    };
                    if let Some(told) = told {
                        told.tell(response.headers_mut());
                    }
                    return Poll::Ready(Ok(finish(response)));
                }
                StateProjection::Refused { response } => {
                    let response = response.take();
                    return response.map_or(Poll::Pending, |response| Poll::Ready(Ok(response)));
                }
                StateProjection::Asking { asking, waiting } => {
                    let answer = ready!(asking.as_mut().poll(context));
                    let Some(Waiting { request, mut service, decide }) = waiting.take() else {
                        return Poll::Pending;
                    };
                    State::decided(decide(request, answer), &mut service)
                }
            };
            state.set(next);
        }
    }
}
