//! What has to hold of everything that comes from outside: for `cargo fuzz` (see `fuzz/`), and for the
//! tests below. Each of these functions panics if it does not hold for its input.
//!
//! Inputs are lines, so that seeds can be written and read by people. Where an input holds [`MARK`], it
//! stands for a secret.

use std::{
    convert::Infallible,
    error::Error as _,
    fmt::Debug,
    net::{Ipv4Addr, SocketAddr},
    sync::LazyLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE},
};
use http_auth::ChallengeParser;
use http_body_util::Full;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use crate::{
    api::{
        Authlete, Error, ErrorKind, IntrospectionAction, IntrospectionResponse, RevocationAction,
        TokenAction, TokenCreateAction, TokenIssueAction, TokenUpdateAction, TokenUpdateResponse,
    },
    challenge::{Challenge, Challenges, is_text},
    credentials::{self, CookieToken, DPOP, HeaderToken, RequestHead, Scheme, TokenSource},
    proof::{ClientCertificate, ClientCertificates, Origin, PeerAddr},
    rejection::Rejection,
    token::TokenInfo,
    verdict,
};

/// What is to be seen nowhere.
pub const MARK: &str = "S3cr3tM4rk";

const MAX_TOKEN_LENGTH: usize = 64;

/// The time by which proofs and answers are judged: 2033-05-18.
pub const NOW: u64 = 2_000_000_000;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

/// The legal ones of lines such as `name: value`.
fn headers(lines: &[u8]) -> HeaderMap {
    let header = |line: &[u8]| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        Some((name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?))
    };
    let mut headers = HeaderMap::new();
    for (name, value) in lines.split(|byte| *byte == b'\n').take(64).filter_map(header) {
        headers.append(name, value);
    }
    headers
}

fn request(headers: HeaderMap) -> Request<()> {
    let mut request = Request::new(());
    *request.headers_mut() = headers;
    request
}

/// Input: headers. What is taken for a token is one (RFC 6750 §2.1); what is refused is not repeated;
/// what goes on is concealed.
pub fn credentials(input: &[u8]) {
    let sources: [Box<dyn TokenSource>; 2] = [
        Box::new(CookieToken::new("token")),
        Box::new(HeaderToken::new(HeaderName::from_static("x-token"))),
    ];
    let mut request = request(headers(input));
    let head = RequestHead::of(&request);
    assert!(!format!("{head:?}").contains(MARK));
    match credentials::find(&sources, head, MAX_TOKEN_LENGTH) {
        Ok(Some((_, token))) => assert!(is_token68(token), "{token}"),
        Ok(None) => {}
        Err(rejection) => refused(&rejection, head.headers),
    }
    #[cfg(feature = "dpop")]
    if let Err(rejection) = credentials::proof(head.headers) {
        refused(&rejection, head.headers);
    }
    credentials::conceal(&sources, true, request.headers_mut(), false);
    let held = request.headers();
    for name in ["authorization", "dpop", "x-token"] {
        assert!(held.get_all(name).iter().all(HeaderValue::is_sensitive));
    }
    credentials::conceal(&sources, true, request.headers_mut(), true);
    let held = request.headers();
    assert!(!held.contains_key(AUTHORIZATION) && !held.contains_key(&DPOP));
}

/// RFC 6750 §2.1, written once more in another way.
fn is_token68(token: &str) -> bool {
    let legal = |char: char| char.is_ascii_alphanumeric() || "-._~+/=".contains(char);
    let padding = token.find('=').unwrap_or(token.len());
    let padded = token[padding..].chars().all(|char| char == '=');
    padding > 0 && padded && token.chars().all(legal) && token.len() <= MAX_TOKEN_LENGTH
}

/// A refusal tells no secret, and its response is legal.
fn refused(rejection: &Rejection, request: &HeaderMap) {
    let challenges = Challenges { algorithms: Some("ES256".into()), ..Challenges::default() };
    let mut head = rejection.head(request, &challenges, Scheme::Dpop);
    for challenge in head.headers().get_all(WWW_AUTHENTICATE) {
        assert!(read(challenge).is_some(), "{challenge:?}");
    }
    // That of gRPC's requests is the client's own.
    head.headers_mut().remove(CONTENT_TYPE);
    let shown = format!("{rejection:?} {} {:?}", rejection.description(), head.headers());
    assert!(!shown.contains(MARK), "{shown}");
}

