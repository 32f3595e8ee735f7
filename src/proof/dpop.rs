//! DPoP (RFC 9449): a token that only works with a proof by its holder's key.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use fluent_uri::Uri;
use http::HeaderValue;
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{
    Origin,
    jose::{self, Compact, json, takes},
    nonce::Nonces,
    replay::{MemoryReplays, ProofId, ProofUse, ReplayStore},
};
use crate::{
    api::{Problems, Secret},
    clock::Clock,
    credentials::{self, RequestHead},
    observe::{LogLimit, counters, limited},
    rejection::Rejection,
    store::{Thumbprint, digest_of},
};

/// A longer proof is refused unread.
const MAX_LENGTH: usize = 8 * 1024;

/// A longer `jti` is refused.
const MAX_ID_LENGTH: usize = 512;

const OLD: &str = "the DPoP proof is too old, or from the future";

/// Members of a JWK that only its owner may know (RFC 7518 §6).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Settings of DPoP (RFC 9449).
///
/// With them, the layer also accepts `Authorization: DPoP` with one `DPoP` header. Every proof is verified in
/// this process: its key, signature, method, URL, time, token, and that it has not been used before. The first
/// proof of each token and key is sent to Authlete too, which knows whether the token is bound to the key. If
/// it is, further requests with proofs by that key are answered from the cache.
///
/// A bound token that is presented as a bearer token is refused.
///
/// A proof longer than 8 KiB, or with a `jti` longer than 512 bytes, is refused with 401.
///
/// A used proof stays used when the clock is set back. If this server's clock was ahead and is set back, all
/// proofs are refused until it has caught up with the latest time at which one was used.
///
/// If Authlete demands a nonce, it is relayed in `DPoP-Nonce`. From then on, proofs are sent to Authlete, since
/// only it knows which nonces are valid.
///
/// ```
/// use tower_authlete::{AuthLayer, Dpop};
///
/// # fn example(authlete: tower_authlete::Authlete) -> Result<(), tower_authlete::ConfigError> {
/// let auth = AuthLayer::builder(authlete).dpop(Dpop::for_origin("https://api.example.com")).build()?;
/// # let _ = auth;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Dpop {
    origin: Origin,
    algorithms: Vec<DpopAlgorithm>,
    iat_tolerance: Duration,
    pub(crate) verify_remotely: bool,
    pub(crate) required: bool,
    replays: Arc<dyn ReplayStore>,
    nonce_key: Option<Secret>,
    nonce_life: Option<Duration>,
}

/// An algorithm of a proof's signature (RFC 7518 §3.1, RFC 8037, RFC 9864).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DpopAlgorithm {
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// ECDSA with P-384 and SHA-384.
    Es384,
    /// Ed25519 by its own name (RFC 9864 §2.2).
    Ed25519,
    /// Ed25519 by the name `EdDSA`, which names other curves, too (RFC 8037 §3.1).
    EdDsa,
    /// RSASSA-PSS with SHA-256, and keys of 2048 bits or more.
    Ps256,
    /// RSASSA-PKCS1-v1_5 with SHA-256, and keys of 2048 bits or more.
    Rs256,
}

impl DpopAlgorithm {
    const ALL: [Self; 6] =
        [Self::Es256, Self::Es384, Self::Ed25519, Self::EdDsa, Self::Ps256, Self::Rs256];

    /// Its name in JOSE.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Ed25519 => "Ed25519",
            Self::EdDsa => "EdDSA",
            Self::Ps256 => "PS256",
            Self::Rs256 => "RS256",
        }
    }

    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }
}

impl Dpop {
    /// Proofs must be made for this public origin (`htu`).
    #[must_use]
    pub fn for_origin(origin: impl Into<Origin>) -> Self {
        Self {
            origin: origin.into(),
            algorithms: DpopAlgorithm::ALL.into(),
            iat_tolerance: Duration::from_secs(60),
            verify_remotely: false,
            required: false,
            replays: Arc::new(MemoryReplays::default()),
            nonce_key: None,
            nonce_life: None,
        }
    }

    /// Which algorithms are accepted. Default: all of [`DpopAlgorithm`].
    #[must_use]
    pub fn algorithms(self, algorithms: impl IntoIterator<Item = DpopAlgorithm>) -> Self {
        Self { algorithms: algorithms.into_iter().collect(), ..self }
    }

