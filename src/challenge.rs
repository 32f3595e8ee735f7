//! `WWW-Authenticate` challenges, made of checked parts only.

use http::HeaderValue;
use http_auth::ChallengeParser;

/// A longer challenge of Authlete's is not passed on.
const MAX_LENGTH: usize = 2048;

/// A challenge of the Bearer scheme (RFC 6750 §3).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Challenge {
    params: Vec<(String, String)>,
}

impl Challenge {
    pub(crate) fn bearer() -> Self {
        Self { params: Vec::new() }
    }

    /// Adds a parameter, if it has a value.
    pub(crate) fn param(mut self, name: &str, value: Option<&str>) -> Self {
        self.params.extend(value.map(|value| (name.to_owned(), value.to_owned())));
        self
    }

    /// Puts the realm first, unless there is one already.
    pub(crate) fn realm(mut self, realm: Option<&str>) -> Self {
        if let (Some(realm), None) = (realm, self.get("realm")) {
            self.params.insert(0, ("realm".to_owned(), realm.to_owned()));
        }
        self
    }

    /// The value of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.params.iter().find(|(held, _)| held.eq_ignore_ascii_case(name))?;
        Some(value)
    }

    /// Reads a challenge that a server wrote. `None` unless it is exactly one Bearer challenge that
    /// can be sent on.
    pub(crate) fn parse(content: &str) -> Option<Self> {
        if content.len() > MAX_LENGTH {
            return None;
        }
        let mut challenges = ChallengeParser::new(content);
        let challenge = challenges.next()?.ok()?;
        if challenges.next().is_some() || !challenge.scheme.eq_ignore_ascii_case("Bearer") {
            return None;
        }
        let params: Vec<_> = challenge
            .params
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.to_unescaped()))
            .collect();
        params.iter().all(|(_, value)| is_text(value)).then_some(Self { params })
    }

    /// The header's value.
    pub(crate) fn to_header(&self) -> HeaderValue {
        let params: Vec<_> =
            self.params.iter().map(|(name, value)| format!("{name}={}", quoted(value))).collect();
        let text = if params.is_empty() {
            "Bearer".to_owned()
        } else {
            format!("Bearer {}", params.join(", "))
        };
        // Names are tokens and values are quoted text, so it is always a legal header.
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("Bearer"))
    }
}

/// Whether this can stand in a header without being taken for anything else.
pub(crate) fn is_text(value: &str) -> bool {
    value.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// A quoted-string (RFC 9110 §5.6.4). What a header must not hold becomes `?`.
fn quoted(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('"');
    for char in value.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            ' '..='~' => quoted.push(char),
            _ => quoted.push('?'),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(content: &str) -> Option<String> {
        let challenge = Challenge::parse(content)?;
        Some(challenge.to_header().to_str().unwrap().to_owned())
    }

    #[test]
    fn a_challenge_of_authletes_is_passed_on() {
        let content = "Bearer error=\"invalid_token\",error_description=\"[A057301] gone.\"";
        let expected = r#"Bearer error="invalid_token", error_description="[A057301] gone.""#;
        assert_eq!(header(content).as_deref(), Some(expected));
        assert_eq!(header("Bearer").as_deref(), Some("Bearer"));
    }

    #[test]
    fn what_is_no_bearer_challenge_is_not_passed_on() {
        let long = format!("Bearer error=\"{}\"", "a".repeat(MAX_LENGTH));
        for content in [
            "",
            "<html>",
            "Bearer error=",
            "Bearer error=\"a\r\nSet-Cookie: a=b\"",
            "Bearer error=\"a",
            "Bearer error=\"é\"",
            "DPoP error=\"invalid_token\"",
            "Bearer error=\"a\", Basic realm=\"b\"",
            "{\"error\":\"server_error\"}",
            &long,
        ] {
            assert_eq!(header(content), None, "{content}");
        }
    }

    #[test]
    fn quotes_and_line_breaks_cannot_leave_their_parameter() {
        let challenge = Challenge::bearer().param("scope", Some("a\"b\\c\r\nd"));
        assert_eq!(challenge.to_header(), r#"Bearer scope="a\"b\\c??d""#);
    }

    #[test]
    fn the_realm_comes_first_and_once() {
        let challenge = Challenge::bearer().param("error", Some("x")).realm(Some("api"));
        assert_eq!(challenge.to_header(), r#"Bearer realm="api", error="x""#);
        let challenge = challenge.realm(Some("other"));
        assert_eq!(challenge.to_header(), r#"Bearer realm="api", error="x""#);
    }
}
