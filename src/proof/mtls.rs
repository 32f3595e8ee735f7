//! Client certificates (RFC 8705): a token that only works over its holder's connection.

use std::{fmt, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderName};
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};

use super::origin::Proxies;
use crate::{api::ConfigError, cache::Thumbprint};

/// A longer header is refused unread.
const MAX_LENGTH: usize = 32 * 1024;

/// The certificate (DER) by which the client authenticated at the TLS connection, as an extension of
/// requests. What accepts the connections sets it, after TLS has verified that the client has the key.
///
/// ```
/// use tower_authlete::ClientCertificate;
///
/// # fn peer_certificates() -> Option<Vec<Vec<u8>>> { None }
/// # let mut request = http::Request::new(());
/// // With tokio-rustls: `stream.get_ref().1.peer_certificates()`
/// if let Some(certificate) = peer_certificates().and_then(|chain| chain.into_iter().next()) {
///     request.extensions_mut().insert(ClientCertificate::from_der(certificate));
/// }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    der: Bytes,
    thumbprint: Thumbprint,
    path: Option<Arc<[Bytes]>>,
}

impl ClientCertificate {
    /// The certificate of these bytes. They are not looked at.
    #[must_use]
    pub fn from_der(der: impl Into<Bytes>) -> Self {
        let der = der.into();
        let thumbprint = Sha256::digest(&der).into();
        Self { der, thumbprint, path: None }
    }

    /// The same with the certificates (DER) that the client sent after its own, in their order. An
    /// [endpoint](crate::endpoint) tells them to Authlete, which may look for a trusted root by them; the
    /// layer does not need them. They are not looked at.
    #[must_use]
    pub fn with_path(self, path: impl IntoIterator<Item = impl Into<Bytes>>) -> Self {
        Self { path: Some(path.into_iter().map(Into::into).collect()), ..self }
    }

    /// The certificates after the client's own, in DER.
    pub(crate) fn path(&self) -> &[Bytes] {
        self.path.as_deref().unwrap_or_default()
    }

    /// The certificate in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    pub(crate) fn thumbprint(&self) -> Thumbprint {
        self.thumbprint
    }

    /// The certificate in PEM (RFC 7468).
    #[must_use]
    pub fn to_pem(&self) -> String {
        to_pem(&self.der)
    }
}

/// A certificate (DER) in PEM (RFC 7468).
pub(crate) fn to_pem(der: &[u8]) -> String {
    pem::encode(&pem::Pem::new("CERTIFICATE", der))
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").field("bytes", &self.der.len()).finish_non_exhaustive()
    }
}

/// Where the client's certificate is found. Tokens that are bound to one (RFC 8705 §3) are refused
/// without it, or with another.
///
/// ```
/// use http::HeaderName;
/// use tower_authlete::ClientCertificates;
///
/// let own_tls = ClientCertificates::from_connection();
/// let proxy = ClientCertificates::from_client_cert_header(["10.0.0.0/8"]);
/// let envoy = ClientCertificates::from_envoy(["127.0.0.1"]);
/// let nginx = ClientCertificates::from_escaped_pem(
///     HeaderName::from_static("x-ssl-client-escaped-cert"), ["127.0.0.1"],
/// );
/// ```
#[derive(Debug, Clone)]
pub struct ClientCertificates {
    header: Option<Header>,
}

#[derive(Debug, Clone)]
struct Header {
    form: Form,
    name: HeaderName,
    proxies: Proxies,
}

#[derive(Debug, Clone, Copy)]
enum Form {
    /// RFC 9440: a byte sequence of RFC 8941.
    ByteSequence,
    /// Envoy's `x-forwarded-client-cert`.
    Envoy,
    /// PEM, percent-encoded.
    EscapedPem,
}

impl ClientCertificates {
    /// In the request's extensions, as [`ClientCertificate`].
    #[must_use]
    pub fn from_connection() -> Self {
        Self { header: None }
    }

    /// In the `Client-Cert` header (RFC 9440) of proxies at these addresses or networks (CIDR), as
    /// [`PeerAddr`](crate::PeerAddr) tells. They must take that header away from what clients send.
    #[must_use]
    pub fn from_client_cert_header(proxies: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let name = HeaderName::from_static("client-cert");
        Self::from_header(Form::ByteSequence, name, proxies)
    }

    /// In the last element of Envoy's `x-forwarded-client-cert`, which must hold `Cert`; for proxies see
    /// [`from_client_cert_header`](Self::from_client_cert_header).
    #[must_use]
    pub fn from_envoy(proxies: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::from_header(Form::Envoy, HeaderName::from_static("x-forwarded-client-cert"), proxies)
    }

    /// In a header that holds PEM, percent-encoded, such as nginx sets from `$ssl_client_escaped_cert`;
    /// for proxies see [`from_client_cert_header`](Self::from_client_cert_header).
    #[must_use]
    pub fn from_escaped_pem(
        name: HeaderName,
        proxies: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self::from_header(Form::EscapedPem, name, proxies)
    }

    fn from_header(
        form: Form,
        name: HeaderName,
        proxies: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self { header: Some(Header { form, name, proxies: Proxies::new(proxies) }) }
    }

    pub(crate) fn validate(&mut self) -> Result<(), ConfigError> {
        match &mut self.header {
            Some(header) => header.proxies.validate("client_certificates"),
            None => Ok(()),
        }
    }

