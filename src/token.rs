//! What a handler gets to know of the access token.

use std::{
    fmt,
    num::{NonZeroI64, NonZeroU64},
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::Extensions;

use crate::{
    api::{
        AuthzDetailsElement, GrantType, IntrospectionResponse, Pair, Property, Scope,
        TokenCreateResponse, TokenIssueResponse, TokenResponse, TokenUpdateRequest,
        TokenUpdateResponse,
        document::{from_millis, from_seconds},
    },
    rejection::Guard,
    store::{Key, Thumbprint, epoch::shard},
};

mod sets;

pub(crate) use self::sets::Interner;
use self::sets::{Held, Holds};
pub use self::sets::{Properties, PropertiesError, Scopes};

/// The facts of the access token that came with a request. Cloning is cheap.
///
/// The layer puts one into the extensions of every request that it lets pass with a token. In axum
/// handlers it is also an extractor.
///
/// Which facts there are depends on the API that told them: `/auth/introspection` tells them all;
/// `/auth/token/update` ([`Check::Update`](crate::Check::Update)) knows only
/// [`scopes`](Self::scopes), [`properties`](Self::properties), [`expires_at`](Self::expires_at),
/// [`authorization_details`](Self::authorization_details) and [`token_type`](Self::token_type). The
/// answers that issue a token (`/auth/token`, `/auth/token/issue`, `/auth/token/create`) do not tell
/// [`acr`](Self::acr) and [`auth_time`](Self::auth_time), and the last one neither the
/// [`audience`](Self::audience). A requirement that a token does not meet by what such an answer told
/// leads to an introspection.
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

/// What is known of a token: what is its own, and what it shares with others of its kind once it is
/// kept.
#[derive(Clone)]
struct Facts {
    subject: Option<Box<str>>,
    /// ms since the epoch.
    expires_at: Option<NonZeroI64>,
    /// s since the epoch.
    auth_time: Option<NonZeroI64>,
    scopes: Scopes,
    properties: Properties,
    /// All the rest, in the shape of the API that tells most.
    rest: Arc<IntrospectionResponse>,
    /// The answer of `/auth/token/update`, if the facts come from there.
    update: Option<Box<TokenUpdateResponse>>,
    /// How to refuse in the way of the layer that found it out.
    guard: Option<Guard>,
    /// Since when Authlete should have been asked again, if it could not be (ms since the epoch).
    stale_since: Option<NonZeroU64>,
    /// Whether it is all that can be known by asking, rather than what was said of the token when it
    /// was issued.
    complete: bool,
    /// That of its key, by which the layer that found it out counts invalidations.
    shard: Option<u16>,
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
    fn new(
        mut known: IntrospectionResponse,
        update: Option<TokenUpdateResponse>,
        complete: bool,
    ) -> Self {
        let nonzero = |number: Option<i64>| number.and_then(NonZeroI64::new);
        // What the answer says of itself is no fact.
        known.result_code = None;
        known.result_message = None;
        known.response_content = None;
        known.dpop_nonce = None;
        Self(Arc::new(Facts {
            subject: known.subject.take().map(Into::into),
            expires_at: nonzero(known.expires_at.take()),
            auth_time: nonzero(known.auth_time.take()),
            scopes: std::mem::take(&mut known.scopes).into_iter().collect(),
            properties: std::mem::take(&mut known.properties).into_iter().collect(),
            rest: Arc::new(known),
            update: update.map(Box::new),
            guard: None,
            stale_since: None,
            complete,
            shard: None,
        }))
    }

    fn with(mut self, change: impl FnOnce(&mut Facts)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// With the way of refusing of the layer that asked, and the shard of the token's key there.
    pub(crate) fn guarded(self, guard: &Guard, key: &Key) -> Self {
        self.with(|facts| {
            facts.guard = Some(guard.clone());
            facts.shard = Some(shard(key));
        })
    }

    /// The layer that found it out, and the shard of the token's key there.
    pub(crate) fn place(&self) -> Option<(&Guard, u16)> {
        self.guard().zip(self.0.shard)
    }

    pub(crate) fn guard(&self) -> Option<&Guard> {
        self.0.guard.as_ref()
    }

    /// As it is used though Authlete should have been asked again since then (ms since the epoch).
    pub(crate) fn stale(self, since: u64) -> Self {
        self.with(|facts| facts.stale_since = NonZeroU64::new(since))
    }

    /// Whether Authlete should have been asked again for longer than this.
    pub(crate) fn is_stale_beyond(&self, bound: Duration, now: u64) -> bool {
        let age = |since: NonZeroU64| Duration::from_millis(now.saturating_sub(since.get()));
        self.0.stale_since.is_some_and(|since| age(since) >= bound)
    }

    /// Whether these facts are older than `max_age`, because Authlete could not be asked. See
    /// [`AuthLayerBuilder::stale_on_error`](crate::AuthLayerBuilder::stale_on_error).
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.0.stale_since.is_some()
    }

    /// A copy that counts for itself who uses it.
    pub(crate) fn deep_clone(&self) -> Self {
        Self(Arc::new(Facts::clone(&self.0)))
    }

    /// With what it shares with others in one place.
    pub(crate) fn interned(self, pools: &Interner) -> Self {
        self.with(|facts| {
            pools.rest(&mut facts.rest);
            pools.scopes(&mut facts.scopes);
            pools.properties(&mut facts.properties);
        })
    }

    /// The facts in the shape of the API that tells most.
    fn known(&self) -> IntrospectionResponse {
        let facts = &*self.0;
        let mut known = (*facts.rest).clone();
        known.subject = facts.subject.as_deref().map(Into::into);
        known.expires_at = facts.expires_at.map(NonZeroI64::get);
        known.auth_time = facts.auth_time.map(NonZeroI64::get);
        known.scopes = facts.scopes.iter().map(Into::into).collect();
        known.properties = facts.properties.iter().cloned().collect();
        known
    }

    /// Whether there is nothing more to be known by asking Authlete.
    pub(crate) fn is_complete(&self) -> bool {
        self.0.complete
    }

    /// Lets the inner service know, of all or of this alone, in place of what an outer layer knew.
    #[inline]
    pub(crate) fn insert_into(self, extensions: &mut Extensions, alone: bool) {
        if alone {
            if !extensions.is_empty() {
                extensions.remove::<Scopes>();
                extensions.remove::<Properties>();
            }
        } else {
            extensions.insert(Scopes(Held::Of(self.0.clone())));
            extensions.insert(Properties(Held::Of(self.0.clone())));
        }
        extensions.insert(self);
    }

    /// The user that the token was issued for; `None` for the client credentials flow.
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

    /// When the token expires; `None` if it does not, or if that is not known.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        from_millis(self.0.expires_at.map(NonZeroI64::get))
    }

    /// Whether it has expired at this time (ms since the epoch).
    #[inline]
    pub(crate) fn is_past(&self, now: u64) -> bool {
        self.0.expires_at.is_some_and(|at| u64::try_from(at.get()).unwrap_or_default() <= now)
    }

    /// The resources that the token is for: its audience (RFC 8707).
    #[must_use]
    pub fn audience(&self) -> &[String] {
        &self.0.rest.access_token_resources
    }

    /// The resources named in the authorization request, which the token request may have narrowed
    /// to [`audience`](Self::audience).
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

    /// How long ago the user was authenticated; zero if that lies ahead of `now`.
    #[must_use]
    pub fn auth_age(&self, now: SystemTime) -> Option<Duration> {
        self.auth_time().map(|then| now.duration_since(then).unwrap_or_default())
    }

    /// The flow by which the token was issued.
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

    /// `Bearer` or `DPoP`; `None` if the API did not tell, as `/auth/introspection` does not.
    #[must_use]
    pub fn token_type(&self) -> Option<&str> {
        self.0.update.as_ref()?.token_type.as_deref()
    }

    /// The answer of `/auth/introspection`, if the facts come from there: without its code, message and
    /// content, and the nonce for proofs. It is put together anew.
    #[must_use]
    pub fn introspection(&self) -> Option<IntrospectionResponse> {
        (self.0.update.is_none() && self.0.complete).then(|| self.known())
    }

    /// The answer of `/auth/token/update` without the token, if the facts come from there.
    #[must_use]
    pub fn update(&self) -> Option<&TokenUpdateResponse> {
        self.0.update.as_deref()
    }

    /// These facts with what an update has changed. `None` if it cannot be told: the answer lacks
    /// what is known, and the request did not ask for that to be removed. If scopes were added whose
    /// details it does not tell, they are not complete.
    pub(crate) fn updated(
        &self,
        request: &TokenUpdateRequest,
        response: &TokenUpdateResponse,
    ) -> Option<Self> {
        let mut known = self.known();
        if response.scopes.is_empty() && !known.scopes.is_empty() && request.scopes.is_none() {
            return None;
        }
        let lost = response.properties.is_empty() && !known.properties.is_empty();
        if lost && request.properties.is_none() {
            return None;
        }
        let details = response.authorization_details.as_ref();
        let lost = details.is_none() && !self.authorization_details().is_empty();
        if lost && request.authorization_details.is_none() {
            return None;
        }
        let of = |details: &Scope, scope: &String| details.name.as_ref() == Some(scope);
        let known_of = |scope| known.scope_details.iter().any(|details| of(details, scope));
        let detailed = known.scope_details.is_empty() || response.scopes.iter().all(known_of);
        known.scope_details.retain(|it| response.scopes.iter().any(|scope| of(it, scope)));
        known.scopes.clone_from(&response.scopes);
        known.properties.clone_from(&response.properties);
        known.expires_at = response.access_token_expires_at.or(known.expires_at);
        known.authorization_details = response.authorization_details.clone();
        known.for_external_attachment |= response.for_external_attachment;
        let update = self.0.update.as_ref();
        let update = update.map(|_| TokenUpdateResponse { access_token: None, ..response.clone() });
        let complete = self.0.complete && detailed;
        Some(Self::new(known, update, complete).with(|facts| {
            facts.guard.clone_from(&self.0.guard);
            facts.shard = self.0.shard;
        }))
    }

    /// Whether it can be used over a connection with this client certificate, or with none.
    #[inline]
    pub(crate) fn is_bound_to(&self, certificate: Option<&Thumbprint>) -> bool {
        let Some(bound) = &self.0.rest.certificate_thumbprint else { return true };
        certificate.is_some_and(|shown| BASE64_URL_SAFE_NO_PAD.encode(shown) == *bound)
    }

    /// Whether responses to it have to be signed (FAPI 2.0 Message Signing).
    pub(crate) fn needs_signed_response(&self) -> bool {
        self.0.rest.response_signing_required
    }

    /// Roughly the memory that the facts take, in bytes.
    pub(crate) fn size(&self) -> usize {
        // The length of their JSON: exact for strings, which are what can be large.
        let rest = serde_json::to_vec(&*self.0.rest).map_or(usize::MAX, |json| json.len());
        let properties = self.properties().iter();
        let properties: usize = properties.map(|it| it.key.len() + it.value.len()).sum();
        let scopes: usize = self.scopes().iter().map(str::len).sum();
        rest.saturating_add(properties + scopes + self.subject().map_or(0, str::len))
    }
}

