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
    rejection::Refused,
    rotate::{Turn, Turning},
    verdict::Answer,
};

/// The answer of Authlete on its way. Only what is not known is waited for, so that what is known
/// needs no box.
pub(crate) type Asking = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// What is to be done when the request was answered, if it may pass, or the response that refuses it.
pub(crate) type Decision<ResB> = Result<Option<Box<After<ResB>>>, Response<ResB>>;

/// What is to be done to the response.
pub(crate) struct After<ResB> {
    pub(crate) turn: Option<Turn>,
    pub(crate) finish: Finish<ResB>,
}

/// The last touch to a response.
pub(crate) type Finish<ResB> = Box<dyn FnOnce(Response<ResB>) -> Response<ResB> + Send>;

/// What is done with a request when Authlete has answered.
pub(crate) type Decide<B, ResB> = Box<dyn FnOnce(&mut Request<B>, Answer) -> Decision<ResB> + Send>;

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
        // The rest is in boxes, so that what is known is not slowed down by the room for what is not.
        Asking { asking: Asking, waiting: Option<Box<Waiting<S, B, ResB>>> },
        Passed { #[pin] response: S::Future, after: Option<Box<After<ResB>>> },
        Turning { turning: Turning, answered: Option<Box<(Response<ResB>, Finish<ResB>)>> },
        // Taken when it is ready; polled again after that, it never is.
        Refused { response: Option<Box<Response<ResB>>> },
    }
}

impl<S: Service<Request<B>>, B, ResB> AuthFuture<S, B, ResB> {
    pub(crate) fn asking(asking: Asking, waiting: Waiting<S, B, ResB>) -> Self {
        Self { state: State::Asking { asking, waiting: Some(Box::new(waiting)) } }
    }

    /// The inner service is called only if the request may pass.
    pub(crate) fn decided(decision: Decision<ResB>, request: Request<B>, service: &mut S) -> Self {
        Self { state: State::decided(decision, request, service) }
    }
}

impl<S: Service<Request<B>>, B, ResB> State<S, B, ResB> {
    fn decided(decision: Decision<ResB>, request: Request<B>, service: &mut S) -> Self {
        match decision {
            Ok(after) => Self::Passed { response: service.call(request), after },
            Err(response) => Self::Refused { response: Some(Box::new(response)) },
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
                    let succeeded = response.status().as_u16() < 400 && !Refused::marks(&response);
                    let Some(turn) = after.turn.filter(|_| succeeded) else {
                        return Poll::Ready(Ok((after.finish)(response)));
                    };
                    State::Turning {
                        turning: turn.take(),
                        answered: Some(Box::new((response, after.finish))),
                    }
                }
                StateProjection::Turning { turning, answered } => {
                    let told = ready!(turning.as_mut().poll(context));
                    let Some(answered) = answered.take() else { return Poll::Pending };
                    let (mut response, finish) = *answered;
                    if let Some(told) = told {
                        told.tell(response.headers_mut());
                    }
                    return Poll::Ready(Ok(finish(response)));
                }
                StateProjection::Refused { response } => {
                    let response = response.take();
                    return response.map_or(Poll::Pending, |response| Poll::Ready(Ok(*response)));
                }
                StateProjection::Asking { asking, waiting } => {
                    let answer = ready!(asking.as_mut().poll(context));
                    let Some(waiting) = waiting.take() else { return Poll::Pending };
                    let Waiting { mut request, mut service, decide } = *waiting;
                    State::decided(decide(&mut request, answer), request, &mut service)
                }
            };
            state.set(next);
        }
    }
}
