//! Holders of tokens, and their proofs and certificates.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::json;
use sha2::{Digest, Sha256};

#[allow(dead_code, reason = "other tests use more of it")]
#[path = "../../shared/keys.rs"]
mod keys;

pub(crate) use self::keys::Key;

/// The origin of the `htu` of proofs.
pub(crate) const ORIGIN: &str = "https://api.example.com";

/// How many clients have keys and certificates.
pub(crate) const HOLDERS: usize = 3;

/// What a token is bound to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bound {
    Nobody,
    Key(usize),
    Certificate(usize),
}

/// The proofs in a request, by the client that they are of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Shown {
    pub(crate) key: Option<usize>,
    pub(crate) certificate: Option<usize>,
}

impl Shown {
    /// The proofs of the holder.
    pub(crate) fn by_holder(bound: Bound) -> Self {
        match bound {
            Bound::Nobody => Self::default(),
            Bound::Key(key) => Self { key: Some(key), certificate: None },
            Bound::Certificate(certificate) => Self { key: None, certificate: Some(certificate) },
        }
    }
}

/// The bytes of a certificate. They are not parsed.
pub(crate) fn certificate(holder: usize) -> Vec<u8> {
    format!("the certificate of {holder}").into_bytes()
}

pub(crate) fn certificate_thumbprint(holder: usize) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(certificate(holder)))
}

/// A proof for `GET path` with a token.
pub(crate) fn proof(key: &Key, token: &str, path: &str, number: u64, now: SystemTime) -> String {
    let made_at = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (jti, htu) = (number.to_string(), format!("{ORIGIN}{path}"));
    key.proof_for(token, json!({ "jti": jti, "htu": htu, "iat": made_at }))
}
