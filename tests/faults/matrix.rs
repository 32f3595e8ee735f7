//! The table of faults and the response to each.

use crate::{
    certificates::Certificate::*,
    secrets::{CREDENTIAL, TOKEN},
    upstream::Fault::{self, *},
    wire::{
        self, ENHANCE_YOUR_CALM, INTERNAL_ERROR, NO_ERROR, REFUSED_STREAM, goaway, http,
        http_without_length, reset,
    },
};

pub(crate) const MINUTE: u64 = 60;

/// The initial time of the clocks.
pub(crate) const NOW: u64 = 2_000_000_000;

/// How many calls are made for a retryable failure.
const TRIES: usize = 1;

/// A depth of JSON that is too deep.
const LEVELS: usize = 100_000;

pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) fault: Fault,
    /// The response if the token is not cached.
    pub(crate) cold: Expected,
    /// The response if a positive entry is fresh.
    pub(crate) cached: Expected,
    /// The response if a positive entry has expired.
    pub(crate) outdated: Expected,
    /// The response if a positive entry is stale and may be used in an outage.
    pub(crate) stale: Expected,
    /// Whether the cold response is cached beyond the fault.
    pub(crate) is_kept: bool,
}

/// A response, and the calls that it caused. Absent headers are empty.
#[derive(Debug)]
pub(crate) struct Cell<T = String> {
    pub(crate) status: u16,
    pub(crate) retry_after: T,
    pub(crate) challenge: T,
    /// The subject that the handler gets, if it is called.
    pub(crate) subject: T,
    /// How many calls reach Authlete; for faults of TLS and below, connections.
    pub(crate) calls: usize,
}

pub(crate) type Expected = Cell<&'static str>;

impl Clone for Expected {
    fn clone(&self) -> Self {
        *self
    }
}

impl Copy for Expected {}

impl PartialEq<Cell> for Expected {
    fn eq(&self, seen: &Cell) -> bool {
        self.status == seen.status
            && self.retry_after == seen.retry_after
            && self.challenge == seen.challenge
            && self.subject == seen.subject
            && self.calls == seen.calls
    }
}

impl Expected {
    const fn refused(status: u16, challenge: &'static str) -> Self {
        Self { status, retry_after: "", challenge, subject: "", calls: 1 }
    }

    const fn passes(subject: &'static str) -> Self {
        Self { status: 200, retry_after: "", challenge: "", subject, calls: 1 }
    }

    const fn retry_after(self, retry_after: &'static str) -> Self {
        Self { retry_after, ..self }
    }

    pub(crate) const fn calls(self, calls: usize) -> Self {
        Self { calls, ..self }
    }
}

/// Authlete accepts the token.
pub(crate) const GOOD: Expected = Expected::passes("alice");

/// Authlete accepts the token, without a subject.
const NOBODY: Expected = Expected::passes("nobody");

/// Authlete says nothing, and said so before.
const STALE: Expected = Expected::passes("alice of old").calls(TRIES);

/// No call is made.
const HIT: Expected = GOOD.calls(0);

/// The call fails, and is retryable.
const DOWN: Expected = Expected::refused(503, "").retry_after("1").calls(TRIES);

/// The deadline passes, without time for a retry.
const LATE: Expected = DOWN.calls(1);

/// The response has no verdict about the token.
const SENSELESS: Expected = DOWN.calls(1);

/// The configuration of this side is wrong.
const OURS: Expected = Expected::refused(500, "");

const BAD: Expected = Expected::refused(
    401,
    r#"Bearer error="invalid_token", error_description="the access token is unknown, expired or revoked""#,
);
const MALFORMED: Expected = Expected::refused(
    400,
    r#"Bearer error="invalid_request", error_description="the request is malformed""#,
);
const TOO_LITTLE: Expected = Expected::refused(
    403,
    r#"Bearer error="insufficient_scope", error_description="the access token does not allow this""#,
);

fn row(
    name: impl Into<String>,
    fault: Fault,
    cold: Expected,
    cached: Expected,
    stale: Expected,
) -> Row {
    Row { name: name.into(), fault, cold, cached, outdated: cold, stale, is_kept: false }
}

/// A row whose cold response is a verdict, which is cached.
fn verdict(name: &str, fault: Fault, cold: Expected, cached: Expected, stale: Expected) -> Row {
    Row { is_kept: true, ..row(name, fault, cold, cached, stale) }
}

