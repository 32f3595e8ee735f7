//! Removes what was sent to a server from the text of errors, in any common encoding.

use std::{collections::HashMap, error::Error, ops::Range};

use base64::{Engine, prelude::BASE64_STANDARD, prelude::BASE64_STANDARD_NO_PAD};
use http::HeaderValue;
use percent_encoding::percent_decode;
use serde_json::Value;

/// Parts of a sent value with fewer bytes are not redacted.
const WINDOW: usize = 8;

/// How many nested encodings are decoded: for example a form in a JSON document in a URL.
const MAX_DECODINGS: usize = 4;

/// The error of a transport.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

const REDACTED: &str = "[redacted]";

/// The values that a call sent in its document, its URL and its credentials, without the names of members
/// and parameters. Each value and its base64 are stored [normalized].
#[derive(Default)]
pub(crate) struct SentValues(Vec<Vec<u8>>);

impl SentValues {
    /// `rest` is the part of the URL behind the path of the API.
    pub(crate) fn new(body: &[u8], rest: &str, credentials: &HeaderValue) -> Self {
        let mut sent = Self::default();
        if let Ok(document) = serde_json::from_slice(body) {
            sent.add_json(&document);
        }
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        path.split('/').for_each(|segment| sent.add_encoded(segment));
        sent.add_form(query);
        sent.add_credentials(credentials.as_bytes());
        sent
    }

    fn add_credentials(&mut self, header: &[u8]) {
        let start = header.iter().position(|byte| *byte == b' ').map_or(0, |space| space + 1);
        self.add(&header[start..]);
        // The decoded user-id and password of Basic (RFC 7617 §2).
        let pair = BASE64_STANDARD.decode(&header[start..]).unwrap_or_default();
        pair.splitn(2, |byte| *byte == b':').for_each(|part| self.add(part));
    }

