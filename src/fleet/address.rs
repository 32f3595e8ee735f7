//! Where Redis is, and by which certificates it is known.

use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo,
    RedisResult, TlsCertificates, TlsMode,
    cluster::ClusterClient,
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use rustls::{
    ClientConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::sync::Mutex;

use super::link::Server;
use crate::api::{Problems, Secret, certificates};

/// Where Redis is, before it is looked at.
pub(super) enum Address {
    Single(String),
    Sentinel(Vec<String>, String),
    Cluster(Vec<String>),
}

/// The certificates of connections with TLS, as PEM.
#[derive(Default)]
pub(super) struct Tls {
    pub(super) roots: Option<Vec<u8>>,
    pub(super) client: Option<(Vec<u8>, Secret)>,
}

impl Tls {
    fn is_set(&self) -> bool {
        self.roots.is_some() || self.client.is_some()
    }

    /// Whether the certificates can be used.
    fn validate(&self, problems: &mut Problems) -> bool {
        let roots = self.roots.as_ref();
        let roots = roots.map(|roots| certificates("fleet.root_certificate_pem", roots));
        let mut valid = roots.is_none_or(|roots| problems.take(roots).is_some());
        if let Some((chain, key)) = &self.client
            && !are_pair(chain, key)
        {
            let problem = format!("{} bytes, not a certificate and its key", chain.len());
            let remedy = "give the client's certificate, the ones between it and its authority, \
                          and its private key, as PEM";
            problems.add("fleet.client_certificate_pem", problem, remedy);
            valid = false;
        }
        valid
    }

    fn certificates(&self) -> Option<TlsCertificates> {
        let client_tls = self.client.as_ref().map(|(chain, key)| ClientTlsConfig {
            client_cert: chain.clone(),
            client_key: key.expose().as_bytes().to_vec(),
        });
        self.is_set().then(|| TlsCertificates { client_tls, root_cert: self.roots.clone() })
    }
}

/// Whether this is a certificate, with others up to its authority, and its key.
fn are_pair(chain: &[u8], key: &Secret) -> bool {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
    let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes());
    let config = ClientConfig::builder_with_provider(ring::default_provider().into());
    let config = config.with_safe_default_protocol_versions();
    let (Ok(chain), Ok(key), Ok(config)) = (chain, key, config) else { return false };
    let config = config.with_root_certificates(rustls::RootCertStore::empty());
    !chain.is_empty() && config.with_client_auth_cert(chain, key).is_ok()
}

impl Address {
    fn urls(&self) -> &[String] {
        match self {
            Self::Single(url) => std::slice::from_ref(url),
            Self::Sentinel(urls, _) | Self::Cluster(urls) => urls,
        }
    }

    /// A client of the servers there.
    pub(super) fn open(&self, tls: &Tls, problems: &mut Problems) -> Option<Server> {
        if !tls.validate(problems) {
            return None;
        }
        let infos = self.urls().iter().map(|url| url.as_str().into_connection_info());
        let infos = infos.collect::<RedisResult<Vec<_>>>().unwrap_or_default();
        let secured = infos.iter().filter(|info| is_secured(info)).count();
        let problem = if infos.is_empty() || infos.iter().any(is_insecure) {
            // A URL may hold a password.
            let length: usize = self.urls().iter().map(String::len).sum();
            Some(format!("{length} bytes, not a URL of Redis"))
        } else if secured != 0 && secured != infos.len() {
            Some("with TLS and without".to_owned())
        } else if secured == 0 && tls.is_set() {
            Some("without TLS, but there are certificates for it".to_owned())
        } else {
            None
        };
        if secured > 0 {
            ensure_crypto_provider();
        }
        let certificates = tls.certificates();
        let opened = match self {
            _ if problem.is_some() => None,
            Self::Single(_) => single(infos, certificates).ok().map(Server::Single),
            Self::Sentinel(_, master) => {
                let client = sentinel(&infos, master, certificates);
                client.ok().map(|client| Server::Sentinel(Mutex::new(client)))
            }
            Self::Cluster(_) => cluster(infos, certificates).ok().map(Server::Cluster),
        };
        if opened.is_none() {
            let problem = problem.unwrap_or_else(|| "not a URL of these servers".to_owned());
            let remedy = "give a URL such as redis://host:6379, or rediss://user:password@host";
            problems.add("fleet.url", problem, remedy);
        }
        opened
    }
}

fn is_secured(info: &ConnectionInfo) -> bool {
    matches!(info.addr(), ConnectionAddr::TcpTls { .. })
}

/// With `#insecure`, no certificate would be looked at.
fn is_insecure(info: &ConnectionInfo) -> bool {
    matches!(info.addr(), ConnectionAddr::TcpTls { insecure: true, .. })
}

/// The client of Redis uses the provider of the process, and panics if none is installed and several are
/// compiled in.
fn ensure_crypto_provider() {
    if CryptoProvider::get_default().is_none() {
        // Another thread may have installed one just now.
        let _ = ring::default_provider().install_default();
    }
}

fn single(infos: Vec<ConnectionInfo>, tls: Option<TlsCertificates>) -> RedisResult<Client> {
    let mut infos = infos.into_iter();
    // There is one URL.
    let info = infos.next().ok_or((ErrorKind::InvalidClientConfig, "no URL"))?;
    match tls {
        Some(tls) => Client::build_with_tls(info, tls),
        None => Client::open(info),
    }
}

/// The sentinels and the servers have the same user and password, and the same use of TLS.
fn sentinel(
    infos: &[ConnectionInfo],
    master: &str,
    tls: Option<TlsCertificates>,
) -> RedisResult<SentinelClient> {
    let addresses = infos.iter().map(|info| info.addr().clone());
    let mut builder = SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)?;
    if let Some(info) = infos.first() {
        let settings = info.redis_settings();
        builder = builder.set_client_to_redis_db(settings.db());
        builder = builder.set_client_to_redis_protocol(settings.protocol());
        builder = builder.set_client_to_sentinel_protocol(settings.protocol());
        if let Some(name) = settings.username() {
            builder = builder.set_client_to_redis_username(name);
            builder = builder.set_client_to_sentinel_username(name);
        }
        if let Some(password) = settings.password() {
            builder = builder.set_client_to_redis_password(password);
            builder = builder.set_client_to_sentinel_password(password);
        }
        if is_secured(info) {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        }
    }
    if let Some(tls) = tls {
        builder = builder.set_client_to_redis_certificates(tls.clone());
        builder = builder.set_client_to_sentinel_certificates(tls);
    }
    builder.build()
}

fn cluster(infos: Vec<ConnectionInfo>, tls: Option<TlsCertificates>) -> RedisResult<ClusterClient> {
    let builder = ClusterClient::builder(infos);
    match tls {
        Some(tls) => builder.certs(tls).build(),
        None => builder.build(),
    }
}
