//! The facts of an access token.
//!
//! ```
//! use tower_authlete::TokenInfo;
//!
//! fn greet(token: &TokenInfo) -> String {
//!     format!("hello {}", token.subject().unwrap_or("stranger"))
//! }
//! ```

use std::{
    any::Any,
    fmt,
    num::{NonZeroI64, NonZeroU64},
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    api::{
        AuthzDetailsElement, GrantType, IntrospectionResponse, Pair, Property, TokenUpdateResponse,
        document::{from_millis, from_seconds},
    },
    store::Key,
};

mod answers;
mod builder;
mod internal;
mod interner;
mod sets;
#[cfg(feature = "redis")]
mod shared;

pub use self::builder::TokenInfoBuilder;
pub(crate) use self::interner::Interner;
use self::sets::Holds;
pub use self::sets::{Properties, PropertiesError, Scopes};
#[cfg(feature = "redis")]
pub(crate) use self::shared::SharedToken;

/// The facts of the access token that came with a request. Cloning is cheap.
///
/// The layer inserts one into the extensions of every request that it admits with a token. In axum
/// handlers it is also an extractor.
///
/// Which facts there are depends on the API that they come from: `/auth/introspection` has them all;
/// `/auth/token/update` ([`CheckApi::Update`](crate::layer::CheckApi::Update)) has only
/// [`scopes`](Self::scopes), [`properties`](Self::properties), [`expires_at`](Self::expires_at),
/// [`authorization_details`](Self::authorization_details) and [`token_type`](Self::token_type). The
/// answers that issue a token (`/auth/token`, `/auth/token/issue`, `/auth/token/create`) lack
/// [`acr`](Self::acr) and [`auth_time`](Self::auth_time), and the last one also the
/// [`audience`](Self::audience). If a token does not meet a requirement by the facts of such an answer,
/// Authlete is asked by an introspection.
///
/// ```
/// use tower_authlete::TokenInfo;
///
/// # fn request() -> http::Request<()> { http::Request::new(()) }
/// # let request = request();
/// if let Some(token) = request.extensions().get::<TokenInfo>() {
///     println!("{:?} may {:?}", token.subject(), token.scopes());
/// }
/// ```
#[derive(Clone)]
pub struct TokenInfo(Arc<Facts>);

/// What is known of a token. Cached tokens share `rest`, `scopes` and `properties` by the [`Interner`].
#[derive(Clone)]
struct Facts {
    subject: Option<Box<str>>,
    /// ms since the epoch.
    expires_at: Option<NonZeroI64>,
    /// s since the epoch.
    auth_time: Option<NonZeroI64>,
    scopes: Scopes,
    properties: Properties,
    /// All other facts, in the shape of `/auth/introspection`.
    rest: Arc<IntrospectionResponse>,
    /// The answer of `/auth/token/update`, if the facts come from there.
    update: Option<Box<TokenUpdateResponse>>,
    /// How code inside the layer that resolved it refuses.
    layer: Option<Arc<dyn Any + Send + Sync>>,
    /// If it is stale: when it should have been revalidated (ms since the epoch).
    stale_since: Option<NonZeroU64>,
    /// Whether the facts are those of an introspection or an update, rather than of the answer that issued
    /// the token.
    complete: bool,
    /// Under which the layer knows it that resolved it.
    key: Option<Key>,
}

impl Holds<Box<str>> for Facts {
    fn held(&self) -> &[Box<str>] {
        self.scopes.slice()
    }
}

impl Holds<Property> for Facts {
    fn held(&self) -> &[Property] {
        self.properties.slice()
    }
}

impl TokenInfo {
    /// Facts of your own, for unit tests. Extractors and requirements accept them only from a layer, or by
    /// the functions of the module `testing` (feature `test-util`).
    ///
    /// ```
    /// use tower_authlete::TokenInfo;
    ///
    /// let token = TokenInfo::builder().subject("alice").scopes(["read"]).build();
    /// assert!(token.scopes().contains("read"));
    /// ```
    pub fn builder() -> TokenInfoBuilder {
        TokenInfoBuilder::default()
    }

    fn with(mut self, change: impl FnOnce(&mut Facts)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// Whether these facts are stale: older than `max_age`, because Authlete could not be asked. See
    /// [`CachePolicy::stale_if_error`](crate::CachePolicy::stale_if_error).
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.0.stale_since.is_some()
    }

