//! A request that is admitted: what is left in it for what is inside, and what is done to its response.

use std::sync::Arc;

use http::Request;

use super::{
    authorize::Conditions,
    context::{AuthContext, Introspection, ResponseHandling, UsedProof},
    finish::finish,
    outcome::{Admission, OnResponse},
    returned::Admitted,
    settings::Settings,
    state::RequestState,
};
use crate::{
    credentials::{self, Scheme},
    lifecycle::PendingExtension,
    rejection::Renderer,
    token::TokenInfo,
    verify::Freshness,
};

/// Puts the facts of the token into the request, and tells what is to be done to its response.
#[inline]
pub(super) fn admit<R: Renderer<ResB>, B, ResB: 'static>(
    settings: &Arc<Settings<R>>,
    freshness: Freshness,
    request: &mut Request<B>,
    state: &mut RequestState,
    token: TokenInfo,
    extension: Option<Box<PendingExtension>>,
) -> Admission<ResB> {
    let Settings { verifier, options, renderer, .. } = &**settings;
    let usual = state.scheme == Scheme::Bearer
        && state.details.is_none()
        && token.is_complete()
        && !token.needs_signed_response()
        && AuthContext::is_absent(request.extensions());
    let then =
        if usual { None } else { prepare(settings, freshness, request, state, &token, extension) };
    let proofs = options.challenges.algorithms.is_some();
    credentials::conceal(&options.sources, proofs, request.headers_mut(), options.strip);
    verifier.refuser.add_renderer::<ResB>(renderer);
    let admitted =
        Admitted::new(&verifier.refuser, Some(token.clone()), state.scheme, &**renderer, request);
    token.insert_into(request.extensions_mut(), options.token_info_alone);
    Admission { admitted: Some(admitted), then }
}

/// Leaves the context in a request that is not the usual hit, and tells what is to be done to its
/// response: what a layer of the same handle outside does is not done again.
#[inline(never)]
fn prepare<R: Renderer<ResB>, B, ResB: 'static>(
    settings: &Arc<Settings<R>>,
    freshness: Freshness,
    request: &mut Request<B>,
    state: &mut RequestState,
    token: &TokenInfo,
    extension: Option<Box<PendingExtension>>,
) -> Option<Box<OnResponse<ResB>>> {
    let verifier = &settings.verifier;
    let outer = AuthContext::take(request.extensions_mut(), verifier);
    let rotation = state.take_rotation(&settings.lifecycle).filter(|_| !outer.rotates);
    // An extension by the old value would miss the token that gets a new one.
    let extension = extension.filter(|_| rotation.is_none() && !outer.rotates);
    let signs = token.needs_signed_response() && !outer.signs;
    let response = ResponseHandling {
        rotates: outer.rotates || rotation.is_some(),
        signs: outer.signs || signs,
        watched: outer.watched || rotation.is_some() || extension.is_some(),
    };
    let finish = finish(settings, request, state.scheme, token, signs);
    let usual = state.scheme == Scheme::Bearer && token.is_complete();
    if !usual || response != ResponseHandling::default() {
        let context = context(settings, freshness, state, token, response);
        request.extensions_mut().insert(context);
    }
    let nothing = rotation.is_none() && extension.is_none() && finish.is_none();
    (!nothing).then(|| Box::new(OnResponse { rotation, extension, finish }))
}

/// What is inside has to know, where it is not the usual.
fn context<R>(
    settings: &Settings<R>,
    freshness: Freshness,
    state: &RequestState,
    token: &TokenInfo,
    response: ResponseHandling,
) -> AuthContext {
    let details = state.details.as_deref();
    let presented = details.and_then(|details| details.presented.clone());
    let introspection = presented.filter(|_| !token.is_complete()).map(|presented| Introspection {
        presented,
        freshness,
        conditions: Conditions::new(settings, state.certificate, response.signs),
    });
    let proof_call = details.and_then(|details| details.proof_call.clone());
    let used_proof = proof_call.map(|(key, call)| UsedProof { key, token: token.clone(), call });
    let (verifier, scheme) = (settings.verifier.clone(), state.scheme);
    AuthContext { verifier, scheme, introspection, used_proof, response }
}