    /// How far the time of a proof (`iat`) may be from this server's, either way: 1 s to 10 minutes. Default: 60 s.
    #[must_use]
    pub fn iat_tolerance(self, iat_tolerance: Duration) -> Self {
        Self { iat_tolerance, ..self }
    }

    /// Sends every proof to Authlete: no request with a proof is answered from the cache. Default: off.
    #[must_use]
    pub fn verify_remotely(self) -> Self {
        Self { verify_remotely: true, ..self }
    }

    /// Refuses bearer tokens: every token must come with a proof by the key that it is bound to. Default: off.
    ///
    /// A token that is bound to no key is refused with 401, whatever proof it comes with (RFC 9449 §7.1).
    /// Authlete's answer does not say what a token is bound to. So a token that it accepts with a proof is also
    /// introspected without one, which must be refused: one more call for each answer that is not cached.
    #[must_use]
    pub fn required(self) -> Self {
        Self { required: true, ..self }
    }

    /// Where used proofs are recorded. Default: [`MemoryReplays`], for this process alone.
    #[must_use]
    pub fn replay_store(self, store: impl ReplayStore) -> Self {
        Self { replays: Arc::new(store), ..self }
    }

    /// Demands that proofs contain a nonce of this server (RFC 9449 §9), which is derived from this key and
    /// the time. Servers that share the key accept each other's nonces. Default: no nonce is demanded; at least
    /// 32 bytes, which should be random.
    #[must_use]
    pub fn nonce_key(self, key: impl Into<Secret>) -> Self {
        Self { nonce_key: Some(key.into()), ..self }
    }

    /// How often the nonce changes. A nonce is accepted for as long again after the change. Only with
    /// [`nonce_key`](Self::nonce_key). Default: 60 s; at least 1 s.
    #[must_use]
    pub fn nonce_life(self, nonce_life: Duration) -> Self {
        Self { nonce_life: Some(nonce_life), ..self }
    }

    /// The names of the algorithms that are accepted.
    pub(crate) fn algorithm_names(&self) -> impl Iterator<Item = &'static str> {
        self.algorithms.iter().map(|algorithm| algorithm.name())
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(crate) fn validate(&mut self, problems: &mut Problems) {
        self.origin.validate("dpop.for_origin", problems);
        if self.algorithms.is_empty() {
            let remedy = "give at least one algorithm, or none of this";
            problems.add("dpop.algorithms", "none", remedy);
        }
        if self.iat_tolerance < Duration::from_secs(1)
            || self.iat_tolerance > Duration::from_secs(600)
        {
            let problem = format!("{} ms", self.iat_tolerance.as_millis());
            problems.add("dpop.iat_tolerance", problem, "give between 1 s and 10 minutes");
        }
        self.validate_nonces(problems);
    }

    fn validate_nonces(&self, problems: &mut Problems) {
        let length = self.nonce_key.as_ref().map(|key| key.expose().len());
        if let Some(length) = length.filter(|length| *length < 32) {
            let remedy = "give a key of 32 random bytes or more";
            problems.add("dpop.nonce_key", format!("{length} bytes"), remedy);
        }
        let Some(life) = self.nonce_life else { return };
        if life < Duration::from_secs(1) {
            let problem = format!("{} ms", life.as_millis());
            problems.add("dpop.nonce_life", problem, "give at least a second");
        }
        if length.is_none() {
            let remedy = "give a nonce_key, without which no nonce is demanded";
            problems.add("dpop.nonce_life", "without a key", remedy);
        }
    }

    /// The settings, which are valid, in the form that requests need.
    pub(crate) fn build(self) -> Prover {
        let life = self.nonce_life.unwrap_or(Duration::from_secs(60));
        let key = self.nonce_key.as_ref();
        let nonces = key.map(|key| Nonces::new(key.expose().as_bytes(), life));
        Prover { settings: self, nonces, latest: AtomicU64::new(0) }
    }
}

impl fmt::Debug for Dpop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dpop")
            .field("origin", &self.origin)
            .field("algorithms", &self.algorithms)
            .field("iat_tolerance", &self.iat_tolerance)
            .field("verify_remotely", &self.verify_remotely)
            .field("required", &self.required)
            .finish_non_exhaustive()
    }
}