pub(crate) fn rows() -> Vec<Row> {
    let groups = [connections(), tls(), http1(), http2(), documents(), verdicts(), clocks()];
    groups.into_iter().flatten().chain(redirects()).chain(statuses()).chain(times()).collect()
}

#[rustfmt::skip]
fn connections() -> Vec<Row> {
    let head = b"HTTP/1.1 200 OK\r\nA: ".to_vec();
    vec![
        // what goes wrong                      how                     cold           cached, stale allowed
        row("nobody listens",                   Refuses,                DOWN.calls(0), HIT, STALE.calls(0)),
        row("the name has no address",          HasNoAddress,           DOWN.calls(0), HIT, STALE.calls(0)),
        row("closed when accepted",             Closes,                 DOWN,          HIT, STALE),
        row("closed when called",               Says(vec![]),           DOWN,          HIT, STALE),
        row("no answer",                        Stops(vec![]),          LATE,          HIT, STALE),
        row("a head that does not end",         Stops(head.clone()),    LATE,          HIT, STALE),
        row("a head that drips",                Drips(head.clone()),    LATE,          HIT, STALE),
        row("a head that breaks off",           Says(head),             DOWN,          HIT, STALE),
        row("a body that stops half way",       Stops(half()),          LATE,          HIT, STALE),
        row("a body that drips",                Drips(half()),          LATE,          HIT, STALE),
        row("a body that breaks off half way",  Says(half()),           DOWN,          HIT, STALE),
        row("an error that stops half way",     Stops(half_an_error()), LATE,          HIT, STALE),
    ]
}

#[rustfmt::skip]
fn tls() -> Vec<Row> {
    let plain = http(400, &[], "speak plainly");
    vec![
        row("a certificate of another name",     Shows(OfAnotherName),     DOWN, HIT, STALE),
        row("a certificate that has expired",    Shows(Expired),           DOWN, HIT, STALE),
        row("a certificate of tomorrow's",       Shows(NotYetValid),       DOWN, HIT, STALE),
        row("a certificate nobody vouches for",  Shows(OfAnUnknownIssuer), DOWN, HIT, STALE),
        row("a certificate of an impostor",      Shows(OfAnImpostor),      DOWN, HIT, STALE),
        row("a certificate of its own",          Shows(SelfSigned),        DOWN, HIT, STALE),
        row("a handshake that hangs",            IsMute,                   LATE, HIT, STALE),
        row("no TLS at all",                     Greets(plain),            DOWN, HIT, STALE),
    ]
}

#[rustfmt::skip]
fn http1() -> Vec<Row> {
    let with = |headers: &[&str]| Says(http_without_length(200, headers, ok()));
    let chunked = |body: &str| Says(http_without_length(200, &["Transfer-Encoding: chunked"], body));
    let two = ["Content-Length: 15", "Content-Length: 16"];
    let gzip = http(200, &["Content-Encoding: gzip"], b"\x1f\x8b\x08\0\0\0\0\0");
    let hints = [b"HTTP/1.1 103 Early Hints\r\n\r\n".into(), http(200, &[], ok())].concat();
    vec![
        row("no HTTP",                          Says(b"220 mail.example ESMTP\r\n".into()),          DOWN,      HIT, STALE),
        row("a length that is too long",        with(&["Content-Length: 1000"]),                     DOWN,      HIT, STALE),
        row("a length that is too short",       with(&["Content-Length: 10"]),                       SENSELESS, HIT, STALE),
        row("a length that is no number",       with(&["Content-Length: -1"]),                       DOWN,      HIT, STALE),
        row("two lengths",                      with(&two),                                          DOWN,      HIT, STALE),
        row("chunks that are none",             chunked("garbage\r\n"),                              DOWN,      HIT, STALE),
        row("a chunk that is cut off",          chunked("ff\r\n{\"action\":\"OK\""),                 DOWN,      HIT, STALE),
        row("a chunk larger than all memory",   chunked("fffffffffffffffff\r\n{"),                   DOWN,      HIT, STALE),
        row("chunks without an end",            chunked("f\r\n{\"action\":\"OK\"}\r\n"),             DOWN,      HIT, STALE),
        row("more headers than anybody sends",  with(&["A: b"; 1000]),                               DOWN,      HIT, STALE),
        row("a header of 1 MiB",                with(&[&format!("A: {}", "b".repeat(1024 * 1024))]), DOWN,      HIT, STALE),
        row("a body of 10 MiB",                 Says(http(200, &[], large())),                       SENSELESS, HIT, STALE),
        row("an error page of 10 MiB",          Says(http(500, &[], large())),                       SENSELESS, HIT, STALE),
        row("compression nobody asked for",     Says(gzip),                                          SENSELESS, HIT, STALE),
        row("nothing",                          Says(http(200, &[], "")),                            SENSELESS, HIT, STALE),
        row("204",                              Says(http(204, &[], "")),                            SENSELESS, HIT, STALE),
        verdict("hints ahead of the answer",    Says(hints),                                         NOBODY, HIT, NOBODY),
    ]
}

