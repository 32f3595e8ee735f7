//! Prechecks of access tokens that are JWTs (RFC 9068).

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, jwk::Jwk};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    api::ConfigError,
    proof::jose::{self, Compact},
};

const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
];

/// Tests access tokens that are JWTs (RFC 9068) before Authlete is asked.
///
/// A token is refused without a call if it is no JWT of type `at+jwt`, has expired, or is not signed by
/// the key that it names (`kid`). One that fits is checked as without this, since a signature does not
/// show that the token is not revoked. Verifying a signature takes some 10 µs to 100 µs, and happens only on
/// a cache miss.
///
/// **A token that names none of the keys fits**, since the service may use new keys that were not given here
/// yet. A forged token can name any key: if [new keys](JwtKeys::replace) are always given here before the
/// service uses them, set [`known_keys_only`](Self::known_keys_only).
///
/// Authlete also accepts the random strings that it issues with JWTs. If they are in use, allow them:
///
/// ```
/// use tower_authlete::{
///     AuthLayer,
///     precheck::{JwtKeys, JwtPrecheck, Precheck},
/// };
///
/// # fn example(authlete: tower_authlete::Authlete) -> Result<(), tower_authlete::ConfigError> {
/// let keys = JwtKeys::from_json(r#"{ "keys": [{
///     "kty": "OKP", "crv": "Ed25519", "kid": "2026", "alg": "EdDSA",
///     "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
/// }] }"#)?;
/// let jwts = JwtPrecheck::new(&keys).issuer("https://as.example.com");
/// let random = Precheck::length(43..=43).and(Precheck::base64url());
/// let auth = AuthLayer::builder(authlete).precheck(random.or(jwts)).build()?;
/// // When the service's keys change:
/// keys.replace(r#"{ "keys": [{
///     "kty": "OKP", "crv": "Ed25519", "kid": "2027", "alg": "EdDSA",
///     "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
/// }] }"#)?;
/// # let _ = auth;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct JwtPrecheck {
    keys: JwtKeys,
    issuer: Option<String>,
    leeway: Duration,
    expiry: bool,
    known_keys_only: bool,
}

impl JwtPrecheck {
    /// Tokens are signed by one of these keys.
    #[must_use]
    pub fn new(keys: &JwtKeys) -> Self {
        Self {
            keys: keys.clone(),
            issuer: None,
            leeway: Duration::from_secs(60),
            expiry: true,
            known_keys_only: false,
        }
    }

    /// The issuer (`iss`) that tokens name, compared byte for byte. Default: any, or none.
    #[must_use]
    pub fn issuer(self, issuer: impl Into<String>) -> Self {
        Self { issuer: Some(issuer.into()), ..self }
    }

    /// How long after its expiry (`exp`) a token fits, for clocks that differ. Default: 60 s.
    #[must_use]
    pub fn leeway(self, leeway: Duration) -> Self {
        Self { leeway, ..self }
    }

    /// Does not test the expiry. It is needed if anything extends tokens by `/auth/token/update`, which does
    /// not change their `exp`. It is implied in layers that [extend tokens](crate::lifecycle::ExtendLifetime) themselves.
    #[must_use]
    pub fn ignore_expiry(self) -> Self {
        Self { expiry: false, ..self }
    }

    /// Refuses tokens that name none of the keys, and tokens that name no key and are signed by none of
    /// them. Default: they fit.
    #[must_use]
    pub fn known_keys_only(self) -> Self {
        Self { known_keys_only: true, ..self }
    }

    /// Whether a token has the three parts of a JWT.
    pub(super) fn has_shape(token: &str) -> bool {
        token.bytes().filter(|byte| *byte == b'.').count() == 2
    }

