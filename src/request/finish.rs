//! The last change of a response: the next nonce, and the signature.

use std::{error::Error, sync::Arc};

use http::{HeaderName, HeaderValue, Request, Response, header::CACHE_CONTROL};

use super::{outcome::Finish, settings::Settings};
use crate::{
    credentials::{RequestHead, Scheme},
    observe::limited,
    proof::SignedRequest,
    rejection::{self, Protocol, Refusal, Rejection, Renderer},
    token::TokenInfo,
};

/// RFC 9449 §8.
pub(super) const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// What is to be done to the response at last, if anything is. `signs`: this layer signs it.
pub(super) fn finish<R: Renderer<ResB>, B, ResB: 'static>(
    settings: &Arc<Settings<R>>,
    request: &Request<B>,
    scheme: Scheme,
    token: &TokenInfo,
    signs: bool,
) -> Option<Finish<ResB>> {
    let nonce = nonce(settings, scheme);
    if nonce.is_none() && !signs {
        return None;
    }
    let signature = signs.then(|| Signature::new(settings, request, scheme, token));
    Some(Box::new(move |mut response| {
        if let Some(nonce) = nonce {
            response.headers_mut().insert(DPOP_NONCE, nonce);
            // RFC 9449 §8.2: a nonce is for one client.
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        match signature {
            Some(signature) => signature.sign(response),
            None => response,
        }
    }))
}

/// The nonce that the client has to use next, if there is one: ours, or that of Authlete.
#[cfg_attr(not(feature = "dpop"), expect(unused_variables, reason = "there are no DPoP proofs"))]
pub(super) fn nonce<R>(settings: &Settings<R>, scheme: Scheme) -> Option<HeaderValue> {
    #[cfg(feature = "dpop")]
    if scheme == Scheme::Dpop {
        let Settings { verifier, introspector, options, .. } = settings;
        return options.proofs.nonce(&verifier.clock).or_else(|| introspector.nonce());
    }
    None
}

/// The signature of a response (RFC 9421), and how to refuse if it cannot be made.
struct Signature<R> {
    settings: Arc<Settings<R>>,
    request: Option<SignedRequest>,
    token: TokenInfo,
    scheme: Scheme,
    protocol: Protocol,
}

impl<R> Signature<R> {
    fn new<B>(
        settings: &Arc<Settings<R>>,
        request: &Request<B>,
        scheme: Scheme,
        token: &TokenInfo,
    ) -> Self {
        let head = RequestHead::of(request);
        let signatures = settings.options.proofs.signatures.as_ref();
        Self {
            settings: settings.clone(),
            request: signatures.and_then(|it| it.keep(head, request.extensions())),
            token: token.clone(),
            scheme,
            protocol: Protocol::of(head),
        }
    }

    fn sign<ResB>(self, response: Response<ResB>) -> Response<ResB>
    where
        R: Renderer<ResB>,
    {
        let Settings { verifier, options, renderer, .. } = &*self.settings;
        let Some(signatures) = &options.proofs.signatures else { return response };
        let signed = signatures.sign(&self.token, self.request.as_ref(), response);
        signed.unwrap_or_else(|error| {
            let cause = &error as &dyn Error;
            limited!(error, verifier.log, error = cause, "a response could not be signed");
            let rejection = Rejection::misconfigured("the response could not be signed");
            let head = rejection.head(&self.protocol, &options.challenges, self.scheme);
            let refusal = Refusal::new(&rejection, None, Some(&self.token));
            rejection::render(&**renderer, &refusal, head, true)
        })
    }
}
