//! The response future of the layers.

use std::{
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{
    lifecycle::Rotating,
    rejection::Refused,
    request::{Admission, Admitted, Finish, OnResponse, Outcome},
    verify::{Resolved, Resolving},
};

pin_project! {
    /// Response future of [`AuthService`](crate::layer::AuthService) and
    /// [`RequireService`](crate::require::RequireService).
    pub struct AuthFuture<S, B, ResB>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<S, B, ResB>,
    }
}

pin_project! {
    // All but what a hit needs is in boxes: a hit moves no room for a miss.
    #[project = StateProjection]
    enum State<S, B, ResB>
    where
        S: Service<Request<B>>,
    {
        // The verdict on the token is waited for.
        Pending { verdict: Resolving, waiting: Option<Box<Waiting<S, B, ResB>>> },
        // The inner service answers.
        Admitted {
            #[pin] response: S::Future,
            admitted: Option<Admitted>,
            then: Option<Box<OnResponse<ResB>>>,
        },
        // The inner service has answered, and the new value of the token is waited for.
        Rotating { rotating: Rotating, answered: Option<Box<Answered<ResB>>> },
        // Empty once it has been polled.
        Refused { response: Option<Box<Response<ResB>>> },
    }
}

/// Decides on a request by the verdict on its token.
type Decide<B, ResB> = Box<dyn FnMut(&mut Request<B>, Resolved) -> Outcome<ResB> + Send>;

/// A request that waits for the verdict on its token, and the service that was polled ready for it.
struct Waiting<S, B, ResB> {
    request: Request<B>,
    service: S,
    decide: Decide<B, ResB>,
}

/// A response that waits for the new value of the token.
struct Answered<ResB> {
    response: Response<ResB>,
    finish: Option<Finish<ResB>>,
}

impl<S: Service<Request<B>>, B, ResB> AuthFuture<S, B, ResB> {
    /// Waits for the verdict on the request's token.
    pub(super) fn pending(
        verdict: Resolving,
        request: Request<B>,
        service: &mut S,
        decide: impl FnMut(&mut Request<B>, Resolved) -> Outcome<ResB> + Send + 'static,
    ) -> Self
    where
        S: Clone,
    {
        // The service that was polled ready has to be the one that is called; a clone takes its place. See
        // tower's documentation of `Service`, "Be careful when cloning inner services".
        let clone = service.clone();
        let service = mem::replace(service, clone);
        let waiting = Box::new(Waiting { request, service, decide: Box::new(decide) });
        Self { state: State::Pending { verdict, waiting: Some(waiting) } }
    }

    /// Calls the inner service.
    #[inline]
    pub(super) fn admitted(
        service: &mut S,
        request: Request<B>,
        admission: Admission<ResB>,
    ) -> Self {
        let Admission { admitted, then } = admission;
        Self { state: State::Admitted { response: service.call(request), admitted, then } }
    }

    pub(super) fn refused(response: Response<ResB>) -> Self {
        Self { state: State::Refused { response: Some(Box::new(response)) } }
    }
}

/// What becomes of the inner service's response: it is complete, unless the token gets a new value first.
#[inline(never)]
fn answered<ResB: 'static>(
    mut response: Response<ResB>,
    admitted: Option<Admitted>,
    then: Option<Box<OnResponse<ResB>>>,
) -> Result<Response<ResB>, (Rotating, Box<Answered<ResB>>)> {
    if let Some(admitted) = admitted
        && let Some(rejection) = Refused::take_returned(&mut response)
    {
        response = admitted.render(&rejection, response);
    }
    let Some(then) = then else { return Ok(response) };
    let (rotation, finish) = then.start(&response);
    let answered = Answered { response, finish };
    match rotation {
        Some(rotation) => Err((rotation.start(), Box::new(answered))),
        None => Ok(answered.finish()),
    }
}

impl<ResB> Answered<ResB> {
    fn finish(self) -> Response<ResB> {
        match self.finish {
            Some(finish) => finish(self.response),
            None => self.response,
        }
    }
}

impl<S, B, ResB> Waiting<S, B, ResB>
where
    S: Service<Request<B>, Response = Response<ResB>>,
{
    fn decide(mut self: Box<Self>, resolved: Resolved) -> State<S, B, ResB> {
        match (self.decide)(&mut self.request, resolved) {
            Outcome::Admit(Admission { admitted, then }) => {
                let Self { request, mut service, .. } = *self;
                State::Admitted { response: service.call(request), admitted, then }
            }
            Outcome::Wait(verdict) => State::Pending { verdict, waiting: Some(self) },
            Outcome::Refuse(response) => State::Refused { response: Some(Box::new(response)) },
        }
    }
}

impl<S, B, ResB> Future for AuthFuture<S, B, ResB>
where
    S: Service<Request<B>, Response = Response<ResB>>,
    ResB: 'static,
{
    type Output = Result<Response<ResB>, S::Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Pending { verdict, waiting } => {
                    let resolved = ready!(verdict.as_mut().poll(context));
                    let Some(waiting) = waiting.take() else { return Poll::Pending };
                    waiting.decide(resolved)
                }
                StateProjection::Admitted { response, admitted, then } => {
                    let polled = response.poll(context);
                    // A usual response is not moved.
                    match &polled {
                        Poll::Ready(Ok(it)) if then.is_some() || Refused::marks(it) => (),
                        _ => return polled,
                    }
                    match answered(ready!(polled)?, admitted.take(), then.take()) {
                        Ok(response) => return Poll::Ready(Ok(response)),
                        Err((rotating, answered)) => {
                            State::Rotating { rotating, answered: Some(answered) }
                        }
                    }
                }
                StateProjection::Rotating { rotating, answered } => {
                    let new = ready!(rotating.as_mut().poll(context));
                    let Some(mut answered) = answered.take() else { return Poll::Pending };
                    if let Some(new) = new {
                        new.tell(answered.response.headers_mut());
                    }
                    return Poll::Ready(Ok(answered.finish()));
                }
                StateProjection::Refused { response } => {
                    let response = response.take();
                    return response.map_or(Poll::Pending, |response| Poll::Ready(Ok(*response)));
                }
            };
            state.set(next);
        }
    }
}