    /// Whether a token can be one of the service's. The signature is verified last.
    pub(super) fn fits(&self, token: &str, now: Option<SystemTime>) -> bool {
        let Some(jws) = Compact::parse(token) else { return false };
        let (header, claims) = (jose::json::<Header>(jws.header), jose::json::<Claims>(jws.claims));
        let (Some(header), Some(claims)) = (header, claims) else { return false };
        let now = now.filter(|_| self.expiry);
        let claims_fit = header.is_of_access_token()
            && header.is_signed()
            && self.issuer.as_ref().is_none_or(|ours| claims.iss.as_ref() == Some(ours))
            && !now.is_some_and(|now| self.is_past(&claims, now));
        claims_fit && self.is_signed(&jws, &header)
    }

    fn is_past(&self, claims: &Claims, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        claims.exp.is_some_and(|exp| exp + self.leeway.as_secs_f64() <= now)
    }

    /// Whether a token is signed by the key that it names. If that cannot be verified here, it depends on
    /// `known_keys_only`.
    fn is_signed(&self, jws: &Compact<'_>, header: &Header) -> bool {
        let keys = self.keys.0.load();
        let algorithm = jose::algorithm(&header.alg);
        let signs = |key: &JwtKey| algorithm.is_some_and(|algorithm| key.signs(jws, algorithm));
        let named = |key: &&JwtKey| header.kid.is_some() && key.id == header.kid;
        let is_known = keys.iter().any(|key| named(&key));
        let nameless = |key: &&JwtKey| header.kid.is_none() || key.id.is_none();
        let signed = match is_known {
            true => keys.iter().filter(named).any(signs),
            false => keys.iter().filter(nameless).any(signs),
        };
        let can_tell = is_known && keys.iter().filter(named).all(|key| key.verifies.is_some());
        signed || !(can_tell || self.known_keys_only)
    }
}

/// The public keys of a service's access tokens (RFC 7517 §5), which can be replaced at any time. Clones
/// share them.
///
/// They are given by the application, and never fetched by this crate. Sources are Authlete's
/// `/service/jwks/get`, and the authorization server's `jwks_uri`.
#[derive(Clone)]
pub struct JwtKeys(Arc<ArcSwap<Vec<JwtKey>>>);

struct JwtKey {
    id: Option<String>,
    /// The key, and the algorithms that it may be used with; `None` if it cannot be used here.
    verifies: Option<(DecodingKey, Vec<Algorithm>)>,
}

impl JwtKeys {
    /// The keys of a JWK set document. Supported are RSA (2048 bits or more), P-256, P-384 and Ed25519. Other
    /// keys, and keys for encryption, verify nothing: tokens that name them fit, or are refused with
    /// [`known_keys_only`](JwtPrecheck::known_keys_only).
    ///
    /// # Errors
    /// If it is no JWK set, or has no supported key.
    pub fn from_json(json: impl AsRef<[u8]>) -> Result<Self, ConfigError> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(read(json.as_ref())?))))
    }

    /// Replaces all keys atomically, for all clones. During a change of keys, give both the old and the new
    /// one until the last token of the old one has expired.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json). The keys are unchanged then.
    pub fn replace(&self, json: impl AsRef<[u8]>) -> Result<(), ConfigError> {
        self.0.store(Arc::new(read(json.as_ref())?));
        Ok(())
    }
}

impl fmt::Debug for JwtKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usable = self.0.load().iter().filter(|key| key.verifies.is_some()).count();
        f.debug_struct("JwtKeys").field("keys", &usable).finish()
    }
}

impl JwtKey {
    fn new(jwk: Value) -> Self {
        let id = jwk.get("kid").and_then(Value::as_str).map(str::to_owned);
        let only = jwk.get("alg").and_then(Value::as_str).map(str::to_owned);
        let jwk = serde_json::from_value(jwk).ok();
        Self { id, verifies: jwk.as_ref().and_then(|jwk| Self::verifies(jwk, only.as_deref())) }
    }

