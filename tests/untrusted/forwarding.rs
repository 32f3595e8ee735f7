//! Headers of proxies.

use std::net::{Ipv4Addr, SocketAddr};

use http::{Extensions, HeaderName, Uri};

use super::shared::{MARK, headers, request};
use crate::{
    credentials::RequestHead,
    proof::{ClientCertificate, ClientCertificates, Origin, PeerAddr},
};

/// Input: headers. What a proxy says of the origin is one, the word of others counts for nothing, and a
/// certificate survives its way to Authlete.
pub fn forwarding(input: &[u8]) {
    let request = request(headers(input));
    let (stranger, proxy) = (from(Ipv4Addr::new(192, 0, 2, 1)), from(Ipv4Addr::new(10, 0, 0, 1)));
    let mut origin = Origin::forwarded_by(["10.0.0.0/8"]);
    assert!(origin.validate("origin").is_ok());
    let head = RequestHead::of(&request);
    assert!(origin.url(head, &stranger).is_err());
    if let Ok(url) = origin.url(head, &proxy) {
        let uri: Uri = url.parse().unwrap_or_else(|_| panic!("{url}"));
        assert!(matches!(uri.scheme_str(), Some("http" | "https")), "{url}");
        assert!(uri.host().is_some_and(|host| !host.is_empty()) && uri.path() == "/", "{url}");
        assert!(!url.contains(['@', '?', '#', '\\']), "{url}");
    }
    for mut certificates in [
        ClientCertificates::from_client_cert_header(["10.0.0.0/8"]),
        ClientCertificates::from_envoy(["10.0.0.0/8"]),
        ClientCertificates::from_escaped_pem(HeaderName::from_static("x-cert"), ["10.0.0.0/8"]),
    ] {
        assert!(certificates.validate().is_ok());
        assert_eq!(certificates.find(head.headers, &stranger), Ok(None));
        let found = certificates.find(head.headers, &proxy).ok().flatten();
        found.iter().for_each(survives);
    }
}

/// The extensions of a request that comes from this address.
fn from(address: Ipv4Addr) -> Extensions {
    let mut extensions = Extensions::new();
    extensions.insert(PeerAddr(SocketAddr::from((address, 1))));
    extensions
}

fn survives(certificate: &ClientCertificate) {
    let pem = certificate.to_pem();
    let read = pem::parse(&pem).unwrap_or_else(|error| panic!("{error}: {pem}"));
    assert_eq!((read.tag(), read.contents()), ("CERTIFICATE", certificate.der()));
    assert!(!format!("{certificate:?}").contains(MARK));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::strategies::{CASES, lines, seeds};
    use super::*;

    #[test]
    fn it_holds_of_all_seeds() {
        seeds("forwarding").iter().for_each(|seed| forwarding(seed));
    }

    #[rustfmt::skip]
    const FORWARDING: &[&str] = &[
        "forwarded: ", "x-forwarded-proto: ", "x-forwarded-host: ", "client-cert: ", "x-cert: ",
        "x-forwarded-client-cert: ", "\n", "proto=", "host=", "for=", "https", "http", "api.example.com",
        "[::1]", ":443", ";", ",", "\"", "\\", "@", "%", "/", "?", "#", ":MAMCAQU=:", ":", "Cert=", "Hash=",
        "Subject=", "-----BEGIN%20CERTIFICATE-----%0A", "MAMCAQU%3D%0A", "-----END%20CERTIFICATE-----%0A",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(CASES))]

        #[test]
        fn what_proxies_say_is_an_origin_or_nothing(input in lines(FORWARDING)) {
            forwarding(&input);
        }

        #[test]
        fn hosts_that_proxies_name_are_hosts(host in "[a-z0-9.:@/?#%\\[\\]\\\\ \"-]{0,8}") {
            forwarding(format!("x-forwarded-proto: https\nx-forwarded-host: {host}").as_bytes());
            forwarding(format!("forwarded: proto=https;host=\"{host}\"").as_bytes());
        }
    }
}
