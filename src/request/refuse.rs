//! Refusals inside of a layer, as the layer itself refuses.

use std::sync::LazyLock;

use http::{Extensions, Response};

use super::context::AuthContext;
use crate::{
    credentials::RequestHead,
    observe::{LogLimit, limited},
    rejection::{self, Challenges, EmptyBody, Protocol, Refuser, Rejection},
};

/// How the nearest layer refuses.
pub(crate) fn guard(extensions: &Extensions) -> Result<&Refuser, Rejection> {
    AuthContext::guard(extensions).ok_or_else(|| {
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

/// The response to a request that is refused inside a layer: as the layer itself would refuse it,
/// unless bodies are of another type here.
pub(crate) fn refuse<B: Default + 'static>(
    request: RequestHead<'_>,
    extensions: &Extensions,
    rejection: &Rejection,
) -> Response<B> {
    rejection.note();
    let used = AuthContext::scheme(extensions);
    let (protocol, watched) = (Protocol::of(request), AuthContext::is_watched(extensions));
    let Some(guard) = AuthContext::guard(extensions) else {
        let head = rejection.head(&protocol, &Challenges::default(), used);
        return rejection::render(&EmptyBody, rejection, head, watched);
    };
    let head = rejection.head(&protocol, guard.challenges(), used);
    match guard.renderer() {
        Some(renderer) => rejection::render(&*renderer, rejection, head, watched),
        None => rejection::render(&EmptyBody, rejection, head, watched),
    }
}