    /// `only`: the JWK's `alg`, if it has one.
    fn verifies(jwk: &Jwk, only: Option<&str>) -> Option<(DecodingKey, Vec<Algorithm>)> {
        let mut algorithms = ALGORITHMS.to_vec();
        algorithms.retain(|algorithm| {
            jose::takes(*algorithm, jwk)
                && only.is_none_or(|only| jose::algorithm(only) == Some(*algorithm))
        });
        let key = DecodingKey::from_jwk(jwk).ok()?;
        let possible = match (key.kind(), algorithms.first()?) {
            // At least 2048 bits, without leading zeros.
            (DecodingKeyKind::RsaModulusExponent { n, .. }, _) => {
                let least = if n.len() == 256 { 0x80 } else { 1 };
                (256..=1024).contains(&n.len()) && n.first().is_some_and(|first| *first >= least)
            }
            (_, Algorithm::ES256) => point(&key) == Some(65),
            (_, Algorithm::ES384) => point(&key) == Some(97),
            _ => point(&key) == Some(32),
        };
        possible.then_some((key, algorithms))
    }

    fn signs(&self, jws: &Compact<'_>, algorithm: Algorithm) -> bool {
        let Some((key, algorithms)) = &self.verifies else { return false };
        algorithms.contains(&algorithm) && jws.is_by(key, algorithm)
    }
}

/// The length of a public key's point (bytes).
fn point(key: &DecodingKey) -> Option<usize> {
    key.try_get_as_bytes().ok().map(<[u8]>::len)
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Value>,
}

fn read(json: &[u8]) -> Result<Vec<JwtKey>, ConfigError> {
    let remedy = "give a JWK set (RFC 7517 §5) with the public keys of the service";
    let problem = |problem: &str| ConfigError::new("precheck.jwt", problem, remedy);
    let set: JwkSet = serde_json::from_slice(json).map_err(|_| problem("no JWK set"))?;
    let signs = |key: &Value| key.get("use").is_none_or(|purpose| purpose != "enc");
    let keys: Vec<_> = set.keys.into_iter().filter(signs).map(JwtKey::new).collect();
    let usable = keys.iter().any(|key| key.verifies.is_some());
    if usable { Ok(keys) } else { Err(problem("no key that can be used")) }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
}

impl Header {
    /// RFC 9068 §4.
    fn is_of_access_token(&self) -> bool {
        let typ = self.typ.as_deref().unwrap_or_default().to_ascii_lowercase();
        typ.strip_prefix("application/").unwrap_or(&typ) == "at+jwt"
    }

    /// Whether the algorithm is asymmetric (RFC 9068 §2.1 forbids `none`; Authlete uses no symmetric one).
    fn is_signed(&self) -> bool {
        let none = self.alg.eq_ignore_ascii_case("none");
        !none && !self.alg.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("hs"))
    }
}

