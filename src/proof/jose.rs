//! Signatures of JSON documents (RFC 7515), and the keys that are for them.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk},
};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaPublicKeyComponents, UnparsedPublicKey,
    VerificationAlgorithm,
};
use serde::de::DeserializeOwned;

/// The three parts of a compact JWS: what is signed, with the header and the claims in it, and the
/// signature.
pub(crate) struct Compact<'t> {
    pub(crate) message: &'t str,
    pub(crate) header: &'t str,
    pub(crate) claims: &'t str,
    pub(crate) signature: &'t str,
}

impl<'t> Compact<'t> {
    pub(crate) fn parse(text: &'t str) -> Option<Self> {
        let (message, signature) = text.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        Some(Self { message, header, claims, signature })
    }

    /// Whether it is signed by this key.
    pub(crate) fn is_by(&self, key: &DecodingKey, algorithm: Algorithm) -> bool {
        let signature = BASE64_URL_SAFE_NO_PAD.decode(self.signature);
        signature.is_ok_and(|it| signed(key, algorithm, self.message.as_bytes(), &it).is_some())
    }
}

/// A part that is an object.
pub(crate) fn json<T: DeserializeOwned>(part: &str) -> Option<T> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).ok()?;
    // Structs would also be read from arrays, by position.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    serde_json::from_slice(&bytes).ok()
}

/// Whether a key is of an algorithm's kind. It is asked before every look at a signature, so that who
/// made it cannot choose how it is looked at.
pub(crate) fn takes(algorithm: Algorithm, jwk: &Jwk) -> bool {
    match &jwk.algorithm {
        AlgorithmParameters::EllipticCurve(key) => match algorithm {
            Algorithm::ES256 => key.curve == EllipticCurve::P256,
            Algorithm::ES384 => key.curve == EllipticCurve::P384,
            _ => false,
        },
        AlgorithmParameters::OctetKeyPair(key) => {
            algorithm == Algorithm::EdDSA && key.curve == EllipticCurve::Ed25519
        }
        AlgorithmParameters::RSA(_) => matches!(
            algorithm,
            Algorithm::PS256
                | Algorithm::PS384
                | Algorithm::PS512
                | Algorithm::RS256
                | Algorithm::RS384
                | Algorithm::RS512
        ),
        _ => false,
    }
}

/// Whether a signature is by this key.
fn signed(key: &DecodingKey, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> Option<()> {
    let plain = |algorithm: &'static dyn VerificationAlgorithm| {
        let key = UnparsedPublicKey::new(algorithm, key.try_get_as_bytes().ok()?);
        key.verify(message, signature).ok()
    };
    let rsa = |algorithm| match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, e } => {
            RsaPublicKeyComponents { n, e }.verify(algorithm, message, signature).ok()
        }
        _ => None,
    };
    match algorithm {
        Algorithm::ES256 => plain(&ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => plain(&ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => plain(&ED25519),
        Algorithm::PS256 => rsa(&RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => rsa(&RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => rsa(&RSA_PSS_2048_8192_SHA512),
        Algorithm::RS256 => rsa(&RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => rsa(&RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => rsa(&RSA_PKCS1_2048_8192_SHA512),
        _ => None,
    }
}