#[rustfmt::skip]
fn http2() -> Vec<Row> {
    let not_http2 = |_| b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    vec![
        row("GOAWAY without an error",       LastFrames(|_| goaway(0, NO_ERROR)),          DOWN, HIT, STALE),
        row("GOAWAY for an error",           LastFrames(|_| goaway(0, INTERNAL_ERROR)),    DOWN, HIT, STALE),
        row("GOAWAY for calling too often",  LastFrames(|_| goaway(0, ENHANCE_YOUR_CALM)), DOWN, HIT, STALE),
        row("GOAWAY after this call",        LastFrames(|it| goaway(it, NO_ERROR)),        DOWN, HIT, STALE),
        row("GOAWAY in the middle",          LastFrames(goaway_half_way),                  DOWN, HIT, STALE),
        row("RST_STREAM without an error",   Frames(|it| reset(it, NO_ERROR)),             DOWN, HIT, STALE),
        row("RST_STREAM for an error",       Frames(|it| reset(it, INTERNAL_ERROR)),       DOWN, HIT, STALE),
        row("RST_STREAM before the call",    Frames(|it| reset(it, REFUSED_STREAM)),       DOWN, HIT, STALE),
        row("RST_STREAM in the middle",      Frames(reset_half_way),                       DOWN, HIT, STALE),
        row("frames that are none",          LastFrames(not_http2),                        DOWN, HIT, STALE),
        row("a stream that nobody opened",   Frames(|_| wire::head(7)),                    DOWN, HIT, STALE),
    ]
}