/// Scheme and parameters of a header that is exactly one challenge.
fn read(header: &HeaderValue) -> Option<(String, Vec<(String, String)>)> {
    let text = str::from_utf8(header.as_bytes()).ok().filter(|text| is_text(text))?;
    let mut challenges = ChallengeParser::new(text);
    let challenge = challenges.next()?.ok()?;
    let params = challenge.params.iter();
    let params = params.map(|(name, value)| ((*name).to_owned(), value.to_unescaped()));
    challenges.next().is_none().then(|| (challenge.scheme.to_owned(), params.collect()))
}

/// Input: realm, URL of the metadata, algorithms and a challenge, each on a line of its own. A
/// challenge that is built reads as what it was built of, and is nothing but visible ASCII.
pub fn challenge(input: &str) {
    let mut lines = input.splitn(4, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let text = |line: &str| Some(line.to_owned()).filter(|line| !line.is_empty());
    let mut challenges = Challenges {
        realm: text(line()),
        resource_metadata: text(line()),
        algorithms: text(line()),
        only_dpop: false,
    };
    let content = line();
    let made = Challenge::default()
        .param("error", Some("invalid_token"))
        .param("error_description", Some(content.to_owned()))
        .param("scope", text(content));
    let written = Challenge::parse(content);
    for only_dpop in [false, true] {
        challenges.only_dpop = only_dpop && challenges.algorithms.is_some();
        for used in [Scheme::Bearer, Scheme::Dpop] {
            for wrong in [Some(&Challenge::default()), Some(&made), written.as_ref()] {
                wrong.into_iter().for_each(|wrong| built(&challenges, used, wrong));
            }
        }
    }
}

fn built(challenges: &Challenges, used: Scheme, wrong: &Challenge) {
    for (place, header) in challenges.headers(used, wrong).iter().enumerate() {
        let (scheme, params) = read(header).unwrap_or_else(|| panic!("{header:?}"));
        let find = |name: &str| params.iter().find(|(held, _)| held == name).map(|(_, it)| it);
        let own = |name: &str| wrong.get(name).filter(|_| place == 0);
        let algorithms = challenges.algorithms.as_deref().filter(|_| scheme == "DPoP");
        for (name, ours) in [
            ("error", None),
            ("error_description", None),
            ("scope", None),
            ("realm", challenges.realm.as_deref()),
            ("resource_metadata", challenges.resource_metadata.as_deref()),
            ("algs", algorithms),
        ] {
            let expected = own(name).or(ours).map(visible);
            let theirs = params.iter().any(|(held, _)| held.eq_ignore_ascii_case(name));
            assert!(find(name) == expected.as_ref() || theirs, "{name} of {header:?}");
        }
        assert!(matches!(scheme.as_str(), "Bearer" | "DPoP"), "{header:?}");
    }
}

fn visible(text: &str) -> String {
    text.chars().map(|char| if matches!(char, ' '..='~') { char } else { '?' }).collect()
}

/// Input: headers. What a proxy says of the origin is one of ours, the word of others counts for nothing,
/// a certificate survives its way to Authlete, and what the client chose beside what its proxy writes
/// changes neither.
pub fn forwarding(input: &[u8]) {
    for line in input.split(|byte| *byte == b'\n').take(8) {
        chosen(&String::from_utf8_lossy(line));
    }
    let request = request(headers(input));
    let (stranger, proxy) = (from(Ipv4Addr::new(192, 0, 2, 1)), from(Ipv4Addr::new(10, 0, 0, 1)));
    let head = RequestHead::of(&request);
    for mut origin in
        [Origin::forwarded_by(["10.0.0.0/8"], HOSTS), Origin::x_forwarded_by(["10.0.0.0/8"], HOSTS)]
    {
        assert!(origin.validate("origin").is_ok());
        assert!(origin.url(head, &stranger).is_err());
        if let Ok(url) = origin.url(head, &proxy) {
            let ours = |host: &str| ["http", "https"].map(|it| format!("{it}://{host}/"));
            assert!(HOSTS.iter().any(|host| ours(host).contains(&url)), "{url}");
        }
    }
    for mut certificates in [
        ClientCertificates::from_client_cert_header(["10.0.0.0/8"]),
        ClientCertificates::from_envoy(["10.0.0.0/8"]),
        ClientCertificates::from_escaped_pem(HeaderName::from_static("x-cert"), ["10.0.0.0/8"]),
    ] {
        assert!(certificates.validate().is_ok());
        assert!(matches!(certificates.find(head.headers, &stranger), Ok(None)));
        let found = certificates.find(head.headers, &proxy).ok().flatten();
        found.iter().for_each(survives);
    }
}

const HOSTS: [&str; 2] = ["api.example.com", "[2001:db8::1]:8443"];

/// What a client chose stands beside what its proxy writes: in `Forwarded`, before it in the same line and
/// in one of its own; in a certificate's names, after it.
fn chosen(chosen: &str) {
    let proxy = from(Ipv4Addr::new(10, 0, 0, 1));
    let appended = "for=192.0.2.1;proto=https;host=api.example.com";
    for lines in [format!("{chosen}, {appended}"), format!("{chosen}\nforwarded:{appended}")] {
        let request = request(headers(format!("forwarded:{lines}").as_bytes()));
        let mut origin = Origin::forwarded_by(["10.0.0.0/8"], HOSTS);
        assert!(origin.validate("origin").is_ok());
        let url = origin.url(RequestHead::of(&request), &proxy);
        assert!(url.as_ref().map_or(true, |url| url == "https://api.example.com/"), "{url:?}");
    }
    let own = ClientCertificate::from_der(&b"own"[..]);
    let pem = utf8_percent_encode(&own.to_pem(), NON_ALPHANUMERIC).to_string();
    for (cert, expected) in [(format!("Cert=\"{pem}\";"), Some(own)), (String::new(), None)] {
        let xfcc = format!("x-forwarded-client-cert:By=a;Hash=0;{cert}Subject=\"\";URI={chosen}");
        let headers = headers(xfcc.as_bytes());
        for elements in 1..3 {
            let certificates = ClientCertificates::from_envoy(["10.0.0.0/8"]);
            let mut certificates = certificates.xfcc_elements(elements);
            assert!(certificates.validate().is_ok());
            if let Ok(found) = certificates.find(&headers, &proxy) {
                // A value that no header can have is none.
                assert!(found == expected || headers.is_empty(), "{xfcc}");
            }
        }
    }
}

/// The extensions of a request that comes from this address.
fn from(address: Ipv4Addr) -> Extensions {
    let mut extensions = Extensions::new();
    extensions.insert(PeerAddr(SocketAddr::from((address, 1))));
    extensions
}

fn survives(certificate: &ClientCertificate) {
    let pem = certificate.to_pem();
    let read = pem::parse(&pem).unwrap_or_else(|error| panic!("{error}: {pem}"));
    assert_eq!((read.tag(), read.contents()), ("CERTIFICATE", certificate.der()));
    assert!(!format!("{certificate:?}").contains(MARK));
}

/// Input: a method, a URL and a proof, each on a line; or in place of the proof its header and its
/// claims, which are then signed. A proof that is accepted is what RFC 9449 §4.3 demands.
#[cfg(feature = "dpop")]
pub fn proof(input: &str) {
    use crate::proof::{Dpop, ProofFor};

    let Ok(prover) = Dpop::at("https://api.example.com").build() else { panic!("no prover") };
    let lines: Vec<_> = input.splitn(4, '\n').collect();
    let (method, url, proof) = match lines[..] {
        [method, url, proof] => (method, url, proof.to_owned()),
        [method, url, header, claims] => (method, url, signing::sign(header, claims)),
        _ => return,
    };
    let purpose = ProofFor { method, url, token: MARK, now: now() };
    match prover.verify(&proof, &purpose) {
        Ok(_) => proofs::accepted(&proof, method, url),
        Err(rejection) => refused(&rejection, &HeaderMap::new()),
    }
}

/// Input: a token; or on two lines the header and the claims of one, which is then signed. No other
/// token fits than one that is what RFC 9068 §4 demands, and one that is plainly so does.
#[cfg(feature = "jwt")]
pub fn jwt(input: &str) {
    use crate::{JwtKeys, JwtPrecheck, Precheck};

    const ISSUER: &str = "https://as.example.com";
    let key =
        format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"1","x":"{}"}}]}}"#, signing::X);
    let Ok(keys) = JwtKeys::from_json(key) else { panic!("no key") };
    let precheck = Precheck::from(JwtPrecheck::new(&keys).issuer(ISSUER).known_keys_only());
    let fits = |token: &str| precheck.has_shape(token) && precheck.fits_closely(token, Some(now()));
    let Some((header, claims)) = input.split_once('\n') else {
        return assert!(!fits(input), "{input}");
    };
    let fits = fits(&signing::sign(header, claims));
    let object = |json| serde_json::from_str::<serde_json::Map<_, _>>(json).ok();
    let (Some(header), Some(claims)) = (object(header), object(claims)) else {
        return assert!(!fits, "{input}");
    };
    let text = |object: &serde_json::Map<_, _>, name| {
        object.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let typ = text(&header, "typ").to_ascii_lowercase();
    let named = header.get("kid").is_none_or(Value::is_null) || text(&header, "kid") == "1";
    let lives = match claims.get("exp") {
        None | Some(Value::Null) => true,
        Some(exp) => exp.as_f64().is_some_and(|exp| exp + 60.0 > NOW as f64),
    };
    let may = ["at+jwt", "application/at+jwt"].contains(&typ.as_str())
        && ["EdDSA", "Ed25519"].contains(&text(&header, "alg").as_str())
        && named
        && lives
        && text(&claims, "iss") == ISSUER;
    let strange = |object: &serde_json::Map<_, _>, most| object.len() > most;
    let plain = !strange(&header, 3) && !strange(&claims, 2);
    assert!(fits == may || (may && !plain), "{fits}: {input}");
}

