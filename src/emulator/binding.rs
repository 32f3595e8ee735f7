//! Bindings of tokens to certificates and keys.

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use sha2::{Digest, Sha256};

use super::store::TokenRecord;

/// The thumbprints of a certificate (RFC 8705) and of a DPoP key (RFC 9449).
#[derive(Clone, Default)]
pub(super) struct TokenBinding {
    pub(super) certificate: Option<String>,
    pub(super) key: Option<String>,
}

impl TokenBinding {
    /// Binds a token. A thumbprint that is `None` changes nothing.
    pub(super) fn bind(self, record: TokenRecord) -> TokenRecord {
        TokenRecord {
            certificate_thumbprint: self.certificate.or(record.certificate_thumbprint),
            dpop_key_thumbprint: self.key.or(record.dpop_key_thumbprint),
            ..record
        }
    }
}

/// The `x5t#S256` (RFC 8705 §3.1) of a PEM certificate.
pub(super) fn thumbprint(pem: &str) -> Option<String> {
    let (_, rest) = pem.split_once("-----BEGIN CERTIFICATE-----")?;
    let (body, _) = rest.split_once("-----END CERTIFICATE-----")?;
    let body: String = body.split_whitespace().collect();
    let der = BASE64_STANDARD.decode(body).ok()?;
    Some(BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(der)))
}
