//! Client certificates (RFC 8705): a token that only works over its holder's connection.

use std::{fmt, sync::Arc};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderName};
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};

use super::{
    origin::Proxies,
    quoted_list::{self, Malformed},
};
use crate::{api::Problems, rejection::Rejection, store::Thumbprint};

/// A longer header is refused unread.
const MAX_LENGTH: usize = 32 * 1024;

/// RFC 8941 §4.2.7: padding need not be there.
const BYTE_SEQUENCE: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Of `x-forwarded-client-cert`: Envoy writes one for each name.
const REPEATABLE: [&str; 3] = ["By", "URI", "DNS"];

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
/// A proxy's header of more than 32 KiB, or one that is there twice, is refused with 400.
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
    xfcc_elements: Option<usize>,
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
        Self { header: None, xfcc_elements: None }
    }

    /// In the `Client-Cert` header (RFC 9440) of proxies at these addresses or networks (CIDR), as
    /// [`PeerAddr`](crate::PeerAddr) tells. They must take that header away from what clients send.
    #[must_use]
    pub fn from_client_cert_header(proxies: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let name = HeaderName::from_static("client-cert");
        Self::from_header(Form::ByteSequence, name, proxies)
    }

    /// In the first element of Envoy's `x-forwarded-client-cert`, as its `Cert`; for proxies see
    /// [`from_client_cert_header`](Self::from_client_cert_header).
    ///
    /// Envoy takes the header away from what clients send, and writes one element itself, if
    /// `forward_client_cert_details` is `SANITIZE_SET` and `set_current_client_cert_details` has `cert`.
    /// Where further proxies append theirs, say how many [there are](Self::xfcc_elements).
    ///
    /// Envoy writes the names in certificates (`By`, `URI`, `DNS`) as they are, and clients choose those in
    /// theirs. So a request with another number of elements is refused with 401, and with 400 one whose
    /// header is no such list as a whole: names with `"` or `;` make it none, as do more than 16 parameters
    /// of an element apart from those names. Before `Cert`, there may only
    /// be `By` and `Hash`, which clients do not choose; without `Cert`, there is no certificate.
    #[must_use]
    pub fn from_envoy(proxies: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::from_header(Form::Envoy, HeaderName::from_static("x-forwarded-client-cert"), proxies)
    }

    /// How many elements `x-forwarded-client-cert` has, each by one proxy: the first tells of the client's
    /// certificate. Default: 1. Only with [`from_envoy`](Self::from_envoy).
    ///
    /// With two, the first proxy is set to `SANITIZE_SET` and the second to `APPEND_FORWARD`, and clients
    /// must not be able to go around the first.
    #[must_use]
    pub fn xfcc_elements(self, count: usize) -> Self {
        Self { xfcc_elements: Some(count), ..self }
    }

    /// In a header that holds one certificate as PEM, percent-encoded, such as nginx sets from
    /// `$ssl_client_escaped_cert`; for proxies see
    /// [`from_client_cert_header`](Self::from_client_cert_header). A header with more than one, or with
    /// anything around it, is refused with 400.
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
        let header = Header { form, name, proxies: Proxies::new(proxies) };
        Self { header: Some(header), xfcc_elements: None }
    }

    pub(crate) fn validate(&mut self, problems: &mut Problems) {
        let setting = "client_certificates.xfcc_elements";
        let is_envoy = matches!(self.header, Some(Header { form: Form::Envoy, .. }));
        match self.xfcc_elements {
            Some(0) => {
                let remedy = "give at least 1: the element of the proxy that the client talks to";
                problems.add(setting, "0", remedy);
            }
            Some(_) if !is_envoy => {
                let remedy = "only ClientCertificates::from_envoy has elements; leave it out";
                problems.add(setting, "not of x-forwarded-client-cert", remedy);
            }
            _ => {}
        }
        if let Some(header) = &mut self.header {
            header.proxies.validate("client_certificates", problems);
        }
    }

    /// The certificate that a request came with. A header of somebody who is no trusted proxy counts for
    /// nothing.
    pub(crate) fn find(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Option<ClientCertificate>, Rejection> {
        let Some(Header { form, name, proxies }) = &self.header else {
            return Ok(extensions.get::<ClientCertificate>().cloned());
        };
        let mut values = headers.get_all(name).iter();
        let Some(value) = values.next() else { return Ok(None) };
        if proxies.check(extensions).is_err() {
            return Ok(None);
        }
        let wrong = || Rejection::invalid_request("the client certificate's header is malformed");
        if values.next().is_some() || value.len() > MAX_LENGTH {
            return Err(wrong());
        }
        let value = value.to_str().map_err(|_| wrong())?.trim();
        let der = match form {
            Form::ByteSequence => byte_sequence(value).map(Some),
            Form::EscapedPem if value.is_empty() => Ok(None),
            Form::EscapedPem => unescape(value).map(Some),
            Form::Envoy => {
                let elements = quoted_list::parse(value, &REPEATABLE).map_err(|_| wrong())?;
                if elements.len() != self.xfcc_elements.unwrap_or(1) {
                    return Err(Rejection::invalid_token(
                        "the number of elements of x-forwarded-client-cert is not the one set here, \
                         so that the client certificate is not known",
                    ));
                }
                elements.first().map_or(Ok(None), certificate_of)
            }
        };
        Ok(der.map_err(|_| wrong())?.map(ClientCertificate::from_der))
    }
}

