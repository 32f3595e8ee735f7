//! DPoP proofs.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use http::Request;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{
    shared::{MARK, NOW, now, refused},
    signing::sign,
};
use crate::{
    credentials::RequestHead,
    proof::{Dpop, ProofFor},
};

/// Input: a method, a URL and a proof, each on a line; or instead of the proof its header and its claims,
/// which are then signed. An accepted proof satisfies RFC 9449 §4.3.
pub fn proof(input: &str) {
    let prover = Dpop::at("https://api.example.com").build();
    let lines: Vec<_> = input.splitn(4, '\n').collect();
    let (method, url, proof) = match lines[..] {
        [method, url, proof] => (method, url, proof.to_owned()),
        [method, url, header, claims] => (method, url, sign(header, claims)),
        _ => return,
    };
    let purpose = ProofFor { method, url, token: MARK, now: now() };
    match prover.verify(&proof, &purpose) {
        Ok(_) => accepted(&proof, method, url),
        Err(rejection) => refused(&rejection, RequestHead::of(&Request::new(()))),
    }
}

/// An independent check of an accepted proof.
fn accepted(proof: &str, method: &str, url: &str) {
    let parts: Vec<_> = proof.split('.').collect();
    assert!(parts.len() == 3 && proof.len() <= 8192, "{proof}");
    let (header, claims) = (json(parts[0]), json(parts[1]));
    let text =
        |object: &Map<_, _>, name| object.get(name).and_then(Value::as_str).map(str::to_owned);
    let typ = text(&header, "typ").unwrap_or_default();
    assert!(typ.eq_ignore_ascii_case("dpop+jwt"), "{header:?}");
    let Some(Value::Object(jwk)) = header.get("jwk") else { panic!("{header:?}") };
    assert!(!jwk.contains_key("d") && !jwk.contains_key("k"), "{header:?}");
    let kind = (text(jwk, "kty"), text(jwk, "crv"), text(&header, "alg"));
    let kind = (kind.0.as_deref(), kind.1.as_deref(), kind.2.as_deref());
    assert!(fits(kind), "{header:?}");
    assert_eq!(text(&claims, "htm").as_deref(), Some(method), "{claims:?}");
    let htu = text(&claims, "htu").unwrap_or_default();
    assert!(htu == url || leads_to(&htu, url), "{claims:?} for {url}");
    let age = claims.get("iat").and_then(Value::as_f64).map(|iat| (iat - NOW as f64).abs());
    assert!(age.is_some_and(|age| age <= 60.0), "{claims:?}");
    let ath = BASE64.encode(Sha256::digest(MARK));
    assert_eq!(text(&claims, "ath"), Some(ath), "{claims:?}");
    assert!(text(&claims, "jti").is_some_and(|jti| !jti.is_empty()), "{claims:?}");
}

fn json(part: &str) -> Map<String, Value> {
    let bytes = BASE64.decode(part).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{error}: {part}"))
}

/// Whether a key can be used with an algorithm (RFC 7518 §3.1, RFC 8037 §3.1).
fn fits((kty, crv, alg): (Option<&str>, Option<&str>, Option<&str>)) -> bool {
    match alg {
        Some("ES256") => (kty, crv) == (Some("EC"), Some("P-256")),
        Some("ES384") => (kty, crv) == (Some("EC"), Some("P-384")),
        Some("EdDSA" | "Ed25519") => (kty, crv) == (Some("OKP"), Some("Ed25519")),
        Some("PS256" | "RS256") => kty == Some("RSA"),
        _ => false,
    }
}

/// Whether two URLs are of the same server, and of the same path where that needs no normalisation.
fn leads_to(claimed: &str, ours: &str) -> bool {
    let without_query = claimed.split(['?', '#']).next().unwrap_or_default();
    let (Ok(claimed), Ok(ours)) = (without_query.parse(), ours.parse()) else {
        return true;
    };
    let (claimed, ours): (http::Uri, http::Uri) = (claimed, ours);
    let plain = |uri: &http::Uri| !uri.path().contains(['%', '.', '?']);
    let same_path = claimed.path() == ours.path() || !plain(&claimed) || !plain(&ours);
    server(&claimed) == server(&ours) && same_path
}

fn server(uri: &http::Uri) -> Option<(String, String, Option<u16>)> {
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let usual = match scheme.as_str() {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    };
    Some((scheme, uri.host()?.to_ascii_lowercase(), uri.port_u16().or(usual)))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};
    use serde_json::json;

    use super::super::strategies::{CASES, seeds, value};
    use super::*;

    #[test]
    fn it_holds_of_all_seeds() {
        seeds("proof").iter().for_each(|seed| proof(str::from_utf8(seed).unwrap()));
    }

    /// The members of a valid proof, with some of these changes.
    fn changed(
        good: Value,
        changes: &'static [(&'static str, &'static str)],
    ) -> impl Strategy<Value = Value> {
        let change = prop_oneof![
            3 => select(changes).prop_map(|(name, json)| (name, serde_json::from_str(json).unwrap())),
            1 => (select(changes), value()).prop_map(|((name, _), value)| (name, value)),
        ];
        vec(change, 0..3).prop_map(move |changes| {
            let mut changed = good.clone();
            for (name, value) in changes {
                changed[name] = value;
            }
            changed
        })
    }

    fn header() -> impl Strategy<Value = Value> {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": x });
        let good = json!({ "typ": "dpop+jwt", "alg": "EdDSA", "jwk": jwk });
        changed(
            good,
            &[
                ("typ", r#""DPOP+JWT""#),
                ("typ", r#""JWT""#),
                ("alg", r#""none""#),
                ("alg", r#""HS256""#),
                ("alg", r#""ES256""#),
                ("alg", r#""Ed25519""#),
                ("crit", r#"["a"]"#),
                ("jwk", r#"{"kty":"oct","k":"AAAA"}"#),
                ("x", "1"),
            ],
        )
    }

    fn claims() -> impl Strategy<Value = Value> {
        let ath = BASE64.encode(Sha256::digest(MARK));
        let url = "https://api.example.com/a";
        let good = json!({ "jti": "1", "htm": "GET", "htu": url, "iat": NOW, "ath": ath });
        changed(
            good,
            &[
                ("jti", r#""""#),
                ("htm", r#""get""#),
                ("htu", r#""HTTPS://api.example.com:443/a?b""#),
                ("htu", r#""https://api.example.com.evil/a""#),
                ("htu", r#""https://api.example.com@evil/a""#),
                ("iat", "1999999940"),
                ("iat", "2000000060.5"),
                ("iat", "1e300"),
                ("ath", r#""""#),
                ("nonce", "\"a\""),
            ],
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(CASES))]

        #[test]
        fn proofs_that_are_accepted_are_for_this(header in header(), claims in claims()) {
            proof(&format!("GET\nhttps://api.example.com/a\n{header}\n{claims}"));
        }

        #[test]
        fn proofs_of_any_form_are_read(input in "[ -~]{0,40}(\\.[a-zA-Z0-9_-]{0,40}){0,3}") {
            proof(&format!("GET\nhttps://api.example.com/a\n{input}"));
        }
    }
}
