//! `WWW-Authenticate` challenges, built from validated parts only.

use std::borrow::Cow;

use http::HeaderValue;
use http_auth::ChallengeParser;

use crate::credentials::Scheme;

/// The longest challenge of Authlete (bytes) that is passed on.
const MAX_LENGTH: usize = 2048;

/// The parameters of a challenge of the Bearer (RFC 6750 §3) or DPoP (RFC 9449 §7.1) scheme.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Challenge {
    params: Vec<(Cow<'static, str>, Cow<'static, str>)>,
}

/// The parameters that all challenges of a layer share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Challenges {
    pub(crate) realm: Option<String>,
    /// The URL of the resource's metadata (RFC 9728 §5.1).
    pub(crate) resource_metadata: Option<String>,
    /// The algorithms of DPoP proofs (RFC 9449 §7.1), if the DPoP scheme is accepted.
    pub(crate) algorithms: Option<String>,
    /// Whether DPoP is the only scheme that is accepted.
    pub(crate) only_dpop: bool,
}

impl Challenges {
    /// One challenge for each scheme that is accepted. The one of the scheme that the request used has the
    /// parameters of `error`.
    pub(crate) fn headers(&self, used: Scheme, error: &Challenge) -> Vec<HeaderValue> {
        let bearer = (!self.only_dpop).then_some(Scheme::Bearer);
        let dpop = self.algorithms.is_some().then_some(Scheme::Dpop);
        // The scheme that was used comes first, since some clients read the first challenge only.
        let mut schemes: Vec<_> = bearer.into_iter().chain(dpop).collect();
        schemes.sort_by_key(|scheme| *scheme != used);
        let none = Challenge::default();
        // If the scheme that was used is not accepted, the error goes with an accepted one.
        let first = schemes.first().copied();
        schemes
            .into_iter()
            .map(|scheme| {
                let challenge = if first == Some(scheme) { error } else { &none };
                let algorithms = self.algorithms.as_deref().filter(|_| scheme == Scheme::Dpop);
                challenge
                    .clone()
                    .realm(self.realm.as_deref())
                    .absent("resource_metadata", self.resource_metadata.as_deref())
                    .absent("algs", algorithms)
                    .to_header(scheme)
            })
            .collect()
    }
}

impl Challenge {
    /// Adds a parameter, if it has a value.
    pub(crate) fn param(
        mut self,
        name: &'static str,
        value: Option<impl Into<Cow<'static, str>>>,
    ) -> Self {
        self.params.extend(value.map(|value| (name.into(), value.into())));
        self
    }

    /// Inserts the realm as the first parameter, unless there is one already.
    pub(crate) fn realm(mut self, realm: Option<&str>) -> Self {
        if let (Some(realm), None) = (realm, self.get("realm")) {
            self.params.insert(0, ("realm".into(), realm.to_owned().into()));
        }
        self
    }

    /// Adds a parameter, unless there is one of this name.
    fn absent(self, name: &'static str, value: Option<&str>) -> Self {
        let value = value.filter(|_| self.get(name).is_none());
        self.param(name, value.map(str::to_owned))
    }

    /// The value of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.params.iter().find(|(held, _)| held.eq_ignore_ascii_case(name))?;
        Some(value)
    }

    /// Parses a challenge from Authlete. `None` unless it is exactly one legal challenge of Bearer or
    /// DPoP.
    pub(crate) fn parse(content: &str) -> Option<Self> {
        if content.len() > MAX_LENGTH {
            return None;
        }
        let mut challenges = ChallengeParser::new(content);
        let challenge = challenges.next()?.ok()?;
        let known = ["Bearer", "DPoP"].iter().any(|it| challenge.scheme.eq_ignore_ascii_case(it));
        if challenges.next().is_some() || !known {
            return None;
        }
        let params: Vec<(Cow<_>, Cow<_>)> = challenge
            .params
            .iter()
            .map(|(name, value)| ((*name).to_owned().into(), value.to_unescaped().into()))
            .collect();
        (params.iter().all(|(_, value)| is_text(value)) && !repeats(&params))
            .then_some(Self { params })
    }

    /// The header's value.
    fn to_header(&self, scheme: Scheme) -> HeaderValue {
        let scheme = match scheme {
            Scheme::Bearer => "Bearer",
            Scheme::Dpop => "DPoP",
        };
        let mut text = String::with_capacity(128);
        text.push_str(scheme);
        for (index, (name, value)) in self.params.iter().enumerate() {
            text.push_str(if index == 0 { " " } else { ", " });
            text.push_str(name);
            text.push('=');
            quote(&mut text, value, is_plain(name));
        }
        // Never falls back: names are tokens and values are quoted strings of visible ASCII.
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(scheme))
    }
}