impl From<&IntrospectionResponse> for TokenInfo {
    /// All facts.
    fn from(response: &IntrospectionResponse) -> Self {
        Self::new(response.clone(), None, true)
    }
}

impl From<&TokenUpdateResponse> for TokenInfo {
    /// Expiry, scopes, properties, authorization details and token type. The token is left behind.
    fn from(response: &TokenUpdateResponse) -> Self {
        let known = IntrospectionResponse {
            expires_at: response.access_token_expires_at,
            scopes: response.scopes.clone(),
            properties: response.properties.clone(),
            authorization_details: response.authorization_details.clone(),
            for_external_attachment: response.for_external_attachment,
            ..IntrospectionResponse::default()
        };
        let update = TokenUpdateResponse { access_token: None, ..response.clone() };
        Self::new(known, Some(update), true)
    }
}

/// Facts of a token from the answer that issued it: all but `acr`, `auth_time`, the grant and the
/// certificate that it is bound to, which only `/auth/introspection` tells.
macro_rules! issued {
    ($response:ty, $expires_at:ident; $($same:ident)*) => {
        impl From<&$response> for TokenInfo {
            /// What the answer says. It does not say what the token is bound to, nor how the user was
            /// authenticated.
            fn from(response: &$response) -> Self {
                let known = IntrospectionResponse {
                    expires_at: response.$expires_at,
                    client_id: response.client_id,
                    subject: response.subject.clone(),
                    scopes: response.scopes.clone(),
                    properties: response.properties.clone(),
                    authorization_details: response.authorization_details.clone(),
                    $($same: response.$same.clone(),)*
                    ..IntrospectionResponse::default()
                };
                Self::new(known, None, false)
            }
        }
    };
}

issued!(TokenResponse, access_token_expires_at; client_id_alias client_id_alias_used
    client_entity_id client_entity_id_used resources access_token_resources grant_type grant_id
    service_attributes client_attributes metadata_document_location metadata_document_used);
issued!(TokenIssueResponse, access_token_expires_at; client_id_alias client_id_alias_used
    client_entity_id client_entity_id_used access_token_resources service_attributes
    client_attributes metadata_document_location metadata_document_used);
issued!(TokenCreateResponse, expires_at; grant_type for_external_attachment);

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_counted_apart_and_tells_the_same() {
        let known = IntrospectionResponse { subject: Some("alice".into()), ..Default::default() };
        let token = TokenInfo::from(&known);
        let copy = token.deep_clone();
        assert_eq!((Arc::strong_count(&token.0), Arc::strong_count(&copy.0)), (1, 1));
        assert_eq!(copy.subject(), token.subject());
    }
}