#[rustfmt::skip]
fn documents() -> Vec<Row> {
    let page = format!("<html>{}</html>", leak());
    let text = format!("{:?}", leak());
    let open = format!(r#"{{"action":"OK","unknown":{}"#, "[".repeat(LEVELS));
    let deep_error = http(500, &[], format!(r#"{{"resultMessage":{}}}"#, deep()));
    let latin1 = http(200, &[], b"{\"action\":\"OK\",\"subject\":\"\xe9\"}");
    let two = r#"{"action":"UNAUTHORIZED","action":"OK"}"#;
    vec![
        row("HTML",                          says(page),                                    SENSELESS, HIT, STALE),
        row("JSON that is cut off",          says(r#"{"action":"OK","subject":"al"#),       SENSELESS, HIT, STALE),
        row("JSON, and more",                says(r#"{"action":"OK"}{"#),                   SENSELESS, HIT, STALE),
        row("an array",                      says(r#"["A056001","fine","OK"]"#),            SENSELESS, HIT, STALE),
        row("a text",                        says(text),                                    SENSELESS, HIT, STALE),
        row("null",                          says("null"),                                  SENSELESS, HIT, STALE),
        row("too deep",                      says(deep()),                                  SENSELESS, HIT, STALE),
        row("too deep, without an end",      says(open),                                    SENSELESS, HIT, STALE),
        row("too deep in a text",            field("subject", &deep()),                     SENSELESS, HIT, STALE),
        row("too deep in a list",            field("scopes", &deep()),                      SENSELESS, HIT, STALE),
        row("too deep in details",           field("authorizationDetails", &deep()),        SENSELESS, HIT, STALE),
        row("too deep in an error",          Says(deep_error),                              DOWN,      HIT, STALE),
        row("no UTF-8",                      Says(latin1),                                  SENSELESS, HIT, STALE),
        row("UTF-16",                        Says(http(200, &[], utf16(ok()))),             SENSELESS, HIT, STALE),
        row("a byte order mark",             says(format!("\u{feff}{}", ok())),             SENSELESS, HIT, STALE),
        row("an action that nobody knows",   says(r#"{"action":"FINE"}"#),                  SENSELESS, HIT, STALE),
        row("an action in small letters",    says(r#"{"action":"ok"}"#),                    SENSELESS, HIT, STALE),
        row("an action of another type",     says(r#"{"action":["OK"]}"#),                  SENSELESS, HIT, STALE),
        row("no action",                     says(r#"{"subject":"alice"}"#),                SENSELESS, HIT, STALE),
        row("two actions",                   says(two),                                     SENSELESS, HIT, STALE),
        row("trouble of its own",            says(r#"{"action":"INTERNAL_SERVER_ERROR"}"#), SENSELESS, HIT, STALE),
        row("scopes of another type",        field("scopes", r#""admin""#),                 SENSELESS, HIT, STALE),
        row("a subject of another type",     field("subject", "1"),                         SENSELESS, HIT, STALE),
        row("an expiry of another type",     expires(&format!("{:?}", leak())),             SENSELESS, HIT, STALE),
        row("an expiry beyond all numbers",  expires("9223372036854775808"),                SENSELESS, HIT, STALE),
        row("an expiry that is not whole",   expires("1e300"),                              SENSELESS, HIT, STALE),
    ]
}

#[rustfmt::skip]
fn verdicts() -> Vec<Row> {
    let injection = r#"Bearer error=\"invalid_token\"\r\nSet-Cookie: a=b"#;
    let line_feed = r#"Bearer error=\"invalid_token\nSet-Cookie: a=b\""#;
    let nul = r#"Bearer error=\"invalid_token\u0000\""#;
    let two = r#"Bearer error=\"invalid_token\", Basic realm=\"a\""#;
    let basic = r#"Basic realm=\"a\""#;
    let umlaut = r#"Bearer error=\"ungültig\""#;
    let tab = r#"Bearer error=\"invalid\ttoken\""#;
    let nonce = r#"{"action":"OK","subject":"alice","dpopNonce":"a\r\nSet-Cookie: a=b"}"#;
    vec![
        verdict("OK without facts",                     says(ok()),                         NOBODY,    HIT, NOBODY),
        verdict("OK with what nobody knows, too deep",  field("unknown", &deep()),          NOBODY,    HIT, NOBODY),
        verdict("OK that never expires",                expires("0"),                       GOOD,       HIT, GOOD),
        verdict("OK that expires at the end of time",   expires("9223372036854775807"),     GOOD,       HIT, GOOD),
        row("OK that has expired",                      expires("1000"),                    GOOD,       HIT, GOOD),
        row("OK that expires right now",                expires("2000000000000"),           GOOD,       HIT, GOOD),
        row("OK that expired before all time",          expires("-9223372036854775808"),    GOOD,       HIT, GOOD),
        verdict("a header in OK",                       content("OK", injection),           NOBODY,    HIT, NOBODY),
        verdict("a header in a nonce",                  says(nonce),                        GOOD,       HIT, GOOD),
        verdict("a header in UNAUTHORIZED",             content("UNAUTHORIZED", injection), BAD,        HIT, BAD),
        verdict("a header in BAD_REQUEST",              content("BAD_REQUEST", injection),  MALFORMED,  HIT, MALFORMED),
        verdict("a header in FORBIDDEN",                content("FORBIDDEN", injection),    TOO_LITTLE, HIT, TOO_LITTLE),
        verdict("a header in a quoted text",            content("UNAUTHORIZED", line_feed), BAD,        HIT, BAD),
        verdict("a NUL in a challenge",                 content("UNAUTHORIZED", nul),       BAD,        HIT, BAD),
        verdict("two challenges in one",                content("UNAUTHORIZED", two),       BAD,        HIT, BAD),
        verdict("an umlaut in a challenge",             content("UNAUTHORIZED", umlaut),    BAD,        HIT, BAD),
        verdict("a tab in a challenge",                 content("UNAUTHORIZED", tab),       BAD,        HIT, BAD),
        verdict("a challenge of another scheme",        content("UNAUTHORIZED", basic),     BAD,        HIT, BAD),
    ]
}

#[rustfmt::skip]
fn clocks() -> Vec<Row> {
    vec![
        row("the layer's clock is ahead",  IsAhead(10), GOOD, GOOD, GOOD),
        // An expired entry stays expired, since ages are bounded by a monotonic clock too.
        row("the layer's clock is behind", IsAhead(-10), GOOD, HIT, GOOD),
    ]
}

/// Redirects are never followed.
fn redirects() -> Vec<Row> {
    let statuses = [300, 301, 302, 303, 307, 308];
    let redirect =
        |status| row(format!("a redirect by {status}"), Redirects(status), OURS, HIT, OURS);
    statuses.map(redirect).into()
}

/// Each status with Authlete's error body, with an HTML page, and with `Retry-After`.
fn statuses() -> Vec<Row> {
    const SECONDS: &str = "Retry-After: 17";
    const DATE: &str = "Retry-After: Wed, 18 May 2033 03:33:37 GMT";
    let mut rows = Vec::new();
    for (status, cold, cold_with_seconds, stale) in [
        (400, OURS, OURS, OURS),
        (401, OURS, OURS, OURS),
        (403, OURS, OURS, OURS),
        (404, OURS, OURS, OURS),
        (408, DOWN, DOWN.retry_after("17"), STALE),
        (429, DOWN, DOWN.retry_after("17"), STALE),
        (500, SENSELESS, SENSELESS.retry_after("17"), STALE.calls(1)),
        (502, DOWN, DOWN.retry_after("17"), STALE),
        (503, DOWN, DOWN.retry_after("17"), STALE),
        (504, DOWN, DOWN.retry_after("17"), STALE),
    ] {
        let says = |headers: &[&str], body: String| Says(http(status, headers, body));
        let (json, page) = (refusal(), format!("<html>{}", leak()));
        let name = |what: &str| format!("{status} with {what}");
        rows.extend([
            row(name("JSON"), says(&[], json.clone()), cold, HIT, stale),
            row(name("a page"), says(&[], page), cold, HIT, stale),
            row(name("nothing"), says(&[], String::new()), cold, HIT, stale),
            row(name("seconds"), says(&[SECONDS], json.clone()), cold_with_seconds, HIT, stale),
            // Only seconds are relayed.
            row(name("a date"), says(&[DATE], json), cold, HIT, stale),
        ]);
    }
    rows
}

/// Values of `Retry-After` that are malformed or too short.
fn times() -> Vec<Row> {
    let headers = ["0", "-1", "1.5", "soon", "18446744073709551616", ""];
    let row = |time: &str| {
        let fault = Says(http(503, &[&format!("Retry-After: {time}")], refusal()));
        row(format!("come back {time:?}"), fault, DOWN, HIT, STALE)
    };
    headers.map(row).into()
}

/// What no client may see.
fn leak() -> String {
    format!("{TOKEN} {CREDENTIAL}")
}

/// The body of a refused call.
fn refusal() -> String {
    format!(r#"{{"resultCode":"A001101","resultMessage":"[A001101] {}"}}"#, leak())
}

fn ok() -> &'static str {
    r#"{"action":"OK"}"#
}

fn says(body: impl AsRef<[u8]>) -> Fault {
    Says(http(200, &["Content-Type: application/json"], body))
}

fn expires(at: &str) -> Fault {
    says(format!(r#"{{"action":"OK","subject":"alice","expiresAt":{at}}}"#))
}

/// OK with a field.
fn field(name: &str, value: &str) -> Fault {
    says(format!(r#"{{"action":"OK","{name}":{value}}}"#))
}

/// JSON that is too deep for a recursive parser.
fn deep() -> String {
    format!("{}{}", "[".repeat(LEVELS), "]".repeat(LEVELS))
}

fn content(action: &str, content: &str) -> Fault {
    says(format!(r#"{{"action":"{action}","responseContent":"{content}"}}"#))
}

fn half() -> Vec<u8> {
    http_without_length(200, &["Content-Length: 1000"], ok())
}

fn half_an_error() -> Vec<u8> {
    http_without_length(500, &["Content-Length: 1000"], refusal())
}

fn large() -> String {
    format!(r#"{{"action":"OK","subject":"{}"}}"#, "a".repeat(10 * 1024 * 1024))
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

fn half_a_body(stream: u32) -> Vec<u8> {
    [wire::head(stream), wire::frame(wire::DATA, 0, stream, ok().as_bytes())].concat()
}

fn goaway_half_way(stream: u32) -> Vec<u8> {
    [half_a_body(stream), goaway(0, INTERNAL_ERROR)].concat()
}

fn reset_half_way(stream: u32) -> Vec<u8> {
    [half_a_body(stream), reset(stream, INTERNAL_ERROR)].concat()
}
