//! A [`Rejection`] that a handler returns, rendered as the layer itself refuses.

use std::sync::Arc;

use http::{Request, Response, header::CONTENT_LENGTH};

use crate::{
    credentials::{RequestHead, Scheme},
    rejection::{self, Protocol, Refusal, Refuser, Rejection, Renderer},
    token::TokenInfo,
};

/// What is kept of an admitted request, so that a [`Rejection`] in its response can be rendered.
pub(crate) enum Admitted {
    /// Of a bearer, and the renderer does not ask for the request. Each hit moves it.
    Usual(TokenInfo),
    Unusual(Box<Unusual>),
}

pub(crate) struct Unusual {
    refuser: Arc<Refuser>,
    /// `None` if an optional layer lets the request pass without one.
    token: Option<TokenInfo>,
    scheme: Scheme,
    /// If the renderer asks for it.
    head: Option<Request<()>>,
}

impl Admitted {
    /// A request with the token that the layer resolved, if it has one.
    #[inline]
    pub(super) fn new<R: Renderer<ResB>, B, ResB>(
        refuser: &Arc<Refuser>,
        token: Option<TokenInfo>,
        scheme: Scheme,
        renderer: &R,
        request: &Request<B>,
    ) -> Self {
        let keeps_request = renderer.keeps_requests();
        match token {
            Some(token) if scheme == Scheme::Bearer && !keeps_request => Self::Usual(token),
            token => {
                let (refuser, head) = (refuser.clone(), keeps_request.then(|| head(request)));
                Self::Unusual(Box::new(Unusual { refuser, token, scheme, head }))
            }
        }
    }

    /// Renders the rejection that a handler returned. Headers, status and extensions that were added to the
    /// response stay.
    #[cold]
    pub(crate) fn render<ResB: 'static>(
        self,
        rejection: &Rejection,
        response: Response<ResB>,
    ) -> Response<ResB> {
        let (refuser, token, scheme, head) = match &self {
            Self::Usual(token) => (Refuser::of(token), Some(token), Scheme::Bearer, None),
            Self::Unusual(it) => {
                (Some(&*it.refuser), it.token.as_ref(), it.scheme, it.head.as_ref())
            }
        };
        let Some((refuser, renderer)) = refuser.and_then(|it| Some((it, it.renderer::<ResB>()?)))
        else {
            return response;
        };
        let request = head.map(RequestHead::of);
        let protocol = request.map_or(Protocol::Http, Protocol::of);
        let (mut before, _) = response.into_parts();
        let mut head = rejection.head(&protocol, refuser.challenges(), scheme);
        if protocol == Protocol::Http {
            *head.status_mut() = before.status;
        }
        // That of the body that is replaced.
        before.headers.remove(CONTENT_LENGTH);
        for name in head.headers().keys() {
            before.headers.remove(name);
        }
        head.headers_mut().extend(before.headers);
        let refusal = Refusal::new(rejection, request, token);
        let mut response = rejection::render(&*renderer, &refusal, head, true);
        response.extensions_mut().extend(before.extensions);
        response
    }
}

/// A copy of the request's head.
fn head<B>(request: &Request<B>) -> Request<()> {
    let mut head = Request::new(());
    *head.method_mut() = request.method().clone();
    *head.uri_mut() = request.uri().clone();
    *head.version_mut() = request.version();
    *head.headers_mut() = request.headers().clone();
    head
}
