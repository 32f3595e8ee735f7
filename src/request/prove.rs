//! A request that proves something of its own, and what Authlete is told of what requests prove.

use http::Request;

use super::{
    context::AuthContext,
    settings::Settings,
    state::{Begin, RequestState},
};
#[cfg(feature = "dpop")]
use crate::introspect::Sent;
use crate::{
    api::IntrospectionRequest,
    credentials::{AccessToken, RequestHead},
    introspect::Presented,
    proof::{ClientCertificate, Evidence},
    rejection::Rejection,
    store::Key,
    verify::{Freshness, Resolved, Verifier},
};

/// Verifies what a request proves, and begins the check of its token. A DPoP proof that a layer of the
/// same handle outside has sent to Authlete is not sent again, which would be a replay. Not inlined, so that a
/// hit makes no room for it.
#[inline(never)]
pub(super) fn begin_with_proof<R, B>(
    settings: &Settings<R>,
    freshness: Freshness,
    request: &Request<B>,
    token: AccessToken<'_>,
    state: &mut RequestState,
) -> Result<Begin, Rejection> {
    let (head, extensions) = (RequestHead::of(request), request.extensions());
    let Settings { verifier, lifecycle, options, .. } = settings;
    let key = verifier.store.key(token.value);
    let context = AuthContext::of(extensions, verifier);
    let used = context.and_then(|context| context.used_proof.as_ref());
    let used = used.filter(|used| used.key == key);
    if let Some(used) = used
        && let Some(call) = used.call.get()
    {
        let certificate = options.proofs.certificate(head.headers, extensions)?;
        state.certificate = certificate.as_ref().map(ClientCertificate::thumbprint);
        state.begin_rotation(lifecycle, token, key, extensions);
        state.details().proof_call = Some((key, used.call.clone()));
        let known = || verifier.known_since(&key, call, &used.token, freshness.stale);
        return Ok(match (!freshness.fresh).then(known).flatten() {
            Some(verdict) => Begin::Ready(Resolved::known(verdict)),
            None => Begin::Pending(Box::pin(Verifier::wait(call.clone()))),
        });
    }
    let (clock, log) = (&verifier.clock, &verifier.log);
    let evidence = options.proofs.verify(head, extensions, token, clock, log)?;
    state.certificate = evidence.certificate.as_ref().map(ClientCertificate::thumbprint);
    state.begin_rotation(lifecycle, token, key, extensions);
    let presented = presented(key, token.text(), &evidence);
    // A signature is for one request, and only Authlete verifies it.
    let fresh = freshness.fresh || evidence.signature.is_some();
    let freshness = Freshness { fresh, ..freshness };
    Ok(resolve(settings, state, presented, evidence, freshness, used.is_some()))
}

/// Begins the check of a token whose evidence is verified. `used`: its DPoP proof has been used already,
/// by this request.
#[cfg_attr(not(feature = "dpop"), expect(unused_variables, reason = "there are no DPoP proofs"))]
fn resolve<R>(
    settings: &Settings<R>,
    state: &mut RequestState,
    presented: Presented,
    evidence: Evidence<'_>,
    freshness: Freshness,
    used: bool,
) -> Begin {
    let Settings { verifier, options, .. } = settings;
    #[cfg(feature = "dpop")]
    if let Some((prover, dpop)) = options.proofs.dpop.clone().zip(evidence.dpop) {
        let call = Sent::default();
        state.details().proof_call = Some((presented.key, call.clone()));
        let mut presented = presented;
        presented.sent = Some(call);
        let (presented, _) = state.ask(presented, settings);
        let verifier = verifier.clone();
        let foreign_nonces = settings.introspector.nonce().is_some();
        let verdict = verifier.resolve_with_proof(
            prover,
            dpop.proof,
            presented,
            freshness,
            used,
            foreign_nonces,
        );
        return Begin::Pending(Box::pin(verdict));
    }
    let (presented, _) = state.ask(presented, settings);
    Begin::Pending(Box::pin(verifier.clone().resolve(presented, freshness)))
}

/// A token with all that Authlete is told of how it was presented. Nothing else makes the API's
/// document of evidence.
pub(super) fn presented(key: Key, token: &str, evidence: &Evidence<'_>) -> Presented {
    let presented = Presented::new(key, evidence.binding(), token);
    if evidence.is_empty() {
        return presented;
    }
    let mut request = IntrospectionRequest::new().token(token);
    if let Some(certificate) = &evidence.certificate {
        request = request.client_certificate(certificate.to_pem());
    }
    if let Some(signature) = &evidence.signature {
        request = request
            .htm(signature.method.as_str())
            .headers(signature.headers.iter().copied())
            .target_uri(&signature.target_uri)
            .request_body_contained(signature.has_body);
    }
    #[cfg(feature = "dpop")]
    if let Some(dpop) = &evidence.dpop {
        request = request.dpop(dpop.text).htm(dpop.method).htu(&dpop.url);
    }
    presented.telling(request)
}
