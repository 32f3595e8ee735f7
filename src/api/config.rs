//! Settings of the client.

use std::{fmt, net::IpAddr, time::Duration};

use headers::{Authorization, HeaderMapExt};
use http::{HeaderMap, HeaderValue, Request, Response, Uri, header::AUTHORIZATION, uri::Scheme};
use http_body::Body;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};
use tower_service::Service;

use super::{
    ApiVersion, Authlete, Secret,
    client::ClientParts,
    config_error::{ConfigError, Problems},
    error::{BoxError, shape},
    transport::{BoxTransport, RequestBody, TlsRoots, Transport, boxed},
};

const BASE_URL: &str = "base_url (AUTHLETE_BASE_URL)";
const SERVICE_ID: &str = "service_id (AUTHLETE_SERVICE_APIKEY)";
const ACCESS_TOKEN: &str = "service_access_token (AUTHLETE_SERVICE_ACCESSTOKEN)";
const API_SECRET: &str = "service_api_secret (AUTHLETE_SERVICE_APISECRET)";

/// Settings of an [`Authlete`] client.
///
/// ```
/// use tower_authlete::Authlete;
///
/// let authlete = Authlete::builder()
///     .base_url("https://us.authlete.com")
///     .service_id("715948317")
///     .service_access_token("a-secret")
///     .build()?;
/// # Ok::<(), tower_authlete::ConfigError>(())
/// ```
///
/// | setting | unit | default | bounds |
/// |---|---|---|---|
/// | [`base_url`](Self::base_url) | URL | required | `https`, or `http` to this machine |
/// | [`api_version`](Self::api_version) | [`ApiVersion`] | V3 | |
/// | [`service_id`](Self::service_id) | | required | |
/// | [`service_access_token`](Self::service_access_token) | | required for V3 | |
/// | [`service_api_secret`](Self::service_api_secret) | | required for V2 | |
/// | [`connect_timeout`](Self::connect_timeout) | duration | 1 s | more than 0 |
/// | [`deadline`](Self::deadline) | duration | 3 s | more than 0 |
/// | [`max_response_size`](Self::max_response_size) | bytes | 1 MiB | at least 1 |
/// | [`user_agent`](Self::user_agent) | | `tower-authlete/` and the version | visible ASCII |
/// | [`allow_plain_http`](Self::allow_plain_http) | | off | |
/// | `root_certificate_pem` (feature `rustls`) | PEM | those of the operating system | |
/// | [`transport`](Self::transport) | service | a pool of connections: [`Transport`] | |
#[derive(Clone)]
#[must_use = "settings do nothing until `build` is called"]
pub struct AuthleteBuilder {
    base_url: String,
    /// `Err` if its variable is wrong.
    api_version: Result<ApiVersion, ConfigError>,
    service_id: String,
    service_access_token: Secret,
    service_api_secret: Secret,
    allow_plain_http: bool,
    connect_timeout: Duration,
    deadline: Duration,
    max_response_size: usize,
    user_agent: String,
    #[cfg(feature = "rustls")]
    root_certificate_pem: Option<Vec<u8>>,
    transport: Option<BoxTransport>,
}

impl fmt::Debug for AuthleteBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A base URL that is refused can contain credentials.
        let base = self.base().map_or_else(|_| shape(&self.base_url), |base| base.to_string());
        f.debug_struct("AuthleteBuilder")
            .field("base_url", &base)
            .field("api_version", &self.api_version.as_ref().ok())
            .field("service_id", &self.service_id)
            .field("allow_plain_http", &self.allow_plain_http)
            .field("connect_timeout", &self.connect_timeout)
            .field("deadline", &self.deadline)
            .field("max_response_size", &self.max_response_size)
            .field("user_agent", &self.user_agent)
            .finish_non_exhaustive()
    }
}

impl Default for AuthleteBuilder {
    fn default() -> Self {
        Self {
            base_url: String::new(),
            api_version: Ok(ApiVersion::default()),
            service_id: String::new(),
            service_access_token: Secret::default(),
            service_api_secret: Secret::default(),
            allow_plain_http: false,
            connect_timeout: Duration::from_secs(1),
            deadline: Duration::from_secs(3),
            max_response_size: 1024 * 1024,
            user_agent: concat!("tower-authlete/", env!("CARGO_PKG_VERSION")).into(),
            #[cfg(feature = "rustls")]
            root_certificate_pem: None,
            transport: None,
        }
    }
}

