//! Verification of DPoP proofs (RFC 9449 §4.3).

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::Uri;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::store::hash;

/// The longest distance (s) of a proof's `iat` from the clock.
pub(super) const LEEWAY: f64 = 300.0;

/// The algorithms of signatures, as challenges list them.
pub(super) const ALGORITHMS: &str = "ES256 ES384 Ed25519 EdDSA PS256 RS256";

/// Members of private and symmetric keys (RFC 7518 §6).
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// The request that a proof must be made for.
pub(super) struct ProofContext<'p> {
    pub(super) method: &'p str,
    pub(super) uri: &'p str,
    /// The access token of the request.
    pub(super) token: Option<&'p str>,
    /// s since the epoch.
    pub(super) now: f64,
}

/// A proof with a valid signature, made for its request. Replay and nonce are not checked yet.
pub(super) struct VerifiedProof {
    /// The thumbprint of its key (RFC 7638).
    pub(super) thumbprint: String,
    pub(super) id: String,
    pub(super) nonce: Option<String>,
    /// `iat` (s since the epoch).
    pub(super) made_at: f64,
}

#[derive(Deserialize)]
struct DpopHeader {
    typ: String,
    alg: String,
    jwk: Jwk,
    crit: Option<Value>,
}

#[derive(Deserialize)]
struct DpopClaims {
    jti: String,
    htm: String,
    htu: String,
    iat: f64,
    ath: Option<String>,
    nonce: Option<String>,
}

/// Verifies a proof for a request. The error is a message.
pub(super) fn verify(
    proof: &str,
    context: &ProofContext<'_>,
) -> Result<VerifiedProof, &'static str> {
    let parts = || {
        let (signed, signature) = proof.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        Some((signed, json::<DpopHeader>(header)?, json::<DpopClaims>(claims)?, decode(signature)?))
    };
    let (signed, header, claims, signature) = parts().ok_or("The DPoP proof is malformed.")?;
    require(header.typ == "dpop+jwt", "The DPoP proof is of another type.")?;
    require(header.crit.is_none(), "The DPoP proof has extensions that are not understood.")?;
    require(header.jwk.is_public(), "The DPoP proof's key is not a public one.")?;
    require(
        header.jwk.verify(&signature, &header.alg, signed.as_bytes()).is_some(),
        "The DPoP proof's signature cannot be verified.",
    )?;
    claims.check(context)?;
    let thumbprint = header.jwk.thumbprint().ok_or("The DPoP proof's key is malformed.")?;
    Ok(VerifiedProof { thumbprint, id: claims.jti, nonce: claims.nonce, made_at: claims.iat })
}

impl DpopClaims {
    fn check(&self, context: &ProofContext<'_>) -> Result<(), &'static str> {
        let uri = normalized(&self.htu);
        let token = context.token.map(hash);
        let age = (context.now - self.iat).abs();
        require(!self.jti.is_empty(), "The DPoP proof's `jti` is empty.")?;
        require(self.htm == context.method, "The DPoP proof is for another method.")?;
        require(
            uri.is_some() && uri == normalized(context.uri),
            "The DPoP proof is for another URI.",
        )?;
        require(age <= LEEWAY, "The DPoP proof is not from now.")?;
        require(token.is_none() || token == self.ath, "The DPoP proof is for another token.")
    }
}

fn require(holds: bool, message: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(message) }
}

/// Normalizes a URI without query and fragment (RFC 3986 §6.2.2, §6.2.3).
fn normalized(uri: &str) -> Option<String> {
    let uri: Uri = uri.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let authority = uri.authority()?.as_str().to_ascii_lowercase();
    let port = match scheme.as_str() {
        "https" => ":443",
        "http" => ":80",
        _ => "",
    };
    let authority = authority.strip_suffix(port).unwrap_or(&authority);
    let path = if uri.path().is_empty() { "/" } else { uri.path() };
    Some(format!("{scheme}://{authority}{path}"))
}

fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}

fn json<T: DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&decode(part)?).ok()
}

/// A JSON Web Key (RFC 7517).
#[derive(Deserialize)]
struct Jwk(BTreeMap<String, Value>);