/// Checks proofs.
pub(crate) struct Prover {
    pub(crate) settings: Dpop,
    nonces: Option<Nonces>,
    /// The latest time (ns since the epoch) at which a proof was used. A clock that is set back does not
    /// change it.
    latest: AtomicU64,
}

/// What a proof has to be made for.
pub(crate) struct ProofFor<'p> {
    pub(crate) method: &'p str,
    pub(crate) url: &'p str,
    pub(crate) token: &'p str,
    pub(crate) now: SystemTime,
}

/// The verified proof of a request, and what Authlete is sent to verify it, too.
pub(crate) struct DpopEvidence<'r> {
    pub(crate) proof: Proof,
    pub(crate) text: &'r str,
    pub(crate) method: &'r str,
    /// The request's URL without its query, as its client knows it.
    pub(crate) url: String,
}

/// A proof whose signature and claims are good. Its nonce, and whether it has been used before, are
/// looked at apart.
pub(crate) struct Proof {
    /// Of its key (RFC 7638).
    pub(crate) thumbprint: Thumbprint,
    pub(crate) nonce: Option<String>,
    id: ProofId,
    until: SystemTime,
}

#[derive(Deserialize)]
struct Header {
    typ: String,
    alg: String,
    jwk: Map<String, Value>,
    crit: Option<Value>,
}

#[derive(Deserialize)]
struct Claims {
    jti: String,
    htm: String,
    htu: String,
    iat: f64,
    ath: String,
    nonce: Option<String>,
}

impl Prover {
    /// The names of the algorithms, as challenges list them (RFC 9449 §7.1).
    pub(crate) fn algorithms(&self) -> String {
        let names: Vec<_> = self.settings.algorithm_names().collect();
        names.join(" ")
    }

    /// Whether nonces are of our making.
    pub(crate) fn has_nonces(&self) -> bool {
        self.nonces.is_some()
    }

    /// Our nonce, if there is one to be told.
    pub(crate) fn nonce(&self, now: SystemTime) -> Option<HeaderValue> {
        self.nonces.as_ref().map(|nonces| nonces.current(now))
    }