    fn add_json(&mut self, document: &Value) {
        match document {
            Value::String(text) => match serde_json::from_str(text) {
                Ok(inner @ (Value::Object(_) | Value::Array(_))) => self.add_json(&inner),
                _ => self.add(text.as_bytes()),
            },
            Value::Array(items) => items.iter().for_each(|item| self.add_json(item)),
            Value::Object(members) => {
                for (name, value) in members {
                    match value {
                        // The form of a client's request.
                        Value::String(form) if name == "parameters" => self.add_form(form),
                        _ => self.add_json(value),
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// `application/x-www-form-urlencoded`.
    fn add_form(&mut self, form: &str) {
        for parameter in form.split('&') {
            self.add_encoded(parameter.split_once('=').map_or(parameter, |(_, value)| value));
        }
    }

    /// A percent-encoded value.
    fn add_encoded(&mut self, value: &str) {
        let decoded: Vec<u8> = percent_decode(value.as_bytes()).collect();
        self.add(&decoded);
    }

    fn add(&mut self, value: &[u8]) {
        if value.len() < WINDOW {
            return;
        }
        self.0.push(value.iter().copied().map(normalized).collect());
        // The base64 of a part of a longer text depends on the offset modulo 3. Characters that mix in
        // preceding bytes are left out.
        for (offset, mixed) in [(0, 0), (1, 2), (2, 3)] {
            let text = BASE64_STANDARD_NO_PAD.encode([&vec![0; offset], value].concat());
            self.0.push(text.bytes().skip(mixed).map(normalized).collect());
        }
    }

    /// Replaces what was sent by `[redacted]`.
    pub(crate) fn redact(&self, text: &str) -> String {
        let mut sent = vec![false; text.len()];
        let mut decoding: Vec<Encoded> = text
            .char_indices()
            .flat_map(|(start, char)| {
                let range = start..start + char.len_utf8();
                text.as_bytes()[range.clone()].iter().map(move |byte| (*byte, range.clone()))
            })
            .collect();
        for _ in 0..MAX_DECODINGS {
            self.mark(&decoding, &mut sent);
            let decoded = unescaped(&decoding);
            if decoded.len() == decoding.len() {
                break;
            }
            decoding = decoded;
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

    /// Marks the bytes of the original text that stand for what was sent.
    fn mark(&self, text: &[Encoded], sent: &mut [bool]) {
        let bytes: Vec<u8> = text.iter().map(|(byte, _)| normalized(*byte)).collect();
        let mut windows: HashMap<&[u8], Vec<usize>> = HashMap::new();
        for (start, window) in bytes.windows(WINDOW).enumerate() {
            windows.entry(window).or_default().push(start);
        }
        for window in self.0.iter().flat_map(|value| value.windows(WINDOW)) {
            // Removed, so that each range is marked once, however often a window was sent.
            for start in windows.remove(window).into_iter().flatten() {
                for (_, range) in &text[start..start + WINDOW] {
                    sent[range.clone()].fill(true);
                }
            }
        }
    }

    /// The error itself, or its redacted messages if it repeats what was sent.
    pub(crate) fn redact_error(&self, error: BoxError) -> BoxError {
        // Errors of connections contain nothing of requests.
        if error.is::<hyper_util::client::legacy::Error>() {
            return error;
        }
        let mut messages = Vec::new();
        let mut cause: Option<&dyn Error> = Some(&*error);
        while let Some(error) = cause {
            messages.push(error.to_string());
            cause = error.source();
        }
        let all = messages.join(": ");
        let repeats = |text: &str| self.redact(text) != text;
        if repeats(&all) || repeats(&format!("{error:?}")) {
            self.redact(&all).into()
        } else {
            error
        }
    }
}

/// A decoded byte, and the range of the original text that stands for it.
type Encoded = (u8, Range<usize>);

/// Maps bytes that encodings interchange to one of them: `+` and space in forms, `-` and `+`, `_` and `/` in
/// base64.
fn normalized(byte: u8) -> u8 {
    match byte {
        b'+' | b'-' => b' ',
        b'_' => b'/',
        _ => byte,
    }
}

/// Decodes one level of percent-encoding and of the escapes of JSON strings (RFC 8259 §7).
fn unescaped(text: &[Encoded]) -> Vec<Encoded> {
    let byte = |at: usize| text.get(at).map(|(byte, _)| *byte);
    let hex = |from: usize, digits: usize| {
        (from..from + digits)
            .try_fold(0, |number, at| Some(number * 16 + char::from(byte(at)?).to_digit(16)?))
    };
    let mut plain = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some((first, range)) = text.get(at) {
        let (value, length) = match (first, byte(at + 1)) {
            (b'%', Some(_)) => (hex(at + 1, 2), 3),
            (b'\\', Some(b'u')) => (hex(at + 2, 4), 6),
            (b'\\', Some(escaped @ (b'"' | b'\\' | b'/'))) => (Some(u32::from(escaped)), 2),
            _ => (None, 1),
        };
        let Some(value) = value else {
            plain.push((*first, range.clone()));
            at += 1;
            continue;
        };
        let range = range.start..text[at + length - 1].1.end;
        match (first, u8::try_from(value)) {
            // Percent-encoding stands for a byte, JSON's escape for a character.
            (b'%', Ok(value)) => plain.push((value, range)),
            _ => {
                let char = char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER);
                let bytes = char.to_string().into_bytes();
                plain.extend(bytes.into_iter().map(|byte| (byte, range.clone())));
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

    /// Calls that send the secret, one for each part of a call.
    fn sent() -> [SentValues; 5] {
        let bearer = |token: &str| HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
        let encoded = utf8_percent_encode(SECRET, NON_ALPHANUMERIC).to_string();
        let form = format!("grant_type=password&client_secret={encoded}&a=b");
        let pair = BASE64_STANDARD.encode(format!("715948317:{SECRET}"));
        let basic = HeaderValue::from_str(&format!("Basic {pair}")).unwrap();
        let document = |value| serde_json::to_vec(&value).unwrap();
        [
            SentValues::new(&document(json!({ "token": SECRET })), "", &bearer("other")),
            SentValues::new(&document(json!({ "parameters": form })), "", &bearer("other")),
            SentValues::new(b"", &format!("/{encoded}"), &bearer("other")),
            SentValues::new(b"", &format!("?start=0&subject={encoded}"), &bearer("other")),
            SentValues::new(b"", "", &basic),
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
                    // What may remain: the base64 of `before`, a mixed character, and padding.
                    let rest = before.len() * 4 / 3 + 3;
                    let shown = clean.len() - "Basic [redacted] is wrong".len();
                    assert!(clean.contains(REDACTED) && shown <= rest, "{place} {clean}");
                }
            }
        }
    }

    #[test]
    fn other_text_of_the_server_is_kept() {
        let document =
            br#"{"token":"S3cr3tT0k3n","clientCertificate":"","accessTokenIdentifier":""}"#;
        let sent = SentValues::new(document, "", &HeaderValue::from_static("Bearer s3rvice-token"));
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
        let sent =
            SentValues::new(br#"{"token":"S3cr3tT0k3n"}"#, "", &HeaderValue::from_static("x"));
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
