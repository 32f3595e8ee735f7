//! What `/auth/token` binds a new token to.

use super::{
    grants::OAuthError, introspection::thumbprint, proofs::Unproven, service::Service,
    store::Record,
};
use crate::api::TokenRequest;

/// The thumbprints of a certificate (RFC 8705) and of a DPoP key (RFC 9449).
#[derive(Clone, Default)]
pub(super) struct Binding {
    certificate: Option<String>,
    key: Option<String>,
}

impl Binding {
    /// Binds a token; what is not given stays as it is.
    pub(super) fn bind(self, record: Record) -> Record {
        Record {
            certificate_thumbprint: self.certificate.or(record.certificate_thumbprint),
            dpop_key_thumbprint: self.key.or(record.dpop_key_thumbprint),
            ..record
        }
    }
}

impl From<Unproven> for OAuthError {
    fn from(Unproven { error, message }: Unproven) -> Self {
        Self::new(error, "A050311", message)
    }
}

impl Service {
    pub(super) fn binding(&self, request: &TokenRequest) -> Result<Binding, OAuthError> {
        let certificate =
            request.client_certificate.as_deref().filter(|_| self.certificate_bound_tokens);
        let unreadable = || {
            OAuthError::new("invalid_request", "A050206", "The client's certificate is malformed.")
        };
        let certificate = certificate.map(|pem| thumbprint(pem).ok_or_else(unreadable));
        Ok(Binding { certificate: certificate.transpose()?, key: self.proven_key(request)? })
    }

    fn proven_key(&self, request: &TokenRequest) -> Result<Option<String>, Unproven> {
        let Some(proof) = &request.dpop else {
            return Ok(None);
        };
        let method = request.htm.as_deref().or(Some("POST"));
        let proof = self.proof(proof, (method, request.htu.as_deref()), None)?;
        let key = proof.thumbprint.clone();
        let mut state = self.state();
        if request.dpop_nonce_required {
            state.proofs.require_nonce();
        }
        state.proofs.accept(proof, self.now_seconds())?;
        Ok(Some(key))
    }
}
