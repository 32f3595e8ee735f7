//! What tokens are bound to.

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use sha2::{Digest, Sha256};

use super::store::Record;

/// The thumbprints of a certificate (RFC 8705) and of a DPoP key (RFC 9449).
#[derive(Clone, Default)]
pub(super) struct Binding {
    pub(super) certificate: Option<String>,
    pub(super) key: Option<String>,
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

/// `x5t#S256` (RFC 8705 §3.1) of a certificate in PEM.
pub(super) fn thumbprint(pem: &str) -> Option<String> {
    let (_, rest) = pem.split_once("-----BEGIN CERTIFICATE-----")?;
    let (body, _) = rest.split_once("-----END CERTIFICATE-----")?;
    let body: String = body.split_whitespace().collect();
    let der = BASE64_STANDARD.decode(body).ok()?;
    Some(BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(der)))
}
