//! What was sent to a server must not come back in the text of an error, however it is encoded there.

use std::{collections::HashMap, error::Error, ops::Range};

use base64::{Engine, prelude::BASE64_STANDARD, prelude::BASE64_STANDARD_NO_PAD};
use http::HeaderValue;
use percent_encoding::percent_decode;
use serde_json::Value;

/// A shorter piece of what was sent is not taken for a secret.
const WINDOW: usize = 8;

/// How often a text can be encoded: a form in a JSON document in a URL, for example.
const LEVELS: usize = 4;

/// A cause from below: of the transport, for example.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

const REDACTED: &str = "[redacted]";

/// The values that a call sent: those of its document, its URL and its credentials, without the names of
/// members and parameters. A [normal](normal) form of each, and of its base64.
#[derive(Default)]
pub(crate) struct Sent(Vec<Vec<u8>>);

impl Sent {
    /// `rest` is what follows the API's path in the URL.
    pub(crate) fn new(body: &[u8], rest: &str, credentials: &HeaderValue) -> Self {
        let mut sent = Self::default();
        if let Ok(document) = serde_json::from_slice(body) {
            sent.json(&document);
        }
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        path.split('/').for_each(|segment| sent.encoded(segment));
        sent.form(query);
        sent.credentials(credentials.as_bytes());
        sent
    }

    fn credentials(&mut self, header: &[u8]) {
        let start = header.iter().position(|byte| *byte == b' ').map_or(0, |space| space + 1);
        self.value(&header[start..]);
        // Of Basic (RFC 7617 §2), those of before the encoding.
        let pair = BASE64_STANDARD.decode(&header[start..]).unwrap_or_default();
        pair.splitn(2, |byte| *byte == b':').for_each(|part| self.value(part));
    }