    /// Verifies the proof of a request at this URL, which comes with this token.
    pub(super) fn evidence<'r>(
        &self,
        head: RequestHead<'r>,
        url: String,
        token: &str,
        now: SystemTime,
    ) -> Result<DpopEvidence<'r>, Rejection> {
        let (text, method) = (credentials::proof(head.headers)?, head.method.as_str());
        let proof = self.verify(text, &ProofFor { method, url: &url, token, now })?;
        self.check_nonce(&proof, now)?;
        Ok(DpopEvidence { proof, text, method, url })
    }

    /// Verifies all of a proof but its nonce (RFC 9449 §4.3), cheap checks first.
    pub(crate) fn verify(&self, proof: &str, purpose: &ProofFor<'_>) -> Result<Proof, Rejection> {
        self.read(proof, purpose).map_err(Rejection::invalid_dpop_proof)
    }

    fn read(&self, proof: &str, purpose: &ProofFor<'_>) -> Result<Proof, &'static str> {
        if proof.len() > MAX_LENGTH {
            return Err("the DPoP proof is too long");
        }
        let malformed = "the DPoP proof is no compact JWS";
        let proof = Compact::parse(proof).ok_or(malformed)?;
        let header: Header =
            json(proof.header).ok_or("the header of the DPoP proof is malformed")?;
        let claims: Claims =
            json(proof.claims).ok_or("the claims of the DPoP proof are malformed")?;
        let (algorithm, jwk, key) = self.key(header)?;
        self.check(&claims, purpose)?;
        if !proof.is_by(&key, algorithm) {
            return Err("the signature of the DPoP proof is wrong");
        }
        let thumbprint = thumbprint(&jwk).ok_or("the key of the DPoP proof is of no known kind")?;
        let id = digest_of([&thumbprint[..], claims.jti.as_bytes(), claims.htu.as_bytes()]);
        let until = Duration::try_from_secs_f64(claims.iat).ok();
        let until = until.and_then(|iat| UNIX_EPOCH.checked_add(iat + self.settings.iat_tolerance));
        Ok(Proof {
            thumbprint,
            nonce: claims.nonce,
            id: ProofId(id),
            until: until.unwrap_or(purpose.now),
        })
    }

    /// The algorithm and the public key of a proof.
    fn key(&self, header: Header) -> Result<(Algorithm, Jwk, DecodingKey), &'static str> {
        if !header.typ.eq_ignore_ascii_case("dpop+jwt") {
            return Err("the DPoP proof is not of type dpop+jwt");
        }
        let name = DpopAlgorithm::of(&header.alg);
        let (name, algorithm) = name
            .zip(jose::algorithm(&header.alg))
            .ok_or("the algorithm of the DPoP proof is unknown")?;
        if !self.settings.algorithms.contains(&name) {
            return Err("the algorithm of the DPoP proof is not accepted here");
        }
        if header.crit.is_some() {
            return Err("the DPoP proof has extensions that are not understood");
        }
        if PRIVATE.iter().any(|member| header.jwk.contains_key(*member)) {
            return Err("the DPoP proof holds a private key");
        }
        let unknown = "the key of the DPoP proof is malformed";
        let jwk: Jwk = serde_json::from_value(Value::Object(header.jwk)).map_err(|_| unknown)?;
        if !takes(algorithm, &jwk) {
            return Err("the key of the DPoP proof is not for its algorithm");
        }
        let key = DecodingKey::from_jwk(&jwk).map_err(|_| unknown)?;
        Ok((algorithm, jwk, key))
    }

    fn check(&self, claims: &Claims, purpose: &ProofFor<'_>) -> Result<(), &'static str> {
        if claims.jti.is_empty() || claims.jti.len() > MAX_ID_LENGTH {
            return Err("the DPoP proof's jti is missing or too long");
        }
        if claims.htm != purpose.method {
            return Err("the DPoP proof is for another method");
        }
        if !same_url(&claims.htu, purpose.url) {
            return Err("the DPoP proof is for another URL");
        }
        let now = purpose.now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        // Written so that what is no number does not pass.
        let near = claims.iat >= 0.0
            && (claims.iat - now).abs() <= self.settings.iat_tolerance.as_secs_f64();
        if !near {
            return Err(OLD);
        }
        if claims.ath != BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(purpose.token)) {
            return Err("the DPoP proof is for another access token");
        }
        Ok(())
    }

    /// Looks at the nonce, if it is of our making.
    fn check_nonce(&self, proof: &Proof, now: SystemTime) -> Result<(), Rejection> {
        let Some(nonces) = &self.nonces else { return Ok(()) };
        let known = proof.nonce.as_deref().is_some_and(|nonce| nonces.knows(nonce, now));
        if known { Ok(()) } else { Err(Rejection::use_dpop_nonce()) }
    }

    /// Uses a proof up. All copies but one are refused, whatever becomes of the time of day.
    pub(crate) async fn use_up(
        &self,
        proof: &Proof,
        clock: &Clock,
        log: &LogLimit,
    ) -> Result<(), Rejection> {
        let now = clock.now();
        // The store forgets what is over at this time, or at the latest one that it was told before.
        self.latest.fetch_max(nanos(now), Ordering::Relaxed);
        let is_over = || nanos(proof.until) < self.latest.load(Ordering::Relaxed);
        if is_over() {
            return Err(Rejection::invalid_dpop_proof(OLD));
        }
        match self.settings.replays.record_use(proof.id, proof.until, now).await {
            // It may have been forgotten just before.
            ProofUse::First if is_over() || clock.now() > proof.until => {
                Err(Rejection::invalid_dpop_proof(OLD))
            }
            ProofUse::First => Ok(()),
            ProofUse::Replay => {
                Err(Rejection::invalid_dpop_proof("the DPoP proof has been used before"))
            }
            ProofUse::Unknown => {
                counters::full("replay_store");
                limited!(
                    error,
                    log,
                    "a DPoP proof cannot be remembered, so its request is refused; give the replay \
                     store more room, or see why it cannot be reached"
                );
                Err(Rejection::unavailable(Duration::from_secs(1)))
            }
        }
    }
}

