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

/// The algorithm of a name. Ed25519 has one of its own (RFC 9864 §2.2) beside `EdDSA`.
pub(crate) fn algorithm(name: &str) -> Option<Algorithm> {
    match name {
        "Ed25519" => Some(Algorithm::EdDSA),
        name => name.parse().ok(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    // A key that signed `e30.e30`, and was thrown away. Made with Python's `cryptography`.
    const N: &str = "6Tvk80q4X6PmUaKotiI1MuQeM2yMgNUE5z9Lh8rcu8j2S7YbDTyHD7JDk1aBFHsFjVpaRylDljf8zOr2wHe9lVQpkPL96Ye2zWEQ9L7uhpq5OogbabuaqJpnE6NoRmDsoT_MZEFYzjJtVDMm0tZIJ4lUQkgUo-nUBC5YRNk7WfSRQJkfLrC82_s62tnbSx9Wr4MBQDknG_Dyb0SC_Dzf9M4ERNJu0-LxNU_qGD7rNHLw2h7GaZNrMW1NDYFjMVqfy00OncFgP6sd6CBe0BNDDDxm96QMNfJiVeySpWjJLvMochvR-5_SlpgcFhNOwHZ-pzhE7QZe0XDjsPDseIJTcQ";
    const SIGNATURES: [(Algorithm, &str); 6] = [
        (
            Algorithm::RS256,
            "sEiXa7VjotAuEXQZcDpjrHej51DvfuPj4cGOAWRNGQ4ucMUS8PihinwSIGe8RBRgn1AL74f0eaR-giChtDtAnf1fiiY7CgL4LdwZz0gaQRggUYCVj_lPeqqed2RimVa5TO-IMRIg9S1GrCdXKFS9Th3BXe_-H7n1zRywnDA7u_XI7gf08LWIQSEM6AL3CQW_F2klMO_ieEVER7rC3XE236x3jCv-SRgoNhMfLv6WvacVF-Oh46-1weJtpKbYJiyfFGn15C9tc6vqOK4Mu905UUWEoLvqKGm0MOuk9PLjfDdWDeh8COydSx7Lf2wsRRsuLxMqZBb2L9OH9csHkOLqag",
        ),
        (
            Algorithm::RS384,
            "Ph1cYgBTWsyaLvGgV0KaT3sw4Ugq_ma-mPSM3KWKo-BhARU3110Db76ZoilZq9Fr_ITXNrDgNr3BzkfVfy65EAqjUpfDqTt7PBOm1-uJKPiZLWq-6F4kFAfxX31rb2ym8AuDc3SWDZNkkU4qBjsGTQV8Amfe5Ol6jJ9UXKVhVU8UreXmoyS4RFsYMDz4_XJlQYF8FERhIC61QdJdesd7-qWh83m_-_KIItTmt7IEhAcrpqJ8Juiktt9X3Hu2fA_VzJ6M8EXbIfc5QC7xyJ47VvlLtdQyxOYaxv4bJXwUbQxU9HSV5GP3PTEg8reCXLvFmc6o-io4WAulkVgYjrNdaw",
        ),
        (
            Algorithm::RS512,
            "PScniLSPoBSv0diw_v8T5x8I9piCrymj5koU8N_6sSH-s-FhcUwnN7LUfTs0Er6Kf6I9CYClLLwOw023VRIvKgx1CuTfPwOltrpIdBe5wYIJay4ctjrEXlG0HzKb1ieGK0t7m2zO6syNMBNcuShv86HNUqyoNWxQH2wXLaOUcLMuYRH3KXuUqnQ3fuqxK_oIu3Qqm7gXA0IeXR62UwGrmEzADz8G2UGLeanfZ16QypVDv5LVv3vDAwN2ocEOWhy7At1f1HNXlyBtsu799Ud8y7Tft2224-O-OVfGQH0rywnlMjSluwKVkW0OJ6nv5wtfomHp3W6gc4me22tmTV-NQQ",
        ),
        (
            Algorithm::PS256,
            "10Y4gBZQf6Mckdxf9cnIMbIpDj9tRT4FwOf9fzlECtqwOAoReFcZ9Cx3qeDfrDor5Z5wEQ5bFx4yYihh4AWZkJDuYEl2bovBRnM7b0qFq3RmB3FF80b6bI6H8NII-6W5SvS_jXeuHF6tDJaTqyGz7IbpuNSWKMgO7tEg0vJf0i1eVglYWvRyhWJ0Fvrydgua8ggHNDXbAjpM1QVfJmoz2NGXzYOF4WJ_c0xq5ZwWwcuXAyAX8bFVE30VoGOh6IxrlFMtb29L2mlsjyVvMeXAd5vwlrRdXPtGNpoTQIQPS5bIwDEhjHr776x37iAPuOq5dn7DadcDL26k5b0wIJ1Spw",
        ),
        (
            Algorithm::PS384,
            "CHAgWtRTj5Tk-rwSWlmR5ktmq0LoLvGL2ZgpE5Ytyd-s0hNkVuc8EjlLH2R5Us-Pe2ZvSsDbgSRMCif7YHu3WLeFJu5WFza-gKohiPdvKeO7bYxs45gg-IY7QbNCSE7s84_9zUuv2Jnn4AoXOcofJGdx__pGft67IV-O2SFuRy1VyHCR9OUOSn7qEhezualmFnR9AEBn6jjbYJcYl15ol0ldxwUw7aM2tCDQ5LLX6MdRzSPw3fkPHz22tJN_En4BqC-8m2JNaIVARI3ydHvCNK6vLubX_-MJrcOEddTzxrrfYUUHREoNLRiGimoR_aL2DHDISYL5ZbCmC6T5KGTp-A",
        ),
        (
            Algorithm::PS512,
            "cHwel3rKdwNhriqHcrSVtfRzcNTJV9KvpEsoudXa9HSpri-OZmntnEgRDaFvNEpVULjNYj9V2B3q2vprm1fPWWdPZYalN6wxDovKZ4JpbXQG9_cZ81bbez9MNR9ibbLiht7sY1Gg5T_8iNdwM0Eg5fmyKiYCqI-Qfy2wgKS8ZcavQTs7vcbkNMEhBmA9NIOMk2vUXtBBs_CGaCgQ_L0_pU_VFPa1f5jC3ruzCcGlQMxE6RxDu0Fi2vpBDeW-knDAkmaDPYaWZd7zg9DPtWyUm6C8WKDRUlwtjAS1H2Is3qtXcE5UbyBbheu35Vw0xUcJRZgHs657u97Qm_oBi_v_CA",
        ),
    ];

    #[test]
    fn a_signature_of_rsa_is_good_by_its_own_algorithm_alone() {
        let jwk = format!(r#"{{"kty":"RSA","n":"{N}","e":"AQAB"}}"#);
        let jwk: Jwk = serde_json::from_str(&jwk).unwrap();
        let key = DecodingKey::from_jwk(&jwk).unwrap();
        for (own, signature) in SIGNATURES {
            let (token, other) = (format!("e30.e30.{signature}"), format!("e30.e31.{signature}"));
            let token = Compact::parse(&token).unwrap();
            for (algorithm, _) in SIGNATURES {
                assert!(takes(algorithm, &jwk));
                assert_eq!(token.is_by(&key, algorithm), algorithm == own, "{algorithm:?}");
            }
            assert!(!Compact::parse(&other).unwrap().is_by(&key, own));
            for algorithm in [Algorithm::HS256, Algorithm::ES256, Algorithm::EdDSA] {
                assert!(!takes(algorithm, &jwk) && !token.is_by(&key, algorithm));
            }
        }
    }
}
