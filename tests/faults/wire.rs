//! Bytes of HTTP/1.1 responses and HTTP/2 frames, valid and malformed.

use tokio::io::{AsyncRead, AsyncReadExt};

/// A response with these header lines, `Content-Length` and a body.
pub(crate) fn http(status: u16, headers: &[&str], body: impl AsRef<[u8]>) -> Vec<u8> {
    let length = format!("Content-Length: {}", body.as_ref().len());
    http_without_length(status, &[headers, &[&length]].concat(), body)
}

/// The same, if the header lines do not tell it to end where the connection does.
pub(crate) fn http_without_length(
    status: u16,
    headers: &[&str],
    body: impl AsRef<[u8]>,
) -> Vec<u8> {
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let head = format!("HTTP/1.1 {status} Status\r\nConnection: close\r\n{lines}\r\n");
    [head.as_bytes(), body.as_ref()].concat()
}

/// Reads an HTTP/1.1 request to its end. `None` at the end of the connection.
pub(crate) async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if text.split_once("\r\n\r\n").is_some_and(|(head, body)| body.len() >= length(head)) {
            return Some(text);
        }
        stream.read_buf(&mut request).await.ok().filter(|read| *read > 0)?;
    }
}

fn length(head: &str) -> usize {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    found.map_or(0, |(_, value)| value.trim().parse().unwrap())
}

pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kinds of frames (RFC 9113 §6).
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const GOAWAY: u8 = 7;

/// Flags of frames. `ACK` is that of `SETTINGS`.
pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Error codes (RFC 9113 §7).
pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const INTERNAL_ERROR: u32 = 2;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl Frame {
    /// Reads a frame, and discards its payload.
    pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Self> {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, id @ ..] = head;
        let length = u32::from_be_bytes([0, a, b, c]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await.ok()?;
        Some(Self { kind, flags, stream: u32::from_be_bytes(id) })
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The `HEADERS` frame of a 200 response.
pub(crate) fn head(stream: u32) -> Vec<u8> {
    // `:status: 200` of HPACK's static table.
    frame(HEADERS, END_HEADERS, stream, &[0x88])
}

/// The frames of a 200 response with this body.
pub(crate) fn answer(stream: u32, body: &str) -> Vec<u8> {
    [head(stream), frame(DATA, END_STREAM, stream, body.as_bytes())].concat()
}

pub(crate) fn goaway(last_stream: u32, code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last_stream.to_be_bytes(), code.to_be_bytes()].concat())
}

pub(crate) fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}
