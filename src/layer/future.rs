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
    lifecycle::{PendingExtension, PendingRotation, Rotating},
    rejection::Refused,
    verify::{Resolved, Resolving},
};

/// What becomes of a request.
pub(crate) enum Decision<ResB> {
    /// It may pass.
    Admit(Option<Box<After<ResB>>>),
    /// It is decided again, by what is known then.
    Wait(Resolving),
    Refuse(Response<ResB>),
}

/// What is to be done when the head of the response is there.
pub(crate) struct After<ResB> {
    pub(crate) rotation: Option<PendingRotation>,
    pub(crate) extension: Option<PendingExtension>,
    pub(crate) finish: Option<Finish<ResB>>,
}

/// The last change of a response.
pub(crate) type Finish<ResB> = Box<dyn FnOnce(Response<ResB>) -> Response<ResB> + Send>;

/// What is done with a request when more is known of its token.
pub(crate) type Decide<B, ResB> =
    Box<dyn FnMut(&mut Request<B>, Resolved) -> Decision<ResB> + Send>;

/// A request that waits for what is known of its token, and the service that was polled ready for it.
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
        // The rest is in boxes, so that a hit is not slowed down by the room for a miss.
        Pending { resolving: Resolving, waiting: Option<Box<Waiting<S, B, ResB>>> },
        Admitted { #[pin] response: S::Future, after: Option<Box<After<ResB>>> },
        Rotating { rotating: Rotating, answered: Option<Box<Answered<ResB>>> },
        // Taken when it is ready; polled again after that, it never is.
        Refused { response: Option<Box<Response<ResB>>> },
    }
}

/// A response that waits for the new value of a token.
struct Answered<ResB> {
    response: Response<ResB>,
    finish: Option<Finish<ResB>>,
}

impl<ResB> Answered<ResB> {
    fn finish(self) -> Response<ResB> {
        match self.finish {
            Some(finish) => finish(self.response),
            None => self.response,
        }
    }
}

impl<S: Service<Request<B>>, B, ResB> AuthFuture<S, B, ResB> {
    pub(crate) fn pending(resolving: Resolving, waiting: Waiting<S, B, ResB>) -> Self {
        Self { state: State::Pending { resolving, waiting: Some(Box::new(waiting)) } }
    }

    pub(crate) fn admitted(response: S::Future, after: Option<Box<After<ResB>>>) -> Self {
        Self { state: State::Admitted { response, after } }
    }

    pub(crate) fn refused(response: Response<ResB>) -> Self {
        Self { state: State::Refused { response: Some(Box::new(response)) } }
    }
}

impl<ResB> After<ResB> {
    /// What is left to do of it for this response: to tell the new value of the token.
    fn begin(self, response: Response<ResB>) -> (Option<PendingRotation>, Answered<ResB>) {
        let refused = Refused::marks(&response);
        if let Some(extension) = self.extension.filter(|_| !refused) {
            extension.begin();
        }
        let succeeded = !refused && response.status().as_u16() < 400;
        let answered = Answered { response, finish: self.finish };
        (self.rotation.filter(|_| succeeded), answered)
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
                StateProjection::Admitted { response, after } => {
                    let response = ready!(response.poll(context))?;
                    let Some(after) = after.take() else {
                        return Poll::Ready(Ok(response));
                    };
                    let (rotation, answered) = after.begin(response);
                    let Some(rotation) = rotation else {
                        return Poll::Ready(Ok(answered.finish()));
                    };
                    let answered = Some(Box::new(answered));
                    State::Rotating { rotating: rotation.start(), answered }
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
                StateProjection::Pending { resolving, waiting } => {
                    let resolved = ready!(resolving.as_mut().poll(context));
                    let Some(mut waiting) = waiting.take() else { return Poll::Pending };
                    match (waiting.decide)(&mut waiting.request, resolved) {
                        Decision::Admit(after) => {
                            let Waiting { request, mut service, .. } = *waiting;
                            State::Admitted { response: service.call(request), after }
                        }
                        Decision::Wait(resolving) => {
                            State::Pending { resolving, waiting: Some(waiting) }
                        }
                        Decision::Refuse(response) => {
                            State::Refused { response: Some(Box::new(response)) }
                        }
                    }
                }
            };
            state.set(next);
        }
    }
}