impl AuthleteBuilder {
    /// Settings from environment variables, which `var` looks up.
    pub(crate) fn from_vars(var: impl Fn(&str) -> Option<String>) -> Self {
        let text = |name| var(name).unwrap_or_default();
        Self {
            base_url: text("AUTHLETE_BASE_URL"),
            api_version: var("AUTHLETE_API_VERSION")
                .filter(|version| !version.is_empty())
                .map_or(Ok(ApiVersion::default()), |version| version.parse()),
            service_id: text("AUTHLETE_SERVICE_APIKEY"),
            service_access_token: text("AUTHLETE_SERVICE_ACCESSTOKEN").into(),
            service_api_secret: text("AUTHLETE_SERVICE_APISECRET").into(),
            ..Self::default()
        }
    }

    /// The base URL of Authlete, such as `https://us.authlete.com`. Required.
    pub fn base_url(mut self, base_url: impl Into<String>) -> Self {
        self.base_url = base_url.into();
        self
    }

    /// The version of the API. Default: V3.
    pub fn api_version(mut self, api_version: ApiVersion) -> Self {
        self.api_version = Ok(api_version);
        self
    }

    /// The service ID (V3) or the service API key (V2). Required.
    pub fn service_id(mut self, service_id: impl Into<String>) -> Self {
        self.service_id = service_id.into();
        self
    }

    /// The service access token. Required for V3.
    pub fn service_access_token(mut self, token: impl Into<Secret>) -> Self {
        self.service_access_token = token.into();
        self
    }

    /// The service API secret. Required for V2.
    pub fn service_api_secret(mut self, secret: impl Into<Secret>) -> Self {
        self.service_api_secret = secret.into();
        self
    }

    /// Allows `http://` to hosts other than loopback: tokens and credentials are then sent in clear text.
    /// Default: off.
    pub fn allow_plain_http(mut self) -> Self {
        self.allow_plain_http = true;
        self
    }

    /// How long connecting (TCP and TLS together) may take. Default: 1 s; more than 0.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a call may take in total: connecting, sending, and receiving the whole response. It bounds
    /// calls through a custom [`transport`](Self::transport) too. Default: 3 s; more than 0.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The largest response (bytes) that is accepted. Default: 1 MiB; at least 1.
    pub fn max_response_size(mut self, bytes: usize) -> Self {
        self.max_response_size = bytes;
        self
    }