    /// The user that the token was issued for; `None` for the client credentials grant.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.0.subject.as_deref()
    }

    /// The ID of the client that the token was issued to.
    #[must_use]
    pub fn client_id(&self) -> Option<i64> {
        self.0.rest.client_id.filter(|id| *id != 0)
    }

    /// The alias of that client.
    #[must_use]
    pub fn client_id_alias(&self) -> Option<&str> {
        self.0.rest.client_id_alias.as_deref()
    }

    /// The entity ID of that client (OpenID Federation).
    #[must_use]
    pub fn client_entity_id(&self) -> Option<&str> {
        self.0.rest.client_entity_id.as_deref()
    }

    /// The token's scopes.
    #[must_use]
    pub fn scopes(&self) -> &Scopes {
        &self.0.scopes
    }

    /// The extra properties that the authorization server attached to the token.
    #[must_use]
    pub fn properties(&self) -> &Properties {
        &self.0.properties
    }

    /// When the token expires; `None` if it does not, or if that is unknown.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        from_millis(self.0.expires_at.map(NonZeroI64::get))
    }

    /// The resources that the token is for: its audience (RFC 8707).
    #[must_use]
    pub fn audience(&self) -> &[String] {
        &self.0.rest.access_token_resources
    }

    /// The resources of the authorization request, which the token request can narrow to
    /// [`audience`](Self::audience) (RFC 8707 §2.2).
    #[must_use]
    pub fn resources(&self) -> &[String] {
        &self.0.rest.resources
    }

    /// Rich authorization details (RFC 9396).
    #[must_use]
    pub fn authorization_details(&self) -> &[AuthzDetailsElement] {
        self.0.rest.authorization_details.as_ref().map_or(&[], |details| &details.elements)
    }

    /// The authentication context class that the user's authentication met.
    #[must_use]
    pub fn acr(&self) -> Option<&str> {
        self.0.rest.acr.as_deref()
    }

    /// When the user was authenticated.
    #[must_use]
    pub fn auth_time(&self) -> Option<SystemTime> {
        from_seconds(self.0.auth_time.map(NonZeroI64::get))
    }

    /// How long ago the user was authenticated; zero if that is after `now`.
    #[must_use]
    pub fn auth_age(&self, now: SystemTime) -> Option<Duration> {
        self.auth_time().map(|then| now.duration_since(then).unwrap_or_default())
    }

    /// The grant by which the token was issued.
    #[must_use]
    pub fn grant_type(&self) -> Option<&GrantType> {
        self.0.rest.grant_type.as_ref()
    }

    /// Attributes of the Authlete service.
    #[must_use]
    pub fn service_attributes(&self) -> &[Pair] {
        &self.0.rest.service_attributes
    }

    /// Attributes of the client.
    #[must_use]
    pub fn client_attributes(&self) -> &[Pair] {
        &self.0.rest.client_attributes
    }

    /// `Bearer` or `DPoP`; `None` unless the facts come from `/auth/token/update`.
    #[must_use]
    pub fn token_type(&self) -> Option<&str> {
        self.0.update.as_ref()?.token_type.as_deref()
    }

    /// The answer of `/auth/introspection`, if the facts come from there, without `resultCode`,
    /// `resultMessage`, `responseContent` and `dpopNonce`. Each call builds a new one.
    #[must_use]
    pub fn introspection(&self) -> Option<IntrospectionResponse> {
        (self.0.update.is_none() && self.0.complete).then(|| self.known())
    }

    /// The answer of `/auth/token/update` without the token, if the facts come from there.
    #[must_use]
    pub fn update(&self) -> Option<&TokenUpdateResponse> {
        self.0.update.as_deref()
    }
}

impl TokenInfoBuilder {
    /// Builds the facts.
    #[must_use]
    pub fn build(self) -> TokenInfo {
        TokenInfo::new(self.0, None, true)
    }
}

impl fmt::Debug for TokenInfoBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.clone().build().fmt(f)
    }
}

impl fmt::Debug for TokenInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenInfo")
            .field("subject", &self.subject())
            .field("client_id", &self.client_id())
            .field("scopes", self.scopes())
            .field("properties", self.properties())
            .field("expires_at", &self.expires_at())
            .finish_non_exhaustive()
    }
}
