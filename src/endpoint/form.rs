//! A client's request: a form that is read strictly, so that Authlete and this server act on the same
//! parameters.

use std::collections::HashSet;

use headers::{Authorization, HeaderMapExt, authorization::Basic};
use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode,
    header::{ALLOW, AUTHORIZATION, CONTENT_TYPE},
};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use percent_encoding::percent_decode_str;
use tower::BoxError;

use super::answer::{Answer, answer, challenged, error, invalid_request};
use crate::{
    api::Secret,
    proof::{ClientCertificate, ClientCertificates, to_pem},
};

/// The largest request (bytes) that is read.
const MAX_REQUEST: usize = 64 * 1024;

/// The parameters that may be there more than once: RFC 8707 §2, RFC 8693 §2.1.
const REPEATABLE: [&str; 2] = ["resource", "audience"];

/// A client's request.
pub(super) struct Form {
    pub(super) headers: HeaderMap,
    /// The client's certificate, if the endpoint knows where to find one.
    pub(super) certificate: Option<ClientCertificate>,
    basic: Option<Credentials>,
    parameters: Vec<(String, Secret)>,
}

/// The client's Basic credentials, decoded.
struct Credentials {
    id: String,
    secret: Secret,
}

impl Form {
    /// Reads a request: a POST of a form (RFC 6749 §3.2, RFC 7009 §2.1).
    pub(super) async fn read<B>(
        request: Request<B>,
        certificates: Option<&ClientCertificates>,
    ) -> Result<Self, Answer>
    where
        B: Body,
        B::Error: Into<BoxError>,
    {
        let (head, body) = request.into_parts();
        if head.method != Method::POST {
            let mut answer =
                error(StatusCode::METHOD_NOT_ALLOWED, "invalid_request", "only POST is allowed");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return Err(answer);
        }
        if !is_form(&head.headers) {
            let description = "the body must be application/x-www-form-urlencoded";
            return Err(error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request", description));
        }
        let basic = Credentials::find(&head.headers).map_err(unauthenticated)?;
        let certificate = match certificates {
            Some(certificates) => {
                let found = certificates.find(&head.headers, &head.extensions);
                found.map_err(|rejection| invalid_request(rejection.description()))?
            }
            None => None,
        };
        let body = Limited::new(body, MAX_REQUEST).collect().await.map_err(|broken| {
            if broken.is::<LengthLimitError>() {
                error(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request", "the body is too large")
            } else {
                invalid_request("the body cannot be read")
            }
        })?;
        let parameters = parameters(&body.to_bytes()).map_err(invalid_request)?;
        Ok(Self { headers: head.headers, certificate, basic, parameters })
    }

    /// A parameter that is there once. One without a value counts as omitted (RFC 6749 §3.2).
    pub(super) fn get(&self, name: &str) -> Option<&Secret> {
        let mut values = self.parameters.iter().filter(|(key, _)| key == name);
        let (_, value) = values.next().filter(|_| values.next().is_none())?;
        Some(value).filter(|value| !value.is_empty())
    }

    /// The parameters as a form.
    pub(super) fn body(&self) -> Secret {
        serde_html_form::to_string(&self.parameters).unwrap_or_default().into()
    }

    /// The same with another value of a parameter.
    pub(super) fn body_with(&self, name: &str, value: &Secret) -> Secret {
        let pairs = self.parameters.iter();
        let pairs = pairs.map(|(key, old)| (key, if key == name { value } else { old }));
        serde_html_form::to_string(pairs.collect::<Vec<_>>()).unwrap_or_default().into()
    }

    pub(super) fn client_id(&self) -> Option<String> {
        self.basic.as_ref().map(|basic| basic.id.clone())
    }

    pub(super) fn client_secret(&self) -> Option<Secret> {
        self.basic.as_ref().map(|basic| basic.secret.clone())
    }

    /// The client's certificate, as Authlete takes it.
    pub(super) fn client_certificate(&self) -> Option<String> {
        self.certificate.as_ref().map(ClientCertificate::to_pem)
    }

    /// The certificates between the client's and a root.
    pub(super) fn client_certificate_path(&self) -> Vec<String> {
        let path = self.certificate.as_ref().map(ClientCertificate::path);
        path.into_iter().flatten().map(|der| to_pem(der)).collect()
    }

    /// The client could not be authenticated: 401 with a challenge if it tried by `Authorization`
    /// (RFC 6749 §5.2), else 400.
    pub(super) fn invalid_client(&self, content: Option<&str>) -> Answer {
        let answer = answer(StatusCode::BAD_REQUEST, content);
        if self.basic.is_some() { challenged(answer) } else { answer }
    }
}

impl Credentials {
    /// The credentials of the one `Authorization` header, which are form-encoded within Basic
    /// (RFC 6749 §2.3.1). There is no other scheme by which clients authenticate here.
    fn find(headers: &HeaderMap) -> Result<Option<Self>, &'static str> {
        let sent = headers.get_all(AUTHORIZATION).iter().count();
        let basic: Option<Authorization<Basic>> = headers.typed_get().filter(|_| sent == 1);
        let decoded = basic.and_then(|basic| {
            let secret = decode(basic.password())?.into();
            Some(Self { id: decode(basic.username())?, secret })
        });
        if sent > 0 && decoded.is_none() {
            return Err("the client's credentials cannot be read");
        }
        Ok(decoded)
    }
}

fn unauthenticated(description: &str) -> Answer {
    challenged(error(StatusCode::UNAUTHORIZED, "invalid_client", description))
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// The parameters of a form, none of which may be repeated (RFC 6749 §3.2), not even without a value:
/// of two that are named alike, nobody knows which another server goes by.
fn parameters(body: &[u8]) -> Result<Vec<(String, Secret)>, &'static str> {
    let malformed = "the body is no well-formed form";
    let body = str::from_utf8(body).map_err(|_| malformed)?;
    let (mut parameters, mut seen) = (Vec::new(), HashSet::new());
    for pair in body.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name).ok_or(malformed)?;
        let value = decode(value).ok_or(malformed)?;
        if !seen.insert(name.clone()) && !REPEATABLE.contains(&&*name) {
            return Err("a parameter is repeated");
        }
        parameters.push((name, Secret::from(value)));
    }
    Ok(parameters)
}

