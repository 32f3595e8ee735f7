//! Forwarding headers of proxies.

use std::net::{Ipv4Addr, SocketAddr};

use http::{Extensions, HeaderName};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::shared::{MARK, headers, request};
use crate::{
    api::Problems,
    credentials::RequestHead,
    proof::{ClientCertificate, ClientCertificates, Origin, PeerAddr},
};

/// Input: headers. The origin that a proxy names is a configured one; headers of other peers are ignored; a
/// certificate survives encoding for Authlete; and what the client wrote beside its proxy changes neither.
pub fn forwarding(input: &[u8]) {
    for line in input.split(|byte| *byte == b'\n').take(8) {
        chosen(&String::from_utf8_lossy(line));
    }
    let request = request(headers(input));
    let (stranger, proxy) = (from(Ipv4Addr::new(192, 0, 2, 1)), from(Ipv4Addr::new(10, 0, 0, 1)));
    let head = RequestHead::of(&request);
    for mut origin in
        [Origin::forwarded_by(["10.0.0.0/8"], HOSTS), Origin::x_forwarded_by(["10.0.0.0/8"], HOSTS)]
    {
        assert!(Problems::of(|problems| origin.validate("origin", problems)).is_ok());
        assert!(origin.url(head, &stranger).is_err());
        if let Ok(url) = origin.url(head, &proxy) {
            let ours = |host: &str| ["http", "https"].map(|it| format!("{it}://{host}/"));
            assert!(HOSTS.iter().any(|host| ours(host).contains(&url)), "{url}");
        }
    }
    for mut certificates in [
        ClientCertificates::from_client_cert_header(["10.0.0.0/8"]),
        ClientCertificates::from_envoy(["10.0.0.0/8"]),
        ClientCertificates::from_escaped_pem(HeaderName::from_static("x-cert"), ["10.0.0.0/8"]),
    ] {
        assert!(Problems::of(|problems| certificates.validate(problems)).is_ok());
        assert!(matches!(certificates.find(head.headers, &stranger), Ok(None)));
        let found = certificates.find(head.headers, &proxy).ok().flatten();
        found.iter().for_each(survives);
    }
}

const HOSTS: [&str; 2] = ["api.example.com", "[2001:db8::1]:8443"];

/// A client's text beside what its proxy writes: in `Forwarded`, before it in the same line and in a line of
/// its own; in the names of a certificate, after it.
fn chosen(chosen: &str) {
    let proxy = from(Ipv4Addr::new(10, 0, 0, 1));
    let appended = "for=192.0.2.1;proto=https;host=api.example.com";
    for lines in [format!("{chosen}, {appended}"), format!("{chosen}\nforwarded:{appended}")] {
        let request = request(headers(format!("forwarded:{lines}").as_bytes()));
        let mut origin = Origin::forwarded_by(["10.0.0.0/8"], HOSTS);
        assert!(Problems::of(|problems| origin.validate("origin", problems)).is_ok());
        let url = origin.url(RequestHead::of(&request), &proxy);
        assert!(url.as_ref().map_or(true, |url| url == "https://api.example.com/"), "{url:?}");
    }
    let own = ClientCertificate::from_der(&b"own"[..]);
    let pem = utf8_percent_encode(&own.to_pem(), NON_ALPHANUMERIC).to_string();
    for (cert, expected) in [(format!("Cert=\"{pem}\";"), Some(own)), (String::new(), None)] {
        let xfcc = format!("x-forwarded-client-cert:By=a;Hash=0;{cert}Subject=\"\";URI={chosen}");
        let headers = headers(xfcc.as_bytes());
        for elements in 1..3 {
            let certificates = ClientCertificates::from_envoy(["10.0.0.0/8"]);
            let mut certificates = certificates.xfcc_elements(elements);
            assert!(Problems::of(|problems| certificates.validate(problems)).is_ok());
            if let Ok(found) = certificates.find(&headers, &proxy) {
                // A value that is illegal in a header cannot be sent.
                assert!(found == expected || headers.is_empty(), "{xfcc}");
            }
        }
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
    use proptest::{prelude::*, sample::select};

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
        fn what_a_client_chooses_changes_nothing_of_what_its_proxy_says(
            input in "[a-z=,;\" \\\\]{0,24}",
            forged in select(&["", "Cert=\"-----BEGIN%20CERTIFICATE-----%0AMAMCAQU%3D%0A-----END%20CERTIFICATE-----%0A\"", "host=evil.example;proto=https"][..]),
            rest in "[a-z=,;\" \\\\]{0,8}",
        ) {
            chosen(&format!("{input}{forged}{rest}"));
        }

        #[test]
        fn hosts_that_proxies_name_are_hosts(host in "[a-z0-9.:@/?#%\\[\\]\\\\ \"-]{0,8}") {
            forwarding(format!("x-forwarded-proto: https\nx-forwarded-host: {host}").as_bytes());
            forwarding(format!("forwarded: proto=https;host=\"{host}\"").as_bytes());
        }
    }
}