#[derive(Deserialize)]
struct Claims {
    exp: Option<f64>,
    iss: Option<String>,
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    // A key, and tokens by it, made with Python's `cryptography`.
    const N: &str = "icd6dLhgXAq6A3B7naVVQxSvzGGI8-AOxU15wM5PszH4OmBo8iHOggXi4mMR_Rfrq-dnq2XkY0JrTW194lV0ANwr5D67hsOH3seNvYA3UGmxOBgipzIyyO7lKYxbxkKoOqnq6L0aEFA26ddoRr_lF2lVSQAM9Swo487AkjBWnm9bPRuJj6Fd8UPXfHlDwvwVV8cCFLW4rLdh6QU-OF9l6f3pzq0upe0tG5tYkVNapkLrD2JiuBLkpOLK9F82W9dLRUS6AaT7CidgR8cHqdL55H3nb6Thy2blnML3OExO7hi9RC8kL2zuVN6F5thNxkNr8FK4Vrh5XiFA3-BsVnpzkw";
    const RS256: &str = "eyJ0eXAiOiJhdCtqd3QiLCJhbGciOiJSUzI1NiIsImtpZCI6InJzYSJ9.e30.YR0y3TvIxH0OyFXJlt9caXNcn-wSRbtCBBJlNNq1WiGjmpd4Oz3u7T9kNcZIxo-RGhahWIJqisPzrvwYBUsYbUJIqPVLrM7ho4FPq9iOCsdNKdlQA5owAR7LzMF3W2YRssRlwPLOuayli8c9fQA291uB-QrZoF7wboPDd6B6KTq9avS2zIheygn3EQ5EGP0OSb7t2K_7YSKU3FTfzqVqO3ww_zbJ8irEce0hrOvPm_lOIeA1d7HOBHtvdD985IeMoCus04K8sMIQzfMTP20_Apyyf6_iEmomh7WW6i4Pld5-sZm-S98EI0d2DsI4zMxX6G308b9I7QY4kIFASwZekQ";
    const PS256: &str = "eyJ0eXAiOiJhdCtqd3QiLCJhbGciOiJQUzI1NiIsImtpZCI6InJzYSJ9.e30.gJF1K0c3BX_TnbYXGJ0AGkKAgTYAqLLXk3ibY0TebhRmGoV-TjOcEuraQsKoBBz-0Yhr74fyiMgquWbBv_nsksZijnMULQEsDwKhBkrI8zrsOVfQVsuZZza2jyLWXwRPJlriImox8-JVpVKm_rB6HS5AyYcDAM6ULdrltFRJGCbRwaT4Kg0-43elR6ZqpRNQKXAc30hk6LowF8Ww-4QhYwYRzMuTeZKckJlPcrdCBmFrx6u7UhKSrZnalw10kFJCWYyvsPtBO2xthR21VQ-snUAw08xymAFsSR-bHWcIekbLSLNYA9aT3umB85A90iTvPNhPsciX_ZZaFQ7GYZv9vg";

    #[test]
    fn a_key_that_is_for_one_algorithm_is_for_no_other() {
        let fitting = |only: &str| {
            let key = format!(r#"{{"kty":"RSA","kid":"rsa",{only}"n":"{N}","e":"AQAB"}}"#);
            let keys = JwtKeys::from_json(format!(r#"{{"keys":[{key}]}}"#)).unwrap();
            [RS256, PS256].map(|token| JwtPrecheck::new(&keys).fits(token, None))
        };
        assert_eq!(fitting(""), [true, true]);
        assert_eq!(fitting(r#""alg":"RS256","#), [true, false]);
        assert_eq!(fitting(r#""alg":"PS256","#), [false, true]);
        assert_eq!(fitting(r#""alg":"RS512","#), [false, false]);
    }

    /// What made-up headers and claims are made of, beside all the rest.
    const PIECES: [&str; 12] = [
        r#"{"typ":"at+jwt","alg":"EdDSA","kid":"2026"}"#,
        r#"{"typ":"at+jwt","alg":"none"}"#,
        r#"{"typ":"at+jwt","alg":"ä"}"#,
        r#"{"typ":"at+jwt","alg":"RS256"}"#,
        r#"{"exp":1e308}"#,
        r#"{"exp":-1}"#,
        r#"{"exp":9999999999}"#,
        r#"{"iss":"x"}"#,
        "{}",
        "[]",
        "{",
        "null",
    ];

    fn made_up() -> impl Strategy<Value = String> {
        let part = prop_oneof![select(&PIECES[..]).prop_map(str::to_owned), any::<String>()];
        let encoded = part.prop_map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        let part = prop_oneof![4 => encoded, 1 => any::<String>()];
        vec(part, 0..5).prop_map(|parts| parts.join("."))
    }

    proptest! {
        #[test]
        fn nothing_made_up_fits_or_panics(token in made_up()) {
            let key = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"2026",
                "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
            let keys = JwtKeys::from_json(key).unwrap();
            let strict = JwtPrecheck::new(&keys).known_keys_only();
            prop_assert!(!strict.fits(&token, Some(SystemTime::now())));
            prop_assert!(!strict.fits(&token, None));
        }
    }
}
