//! Protected resource metadata (RFC 9728).
//!
//! ```
//! use tower_authlete::metadata::ProtectedResource;
//!
//! let resource = ProtectedResource::builder("https://api.example.com").name("Reports").build()?;
//! assert_eq!(resource.path(), "/.well-known/oauth-protected-resource");
//! # Ok::<(), tower_authlete::ConfigError>(())
//! ```

use std::{
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE},
};
use http_body_util::Full;
use serde_json::{Map, Value, json};
use tower_http::cors::{AllowHeaders, Any, Cors, CorsLayer};
use tower_layer::Layer;
use tower_service::Service;

use crate::{api::ConfigError, authorize::Require};

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// How long a browser may cache the answer to a preflight. Browsers have lower limits of their own.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// The metadata document of a protected resource, and a service that responds with it.
///
/// ```
/// use axum::Router;
/// use tower_authlete::{AuthLayer, metadata::ProtectedResource};
///
/// # fn example(authlete: tower_authlete::Authlete) -> Result<(), tower_authlete::ConfigError> {
/// let resource = ProtectedResource::builder("https://api.example.com/reports")
///     .authorization_server("https://as.example.com")
///     .scopes(["reports.read", "reports.write"])
///     .build()?;
/// let auth = AuthLayer::builder(authlete)
///     // Challenges have the URL of the metadata.
///     .protected_resource(&resource)
///     // Tokens must be for this resource (RFC 8707).
///     .require(resource.audience())
///     .build()?;
/// let app: Router = Router::new()
///     // …routes…
///     .layer(auth)
///     // Outside of the layer, since clients read it before they have a token.
///     .route_service(resource.path(), resource.service());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ProtectedResource(Arc<Parts>);

struct Parts {
    identifier: String,
    path: String,
    url: String,
    document: Bytes,
}

impl ProtectedResource {
    /// Settings for the resource with this identifier, a URL without a fragment (RFC 8707 §2).
    pub fn builder(identifier: impl Into<String>) -> ProtectedResourceBuilder {
        let identifier = identifier.into();
        let mut document = Map::new();
        document.insert("resource".into(), json!(identifier));
        document.insert("bearer_methods_supported".into(), json!(["header"]));
        ProtectedResourceBuilder { identifier, document }
    }

    /// The resource's identifier.
    #[must_use]
    pub fn identifier(&self) -> &str {
        &self.0.identifier
    }

    /// The path of the metadata at this server: the well-known path, followed by the path of the resource,
    /// if any (RFC 9728 §3.1).
    #[must_use]
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// The URL of the metadata, as in challenges.
    #[must_use]
    pub fn metadata_url(&self) -> String {
        self.0.url.clone()
    }

    /// The document, as JSON.
    #[must_use]
    pub fn document(&self) -> &str {
        str::from_utf8(&self.0.document).unwrap_or_default()
    }

    /// A service that responds with the document, to be mounted at [`path`](Self::path).
    ///
    /// It allows cross-origin requests from any origin, with any header and without credentials, since the
    /// document is public, and responds to preflights, which MCP clients cause by `MCP-Protocol-Version`.
    /// Caches may store the document for an hour, and browsers the answer to a preflight for a day. A CORS
    /// layer around the API itself has to respond to its preflights outside of
    /// [`AuthLayer`](crate::AuthLayer), and to expose `WWW-Authenticate`, which has the document's URL.
    #[must_use]
    pub fn service(&self) -> MetadataService {
        let cors = CorsLayer::new()
            .allow_origin(Any)
            .allow_methods([Method::GET, Method::HEAD])
            // A wildcard does not cover `Authorization` (Fetch §3.3.5).
            .allow_headers(AllowHeaders::mirror_request())
            .max_age(PREFLIGHT_MAX_AGE);
        MetadataService(cors.layer(Document(self.clone())))
    }

    /// The requirement that tokens are for this resource.
    #[must_use]
    pub fn audience(&self) -> Require {
        Require::audience([self.identifier()])
    }
}

impl fmt::Debug for ProtectedResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProtectedResource").field("identifier", &self.identifier()).finish()
    }
}

/// Settings of a [`ProtectedResource`].
#[derive(Debug, Clone)]
#[must_use = "settings do nothing until `build` is called"]
pub struct ProtectedResourceBuilder {
    identifier: String,
    document: Map<String, Value>,
}