/// An item of this type (RFC 8941 §3.3.5), of which there is no list.
fn byte_sequence(text: &str) -> Result<Vec<u8>, Malformed> {
    let text = text.strip_prefix(':').and_then(|text| text.strip_suffix(':'));
    let text = text.filter(|text| !text.is_empty()).ok_or(Malformed)?;
    BYTE_SEQUENCE.decode(text).map_err(|_| Malformed)
}

/// The certificate in an element of `x-forwarded-client-cert`. Whatever the client chose stands behind it.
fn certificate_of(element: &quoted_list::Element<'_>) -> Result<Option<Vec<u8>>, Malformed> {
    let mut parameters = element.0.iter();
    let Some(place) = parameters.position(|it| it.is("Cert")) else { return Ok(None) };
    let (before, cert) = (&element.0[..place], &element.0[place]);
    if !before.iter().all(|it| it.is("By") || it.is("Hash")) {
        return Err(Malformed);
    }
    unescape(&cert.value).map(Some)
}

/// Exactly one certificate.
fn unescape(text: &str) -> Result<Vec<u8>, Malformed> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| Malformed)?;
    let text = text.trim();
    // What stands around is otherwise skipped.
    let framed = text.starts_with("-----BEGIN") && text.ends_with("-----");
    let mut found = pem::parse_many(text).map_err(|_| Malformed)?;
    match (found.pop(), found.is_empty()) {
        (Some(pem), true) if framed && pem.tag() == "CERTIFICATE" && !pem.contents().is_empty() => {
            Ok(pem.into_contents())
        }
        _ => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::PeerAddr;
    use http::HeaderValue;

    const DER: &[u8] = &[0x30, 3, 2, 1, 5];

    fn find(settings: &ClientCertificates, peer: &str, values: &[&str]) -> Result<bool, ()> {
        let mut settings = settings.clone();
        Problems::of(|problems| settings.validate(problems)).unwrap();
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
        let by = format!("By=a;Hash=1;Cert=\"{}\";Subject=\"CN=a,b;c\";DNS=a;DNS=b", escaped());
        let forms = [
            (&client_cert, ":MAMCAQU=:"),
            (&client_cert, ":MAMCAQU:"),
            (&envoy, &by),
            (&nginx, &escaped()),
        ];
        for (settings, value) in forms {
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
            (&envoy, ""),
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
