//! Where clients believe this server to be.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use http::{Extensions, HeaderMap, Uri, uri::Authority};
use ipnet::IpNet;

use super::mtls::outside_quotes;
use crate::{api::ConfigError, credentials::RequestHead};

/// The public origin of this server, which DPoP proofs and message signatures are made for.
///
/// It is never taken from the `Host` header: whoever chooses that could replay at this server what was
/// signed for another.
///
/// ```
/// use tower_authlete::Origin;
///
/// let fixed = Origin::fixed("https://api.example.com");
/// // Behind a proxy that sends these paths on without their beginning:
/// let prefixed = Origin::fixed("https://example.com/api");
/// let proxied = Origin::forwarded_by(["10.0.0.0/8", "::1"]);
/// ```
#[derive(Debug, Clone)]
pub struct Origin(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Fixed(String),
    Forwarded(Reads, Proxies),
}

/// Where a proxy says what a request was sent to.
type Reads = fn(&HeaderMap) -> Option<(&str, &str)>;

/// The address of the other end of the connection, as an extension of requests. Settings that trust a
/// proxy go by it, so it has to be set by what accepts the connections, never by what the request
/// says.
///
/// ```
/// use std::net::SocketAddr;
///
/// use axum::{Router, extract::{ConnectInfo, Request}, middleware::{Next, from_fn}};
/// use tower_authlete::PeerAddr;
///
/// // Outside of the layer; the server uses `into_make_service_with_connect_info`.
/// let app: Router = Router::new().layer(from_fn(
///     |ConnectInfo(peer): ConnectInfo<SocketAddr>, mut request: Request, next: Next| {
///         request.extensions_mut().insert(PeerAddr(peer));
///         next.run(request)
///     },
/// ));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

impl Origin {
    /// This origin, such as `https://api.example.com`. If it has a path, the paths of requests are
    /// taken to follow it.
    #[must_use]
    pub fn fixed(url: impl Into<String>) -> Self {
        Self(Kind::Fixed(url.into().trim_end_matches('/').to_owned()))
    }

    /// What the proxy says that this request was sent to, by the last element of `Forwarded` (RFC 7239).
    /// Requests that do not come from these addresses or networks (CIDR), as [`PeerAddr`] tells, are
    /// refused.
    ///
    /// The proxy must add that element to every request, with `proto` and `host`, whatever its client
    /// sends.
    #[must_use]
    pub fn forwarded_by(proxies: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(Kind::Forwarded(forwarded, Proxies::new(proxies)))
    }

    /// The same by the last elements of `X-Forwarded-Proto` and `X-Forwarded-Host`, which the proxy must
    /// both set.
    #[must_use]
    pub fn x_forwarded_by(proxies: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(Kind::Forwarded(x_forwarded, Proxies::new(proxies)))
    }

    pub(crate) fn validate(&mut self, setting: &'static str) -> Result<(), ConfigError> {
        match &mut self.0 {
            Kind::Fixed(url) => {
                let uri = url.parse::<Uri>().ok();
                let legal = uri.is_some_and(|uri| {
                    let web = matches!(uri.scheme_str(), Some("http" | "https"));
                    let bare = uri.authority().is_some_and(is_bare) && uri.query().is_none();
                    web && bare && !url.contains('#')
                });
                let problem = format!("{} characters, not the URL of a server", url.len());
                let remedy = "give scheme and host as clients know them, such as \
                              https://api.example.com";
                if legal { Ok(()) } else { Err(ConfigError::new(setting, problem, remedy)) }
            }
            Kind::Forwarded(_, proxies) => proxies.validate(setting),
        }
    }

    /// The URL of a request without its query, as its client knows it; else what is wrong.
    pub(crate) fn url(
        &self,
        head: RequestHead<'_>,
        extensions: &Extensions,
    ) -> Result<String, &'static str> {
        let path = head.uri.path();
        match &self.0 {
            Kind::Fixed(url) => Ok(format!("{url}{path}")),
            Kind::Forwarded(reads, proxies) => {
                proxies.check(extensions)?;
                let said = reads(head.headers).and_then(|(proto, host)| legal(proto, host));
                let (proto, host) = said.ok_or("the proxy did not say where this was sent to")?;
                Ok(format!("{proto}://{host}{path}"))
            }
        }
    }
}

impl<S: Into<String>> From<S> for Origin {
    fn from(url: S) -> Self {
        Self::fixed(url)
    }
}

/// No `user@`, which is no part of an origin.
fn is_bare(authority: &Authority) -> bool {
    !authority.host().is_empty() && !authority.as_str().contains('@')
}

/// Proxies whose word is taken.
#[derive(Clone)]
pub(crate) struct Proxies {
    given: Vec<String>,
    nets: Vec<IpNet>,
}

impl Proxies {
    pub(crate) fn new(proxies: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { given: proxies.into_iter().map(Into::into).collect(), nets: Vec::new() }
    }