    fn json(&mut self, document: &Value) {
        match document {
            Value::String(text) => match serde_json::from_str(text) {
                Ok(inner @ (Value::Object(_) | Value::Array(_))) => self.json(&inner),
                _ => self.value(text.as_bytes()),
            },
            Value::Array(items) => items.iter().for_each(|item| self.json(item)),
            Value::Object(members) => {
                for (name, value) in members {
                    match value {
                        // The body of a client's request as it came.
                        Value::String(form) if name == "parameters" => self.form(form),
                        _ => self.json(value),
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// `application/x-www-form-urlencoded`.
    fn form(&mut self, form: &str) {
        for parameter in form.split('&') {
            self.encoded(parameter.split_once('=').map_or(parameter, |(_, value)| value));
        }
    }

    /// A value with percent-encoding.
    fn encoded(&mut self, value: &str) {
        let decoded: Vec<u8> = percent_decode(value.as_bytes()).collect();
        self.value(&decoded);
    }

    fn value(&mut self, value: &[u8]) {
        if value.len() < WINDOW {
            return;
        }
        self.0.push(value.iter().copied().map(normal).collect());
        // Within a longer text, its base64 depends on where it begins. The characters that also hold
        // what comes before are left out.
        for (before, mixed) in [(0, 0), (1, 2), (2, 3)] {
            let text = BASE64_STANDARD_NO_PAD.encode([&vec![0; before], value].concat());
            self.0.push(text.bytes().skip(mixed).map(normal).collect());
        }
    }

    /// The text without what was sent.
    pub(crate) fn redact(&self, text: &str) -> String {
        let mut sent = vec![false; text.len()];
        let mut level: Vec<Encoded> = text
            .char_indices()
            .flat_map(|(start, char)| {
                let place = start..start + char.len_utf8();
                text.as_bytes()[place.clone()].iter().map(move |byte| (*byte, place.clone()))
            })
            .collect();
        for _ in 0..LEVELS {
            self.mark(&level, &mut sent);
            let decoded = unescaped(&level);
            if decoded.len() == level.len() {
                break;
            }
            level = decoded;
        }
        let mut clean = String::with_capacity(text.len());
        for (start, char) in text.char_indices() {
            match (sent[start], start.checked_sub(1).is_some_and(|before| sent[before])) {
                (false, _) => clean.push(char),
                (true, false) => clean.push_str(REDACTED),
                (true, true) => {}
            }
        }
        clean
    }

    /// Marks the places of what was sent.
    fn mark(&self, text: &[Encoded], sent: &mut [bool]) {
        let bytes: Vec<u8> = text.iter().map(|(byte, _)| normal(*byte)).collect();
        let mut windows: HashMap<&[u8], Vec<usize>> = HashMap::new();
        for (start, window) in bytes.windows(WINDOW).enumerate() {
            windows.entry(window).or_default().push(start);
        }
        for window in self.0.iter().flat_map(|value| value.windows(WINDOW)) {
            // Taken out, so that each place is marked once however often a window was sent.
            for start in windows.remove(window).into_iter().flatten() {
                for (_, place) in &text[start..start + WINDOW] {
                    sent[place.clone()].fill(true);
                }
            }
        }
    }

    /// The error, or what it says without what was sent.
    pub(crate) fn redact_error(&self, error: BoxError) -> BoxError {
        // A connection of ours knows nothing of what is sent over it.
        if error.is::<hyper_util::client::legacy::Error>() {
            return error;
        }
        let mut said = Vec::new();
        let mut cause: Option<&dyn Error> = Some(&*error);
        while let Some(error) = cause {
            said.push(error.to_string());
            cause = error.source();
        }
        let all = said.join(": ");
        let repeats = |text: &str| self.redact(text) != text;
        if repeats(&all) || repeats(&format!("{error:?}")) {
            self.redact(&all).into()
        } else {
            error
        }
    }
}

/// A byte, and the place in the text that stands for it.
type Encoded = (u8, Range<usize>);

/// The same for bytes of which one may stand for the other: `+` for a space in forms, `-` and `_` for `+`
/// and `/` in base64.
fn normal(byte: u8) -> u8 {
    match byte {
        b'+' | b'-' => b' ',
        b'_' => b'/',
        _ => byte,
    }
}

/// The text without percent-encoding and the escapes of JSON strings (RFC 8259 §7), by one level.
fn unescaped(text: &[Encoded]) -> Vec<Encoded> {
    let byte = |at: usize| text.get(at).map(|(byte, _)| *byte);
    let hex = |from: usize, digits: usize| {
        (from..from + digits)
            .try_fold(0, |number, at| Some(number * 16 + char::from(byte(at)?).to_digit(16)?))
    };
    let mut plain = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some((first, place)) = text.get(at) {
        let (value, length) = match (first, byte(at + 1)) {
            (b'%', Some(_)) => (hex(at + 1, 2), 3),
            (b'\\', Some(b'u')) => (hex(at + 2, 4), 6),
            (b'\\', Some(escaped @ (b'"' | b'\\' | b'/'))) => (Some(u32::from(escaped)), 2),
            _ => (None, 1),
        };
        let Some(value) = value else {
            plain.push((*first, place.clone()));
            at += 1;
            continue;
        };
        let place = place.start..text[at + length - 1].1.end;
        match (first, u8::try_from(value)) {
            // A byte of UTF-8; of JSON, a character, which takes several beyond ASCII.
            (b'%', Ok(value)) => plain.push((value, place)),
            _ => {
                let char = char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER);
                let bytes = char.to_string().into_bytes();
                plain.extend(bytes.into_iter().map(|byte| (byte, place.clone())));
            }
        }
        at += length;
    }
    plain
}

#[cfg(test)]
mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use serde_json::json;

    use super::*;

    const SECRET: &str = r#"S3cr+t/"t0k~n"\ü&x=="#;

    /// A call that sends the secret in each of its places.
    fn sent() -> [Sent; 5] {
        let bearer = |token: &str| HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
        let encoded = utf8_percent_encode(SECRET, NON_ALPHANUMERIC).to_string();
        let form = format!("grant_type=password&client_secret={encoded}&a=b");
        let pair = BASE64_STANDARD.encode(format!("715948317:{SECRET}"));
        let basic = HeaderValue::from_str(&format!("Basic {pair}")).unwrap();
        let document = |value| serde_json::to_vec(&value).unwrap();
        [
            Sent::new(&document(json!({ "token": SECRET })), "", &bearer("other")),
            Sent::new(&document(json!({ "parameters": form })), "", &bearer("other")),
            Sent::new(b"", &format!("/{encoded}"), &bearer("other")),
            Sent::new(b"", &format!("?start=0&subject={encoded}"), &bearer("other")),
            Sent::new(b"", "", &basic),
        ]
    }

    #[test]
    fn what_was_sent_is_found_in_any_place_and_encoding() {
        let percent = utf8_percent_encode(SECRET, NON_ALPHANUMERIC).to_string();
        let json = |text: &str| {
            let text = serde_json::to_string(text).unwrap();
            text[1..text.len() - 1].to_owned()
        };
        let encodings = [
            SECRET.to_owned(),
            percent.replace("%2B", "%2b").replace("%5C", "%5c").replace("%C3%BC", "%c3%bc"),
            utf8_percent_encode(&percent, NON_ALPHANUMERIC).to_string(),
            utf8_percent_encode(&json(SECRET), NON_ALPHANUMERIC).to_string(),
            percent,
            json(SECRET).replace('/', "\\/"),
            json(&json(SECRET)),
            SECRET.chars().map(|char| format!("\\u{:04X}", u32::from(char))).collect(),
        ];
        for (place, sent) in sent().iter().enumerate() {
            for encoded in &encodings {
                for (before, after) in [("no such token: ", "."), ("token=", "&y=z"), ("x", "")] {
                    let clean = sent.redact(&format!("{before}{encoded}{after}"));
                    assert_eq!(clean, format!("{before}[redacted]{after}"), "{place} {encoded}");
                }
            }
        }
    }

    #[test]
    fn base64_of_what_was_sent_is_found_wherever_it_begins() {
        for (place, sent) in sent().iter().enumerate() {
            for before in ["", "a", "id", "715948317:"] {
                let encoded = BASE64_STANDARD.encode(format!("{before}{SECRET}"));
                for encoded in [encoded.replace('+', "-").replace('/', "_"), encoded] {
                    let clean = sent.redact(&format!("Basic {encoded} is wrong"));
                    // The characters that also hold what comes before, those of it, and padding.
                    let rest = before.len() * 4 / 3 + 3;
                    let shown = clean.len() - "Basic [redacted] is wrong".len();
                    assert!(clean.contains(REDACTED) && shown <= rest, "{place} {clean}");
                }
            }
        }
    }

    #[test]
    fn words_of_the_server_stay() {
        let document =
            br#"{"token":"S3cr3tT0k3n","clientCertificate":"","accessTokenIdentifier":""}"#;
        let sent = Sent::new(document, "", &HeaderValue::from_static("Bearer s3rvice-token"));
        for (said, expected) in [
            ("no such token: S3cr3tT0k3n.", "no such token: [redacted]."),
            ("POST /x?token=S3cr3tT0k3n&y=z", "POST /x?token=[redacted]&y=z"),
            ("é S3cr3tT0k3nS3cr3tT0k3n ü", "é [redacted] ü"),
            ("tokenS3cr3tT0k3nused", "token[redacted]used"),
            ("by 's3rvice-token'", "by '[redacted]'"),
            ("the token is S3cr3", "the token is S3cr3"),
            (
                "the clientCertificate of accessTokenIdentifier",
                "the clientCertificate of accessTokenIdentifier",
            ),
            ("100% \\ %zz %", "100% \\ %zz %"),
            ("", ""),
        ] {
            assert_eq!(sent.redact(said), expected);
        }
    }

    #[test]
    fn an_error_that_repeats_what_was_sent_is_replaced() {
        let sent = Sent::new(br#"{"token":"S3cr3tT0k3n"}"#, "", &HeaderValue::from_static("x"));
        let error = sent.redact_error("GET http://host/S3cr3tT0k3n failed".into());
        assert_eq!(error.to_string(), "GET http://host/[redacted] failed");
        let kept = sent.redact_error(Box::new(std::io::Error::other("broken pipe")));
        assert!(kept.is::<std::io::Error>());
        #[derive(Debug, thiserror::Error)]
        #[error("it failed")]
        struct Hidden {
            _url: &'static str,
        }
        let error = sent.redact_error(Box::new(Hidden { _url: "/S3cr3tT0k3n" }));
        assert_eq!(
            (format!("{error:?}"), error.to_string()),
            ("\"it failed\"".into(), "it failed".into())
        );
    }
}
