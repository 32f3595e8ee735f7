//! Headers of clients.

use http::{HeaderName, HeaderValue, header::AUTHORIZATION};

use super::shared::{MARK, headers, refused, request};
use crate::credentials::{self, CookieToken, DPOP, HeaderToken, RequestHead, TokenSource};

const MAX_TOKEN_LENGTH: usize = 64;

/// Input: headers. An accepted token is a `token68` (RFC 6750 §2.1); a refusal does not repeat its input;
/// forwarded headers are marked sensitive.
pub fn credentials(input: &[u8]) {
    let sources: [Box<dyn TokenSource>; 2] = [
        Box::new(CookieToken::new("token")),
        Box::new(HeaderToken::new(HeaderName::from_static("x-token"))),
    ];
    let mut request = request(headers(input));
    let head = RequestHead::of(&request);
    assert!(!format!("{head:?}").contains(MARK));
    match credentials::find(&sources, head, MAX_TOKEN_LENGTH) {
        Ok(Some(token)) => assert!(is_token68(token.text()), "{}", token.value.escape_ascii()),
        Ok(None) => {}
        Err(rejection) => refused(&rejection, head),
    }
    #[cfg(feature = "dpop")]
    if let Err(rejection) = credentials::proof(head.headers) {
        refused(&rejection, head);
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

/// An independent implementation of RFC 6750 §2.1.
fn is_token68(token: &str) -> bool {
    let legal = |char: char| char.is_ascii_alphanumeric() || "-._~+/=".contains(char);
    let padding = token.find('=').unwrap_or(token.len());
    let padded = token[padding..].chars().all(|char| char == '=');
    padding > 0 && padded && token.chars().all(legal) && token.len() <= MAX_TOKEN_LENGTH
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::strategies::{CASES, lines, seeds};
    use super::*;

    #[test]
    fn it_holds_of_all_seeds() {
        seeds("credentials").iter().for_each(|seed| credentials(seed));
    }

    #[rustfmt::skip]
    const CREDENTIALS: &[&str] = &[
        "authorization: ", "x-token: ", "cookie: token=", "dpop: ", "; token=", "Bearer", "DPoP", "Basic",
        " ", "\n", "=", "==", "-._~+/", "a.b.c", ",", "\"", "\t", MARK, "content-type: application/grpc\n",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(CASES))]

        #[test]
        fn credentials_are_tokens_or_refused(input in lines(CREDENTIALS)) {
            credentials(&input);
        }
    }
}
