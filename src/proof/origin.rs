//! Where clients believe this server to be.

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, SocketAddr},
};

use http::{Extensions, HeaderMap, HeaderName, Uri, header::FORWARDED, uri::Authority};
use ipnet::IpNet;
use percent_encoding::percent_decode_str;

use super::quoted_list::{self, Malformed};
use crate::{
    api::{ConfigError, Problems},
    credentials::{RequestHead, Scheme},
    observe::{LogLimit, limited},
    rejection::Rejection,
};

/// The public origin of this server, which DPoP proofs and message signatures are made for.
///
/// It is never taken from the `Host` header, which the client chooses: a proof that was made for another server
/// could be replayed here. If a proxy reports it, it must be one of the hosts that are named here, since a proxy
/// may repeat the `Host` of its client.
///
/// Proofs and signatures for a path with dot segments (`/../`, also as `/%2e%2e/`) are refused: servers differ in
/// how they read such a path (RFC 3986 §6.2.2.3).
///
/// ```
/// use tower_authlete::proof::Origin;
///
/// let fixed = Origin::fixed("https://api.example.com");
/// // Behind a proxy that sends these paths on without their beginning:
/// let prefixed = Origin::fixed("https://example.com/api");
/// // One of several hosts, as the proxy reports:
/// let hosts = ["api.example.com", "api.example.net:8443"];
/// let proxied = Origin::forwarded_by(["10.0.0.0/8", "::1"], hosts);
/// ```
#[derive(Debug, Clone)]
pub struct Origin(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Fixed(String),
    Forwarded { reads: Reads, proxies: Proxies, hosts: Hosts },
}

/// Reads where a proxy says that a request was sent to: scheme and host.
type Reads = fn(&HeaderMap) -> Result<Option<Said<'_>>, Malformed>;
type Said<'h> = (Cow<'h, str>, Cow<'h, str>);

