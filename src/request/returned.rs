//! A [`Rejection`] that a handler returns, rendered as the layer itself refuses.

use http::{Request, Response, header::CONTENT_LENGTH};

use crate::{
    credentials::{RequestHead, Scheme},
    rejection::{self, Protocol, Refusal, Refused, Refuser, Rejection, Renderer},
    token::TokenInfo,
};

/// What is kept of an admitted request, so that a [`Rejection`] in its response can be rendered.
pub(crate) struct Admitted {
    caller: Caller,
    scheme: Scheme,
    /// If the renderer asks for it.
    head: Option<Box<Request<()>>>,
}

enum Caller {
    Token(TokenInfo),
    Anonymous(Refuser),
}

impl Admitted {
    /// A request with a token that the layer resolved.
    #[inline]
    pub(super) fn with_token<R: Renderer<ResB>, B, ResB>(
        token: TokenInfo,
        scheme: Scheme,
        renderer: &R,
        request: &Request<B>,
    ) -> Self {
        Self { caller: Caller::Token(token), scheme, head: head(renderer, request) }
    }

    /// A request without a token, which an optional layer lets pass.
    pub(super) fn anonymous<R: Renderer<ResB>, B, ResB>(
        refuser: Refuser,
        renderer: &R,
        request: &Request<B>,
    ) -> Self {
        let caller = Caller::Anonymous(refuser);
        Self { caller, scheme: Scheme::Bearer, head: head(renderer, request) }
    }

    /// Renders the [`Rejection`] of the response, if a handler returned one. No layer outside does so
    /// again.
    #[inline]
    pub(crate) fn render<ResB: 'static>(self, mut response: Response<ResB>) -> Response<ResB> {
        match Refused::take_returned(&mut response) {
            Some(rejection) => self.render_returned(&rejection, response),
            None => response,
        }
    }

    /// Headers, status and extensions that were added to the response on its way stay.
    #[cold]
    fn render_returned<ResB: 'static>(
        self,
        rejection: &Rejection,
        response: Response<ResB>,
    ) -> Response<ResB> {
        let (refuser, token) = match &self.caller {
            Caller::Token(token) => (token.refuser(), Some(token)),
            Caller::Anonymous(refuser) => (Some(refuser), None),
        };
        let Some((refuser, renderer)) = refuser.and_then(|it| Some((it, it.renderer::<ResB>()?)))
        else {
            return response;
        };
        let request = self.head.as_deref().map(RequestHead::of);
        let protocol = request.map_or(Protocol::Http, Protocol::of);
        let (mut before, _) = response.into_parts();
        let mut head = rejection.head(&protocol, refuser.challenges(), self.scheme);
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

/// A copy of the request's head, if the renderer asks for it.
#[inline]
fn head<R: Renderer<ResB>, B, ResB>(
    renderer: &R,
    request: &Request<B>,
) -> Option<Box<Request<()>>> {
    renderer.keeps_requests().then(|| {
        let mut head = Request::new(());
        *head.method_mut() = request.method().clone();
        *head.uri_mut() = request.uri().clone();
        *head.version_mut() = request.version();
        *head.headers_mut() = request.headers().clone();
        Box::new(head)
    })
}