/// ns since the epoch.
fn nanos(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Whether two URLs are the same but for query and fragment, after normalisation (RFC 3986 §6.2).
fn same_url(claimed: &str, ours: &str) -> bool {
    claimed == ours || normal(claimed).is_some_and(|claimed| Some(claimed) == normal(ours))
}

fn normal(url: &str) -> Option<String> {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let uri = Uri::parse(&url[..end]).ok()?;
    let host = !uri.authority()?.host().is_empty();
    let normal = uri.normalize();
    let slash = if normal.path().as_str().is_empty() { "/" } else { "" };
    host.then(|| format!("{normal}{slash}"))
}

/// RFC 7638 §3: the digest of the members that make the key, in the order of their names.
fn thumbprint(jwk: &Jwk) -> Option<Thumbprint> {
    let curve = |curve: &EllipticCurve| match curve {
        EllipticCurve::P256 => Some("P-256"),
        EllipticCurve::P384 => Some("P-384"),
        EllipticCurve::Ed25519 => Some("Ed25519"),
        _ => None,
    };
    // Their values are base64url, in which nothing has to be escaped: their keys could be read.
    let members = match &jwk.algorithm {
        AlgorithmParameters::EllipticCurve(key) => {
            let (crv, x, y) = (curve(&key.curve)?, &key.x, &key.y);
            format!(r#"{{"crv":"{crv}","kty":"EC","x":"{x}","y":"{y}"}}"#)
        }
        AlgorithmParameters::OctetKeyPair(key) => {
            let (crv, x) = (curve(&key.curve)?, &key.x);
            format!(r#"{{"crv":"{crv}","kty":"OKP","x":"{x}"}}"#)
        }
        AlgorithmParameters::RSA(key) => {
            format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, key.e, key.n)
        }
        _ => return None,
    };
    Some(Sha256::digest(members).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(thumbprint: Thumbprint) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(thumbprint)
    }

    #[test]
    fn the_thumbprint_of_rfc_7638() {
        // RFC 7638 §3.1.
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let jwk =
            format!(r#"{{"kty":"RSA","n":"{n}","e":"AQAB","alg":"RS256","kid":"2011-04-29"}}"#);
        let jwk: Jwk = serde_json::from_str(&jwk).unwrap();
        let expected = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
        assert_eq!(text(thumbprint(&jwk).unwrap()), expected);
    }

    #[test]
    fn the_proof_of_rfc_9449() {
        // RFC 9449 §7.1, figure 12.
        let proof = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA";
        let prover = Dpop::for_origin("https://resource.example.org").build();
        let purpose = ProofFor {
            method: "GET",
            url: "https://resource.example.org/protectedresource",
            token: "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU",
            now: UNIX_EPOCH + Duration::from_secs(1_562_262_618),
        };
        let proof_is_good = |proof: &str| prover.verify(proof, &purpose).is_ok();
        assert!(proof_is_good(proof));
        let verified = prover.verify(proof, &purpose).unwrap();
        // The thumbprint that RFC 9449 §6.1 names for this key.
        assert_eq!(text(verified.thumbprint), "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
        // A changed signature, claims or header.
        assert!(!proof_is_good(&proof.replace("2oW9", "2oW8")));
        assert!(!proof_is_good(&proof.replace("MTU2MjI2MjYxOCw", "MTU2MjI2MjYxOSw")));
        assert!(!proof_is_good(&proof[1..]) && !proof_is_good("") && !proof_is_good(".."));
    }

    #[test]
    fn urls_are_compared_as_rfc_3986_says() {
        let ours = "https://api.example.com/a/~b";
        for same in [
            ours,
            "HTTPS://API.example.com:443/a/%7Eb",
            "https://api.example.com/a/%7eb?query#fragment",
            "https://api.example.com/x/../a/./~b",
        ] {
            assert!(same_url(same, ours), "{same}");
        }
        assert!(same_url("https://api.example.com", "https://api.example.com/"));
        for other in [
            "http://api.example.com/a/~b",
            "https://api.example.com:8443/a/~b",
            "https://api.example.com.evil/a/~b",
            "https://user@api.example.com/a/~b",
            "https://api.example.com/A/~b",
            "https://api.example.com/a/~b/",
            "https://api.example.com/a%2F~b",
            "/a/~b",
            "",
        ] {
            assert!(!same_url(other, ours), "{other}");
        }
    }
}
