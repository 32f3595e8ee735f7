//! A request that is refused: by the layer, or inside of it as the layer itself refuses.

use std::sync::LazyLock;

use http::{Extensions, Request, Response};

use super::{
    context::AuthContext,
    finish::{DPOP_NONCE, nonce},
    settings::Settings,
};
use crate::{
    credentials::{RequestHead, Scheme},
    observe::{LogLimit, limited},
    rejection::{self, Challenges, EmptyBody, Protocol, Refusal, Refuser, Rejection, Renderer},
    token::TokenInfo,
};

/// The response of the layer to a request whose token, if any, came by this scheme.
pub(super) fn refuse<R: Renderer<ResB>, B, ResB>(
    settings: &Settings<R>,
    request: &Request<B>,
    scheme: Scheme,
    rejection: &Rejection,
    token: Option<&TokenInfo>,
) -> Response<ResB> {
    rejection.note();
    let request_head = RequestHead::of(request);
    let protocol = Protocol::of(request_head);
    let mut head = rejection.head(&protocol, &settings.options.challenges, scheme);
    let nonce = nonce(settings, scheme);
    head.headers_mut().extend(nonce.map(|nonce| (Some(DPOP_NONCE), nonce)));
    let watched = AuthContext::is_watched(request.extensions());
    let refusal = Refusal::new(rejection, Some(request_head), token);
    rejection::render(&*settings.renderer, &refusal, head, watched)
}

/// The response to a request that is refused inside of a layer: as the layer itself would refuse it,
/// unless bodies are of another type here.
pub(crate) fn refuse_inside<B: Default + 'static>(
    request: RequestHead<'_>,
    extensions: &Extensions,
    rejection: &Rejection,
) -> Response<B> {
    rejection.note();
    let scheme = AuthContext::scheme(extensions);
    let (protocol, watched) = (Protocol::of(request), AuthContext::is_watched(extensions));
    let refusal = Refusal::new(rejection, Some(request), extensions.get());
    let Some(refuser) = AuthContext::refuser(extensions) else {
        let head = rejection.head(&protocol, &Challenges::default(), scheme);
        return rejection::render(&EmptyBody, &refusal, head, watched);
    };
    let head = rejection.head(&protocol, refuser.challenges(), scheme);
    match refuser.renderer() {
        Some(renderer) => rejection::render(&*renderer, &refusal, head, watched),
        None => rejection::render(&EmptyBody, &refusal, head, watched),
    }
}

/// How the nearest layer refuses. Without a layer, the request is refused with 500.
pub(crate) fn refuser(extensions: &Extensions) -> Result<&Refuser, Rejection> {
    AuthContext::refuser(extensions).ok_or_else(|| {
        // There is no layer, and so none whose limit this could be.
        static LOG: LazyLock<LogLimit> = LazyLock::new(LogLimit::default);
        limited!(
            error,
            LOG,
            "a requirement or an extractor is used where no AuthLayer is outside of it; add \
             `.layer(auth)` to the router or service around it"
        );
        Rejection::misconfigured("no AuthLayer protects this route")
    })
}