/// Why there is no URL of a request that anything could be signed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unplaced {
    /// The settings here or at the proxy are at fault.
    Misconfigured(&'static str),
    /// What the client sent is malformed.
    Malformed(&'static str),
    /// It was sent to something that is no URL of this server.
    Elsewhere(&'static str),
}

impl Unplaced {
    /// Why a request is refused that comes with a proof by this scheme, or with a signature.
    #[cfg_attr(not(feature = "dpop"), expect(unused_variables, reason = "no proofs of DPoP"))]
    pub(super) fn into_rejection(self, scheme: Scheme, log: &LogLimit) -> Rejection {
        match self {
            Self::Misconfigured(problem) => {
                limited!(
                    error,
                    log,
                    problem,
                    "the URL of a request is not known; check the origin's settings"
                );
                Rejection::misconfigured("this server does not know its own URL")
            }
            #[cfg(feature = "dpop")]
            Self::Elsewhere(problem) if scheme == Scheme::Dpop => {
                Rejection::invalid_dpop_proof(problem)
            }
            Self::Elsewhere(problem) | Self::Malformed(problem) => {
                Rejection::invalid_request(problem)
            }
        }
    }
}

/// The address of the other end of the connection, as an extension of requests. Settings that trust a
/// proxy go by it, so it has to be set by what accepts the connections, never by what the request
/// says.
///
/// ```
/// use std::net::SocketAddr;
///
/// use axum::{Router, extract::{ConnectInfo, Request}, middleware::{Next, from_fn}};
/// use tower_authlete::proof::PeerAddr;
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
    /// This origin, such as `https://api.example.com`. If it has a path, the paths of requests are appended
    /// to it.
    #[must_use]
    pub fn fixed(url: impl Into<String>) -> Self {
        Self(Kind::Fixed(url.into().trim_end_matches('/').to_owned()))
    }

    /// The origin in the last element of `Forwarded` (RFC 7239), which a proxy adds, if it is one of these
    /// hosts: `host` or `host:port`, case-insensitive; without a port, that of the scheme.
    ///
    /// Proxies are known by these addresses or networks (CIDR) and [`PeerAddr`]. A request from any other address is
    /// refused with 500, as is one without that element: the proxy must add it to every request, with `proto` and
    /// `host`, whatever its client sends. The elements before it, which clients may have sent, must be well
    /// formed and have at most 16 parameters each; otherwise the request is refused with 400. For another host, a
    /// proof is refused with 401 and a signature with 400.
    #[must_use]
    pub fn forwarded_by(
        proxies: impl IntoIterator<Item = impl Into<String>>,
        hosts: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self(Kind::Forwarded {
            reads: forwarded,
            proxies: Proxies::new(proxies),
            hosts: Hosts::new(hosts),
        })
    }

    /// Like [`forwarded_by`](Self::forwarded_by), with the last values of `X-Forwarded-Proto` and
    /// `X-Forwarded-Host`. The proxy must set both.
    #[must_use]
    pub fn x_forwarded_by(
        proxies: impl IntoIterator<Item = impl Into<String>>,
        hosts: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self(Kind::Forwarded {
            reads: x_forwarded,
            proxies: Proxies::new(proxies),
            hosts: Hosts::new(hosts),
        })
    }

    pub(crate) fn validate(&mut self, setting: &'static str, problems: &mut Problems) {
        match &mut self.0 {
            Kind::Fixed(url) => {
                let uri = url.parse::<Uri>().ok();
                let legal = uri.is_some_and(|uri| {
                    let web = matches!(uri.scheme_str(), Some("http" | "https"));
                    let bare = uri.authority().is_some_and(is_bare) && uri.query().is_none();
                    web && bare && !has_dot_segments(uri.path()) && !url.contains('#')
                });
                let problem = format!("{} characters, not the URL of a server", url.len());
                let remedy = "give scheme and host as clients know them, such as \
                              https://api.example.com";
                if !legal {
                    problems.add(setting, problem, remedy);
                }
            }
            Kind::Forwarded { proxies, hosts, .. } => {
                proxies.validate(setting, problems);
                hosts.validate(setting, problems);
            }
        }
    }

    /// The URL of a request without its query, as its client knows it.
    pub(crate) fn url(
        &self,
        head: RequestHead<'_>,
        extensions: &Extensions,
    ) -> Result<String, Unplaced> {
        let path = head.uri.path();
        if !path.starts_with('/') || has_dot_segments(path) {
            return Err(Unplaced::Elsewhere("the request's path is none, or has dot segments"));
        }
        match &self.0 {
            Kind::Fixed(url) => Ok(format!("{url}{path}")),
            Kind::Forwarded { reads, proxies, hosts } => {
                proxies.check(extensions).map_err(Unplaced::Misconfigured)?;
                let unreadable = "what is forwarded of where the request was sent to is malformed";
                let said = reads(head.headers).map_err(|_| Unplaced::Malformed(unreadable))?;
                let silent = "the proxy did not say where this was sent to";
                let (scheme, host) = said.ok_or(Unplaced::Misconfigured(silent))?;
                let foreign = "the request was sent to a host that is none of this server's";
                let (scheme, host) =
                    hosts.find(&scheme, &host).ok_or(Unplaced::Elsewhere(foreign))?;
                Ok(format!("{scheme}://{host}{path}"))
            }
        }
    }

    /// The URL of a request as its client knows it (`@target-uri`, RFC 9421 §2.2.2).
    pub(crate) fn target_uri(
        &self,
        head: RequestHead<'_>,
        extensions: &Extensions,
    ) -> Result<String, Unplaced> {
        let url = self.url(head, extensions)?;
        Ok(match head.uri.query() {
            Some(query) => format!("{url}?{query}"),
            None => url,
        })
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

/// Whether a path has segments that whoever normalises it removes (RFC 3986 §5.2.4), raw or encoded.
fn has_dot_segments(path: &str) -> bool {
    let is = |segment: &str, dots: &str| percent_decode_str(segment).eq(dots.bytes());
    path.split('/').any(|segment| is(segment, ".") || is(segment, ".."))
}

/// The hosts of this server, each with its port if that is not the scheme's.
#[derive(Debug, Clone)]
struct Hosts {
    given: Vec<String>,
    known: Vec<Authority>,
}

impl Hosts {
    fn new(hosts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { given: hosts.into_iter().map(Into::into).collect(), known: Vec::new() }
    }

    fn validate(&mut self, setting: &'static str, problems: &mut Problems) {
        let remedy = "name the hosts that clients send requests to, such as api.example.com or \
                      api.example.com:8443";
        let host = |text: &String| {
            // No pattern: hosts are compared as a whole.
            authority(text).filter(|_| !text.contains('*')).ok_or_else(|| {
                let problem = format!("a host of {} characters, not a host", text.len());
                ConfigError::new(setting, problem, remedy)
            })
        };
        self.known = self.given.iter().filter_map(|text| problems.take(host(text))).collect();
        if self.given.is_empty() {
            problems.add(setting, "no hosts of this server", remedy);
        }
    }

    /// The scheme, and which of them a host is.
    fn find(&self, scheme: &str, host: &str) -> Option<(&'static str, &Authority)> {
        let (scheme, usual) = [("http", 80), ("https", 443)]
            .into_iter()
            .find(|(known, _)| scheme.eq_ignore_ascii_case(known))?;
        let said = authority(host)?;
        let port = |authority: &Authority| authority.port_u16().unwrap_or(usual);
        let is = |ours: &&Authority| {
            ours.host().eq_ignore_ascii_case(said.host()) && port(ours) == port(&said)
        };
        Some((scheme, self.known.iter().find(is)?))
    }
}

/// A host, with a port that is none or a number (RFC 3986 §3.2.3).
fn authority(text: &str) -> Option<Authority> {
    let authority = text.parse().ok().filter(is_bare)?;
    let rest = authority.as_str().strip_prefix(authority.host())?;
    let port = rest.strip_prefix(':').unwrap_or_default();
    let legal = rest.is_empty() || rest.len() > port.len();
    (legal && (port.is_empty() || port.parse::<u16>().is_ok())).then_some(authority)
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

    pub(crate) fn validate(&mut self, setting: &'static str, problems: &mut Problems) {
        let net = |text: &String| {
            let address = || text.parse::<IpAddr>().map(IpNet::from);
            text.parse().or_else(|_| address()).map_err(|_| {
                let problem = format!("a proxy of {} characters, not an address", text.len());
                ConfigError::new(setting, problem, "give addresses or networks such as 10.0.0.0/8")
            })
        };
        self.nets = self.given.iter().filter_map(|text| problems.take(net(text))).collect();
        if self.given.is_empty() {
            let remedy = "name the addresses or networks of your proxies";
            problems.add(setting, "no proxies", remedy);
        }
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

/// RFC 7239 §4: elements may stand in several lines.
fn forwarded(headers: &HeaderMap) -> Result<Option<Said<'_>>, Malformed> {
    let mut last = None;
    for line in headers.get_all(FORWARDED) {
        let line = line.to_str().map_err(|_| Malformed)?;
        last = quoted_list::parse(line, &[])?.pop().or(last);
    }
    let Some(mut element) = last else { return Ok(None) };
    Ok(element.take("proto").zip(element.take("host")))
}

fn x_forwarded(headers: &HeaderMap) -> Result<Option<Said<'_>>, Malformed> {
    // Their values are in no quotes.
    let last = |name: HeaderName| {
        let line = headers.get_all(name).iter().next_back();
        let line = line.map(|line| line.to_str().map_err(|_| Malformed)).transpose()?;
        Ok(line.and_then(|line| line.rsplit(',').next()).map(|it| Cow::Borrowed(it.trim())))
    };
    let proto = last(HeaderName::from_static("x-forwarded-proto"))?;
    Ok(proto.zip(last(HeaderName::from_static("x-forwarded-host"))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    const HOSTS: [&str; 2] = ["api.example.com", "a"];

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
        let mut origin = Origin::forwarded_by(["10.0.0.0/8", "::1"], HOSTS);
        Problems::of(|problems| origin.validate("origin", problems)).unwrap();
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
        let mut origin = Origin::x_forwarded_by(["10.0.0.0/8"], HOSTS);
        Problems::of(|problems| origin.validate("origin", problems)).unwrap();
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
            "host=a;proto=https;host=a",
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

    fn is_wrong(mut origin: Origin) -> bool {
        Problems::of(|problems| origin.validate("dpop", problems)).is_err()
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
            "https://a/..",
        ] {
            assert!(is_wrong(Origin::fixed(wrong)), "{wrong}");
        }
        assert!(is_wrong(Origin::forwarded_by(["10.0.0.0/33"], HOSTS)));
        assert!(is_wrong(Origin::forwarded_by(Vec::<String>::new(), HOSTS)));
    }
}
