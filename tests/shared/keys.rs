//! Keys of clients, and the proofs (RFC 9449) that they make.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair,
    },
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What proofs are for, unless it is changed.
pub(crate) const URI: &str = "https://api.example.com/x";

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

pub(crate) struct Key {
    pub(crate) alg: &'static str,
    pub(crate) jwk: Value,
    sign: Sign,
}

impl Key {
    pub(crate) fn es256() -> Self {
        Self::ecdsa("ES256", "P-256", &ECDSA_P256_SHA256_FIXED_SIGNING)
    }

    pub(crate) fn es384() -> Self {
        Self::ecdsa("ES384", "P-384", &ECDSA_P384_SHA384_FIXED_SIGNING)
    }

    fn ecdsa(
        alg: &'static str,
        curve: &str,
        algorithm: &'static ring::signature::EcdsaSigningAlgorithm,
    ) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
        let point = &pair.public_key().as_ref()[1..];
        let (x, y) = point.split_at(point.len() / 2);
        let jwk =
            json!({ "kty": "EC", "crv": curve, "x": BASE64.encode(x), "y": BASE64.encode(y) });
        let sign = Box::new(move |m: &[u8]| pair.sign(&random, m).unwrap().as_ref().to_vec());
        Self { alg, jwk, sign }
    }

    pub(crate) fn ed25519() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        let x = BASE64.encode(pair.public_key());
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": x });
        Self { alg: "EdDSA", jwk, sign: Box::new(move |m| pair.sign(m).as_ref().to_vec()) }
    }

    /// The same key, which calls its algorithm so.
    #[allow(dead_code)]
    pub(crate) fn named(self, alg: &'static str) -> Self {
        Self { alg, ..self }
    }

    /// By other means than the emulator's: the members are in alphabetical order already.
    pub(crate) fn thumbprint(&self) -> String {
        let text = |name: &str| self.jwk[name].as_str().unwrap();
        let start = format!(r#"{{"crv":"{}","kty":"{}","#, text("crv"), text("kty"));
        let end = match self.jwk.get("y") {
            Some(_) => format!(r#""x":"{}","y":"{}"}}"#, text("x"), text("y")),
            None => format!(r#""x":"{}"}}"#, text("x")),
        };
        BASE64.encode(Sha256::digest(start + &end))
    }

    /// A coordinate of the public key.
    #[allow(dead_code)]
    pub(crate) fn coordinate(&self, name: &str) -> Vec<u8> {
        BASE64.decode(self.jwk[name].as_str().unwrap()).unwrap()
    }

    pub(crate) fn header(&self) -> Value {
        json!({ "typ": "dpop+jwt", "alg": self.alg, "jwk": self.jwk })
    }

    /// A proof with these claims in place of those of a good one, which is for no token.
    pub(crate) fn proof(&self, changes: Value) -> String {
        let jti: u128 = rand::random();
        let claims =
            json!({ "jti": jti.to_string(), "htm": "GET", "htu": URI, "iat": 2_000_000_000 });
        self.signed(self.header(), merged(claims, changes))
    }

    /// A proof for a token.
    pub(crate) fn proof_for(&self, token: &str, changes: Value) -> String {
        self.proof(merged(json!({ "ath": BASE64.encode(Sha256::digest(token)) }), changes))
    }

    /// A proof whose members that are `null` are left out.
    pub(crate) fn signed(&self, header: Value, claims: Value) -> String {
        let part = |mut value: Value| {
            value.as_object_mut().unwrap().retain(|_, value| !value.is_null());
            value.to_string()
        };
        self.signed_text(&part(header), &part(claims))
    }

    /// The same of any texts.
    pub(crate) fn signed_text(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
        let signature = BASE64.encode((self.sign)(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

pub(crate) fn merged(mut value: Value, changes: Value) -> Value {
    value.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    value
}