/// Signs with a key that everyone knows: that of RFC 8037 §A.1.
#[cfg(any(feature = "dpop", feature = "jwt"))]
mod signing {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
    use ring::signature::Ed25519KeyPair;

    /// The public key.
    #[cfg(feature = "jwt")]
    pub(super) const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    pub(super) fn sign(header: &str, claims: &str) -> String {
        let seed = BASE64.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap_or_default();
        let Ok(key) = Ed25519KeyPair::from_seed_unchecked(&seed) else { panic!("no key") };
        let message = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
        let signature = BASE64.encode(key.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }
}

/// Reads proofs once more in another way.
#[cfg(feature = "dpop")]
mod proofs {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
    use serde_json::{Map, Value};
    use sha2::{Digest, Sha256};

    use super::{MARK, NOW};

    pub(super) fn accepted(proof: &str, method: &str, url: &str) {
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
}

/// The fields of answers that hold secrets; the first one only does where tokens are issued.
const SECRETS: [&str; 11] = [
    "responseContent",
    "accessToken",
    "refreshToken",
    "jwtAccessToken",
    "idToken",
    "ticket",
    "password",
    "subjectToken",
    "actorToken",
    "assertion",
    "deviceSecret",
];

/// How many APIs there are to answer.
pub const APIS: u8 = 9;

/// Input: a digit that tells the API, one that tells whether Authlete fails, and the body of its answer.
/// An action that is not known grants nothing; an error tells no values; `Debug` shows no secrets.
pub fn answer(input: &[u8]) {
    let [api, status, body @ ..] = input else { return };
    let status = if *status == b'5' { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let authlete = answering(status, Bytes::copy_from_slice(body));
    let api = api.wrapping_sub(b'0') % APIS;
    RUNTIME.block_on(async {
        match api {
            0 => introspected(authlete.introspection(&Default::default()).await, body),
            1 => updated(authlete.token_update(&Default::default()).await, body),
            2 => issued(authlete.token(&Default::default()).await, body, |answer| {
                answer.action == TokenAction::Ok
            }),
            3 => issued(authlete.token_issue(&Default::default()).await, body, |answer| {
                answer.action == TokenIssueAction::Ok
            }),
            4 => answered(authlete.token_create(&Default::default()).await, body, |answer| {
                answer.action == TokenCreateAction::Ok
            }),
            5 => answered(authlete.revocation(&Default::default()).await, body, |answer| {
                answer.action == RevocationAction::Ok
            }),
            6 => answered(authlete.token_fail(&Default::default()).await, body, |_| false),
            7 => answered(authlete.token_revoke(&Default::default()).await, body, |_| false),
            _ => answered(authlete.token_list(&Default::default()).await, body, |_| false),
        }
    });
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_time().build();
    runtime.unwrap_or_else(|error| panic!("{error}"))
});

/// A client whose calls are all answered so.
fn answering(status: StatusCode, body: Bytes) -> Authlete {
    let transport = tower::service_fn(move |_| {
        let mut response = Response::new(Full::new(body.clone()));
        *response.status_mut() = status;
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let authlete = Authlete::builder()
        .base_url("http://localhost")
        .service_id("1")
        .service_access_token(MARK)
        .transport(transport)
        .build();
    authlete.unwrap_or_else(|error| panic!("{error}"))
}

fn introspected(answer: Result<IntrospectionResponse, Error>, body: &[u8]) {
    if let Ok(response) = &answer {
        let _ = (response.auth_time(), response.cnonce_expires_at());
        let verdict = verdict::of_introspection(response);
        assert_eq!(verdict.is_ok(), response.action == IntrospectionAction::Ok);
        judged(verdict);
    }
    answered(answer, body, |answer| answer.action == IntrospectionAction::Ok);
}

fn updated(answer: Result<TokenUpdateResponse, Error>, body: &[u8]) {
    if let Ok(response) = &answer {
        let verdict = verdict::of_update(response, now());
        assert!(verdict.is_err() || response.action == TokenUpdateAction::Ok);
        let alive = |token: &TokenInfo| token.expires_at().is_none_or(|at| at > now());
        assert!(verdict.as_ref().map_or(true, alive));
        judged(verdict);
    }
    answered(answer, body, |answer| answer.action == TokenUpdateAction::Ok);
}

/// Facts can be shown, and a refusal may repeat of Authlete's words only what can stand in a header.
fn judged(verdict: Result<TokenInfo, Rejection>) {
    match verdict {
        Ok(token) => assert!(!format!("{token:?}").is_empty()),
        Err(rejection) => {
            let head = rejection.head(&HeaderMap::new(), &Challenges::default(), Scheme::Bearer);
            for challenge in head.headers().get_all(WWW_AUTHENTICATE) {
                assert!(read(challenge).is_some(), "{challenge:?}");
            }
        }
    }
}

fn issued<A: Debug>(answer: Result<A, Error>, body: &[u8], is_ok: impl Fn(&A) -> bool) {
    if let Ok(answer) = &answer {
        concealed(answer, body, &SECRETS);
    }
    answered(answer, body, is_ok);
}

/// The one field that decides. What stands beside it is ignored, as in the models.
#[derive(Deserialize)]
struct Action {
    #[serde(default)]
    action: Value,
}

fn answered<A: Debug>(answer: Result<A, Error>, body: &[u8], is_ok: impl Fn(&A) -> bool) {
    match answer {
        Ok(answer) => {
            let sent = serde_json::from_slice(body).map(|Action { action }| action);
            // Serde reads a variant without content from an object, too.
            let granting = sent.is_ok_and(|it| it == "OK" || it == json!({ "OK": null }));
            assert!(granting || !is_ok(&answer), "{answer:?}");
            concealed(&answer, body, &SECRETS[1..]);
        }
        Err(error) => failed(&error),
    }
}

/// `Debug` shows nothing that stands in these fields alone.
fn concealed(answer: &impl Debug, body: &[u8], secrets: &[&str]) {
    let shown = format!("{answer:?}");
    let Ok(Value::Object(mut sent)) = serde_json::from_slice(body) else { return };
    sent.retain(|name, _| !secrets.contains(&name.as_str()));
    let properties = sent.get_mut("properties").and_then(Value::as_array_mut);
    for property in properties.into_iter().flatten().filter_map(Value::as_object_mut) {
        if property.get("hidden") == Some(&Value::Bool(true)) {
            property.remove("value");
        }
    }
    assert!(Value::Object(sent).to_string().contains(MARK) || !shown.contains(MARK), "{shown}");
}

/// An error tells which field is wrong and not its value. What Authlete says of a refusal can be logged.
fn failed(error: &Error) {
    let mut shown = format!("{error} {error:?}");
    let mut cause = error.source();
    while let Some(error) = cause {
        shown += &error.to_string();
        cause = error.source();
    }
    match &error.kind {
        ErrorKind::Refused(refusal) => {
            let message = refusal.result_message.as_deref().unwrap_or_default();
            assert!(message.chars().count() <= 300 && !message.contains(char::is_control));
        }
        ErrorKind::Undecodable { path, .. } => {
            assert!(path.contains(MARK) || !shown.contains(MARK))
        }
        _ => assert!(!shown.contains(MARK), "{shown}"),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    /// Those of `cargo fuzz`.
    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
        let files = fs::read_dir(folder).into_iter().flatten();
        files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect()
    }

    #[test]
    fn what_must_hold_holds_of_all_seeds() {
        let text = |seed: &[u8]| String::from_utf8(seed.to_vec()).unwrap();
        seeds("credentials").iter().for_each(|seed| credentials(seed));
        seeds("challenge").iter().for_each(|seed| challenge(&text(seed)));
        seeds("forwarding").iter().for_each(|seed| forwarding(seed));
        seeds("answer").iter().for_each(|seed| answer(seed));
        #[cfg(feature = "dpop")]
        seeds("proof").iter().for_each(|seed| proof(&text(seed)));
        #[cfg(feature = "jwt")]
        seeds("jwt").iter().for_each(|seed| jwt(&text(seed)));
    }

    /// Bytes, or a text of these words.
    fn lines(words: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
        let bytes = vec(any::<u8>(), 0..40).boxed();
        let printed = "[ -~]{0,20}".prop_map(String::into_bytes).boxed();
        let word = select(words).prop_map(|word| word.as_bytes().to_vec()).boxed();
        let part = prop_oneof![1 => bytes, 2 => printed, 12 => word];
        vec(part, 0..24).prop_map(|parts| parts.concat())
    }

    #[rustfmt::skip]
    const CREDENTIALS: &[&str] = &[
        "authorization: ", "x-token: ", "cookie: token=", "dpop: ", "; token=", "Bearer", "DPoP", "Basic",
        " ", "\n", "=", "==", "-._~+/", "a.b.c", ",", "\"", "\t", MARK, "content-type: application/grpc\n",
    ];

    #[rustfmt::skip]
    const CHALLENGES: &[&str] = &[
        "Bearer", "DPoP", "Basic", " ", "\n", "\r", "\t", "\"", "\\", ",", "=", "é", "\u{0}", "\u{7f}",
        "error=", "ERROR=", "realm=", "Realm=", "scope=", "algs=", "resource_metadata=", "\"a\"", "a",
    ];

    #[rustfmt::skip]
    const FORWARDING: &[&str] = &[
        "forwarded: ", "x-forwarded-proto: ", "x-forwarded-host: ", "client-cert: ", "x-cert: ",
        "x-forwarded-client-cert: ", "\n", "proto=", "host=", "for=", "https", "http", "api.example.com",
        "[::1]", ":443", ";", ",", "\"", "\\", "@", "%", "/", "?", "#", ":MAMCAQU=:", ":", "Cert=", "Hash=",
        "Subject=", "-----BEGIN%20CERTIFICATE-----%0A", "MAMCAQU%3D%0A", "-----END%20CERTIFICATE-----%0A",
    ];

    #[rustfmt::skip]
    const JSON: &[&str] = &[
        "{", "}", "[", "]", ":", ",", "null", "true", "0", "-1", "1e999", "9223372036854775807", "\"OK\"",
        "\"action\":", "\"UNAUTHORIZED\"", "\"ok\"", "\"responseContent\":", "\"scopes\":", "\"a\"", "\"",
        "\"properties\":", "\"expiresAt\":", "\"hidden\":", "\\u0000", "\\ud800", MARK,
    ];

    #[cfg(feature = "jwt")]
    #[rustfmt::skip]
    const JWTS: &[&str] = &[
        r#"{"typ":"at+jwt","alg":"EdDSA","kid":"1"}"#, r#"{"iss":"https://as.example.com","exp":2000000000}"#,
        r#"{"typ":"at+jwt","#, r#""typ":"application/AT+JWT""#, r#""typ":"JWT""#, r#""alg":"EdDSA""#, r#""alg":"Ed25519""#,
        r#""alg":"none""#, r#""alg":"HS256""#, r#""alg":"ES256""#, r#""kid":"1""#, r#""kid":null"#,
        r#""kid":"2""#, r#""iss":"https://as.example.com""#, r#""iss":null"#, r#""exp":1999999940"#,
        r#""exp":1999999941"#, r#""exp":1e300"#, r#""exp":-1"#, r#""exp":"1""#, "{", "}", ",", "\n", ".", "[]",
        "null",
    ];

    const CASES: u32 = 2000;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(CASES))]

        #[test]
        fn credentials_are_tokens_or_refused(input in lines(CREDENTIALS)) {
            credentials(&input);
        }

        #[test]
        fn challenges_read_as_they_were_made(input in lines(CHALLENGES)) {
            challenge(&String::from_utf8_lossy(&input));
        }

        #[test]
        fn what_proxies_say_is_an_origin_or_nothing(input in lines(FORWARDING)) {
            forwarding(&input);
        }

        #[test]
        fn hosts_that_proxies_name_are_hosts(host in "[a-z0-9.:@/?#%\\[\\]\\\\ \"-]{0,8}") {
            forwarding(format!("x-forwarded-proto: https\nx-forwarded-host: {host}").as_bytes());
            forwarding(format!("forwarded: proto=https;host=\"{host}\"").as_bytes());
        }

        #[test]
        fn what_a_client_chooses_changes_nothing_of_what_its_proxy_says(
            input in "[a-z=,;\" \\\\]{0,24}",
            forged in select(&["", "Cert=\"-----BEGIN%20CERTIFICATE-----%0AMAMCAQU%3D%0A-----END%20CERTIFICATE-----%0A\"", "host=evil.example;proto=https"][..]),
            rest in "[a-z=,;\" \\\\]{0,8}",
        ) {
            chosen(&format!("{input}{forged}{rest}"));
        }

        #[cfg(feature = "jwt")]
        #[test]
        fn tokens_that_fit_are_what_they_have_to_be(input in lines(JWTS)) {
            jwt(&String::from_utf8_lossy(&input));
        }

        #[cfg(feature = "jwt")]
        #[test]
        fn tokens_whose_parts_are_objects_fit_if_they_are_so(
            header in vec(select(JWTS), 0..4),
            claims in vec(select(JWTS), 0..3),
        ) {
            jwt(&format!("{{{}}}\n{{{}}}", header.join(","), claims.join(",")));
        }

        #[test]
        fn answers_that_are_no_json_are_errors(api in 0..APIS, input in lines(JSON)) {
            answer(&[&[b'0' + api, b'2'][..], &input].concat());
        }

        #[test]
        fn answers_are_what_was_sent(
            api in 0..APIS,
            status in select(&b"2222225"[..]),
            body in body(),
        ) {
            answer(format!("{api}{}{body}", char::from(status)).as_bytes());
        }
    }