impl Jwk {
    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        decode(self.text(name)?)
    }

    fn is_public(&self) -> bool {
        !PRIVATE_MEMBERS.iter().any(|name| self.0.contains_key(*name))
    }

    /// `Some` if this is a key for the algorithm, and it made the signature.
    fn verify(&self, signature: &[u8], algorithm: &str, signed: &[u8]) -> Option<()> {
        let by = |algorithm: &'static dyn VerificationAlgorithm, key: Vec<u8>| {
            UnparsedPublicKey::new(algorithm, key).verify(signed, signature)
        };
        let verified = match (algorithm, self.text("kty")?, self.text("crv")) {
            ("ES256", "EC", Some("P-256")) => by(&ECDSA_P256_SHA256_FIXED, self.point(32)?),
            ("ES384", "EC", Some("P-384")) => by(&ECDSA_P384_SHA384_FIXED, self.point(48)?),
            ("Ed25519" | "EdDSA", "OKP", Some("Ed25519")) => by(&ED25519, self.bytes("x")?),
            ("PS256", "RSA", _) => self.rsa()?.verify(&RSA_PSS_2048_8192_SHA256, signed, signature),
            ("RS256", "RSA", _) => {
                self.rsa()?.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature)
            }
            _ => return None,
        };
        verified.ok()
    }

    /// The uncompressed point of an elliptic curve, with coordinates of this length (bytes).
    fn point(&self, length: usize) -> Option<Vec<u8>> {
        let (x, y) = (self.bytes("x")?, self.bytes("y")?);
        let fits = x.len() == length && y.len() == length;
        fits.then(|| [vec![4], x, y].concat())
    }

    fn rsa(&self) -> Option<RsaPublicKeyComponents<Vec<u8>>> {
        Some(RsaPublicKeyComponents { n: self.bytes("n")?, e: self.bytes("e")? })
    }

    /// RFC 7638.
    fn thumbprint(&self) -> Option<String> {
        let names: &[_] = match self.text("kty")? {
            "EC" => &["crv", "kty", "x", "y"],
            "OKP" => &["crv", "kty", "x"],
            "RSA" => &["e", "kty", "n"],
            _ => return None,
        };
        let members = names.iter().map(|name| Some((*name, self.text(name)?)));
        let members: BTreeMap<_, _> = members.collect::<Option<_>>()?;
        serde_json::to_string(&members).ok().map(|text| hash(&text))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// RFC 9449 §7.1.
    const PROOF: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6Ik\
        VDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCR\
        nMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JE\
        QSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIj\
        oiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0Z\
        WRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNF\
        c05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71E\
        OptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA";
    const TOKEN: &str = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
    const CONTEXT: ProofContext<'_> = ProofContext {
        method: "GET",
        uri: "https://resource.example.org/protectedresource",
        token: Some(TOKEN),
        now: 1_562_262_618.0,
    };

    #[test]
    fn the_example_of_rfc_9449_is_valid_for_its_request_only() {
        let proof = verify(PROOF, &CONTEXT).unwrap_or_else(|message| panic!("{message}"));
        assert_eq!(proof.thumbprint, "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
        assert_eq!((proof.id.as_str(), proof.nonce), ("e1j3V_bKic8-LAEB", None));
        for context in [
            ProofContext { method: "POST", ..CONTEXT },
            ProofContext { method: "get", ..CONTEXT },
            ProofContext { uri: "https://resource.example.org/", ..CONTEXT },
            ProofContext { token: Some("another"), ..CONTEXT },
            ProofContext { now: CONTEXT.now + LEEWAY + 1.0, ..CONTEXT },
            ProofContext { now: CONTEXT.now - LEEWAY - 1.0, ..CONTEXT },
        ] {
            assert!(verify(PROOF, &context).is_err());
        }
    }

    #[test]
    fn a_proof_at_the_token_endpoint_needs_no_ath() {
        // RFC 9449 §5.
        let proof = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6Ik\
            VDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCR\
            nMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JE\
            QSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIj\
            oiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwia\
            WF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg\
            4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";
        let uri = "https://server.example.com/token";
        let context = ProofContext { method: "POST", uri, token: None, ..CONTEXT };
        assert!(verify(proof, &context).is_ok());
        assert!(verify(proof, &ProofContext { token: Some(TOKEN), ..context }).is_err());
    }

    #[test]
    fn malformed_and_unsigned_proofs_are_refused() {
        let (signed, signature) = PROOF.rsplit_once('.').unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        let swapped = signature.replacen('W', "X", 1);
        for nonsense in [
            String::new(),
            "..".into(),
            signed.into(),
            format!("{PROOF}."),
            format!("{PROOF}.{signature}"),
            format!("{PROOF}="),
            format!("{signed}."),
            format!("{signed}.{swapped}"),
            format!("{claims}.{header}.{signature}"),
        ] {
            assert!(verify(&nonsense, &CONTEXT).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn thumbprints_are_those_of_rfc_7638_and_rfc_8037() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR\
            1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ\
            5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08\
            qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8aw\
            apJzKnqDKgw";
        let rsa = json!({ "kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29" });
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let ed25519 = json!({ "kty": "OKP", "crv": "Ed25519", "x": x });
        for (key, expected) in [
            (rsa, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"),
            (ed25519, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"),
        ] {
            let key: Jwk = serde_json::from_value(key).unwrap();
            assert_eq!(key.thumbprint().as_deref(), Some(expected));
        }
    }

    #[test]
    fn uris_are_normalized_before_they_are_compared() {
        for (same, other) in [
            ("HTTPS://API.example.com:443/a", "https://api.example.com/a"),
            ("http://api.example.com:80", "http://api.example.com/"),
            ("https://api.example.com?a=b", "https://api.example.com/#c"),
            ("https://[::1]:443/", "https://[::1]/"),
        ] {
            assert_eq!(normalized(same), normalized(other), "{same}");
            assert!(normalized(same).is_some(), "{same}");
        }
        for (one, other) in [
            ("https://api.example.com/a", "https://api.example.com/A"),
            ("https://api.example.com/a", "https://api.example.com/a/"),
            ("https://api.example.com/a", "http://api.example.com/a"),
            ("https://api.example.com:80/", "https://api.example.com/"),
        ] {
            assert_ne!(normalized(one), normalized(other), "{one}");
        }
        for nonsense in ["", "/a", "api.example.com", "https://"] {
            assert_eq!(normalized(nonsense), None, "{nonsense}");
        }
    }
}