    /// The `User-Agent` of calls: visible ASCII. Default: `tower-authlete/` and the version.
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = user_agent.into();
        self
    }

    /// The certificate authorities to trust, as PEM, in place of those of the operating system. For Authlete
    /// servers with a private CA.
    #[cfg(feature = "rustls")]
    pub fn root_certificate_pem(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.root_certificate_pem = Some(pem.as_ref().to_vec());
        self
    }

    /// A custom transport, for example a [`Transport`] with layers around it. Then
    /// [`connect_timeout`](Self::connect_timeout) and `root_certificate_pem` have no effect. Default: a
    /// [`Transport`].
    pub fn transport<S, B>(mut self, transport: S) -> Self
    where
        S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: Body<Data = bytes::Bytes> + Send + Sync + 'static,
        B::Error: Into<BoxError>,
    {
        self.transport = Some(boxed(transport));
        self
    }

    /// Builds the client.
    ///
    /// # Errors
    /// If settings are missing or wrong. The error names all of them, each with a remedy.
    pub fn build(self) -> Result<Authlete, ConfigError> {
        let mut problems = Problems::default();
        let base = problems.take(self.base());
        let version = problems.take(self.api_version.clone());
        let credentials = self.credentials(version, &mut problems);
        positive("connect_timeout", self.connect_timeout, &mut problems);
        positive("deadline", self.deadline, &mut problems);
        if self.max_response_size == 0 {
            problems.add("max_response_size", "0", "give a number of bytes");
        }
        let user_agent = HeaderValue::try_from(&self.user_agent).map_err(|_| {
            ConfigError::new("user_agent", shape(&self.user_agent), "use visible ASCII only")
        });
        let user_agent = problems.take(user_agent);
        let transport = base.as_ref().and_then(|base| problems.take(self.transport_to(base)));
        let parts = || {
            let (base, version) = (base?, version?);
            Some(ClientParts {
                root: self.root(&base, version),
                service: self.service(&base),
                credentials: credentials?,
                user_agent: user_agent?,
                deadline: self.deadline,
                max_response_size: self.max_response_size,
                transport: transport?,
            })
        };
        let parts = parts();
        problems.finish(parts).map(Authlete::new)
    }

    /// What the URLs of all APIs begin with. The paths of APIs start with a slash.
    fn root(&self, base: &Uri, version: ApiVersion) -> String {
        let mut root = base.to_string().trim_end_matches('/').to_owned();
        root.push_str("/api");
        if version == ApiVersion::V3 {
            root.push('/');
            root.extend(utf8_percent_encode(&self.service_id, NON_ALPHANUMERIC));
        }
        root
    }

    fn transport_to(&self, base: &Uri) -> Result<BoxTransport, ConfigError> {
        match &self.transport {
            Some(transport) => Ok(transport.clone()),
            None => Ok(boxed(Transport::new(self.roots(base)?, self.connect_timeout)?)),
        }
    }

    fn base(&self) -> Result<Uri, ConfigError> {
        let wrong = |problem: &str| {
            let remedy = "give Authlete's address, such as https://us.authlete.com";
            let problem = format!("{}, {problem}", shape(&self.base_url));
            Err(ConfigError::new(BASE_URL, problem, remedy))
        };
        let Ok(base) = Uri::try_from(&self.base_url) else {
            return wrong("not a URL");
        };
        let (Some(scheme), Some(authority)) = (base.scheme(), base.authority()) else {
            return wrong("without scheme or host");
        };
        if authority.as_str().contains('@') {
            return wrong("with credentials in it");
        }
        if base.query().is_some() || self.base_url.contains('#') {
            return wrong("with a query or fragment");
        }
        if *scheme == Scheme::HTTPS {
            return Ok(base);
        }
        if *scheme != Scheme::HTTP {
            return wrong("neither https nor http");
        }
        if is_loopback(authority.host()) || self.allow_plain_http {
            return Ok(base);
        }
        let remedy = "use https://, or allow it by `allow_plain_http()`";
        Err(ConfigError::new(BASE_URL, "plain http to another machine", remedy))
    }

    fn roots(&self, base: &Uri) -> Result<TlsRoots, ConfigError> {
        if base.scheme() == Some(&Scheme::HTTP) {
            return Ok(TlsRoots::None);
        }
        #[cfg(feature = "rustls")]
        return Ok(self.root_certificate_pem.clone().map_or(TlsRoots::System, TlsRoots::Pem));
        #[cfg(not(feature = "rustls"))]
        Err(ConfigError::new(
            BASE_URL,
            "https, and feature `rustls` is off",
            "turn the feature `rustls` of tower-authlete on, or give a `transport`",
        ))
    }

    /// The `Authorization` of all calls. What is missing depends on the version.
    fn credentials(
        &self,
        version: Option<ApiVersion>,
        problems: &mut Problems,
    ) -> Option<HeaderValue> {
        let service_id = problems.take(present(SERVICE_ID, &self.service_id));
        match version? {
            ApiVersion::V3 => {
                let token = self.service_access_token.expose();
                problems.take(present(ACCESS_TOKEN, token))?;
                let value = Authorization::bearer(token).ok().and_then(header);
                let remedy = "use the token as Authlete shows it";
                let wrong = || ConfigError::new(ACCESS_TOKEN, shape(token), remedy);
                problems.take(value.ok_or_else(wrong))
            }
            ApiVersion::V2 => {
                let secret = self.service_api_secret.expose();
                if service_id.is_some() && self.service_id.contains(':') {
                    let remedy = "use the key as Authlete shows it, which has no colon";
                    problems.add(SERVICE_ID, "with a colon", remedy);
                }
                problems.take(present(API_SECRET, secret))?;
                header(Authorization::basic(&self.service_id, secret))
            }
        }
    }

    /// See [`Authlete::service`].
    fn service(&self, base: &Uri) -> [u8; 32] {
        let mut digest = Sha256::new();
        for part in [base.to_string().trim_end_matches('/'), &self.service_id] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }
}

fn header<C: headers::authorization::Credentials>(
    credentials: Authorization<C>,
) -> Option<HeaderValue> {
    let mut headers = HeaderMap::new();
    headers.typed_insert(credentials);
    let mut value = headers.remove(AUTHORIZATION)?;
    value.set_sensitive(true);
    Some(value)
}

fn present(setting: &'static str, value: &str) -> Result<(), ConfigError> {
    let remedy = "set it to the value that Authlete's console shows";
    if value.is_empty() {
        return Err(ConfigError::new(setting, "missing or empty", remedy));
    }
    if value.chars().any(|char| !char.is_ascii_graphic()) {
        return Err(ConfigError::new(setting, shape(value), remedy));
    }
    Ok(())
}

