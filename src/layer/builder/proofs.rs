//! Proofs of possession.

use super::AuthLayerBuilder;
#[cfg(feature = "dpop")]
use crate::proof::Dpop;
use crate::proof::{ClientCertificates, MessageSignatures};

impl<R> AuthLayerBuilder<R> {
    /// Accepts DPoP-bound tokens (RFC 9449) beside bearer tokens. Default: off, so that
    /// `Authorization: DPoP` is 401.
    #[cfg(feature = "dpop")]
    #[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
    pub fn dpop(self, dpop: Dpop) -> Self {
        Self { dpop: Some(dpop), ..self }
    }

    /// Where to find client certificates (RFC 8705). Default: nowhere, so that certificate-bound tokens are
    /// 401.
    pub fn client_certificates(mut self, certificates: ClientCertificates) -> Self {
        self.options.proofs.certificates = Some(certificates);
        self
    }

    /// Verifies message signatures (RFC 9421) of requests, and signs responses. Default: off.
    pub fn message_signatures(mut self, signatures: MessageSignatures) -> Self {
        self.options.proofs.signatures = Some(signatures);
        self
    }
}