impl ProtectedResourceBuilder {
    /// Adds an authorization server, by its issuer identifier (RFC 8414).
    pub fn authorization_server(mut self, issuer: impl Into<String>) -> Self {
        let servers = self.document.entry("authorization_servers").or_insert_with(|| json!([]));
        if let Value::Array(servers) = servers {
            servers.push(json!(issuer.into()));
        }
        self
    }

    /// The scopes for authorization requests that concern this resource.
    pub fn scopes(self, scopes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let scopes: Vec<String> = scopes.into_iter().map(Into::into).collect();
        self.member("scopes_supported", scopes)
    }

    /// A name for people.
    pub fn name(self, name: impl Into<String>) -> Self {
        self.member("resource_name", name.into())
    }

    /// The URL of documentation for people.
    pub fn documentation(self, url: impl Into<String>) -> Self {
        self.member("resource_documentation", url.into())
    }

    /// The algorithms that these settings of the layer accept, and whether they
    /// [require](crate::Dpop::required) that all tokens are bound to a key.
    #[cfg(feature = "dpop")]
    #[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
    pub fn dpop(self, dpop: &crate::proof::Dpop) -> Self {
        let names: Vec<_> = dpop.algorithm_names().collect();
        self.member("dpop_signing_alg_values_supported", names)
            .member("dpop_bound_access_tokens_required", dpop.required)
    }

    /// Any other member, such as `tls_client_certificate_bound_access_tokens` (RFC 9728 §2).
    pub fn member(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.document.insert(name.into(), value.into());
        self
    }

    /// Builds the resource.
    ///
    /// # Errors
    /// If the identifier is not the `http` or `https` URL of a server, or has a fragment or user information.
    pub fn build(self) -> Result<ProtectedResource, ConfigError> {
        let wrong = || {
            let problem = format!("{} characters, not the URL of a server", self.identifier.len());
            let remedy = "give an URL without fragment, such as https://api.example.com/reports";
            ConfigError::new("ProtectedResource", problem, remedy)
        };
        let uri: Uri = self.identifier.parse().map_err(|_| wrong())?;
        let (Some(scheme @ ("http" | "https")), Some(authority)) =
            (uri.scheme_str(), uri.authority())
        else {
            return Err(wrong());
        };
        if self.identifier.contains('#') || authority.as_str().contains('@') {
            return Err(wrong());
        }
        // A slash directly after the host is removed (RFC 9728 §3.1).
        let rest = uri.path_and_query().map_or("", |rest| rest.as_str());
        let rest = if rest == "/" { "" } else { rest };
        let path = format!("{WELL_KNOWN}{}", if uri.path() == "/" { "" } else { uri.path() });
        let url = format!("{scheme}://{authority}{WELL_KNOWN}{rest}");
        let document = Value::Object(self.document.clone()).to_string().into();
        Ok(ProtectedResource(Arc::new(Parts { identifier: self.identifier, path, url, document })))
    }
}

/// Response future of [`MetadataService`].
type Answering = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send>>;

/// Responds with a metadata document; see [`ProtectedResource::service`].
#[derive(Debug, Clone)]
pub struct MetadataService(Cors<Document>);

impl<B> Service<Request<B>> for MetadataService {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // Without its body, which need not be `Send`.
        Box::pin(self.0.call(request.map(drop)))
    }
}

/// Responds with the document, regardless of the request's origin.
#[derive(Debug, Clone)]
struct Document(ProtectedResource);

impl Service<Request<()>> for Document {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        let mut response = Response::new(Full::new(self.0.0.document.clone()));
        let headers = response.headers_mut();
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            *response.body_mut() = Full::default();
            return ready(Ok(response));
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
        ready(Ok(response))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_the_resource_comes_after_the_well_known_one() {
        for (identifier, path, url) in [
            ("https://a.example", "", ""),
            ("https://a.example/", "", ""),
            ("https://a.example/b/c", "/b/c", "/b/c"),
            ("https://a.example/b?c=d", "/b", "/b?c=d"),
        ] {
            let resource = ProtectedResource::builder(identifier).build().unwrap();
            assert_eq!(resource.path(), format!("{WELL_KNOWN}{path}"));
            assert_eq!(resource.metadata_url(), format!("https://a.example{WELL_KNOWN}{url}"));
            assert_eq!(resource.identifier(), identifier);
        }
    }

    #[test]
    fn what_is_no_resource_is_refused() {
        for wrong in ["", "a.example", "urn:a:b", "https://a.example/#b", "https://u@a.example"] {
            assert!(ProtectedResource::builder(wrong).build().is_err(), "{wrong}");
        }
    }
}