/// A form-encoded text (RFC 6749 Appendix B), decoded. `None` if an escape is incomplete or what it
/// makes is not UTF-8, which decoders treat in different ways.
fn decode(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    let is_hex = |escape: &[u8]| escape.iter().all(u8::is_ascii_hexdigit);
    let mut escapes = text.split('%').skip(1).map(|rest| rest.as_bytes().get(..2));
    if !escapes.all(|escape| escape.is_some_and(is_hex)) {
        return None;
    }
    percent_decode_str(&text).decode_utf8().ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_form_encoded_is_decoded_strictly() {
        for (text, decoded) in [
            ("", Some("")),
            ("a-b_c", Some("a-b_c")),
            ("a+b%20c%2B", Some("a b c+")),
            ("https%3A%2F%2Fclient.example%2F", Some("https://client.example/")),
            ("%c3%a9\u{e9}", Some("\u{e9}\u{e9}")),
            ("%", None),
            ("%4", None),
            ("%%41", None),
            ("%+1", None),
            ("%4\u{e9}", None),
            ("%ff", None),
        ] {
            assert_eq!(decode(text).as_deref(), decoded, "{text}");
        }
    }

    #[test]
    fn credentials_are_split_at_the_first_colon_before_they_are_decoded() {
        let mut headers = HeaderMap::new();
        headers.typed_insert(Authorization::basic("https%3A%2F%2Fa.example", "b:c%3Ad"));
        let Ok(Some(Credentials { id, secret })) = Credentials::find(&headers) else {
            panic!("they are readable");
        };
        assert_eq!((id.as_str(), secret.expose()), ("https://a.example", "b:c:d"));
    }
}
