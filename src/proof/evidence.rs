//! What a request proves of who presents its token.

#[cfg(feature = "dpop")]
use std::sync::Arc;

#[cfg(feature = "dpop")]
use http::HeaderValue;
use http::{Extensions, HeaderMap};

#[cfg(feature = "dpop")]
use super::dpop::{DpopEvidence, Prover};
use super::{
    mtls::{ClientCertificate, ClientCertificates},
    signatures::{MessageSignatures, SignatureInput},
};
use crate::{
    clock::Clock,
    credentials::{AccessToken, RequestHead, Scheme},
    observe::LogLimit,
    rejection::Rejection,
    store::Binding,
};

/// What a layer takes for proof of who presents a token.
#[derive(Default)]
pub(crate) struct ProofSettings {
    pub(crate) certificates: Option<ClientCertificates>,
    pub(crate) signatures: Option<MessageSignatures>,
    #[cfg(feature = "dpop")]
    pub(crate) dpop: Option<Arc<Prover>>,
}

/// What a request proves. Certificate and DPoP proof are verified; the message signature is for
/// Authlete to verify, which knows the client's keys.
#[derive(Default)]
pub(crate) struct Evidence<'r> {
    pub(crate) certificate: Option<ClientCertificate>,
    #[cfg(feature = "dpop")]
    pub(crate) dpop: Option<DpopEvidence<'r>>,
    pub(crate) signature: Option<SignatureInput<'r>>,
}

impl Evidence<'_> {
    /// Whether a token that comes with this is one of a bearer.
    pub(crate) fn is_empty(&self) -> bool {
        self.binding() == Binding::BEARER && self.signature.is_none()
    }

    /// To whom a token may be bound that comes with this.
    pub(crate) fn binding(&self) -> Binding {
        #[cfg(feature = "dpop")]
        let key = self.dpop.as_ref().map(|dpop| dpop.proof.thumbprint);
        #[cfg(not(feature = "dpop"))]
        let key = None;
        Binding { key, certificate: self.certificate.as_ref().map(ClientCertificate::thumbprint) }
    }
}

impl ProofSettings {
    /// Whether a request by this scheme proves something that is for it alone, so that what is known of
    /// its token does not suffice.
    #[inline]
    pub(crate) fn is_per_request(&self, scheme: Scheme) -> bool {
        scheme == Scheme::Dpop || self.signatures.is_some()
    }

    /// Whether responses can be signed.
    #[inline]
    pub(crate) fn signs_responses(&self) -> bool {
        self.signatures.as_ref().is_some_and(MessageSignatures::has_signer)
    }

    /// The nonce of ours that clients have to use next, if proofs have to hold one (RFC 9449 §9).
    #[cfg(feature = "dpop")]
    pub(crate) fn nonce(&self, clock: &Clock) -> Option<HeaderValue> {
        self.dpop.as_ref()?.nonce(clock.now())
    }

    /// The client certificate of a request.
    #[inline]
    pub(crate) fn certificate(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Option<ClientCertificate>, Rejection> {
        match &self.certificates {
            Some(certificates) => certificates.find(headers, extensions),
            None => Ok(None),
        }
    }

    /// Verifies all that a request proves. Whether its DPoP proof has been used before is left to
    /// [`Prover::use_up`], once its token is known to be good.
    pub(crate) fn verify<'r>(
        &self,
        head: RequestHead<'r>,
        extensions: &Extensions,
        token: AccessToken<'_>,
        clock: &Clock,
        log: &LogLimit,
    ) -> Result<Evidence<'r>, Rejection> {
        let certificate = self.certificate(head.headers, extensions)?;
        let signature = self.signatures.as_ref().map(|it| it.input(head, extensions)).transpose();
        let signature = signature.map_err(|error| error.into_rejection(token.scheme, log))?;
        #[cfg(feature = "dpop")]
        let dpop = match self.dpop.as_ref().filter(|_| token.scheme == Scheme::Dpop) {
            Some(prover) => {
                let url = prover.settings.origin().url(head, extensions);
                let url = url.map_err(|error| error.into_rejection(token.scheme, log))?;
                Some(prover.evidence(head, url, token.text(), clock.now())?)
            }
            None => None,
        };
        #[cfg(not(feature = "dpop"))]
        let _ = clock;
        Ok(Evidence {
            certificate,
            #[cfg(feature = "dpop")]
            dpop,
            signature,
        })
    }
}