    pub(crate) fn validate(&mut self, setting: &'static str) -> Result<(), ConfigError> {
        let net = |text: &String| {
            let address = || text.parse::<IpAddr>().map(IpNet::from);
            text.parse().or_else(|_| address()).map_err(|_| {
                let problem = format!("a proxy of {} characters, not an address", text.len());
                ConfigError::new(setting, problem, "give addresses or networks such as 10.0.0.0/8")
            })
        };
        self.nets = self.given.iter().map(net).collect::<Result<_, _>>()?;
        if self.nets.is_empty() {
            let remedy = "name the addresses or networks of your proxies";
            return Err(ConfigError::new(setting, "no proxies", remedy));
        }
        Ok(())
    }

    /// Whether a request comes from one of them.
    pub(crate) fn check(&self, extensions: &Extensions) -> Result<(), &'static str> {
        let Some(PeerAddr(peer)) = extensions.get::<PeerAddr>() else {
            return Err("the address of the proxy is not known: no PeerAddr in the extensions");
        };
        let address = peer.ip().to_canonical();
        let trusted = self.nets.iter().any(|net| net.contains(&address));
        if trusted { Ok(()) } else { Err("the request does not come from a trusted proxy") }
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(&self.given).finish()
    }
}

fn forwarded(headers: &HeaderMap) -> Option<(&str, &str)> {
    let element = last(headers, "forwarded")?;
    let param = |name: &str| {
        let mut values = outside_quotes(element, ';').filter_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
        });
        values.next().filter(|_| values.next().is_none())
    };
    Some((param("proto")?, param("host")?))
}

fn x_forwarded(headers: &HeaderMap) -> Option<(&str, &str)> {
    Some((last(headers, "x-forwarded-proto")?, last(headers, "x-forwarded-host")?))
}

/// Scheme and host, if they are such.
fn legal(proto: &str, host: &str) -> Option<(&'static str, Authority)> {
    let proto = ["http", "https"].into_iter().find(|known| proto.eq_ignore_ascii_case(known))?;
    let host = host.parse().ok().filter(is_bare)?;
    Some((proto, host))
}

fn last<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    outside_quotes(value, ',').last().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn url(origin: &Origin, peer: Option<&str>, headers: &[(&str, &str)]) -> Option<String> {
        let mut request = Request::get("/a/b?c=d").header("host", "evil.example");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(()).unwrap();
        if let Some(peer) = peer {
            request.extensions_mut().insert(PeerAddr(SocketAddr::new(peer.parse().unwrap(), 1)));
        }
        origin.url(RequestHead::of(&request), request.extensions()).ok()
    }

    fn proxied() -> Origin {
        let mut origin = Origin::forwarded_by(["10.0.0.0/8", "::1"]);
        origin.validate("origin").unwrap();
        origin
    }

    #[test]
    fn a_fixed_origin_depends_on_no_header() {
        let forged = [("x-forwarded-host", "evil.example"), ("forwarded", "host=evil.example")];
        let origin = Origin::fixed("https://api.example.com/");
        let expected = Some("https://api.example.com/a/b".to_owned());
        assert_eq!(url(&origin, Some("10.0.0.1"), &forged), expected);
        let origin = Origin::fixed("https://example.com/api");
        assert_eq!(url(&origin, None, &[]), Some("https://example.com/api/a/b".to_owned()));
    }

    #[test]
    fn only_the_last_word_of_a_trusted_proxy_counts() {
        let expected = Some("https://api.example.com/a/b".to_owned());
        let headers = [(
            "forwarded",
            "host=evil.example;proto=http, for=1.2.3.4;Host=\"api.example.com\";proto=HTTPS",
        )];
        for peer in ["10.1.2.3", "::1", "::ffff:10.1.2.3"] {
            assert_eq!(url(&proxied(), Some(peer), &headers), expected, "{peer}");
        }
        for peer in [None, Some("11.0.0.1"), Some("::2")] {
            assert_eq!(url(&proxied(), peer, &headers), None);
        }
        let headers = [
            ("x-forwarded-host", "evil.example, api.example.com"),
            ("x-forwarded-proto", "http,https"),
            ("forwarded", "host=evil.example;proto=https"),
        ];
        let mut origin = Origin::x_forwarded_by(["10.0.0.0/8"]);
        origin.validate("origin").unwrap();
        assert_eq!(url(&origin, Some("10.1.2.3"), &headers), expected, "the other is not read");
    }

    #[test]
    fn what_is_no_origin_is_none() {
        for forwarded in [
            "host=a.example",
            "proto=https",
            "host=a/b;proto=https",
            "host=u@a;proto=https",
            "host=a;proto=ftp",
            "host=a;proto=https;host=b",
            "for=\"_x,host=a;proto=https\"",
            "for=\"a;host=b;proto=https\"",
            "",
        ] {
            let headers = [
                ("forwarded", forwarded),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "b"),
            ];
            assert_eq!(url(&proxied(), Some("10.1.2.3"), &headers), None, "{forwarded}");
        }
    }

    #[test]
    fn wrong_settings_are_told() {
        for wrong in [
            "",
            "api.example.com",
            "ftp://a",
            "https://",
            "https://a?b",
            "https://a#b",
            "https://u@a",
        ] {
            assert!(Origin::fixed(wrong).validate("dpop").is_err(), "{wrong}");
        }
        assert!(Origin::forwarded_by(["10.0.0.0/33"]).validate("dpop").is_err());
        assert!(Origin::forwarded_by(Vec::<String>::new()).validate("dpop").is_err());
    }
}
