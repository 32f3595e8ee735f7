//! Strict parsing of a client's form, so that Authlete and this server act on the same parameters.

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

use super::response::{
    EndpointResponse, error, invalid_request, json_response, with_basic_challenge,
};
use crate::{
    api::Secret,
    proof::{ClientCertificate, ClientCertificates, to_pem},
};

/// The largest body (bytes) that is accepted.
const MAX_BODY: usize = 64 * 1024;

/// The parameters that may be repeated: RFC 8707 §2, RFC 8693 §2.1.
const REPEATABLE: [&str; 2] = ["resource", "audience"];

/// The form that a client posted, with its credentials.
pub(super) struct ClientRequest {
    pub(super) headers: HeaderMap,
    /// The client's certificate; `None` unless the endpoint is configured to take one.
    pub(super) certificate: Option<ClientCertificate>,
    basic: Option<BasicCredentials>,
    parameters: Vec<(String, Secret)>,
}

/// The client's Basic credentials, decoded.
struct BasicCredentials {
    id: String,
    secret: Secret,
}

impl ClientRequest {
    /// Reads the request, which has to be a POST of a form (RFC 6749 §3.2, RFC 7009 §2.1).
    pub(super) async fn read<B>(
        request: Request<B>,
        certificates: Option<&ClientCertificates>,
    ) -> Result<Self, EndpointResponse>
    where
        B: Body,
        B::Error: Into<BoxError>,
    {
        let (head, body) = request.into_parts();
        if head.method != Method::POST {
            return Err(method_not_allowed());
        }
        if !is_form(&head.headers) {
            let description = "the body must be application/x-www-form-urlencoded";
            return Err(error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request", description));
        }
        let basic = BasicCredentials::find(&head.headers).map_err(unauthenticated)?;
        let certificate = match certificates {
            Some(certificates) => {
                let found = certificates.find(&head.headers, &head.extensions);
                found.map_err(|rejection| invalid_request(rejection.description()))?
            }
            None => None,
        };
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(unreadable_body)?;
        let parameters = parameters(&body.to_bytes()).map_err(invalid_request)?;
        Ok(Self { headers: head.headers, certificate, basic, parameters })
    }

    /// The value of a parameter that is not repeated. One without a value counts as omitted
    /// (RFC 6749 §3.2).
    pub(super) fn get(&self, name: &str) -> Option<&Secret> {
        let mut values = self.parameters.iter().filter(|(key, _)| key == name);
        let (_, value) = values.next().filter(|_| values.next().is_none())?;
        Some(value).filter(|value| !value.is_empty())
    }

    /// The parameters, form-encoded.
    pub(super) fn body(&self) -> Secret {
        serde_html_form::to_string(&self.parameters).unwrap_or_default().into()
    }

    /// The parameters, form-encoded, with another value of one of them.
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

    /// The client's certificate as PEM.
    pub(super) fn client_certificate(&self) -> Option<String> {
        self.certificate.as_ref().map(ClientCertificate::to_pem)
    }

    /// The intermediate certificates as PEM.
    pub(super) fn client_certificate_path(&self) -> Vec<String> {
        let path = self.certificate.as_ref().map(ClientCertificate::path);
        path.into_iter().flatten().map(|der| to_pem(der)).collect()
    }

    /// The client could not be authenticated: 401 with a challenge if it tried by `Authorization`
    /// (RFC 6749 §5.2), else 400.
    pub(super) fn invalid_client(&self, body: Option<&str>) -> EndpointResponse {
        let response = json_response(StatusCode::BAD_REQUEST, body);
        if self.basic.is_some() { with_basic_challenge(response) } else { response }
    }
}

impl BasicCredentials {
    /// Reads the credentials, which are form-encoded within Basic (RFC 6749 §2.3.1). Any other scheme
    /// and a repeated header are errors.
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

fn method_not_allowed() -> EndpointResponse {
    let description = "only POST is allowed";
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "invalid_request", description);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    response
}

fn unreadable_body(failure: BoxError) -> EndpointResponse {
    if failure.is::<LengthLimitError>() {
        return error(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request", "the body is too large");
    }
    invalid_request("the body cannot be read")
}

fn unauthenticated(description: &str) -> EndpointResponse {
    with_basic_challenge(error(StatusCode::UNAUTHORIZED, "invalid_client", description))
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Parses a form. Parameters must not be repeated (RFC 6749 §3.2), not even without a value, since
/// servers differ in which of the values they use.
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

/// Decodes a form-encoded text (RFC 6749 Appendix B). `None` if an escape is incomplete or the result is
/// not UTF-8, since decoders differ in how they treat both.
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
    fn form_encoding_is_decoded_strictly() {
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
        let Ok(Some(BasicCredentials { id, secret })) = BasicCredentials::find(&headers) else {
            panic!("the credentials are valid");
        };
        assert_eq!((id.as_str(), secret.expose()), ("https://a.example", "b:c:d"));
    }
}