    /// Values of every kind.
    fn value() -> impl Strategy<Value = Value> {
        let text = select(&["", "a", "Bearer error=\"a\"", "A\r\nB", MARK, "DPoP", "é", "OK"][..]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            text.prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            let names = select(&["key", "value", "hidden", "elements", "scope", "OK"][..]);
            let object = proptest::collection::btree_map(names, inner.clone(), 0..4);
            prop_oneof![
                vec(inner, 0..4).prop_map(Value::from),
                object.prop_map(|members| json!(members)),
            ]
        })
    }

    #[rustfmt::skip]
    const ACTIONS: &[&str] =
        &["OK", "ok", "OK ", "UNAUTHORIZED", "FORBIDDEN", "BAD_REQUEST", "NOT_FOUND", ""];

    #[rustfmt::skip]
    const TEXTS: &[&str] =
        &["subject", "responseContent", "resultMessage", "tokenType", "grantType", "acr"];

    /// Objects with members that are as documented, and others that are not.
    fn body() -> impl Strategy<Value = Value> {
        let action = prop_oneof![9 => select(ACTIONS).prop_map(Value::from), 1 => value()];
        let text =
            prop_oneof![Just(Value::from(MARK)), Just(Value::from("Bearer")), Just(Value::Null)];
        let secret = (select(&SECRETS[1..]), text.clone());
        let known = prop_oneof![
            6 => secret.prop_map(|(name, value)| (name, value)),
            3 => (select(TEXTS), text),
            3 => (select(&["expiresAt", "authTime", "accessTokenExpiresAt"][..]), any::<i64>().prop_map(Value::from)),
            2 => Just(("properties", json!([{ "key": "a", "value": MARK, "hidden": true }]))),
            1 => (select(&["properties", "scopes", "grant", "clientId", "x"][..]), value()),
        ];
        (proptest::option::weighted(0.9, action), vec(known, 0..8)).prop_map(|(action, members)| {
            let mut body: serde_json::Map<_, _> =
                members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            body.extend(action.map(|action| ("action".to_owned(), action)));
            Value::Object(body)
        })
    }

    #[cfg(feature = "dpop")]
    mod proofs {
        use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
        use sha2::{Digest, Sha256};

        use super::*;

        /// A good proof's members, with some of these changes.
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
}