/// Whether this is visible ASCII and spaces only.
pub(crate) fn is_text(value: &str) -> bool {
    value.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// Whether a parameter occurs twice, which is illegal (RFC 9110 §11.2).
fn repeats(params: &[(Cow<'_, str>, Cow<'_, str>)]) -> bool {
    params.iter().enumerate().any(|(index, (name, _))| {
        params[..index].iter().any(|(before, _)| before.eq_ignore_ascii_case(name))
    })
}

/// Whether the values of a parameter hold neither `"` nor `\`, not even as a quoted-pair (RFC 6750 §3).
fn is_plain(name: &str) -> bool {
    let plain = ["error", "error_description", "error_uri", "scope"];
    plain.iter().any(|it| name.eq_ignore_ascii_case(it))
}

/// Appends a quoted-string (RFC 9110 §5.6.4). An illegal character becomes `?`, and `"` becomes `'` in a
/// plain one.
fn quote(text: &mut String, value: &str, plain: bool) {
    text.push('"');
    for char in value.chars() {
        match char {
            '"' if plain => text.push('\''),
            '\\' if plain => text.push('?'),
            '"' | '\\' => text.extend(['\\', char]),
            ' '..='~' => text.push(char),
            _ => text.push('?'),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(content: &str) -> Option<String> {
        let challenge = Challenge::parse(content)?;
        Some(challenge.to_header(Scheme::Bearer).to_str().unwrap().to_owned())
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
            "Digest error=\"invalid_token\"",
            "Bearer error=\"a\", Basic realm=\"b\"",
            "Bearer error=\"invalid_token\", error=\"insufficient_scope\"",
            "Bearer scope=\"a\", error=\"a\", Scope=\"a\"",
            "{\"error\":\"server_error\"}",
            &long,
        ] {
            assert_eq!(header(content), None, "{content}");
        }
    }

    #[test]
    fn quotes_and_line_breaks_cannot_leave_their_parameter() {
        let challenge = Challenge::default().realm(Some("a\"b\\c\r\nd"));
        assert_eq!(challenge.to_header(Scheme::Dpop), r#"DPoP realm="a\"b\\c??d""#);
    }

    #[test]
    fn what_is_wrong_is_told_without_quotes_and_backslashes() {
        for name in ["error", "error_description", "error_uri", "scope"] {
            let challenge = Challenge::default().param(name, Some(r#"for "gold" \ members"#));
            let expected = format!("Bearer {name}=\"for 'gold' ? members\"");
            assert_eq!(challenge.to_header(Scheme::Bearer), expected);
        }
        let content = r#"Bearer Error_Description="no \"such\" \\ token", x="a\"b""#;
        let expected = r#"Bearer Error_Description="no 'such' ? token", x="a\"b""#;
        assert_eq!(header(content).as_deref(), Some(expected));
    }

    #[test]
    fn the_realm_comes_first_and_once() {
        let challenge = Challenge::default().param("error", Some("x")).realm(Some("api"));
        let expected = r#"Bearer realm="api", error="x""#;
        assert_eq!(challenge.to_header(Scheme::Bearer), expected);
        assert_eq!(challenge.realm(Some("other")).to_header(Scheme::Bearer), expected);
    }

    #[test]
    fn what_is_wrong_stands_with_the_scheme_that_was_used() {
        let both = Challenges { algorithms: Some("ES256".into()), ..Challenges::default() };
        let wrong = Challenge::default().param("error", Some("x"));
        let bearer = both.headers(Scheme::Bearer, &wrong);
        assert_eq!(bearer, [r#"Bearer error="x""#, r#"DPoP algs="ES256""#]);
        let dpop = both.headers(Scheme::Dpop, &wrong);
        assert_eq!(dpop, [r#"DPoP error="x", algs="ES256""#, "Bearer"]);
        let only = Challenges { only_dpop: true, ..both };
        assert_eq!(only.headers(Scheme::Bearer, &wrong), [r#"DPoP error="x", algs="ES256""#]);
        let none = Challenges::default();
        assert_eq!(none.headers(Scheme::Dpop, &wrong), [r#"Bearer error="x""#]);
    }
}
