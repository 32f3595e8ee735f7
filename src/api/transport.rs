//! The transport of calls: hyper-util's pooled client, or a custom service.

use std::{
    fmt,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::Body;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper_util::{
    client::legacy::{self, Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tower::{ServiceBuilder, ServiceExt, util::BoxCloneSyncService};
use tower_service::Service;

use super::{config_error::ConfigError, error::BoxError};

/// The body of requests to Authlete.
pub type RequestBody = Full<Bytes>;

/// Any transport, type-erased.
pub(crate) type BoxTransport =
    BoxCloneSyncService<Request<RequestBody>, Response<BoxBody<Bytes, BoxError>>, BoxError>;

pub(crate) fn boxed<S, B>(service: S) -> BoxTransport
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + Sync + 'static,
    B::Error: Into<BoxError>,
{
    let service = service
        .map_response(|response: Response<B>| {
            response.map(|body| body.map_err(boxed_error).boxed())
        })
        .map_err(boxed_error);
    BoxCloneSyncService::new(service)
}

fn boxed_error<E: Into<BoxError>>(error: E) -> BoxError {
    error.into()
}

/// The certificate authorities that a [`Transport`] trusts.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum TlsRoots {
    /// None: plain HTTP only.
    #[default]
    None,
    /// Those of the operating system.
    #[cfg(feature = "rustls")]
    System,
    /// Only those in this PEM text.
    #[cfg(feature = "rustls")]
    Pem(Vec<u8>),
}

#[cfg(feature = "rustls")]
type MaybeTlsStream = hyper_rustls::MaybeHttpsStream<TcpStream>;
#[cfg(not(feature = "rustls"))]
type MaybeTlsStream = TcpStream;

type TcpStream = <HttpConnector as Service<Uri>>::Response;
type Connector = BoxCloneSyncService<Uri, MaybeTlsStream, BoxError>;

/// Idle connections are closed before servers and load balancers usually close them.
const MAX_IDLE: Duration = Duration::from_secs(20);

/// HTTP/2 pings of connections with calls in flight, and the time for the response. All calls share one HTTP/2
/// connection, so that a dead one has to be noticed.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// The default transport: a pool of HTTP/1.1 and HTTP/2 connections, with TLS by rustls. Idle connections are
/// closed after 20 s.
///
/// It is public so that layers can be put around it:
///
/// ```
/// use std::time::Duration;
///
/// use tower::{ServiceBuilder, limit::ConcurrencyLimitLayer};
/// use tower_authlete::{Authlete, api::{TlsRoots, Transport}};
///
/// # fn main() -> Result<(), tower_authlete::ConfigError> {
/// let transport = Transport::new(TlsRoots::System, Duration::from_secs(1))?;
/// let authlete = Authlete::builder()
///     .base_url("https://us.authlete.com")
///     .service_id("715948317")
///     .service_access_token("a-secret")
///     .transport(ServiceBuilder::new().layer(ConcurrencyLimitLayer::new(64)).service(transport))
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Transport(Client<Connector, RequestBody>);

impl Transport {
    /// A transport. `connect_timeout` bounds connecting (TCP and TLS together).
    ///
    /// # Errors
    /// If `roots` has no certificates, or they cannot be read.
    pub fn new(roots: TlsRoots, connect_timeout: Duration) -> Result<Self, ConfigError> {
        let connector = ServiceBuilder::new().timeout(connect_timeout).service(connector(roots)?);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(MAX_IDLE)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .build(BoxCloneSyncService::new(connector));
        Ok(Self(client))
    }
}

impl Service<Request<RequestBody>> for Transport {
    type Response = Response<hyper::body::Incoming>;
    type Error = legacy::Error;
    type Future = legacy::ResponseFuture;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        self.0.call(request)
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").finish_non_exhaustive()
    }
}

fn tcp() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_keepalive(Some(MAX_IDLE));
    connector
}

#[cfg(not(feature = "rustls"))]
fn connector(_: TlsRoots) -> Result<HttpConnector, ConfigError> {
    Ok(tcp())
}

#[cfg(feature = "rustls")]
fn connector(roots: TlsRoots) -> Result<hyper_rustls::HttpsConnector<HttpConnector>, ConfigError> {
    use std::sync::Arc;

    use hyper_rustls::{ConfigBuilderExt, HttpsConnectorBuilder};
    use rustls::{ClientConfig, RootCertStore, crypto::ring};

    let no_tls = |_| ConfigError::new("TLS", "no protocol versions", "report this as a bug");
    // An explicit provider, so that a program with several crypto providers need not install a default.
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(no_tls)?;
    let tls = match roots {
        TlsRoots::None => tls.with_root_certificates(RootCertStore::empty()),
        TlsRoots::System => tls.with_native_roots().map_err(|error| {
            let remedy = "install the system's CA certificates (Debian: ca-certificates), or give \
                          your own by `root_certificate_pem`";
            ConfigError::new("the system's CA certificates", error.to_string(), remedy)
        })?,
        TlsRoots::Pem(pem) => {
            tls.with_root_certificates(certificates("root_certificate_pem", &pem)?)
        }
    };
    Ok(HttpsConnectorBuilder::new()
        .with_tls_config(tls.with_no_client_auth())
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(tcp()))
}

/// The authorities that are trusted by this setting.
#[cfg(any(feature = "redis", feature = "rustls"))]
pub(crate) fn certificates(
    setting: &'static str,
    pem: &[u8],
) -> Result<rustls::RootCertStore, ConfigError> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};

    let wrong = |problem: &str| {
        let remedy = "give one or more CA certificates as PEM (`-----BEGIN CERTIFICATE-----`)";
        ConfigError::new(setting, format!("{} bytes, {problem}", pem.len()), remedy)
    };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| wrong("not PEM"))?;
        roots.add(certificate).map_err(|_| wrong("not a CA certificate"))?;
    }
    if roots.is_empty() { Err(wrong("no certificate in it")) } else { Ok(roots) }
}