    /// The certificate that a request came with. A header of somebody who is no trusted proxy counts for
    /// nothing.
    pub(crate) fn find(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Option<ClientCertificate>, &'static str> {
        let Some(Header { form, name, proxies }) = &self.header else {
            return Ok(extensions.get::<ClientCertificate>().cloned());
        };
        let mut values = headers.get_all(name).iter();
        let Some(value) = values.next() else { return Ok(None) };
        if proxies.check(extensions).is_err() {
            return Ok(None);
        }
        let wrong = "the client certificate's header is malformed";
        if values.next().is_some() || value.len() > MAX_LENGTH {
            return Err(wrong);
        }
        let der = value.to_str().ok().and_then(|value| form.read(value)).ok_or(wrong)?;
        Ok(der.map(ClientCertificate::from_der))
    }
}

impl Form {
    /// The certificate in a header; `Some(None)` if the client has none.
    fn read(self, value: &str) -> Option<Option<Vec<u8>>> {
        let value = value.trim();
        match self {
            Self::ByteSequence => {
                let text = value.strip_prefix(':')?.strip_suffix(':')?;
                Some(Some(BASE64_STANDARD.decode(text).ok()?)).filter(|_| !text.is_empty())
            }
            Self::EscapedPem if value.is_empty() => Some(None),
            Self::EscapedPem => unescape(value).map(Some),
            Self::Envoy => {
                let element = outside_quotes(value, ',').last()?;
                // What ends within quotes is not what Envoy writes.
                outside_quotes(&format!("{value};"), ';').last().filter(|rest| rest.is_empty())?;
                let cert = outside_quotes(element, ';').find_map(|pair| {
                    let (key, value) = pair.trim().split_once('=')?;
                    key.eq_ignore_ascii_case("Cert").then_some(value)
                });
                match cert {
                    Some(cert) => unescape(cert.trim_matches('"')).map(Some),
                    None => Some(None),
                }
            }
        }
    }
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let pem = percent_decode_str(text).decode_utf8().ok()?;
    let pem = pem::parse(pem.as_bytes()).ok()?;
    (pem.tag() == "CERTIFICATE" && !pem.contents().is_empty()).then(|| pem.into_contents())
}

/// The parts of a text between separators that do not stand in quotes.
pub(super) fn outside_quotes(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |char| {
        let literal = std::mem::take(&mut escaped);
        escaped = quoted && !literal && char == '\\';
        quoted ^= char == '"' && !literal;
        char == separator && !quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::PeerAddr;
    use http::HeaderValue;

    const DER: &[u8] = &[0x30, 3, 2, 1, 5];

    fn find(settings: &ClientCertificates, peer: &str, values: &[&str]) -> Result<bool, ()> {
        let mut settings = settings.clone();
        settings.validate().unwrap();
        let name = &settings.header.as_ref().unwrap().name;
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        let mut extensions = Extensions::new();
        extensions.insert(PeerAddr(format!("{peer}:1").parse().unwrap()));
        let found = settings.find(&headers, &extensions).map_err(|_| ())?;
        Ok(found.is_some_and(|found| found == ClientCertificate::from_der(DER)))
    }

    fn escaped() -> String {
        let pem = ClientCertificate::from_der(DER).to_pem();
        percent_encoding::utf8_percent_encode(&pem, percent_encoding::NON_ALPHANUMERIC).to_string()
    }

    #[test]
    fn certificates_are_found_in_the_headers_of_proxies() {
        let client_cert = ClientCertificates::from_client_cert_header(["10.0.0.0/8"]);
        let envoy = ClientCertificates::from_envoy(["10.0.0.1"]);
        let nginx =
            ClientCertificates::from_escaped_pem(HeaderName::from_static("x-cert"), ["10.0.0.1"]);
        // A subject that looks like another element, as Envoy quotes it.
        let forged = format!(r#"Cert="bad";Subject="CN=a\",Cert=\"{}\";x=\"""#, escaped());
        assert_eq!(find(&envoy, "10.0.0.1", &[&forged]), Err(()));
        let by = format!("By=a;Cert=\"bad\", Hash=1;Subject=\"CN=a,b;c\";Cert=\"{}\"", escaped());
        for (settings, value) in [(&client_cert, ":MAMCAQU=:"), (&envoy, &by), (&nginx, &escaped())]
        {
            assert_eq!(find(settings, "10.0.0.1", &[value]), Ok(true), "{value}");
            assert_eq!(find(settings, "11.0.0.1", &[value]), Ok(false), "{value}");
            assert_eq!(find(settings, "10.0.0.1", &[value, value]), Err(()), "{value}");
            assert_eq!(find(settings, "10.0.0.1", &[]), Ok(false), "{value}");
        }
        for (settings, value) in [
            (&client_cert, "MAMCAQU="),
            (&client_cert, "::"),
            (&client_cert, ":!:"),
            (&envoy, "Cert=\"x\""),
            (&envoy, "By=a;Subject=\"CN=b"),
            (&nginx, "x"),
            (&nginx, "%ff"),
        ] {
            assert_eq!(find(settings, "10.0.0.1", &[value]), Err(()), "{value}");
        }
    }

    #[test]
    fn the_thumbprint_is_of_the_der() {
        let certificate = ClientCertificate::from_der(DER);
        assert_eq!(certificate.thumbprint(), <[u8; 32]>::from(Sha256::digest(DER)));
        assert_eq!(pem::parse(certificate.to_pem()).unwrap().contents(), DER);
    }
}
