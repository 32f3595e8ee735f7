//! Whether a good token may be used for a request, by its facts.

use super::settings::Settings;
use crate::{
    authorize::Require, observe::limited, rejection::Rejection, store::Thumbprint,
    token::TokenInfo, verdict::Verdict, verify::Verifier,
};

/// What a layer demands of a good token, for use after the request has been admitted.
#[derive(Clone)]
pub(super) struct Conditions {
    require: Option<Require>,
    certificate: Option<Thumbprint>,
    signs: bool,
}

impl Conditions {
    /// Those of a layer for a request over a connection with this client certificate. `signs`: a layer
    /// signs the response, or can.
    pub(super) fn new<R>(
        settings: &Settings<R>,
        certificate: Option<Thumbprint>,
        signs: bool,
    ) -> Self {
        Self { require: settings.options.require.clone(), certificate, signs }
    }

    pub(super) fn authorize(
        &self,
        token: &TokenInfo,
        verifier: &Verifier,
    ) -> Result<(), Rejection> {
        let Self { require, certificate, signs } = self;
        authorize(token, certificate.as_ref(), *signs, require.as_ref(), verifier)
    }
}

/// Whether a good token may be used: over a connection with this client certificate, where responses can
/// be signed or not, and by what the layer requires.
#[inline]
pub(super) fn authorize(
    token: &TokenInfo,
    certificate: Option<&Thumbprint>,
    signs: bool,
    require: Option<&Require>,
    verifier: &Verifier,
) -> Result<(), Rejection> {
    if !token.is_bound_to(certificate) {
        let description = "the access token is bound to another client certificate";
        return Err(Rejection::invalid_token(description));
    }
    if token.needs_signed_response() && !signs {
        limited!(
            error,
            verifier.log,
            "an access token takes signed responses, and none are made for it; give a signer by \
             `MessageSignatures::signer`"
        );
        return Err(Rejection::misconfigured("responses cannot be signed here"));
    }
    require.map_or(Ok(()), |require| require.check_known(token, &verifier.clock))
}

/// Whether a token does not meet the layer's requirement by the answer that issued it, which does not tell
/// all facts, so that it has to be introspected.
#[inline]
pub(super) fn lacks_facts<R>(settings: &Settings<R>, known: &Verdict) -> bool {
    let Ok(token) = known else { return false };
    let clock = &settings.verifier.clock;
    let unmet = |require: &Require| require.check_known(token, clock).is_err();
    !token.is_complete() && settings.options.require.as_ref().is_some_and(unmet)
}