fn positive(setting: &'static str, duration: Duration, problems: &mut Problems) {
    if duration.is_zero() {
        problems.add(setting, "0", "give a duration, such as a second");
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete() -> AuthleteBuilder {
        Authlete::builder()
            .base_url("http://127.0.0.1:4000")
            .service_id("715948317")
            .service_access_token("s3cr3t-token")
            .service_api_secret("s3cr3t-secret")
    }

    fn problem(builder: AuthleteBuilder) -> String {
        let error = builder.build().expect_err("a wrong setting");
        let text = format!("{error} {error:?}");
        assert!(!text.contains("s3cr3t"), "{text}");
        text
    }

    #[test]
    fn a_missing_setting_is_named_with_its_variable() {
        for (builder, name) in [
            (complete().base_url(""), "AUTHLETE_BASE_URL"),
            (complete().service_id(""), "AUTHLETE_SERVICE_APIKEY"),
            (complete().service_access_token(""), "AUTHLETE_SERVICE_ACCESSTOKEN"),
            (
                complete().api_version(ApiVersion::V2).service_api_secret(""),
                "AUTHLETE_SERVICE_APISECRET",
            ),
            (complete().service_access_token("s3cr3t\n"), "AUTHLETE_SERVICE_ACCESSTOKEN"),
            (complete().deadline(Duration::ZERO), "deadline"),
            (complete().connect_timeout(Duration::ZERO), "connect_timeout"),
            (complete().max_response_size(0), "max_response_size"),
            (complete().user_agent("a\nb"), "user_agent"),
        ] {
            let problem = problem(builder);
            assert!(problem.contains(name), "{problem}");
        }
    }

    #[test]
    fn a_wrong_base_url_is_refused() {
        for url in [
            "us.authlete.com",
            "/api",
            "ftp://us.authlete.com",
            "https://a:s3cr3t@us.authlete.com",
            "https://us.authlete.com?a=b",
            "https://us.authlete.com#a",
            "https://",
        ] {
            assert!(problem(complete().base_url(url)).contains("AUTHLETE_BASE_URL"), "{url}");
        }
    }

    #[test]
    fn plain_http_is_for_loopback_unless_it_is_allowed() {
        for url in
            ["http://localhost:1", "http://127.3.2.1", "http://[::1]:80/", "http://LOCALHOST"]
        {
            assert!(complete().base_url(url).build().is_ok(), "{url}");
        }
        for url in ["http://us.authlete.com", "http://127.0.0.1.example.com", "http://10.0.0.1"] {
            assert!(problem(complete().base_url(url)).contains("plain http"), "{url}");
            assert!(complete().base_url(url).allow_plain_http().build().is_ok(), "{url}");
        }
    }

    #[test]
    fn variables_configure_the_client() {
        let var = |name: &str| match name {
            "AUTHLETE_BASE_URL" => Some("http://127.0.0.1:4000/".into()),
            "AUTHLETE_API_VERSION" => Some("V2".into()),
            "AUTHLETE_SERVICE_APIKEY" => Some("key".into()),
            "AUTHLETE_SERVICE_APISECRET" => Some("secret".into()),
            _ => None,
        };
        let builder = AuthleteBuilder::from_vars(var);
        assert_eq!(builder.api_version, Ok(ApiVersion::V2));
        assert!(builder.build().is_ok());
        let wrong = |name: &str| (name == "AUTHLETE_API_VERSION").then(|| "4".into());
        let error = AuthleteBuilder::from_vars(wrong).build().expect_err("a wrong version");
        // What credentials are missing depends on the version.
        let settings: Vec<_> = error.iter().map(|it| it.setting()).collect();
        assert_eq!(settings, [BASE_URL, "api_version (AUTHLETE_API_VERSION)", SERVICE_ID]);
    }

    #[test]
    fn a_service_is_told_by_base_url_and_id_and_not_by_our_credentials() {
        let service = |builder: AuthleteBuilder| builder.build().unwrap().service();
        let one = service(complete());
        for same in [
            complete().base_url("http://127.0.0.1:4000/"),
            complete().service_access_token("other"),
            complete().api_version(ApiVersion::V2),
        ] {
            assert_eq!(one, service(same));
        }
        for other in [complete().base_url("http://127.0.0.1:4001"), complete().service_id("2")] {
            assert_ne!(one, service(other));
        }
    }

    #[cfg(feature = "rustls")]
    #[test]
    fn malformed_certificates_are_refused() {
        let builder = || complete().base_url("https://127.0.0.1");
        for pem in
            ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
        {
            assert!(problem(builder().root_certificate_pem(pem)).contains("root_certificate_pem"));
        }
    }
}
