//! Issues tokens directly, without a call.

use std::time::{Duration, SystemTime};

use super::{
    service::EmulatedService,
    store::{TokenRecord, random},
};
use crate::api::{AuthzDetails, GrantType, Property, document::to_millis};

/// Builds an access token; made by [`Emulator::token`](super::Emulator::token).
#[derive(Clone)]
#[must_use = "no token is issued until `issue` is called"]
pub struct TokenBuilder<'e> {
    service: &'e EmulatedService,
    record: TokenRecord,
}

/// An access token and its refresh token.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenPair {
    /// The access token.
    pub access_token: String,
    /// The refresh token.
    pub refresh_token: String,
}

impl std::fmt::Debug for TokenPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenPair").finish_non_exhaustive()
    }
}

impl<'e> TokenBuilder<'e> {
    pub(super) fn new(service: &'e EmulatedService) -> Self {
        let grant_type = Some(GrantType::AuthorizationCode);
        Self { service, record: TokenRecord { grant_type, ..service.record() } }
    }

    fn with(mut self, change: impl FnOnce(&mut TokenRecord)) -> Self {
        change(&mut self.record);
        self
    }

    /// The subject. Default: none.
    pub fn subject(self, subject: impl Into<String>) -> Self {
        self.with(|record| record.subject = Some(subject.into()))
    }

    /// The scopes, whether the service supports them or not. Default: none.
    pub fn scopes(self, scopes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.with(|record| record.scopes = scopes.into_iter().map(Into::into).collect())
    }

    /// Adds a property that clients see.
    pub fn property(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.with(|record| record.properties.push(Property::new(key, value)))
    }

    /// Adds a property that is hidden from clients.
    pub fn hidden_property(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.with(|record| record.properties.push(Property::hidden(key, value)))
    }

    /// The client. Default: the emulator's [own](super::Emulator::client_id).
    pub fn client_id(self, client_id: i64) -> Self {
        self.with(|record| record.client_id = client_id)
    }

    /// The grant type. Default: the authorization code flow.
    pub fn grant_type(self, grant_type: GrantType) -> Self {
        self.with(|record| record.grant_type = Some(grant_type))
    }

    /// The life of the access token, by the emulator's clock. Default: an hour.
    pub fn expires_in(self, life: Duration) -> Self {
        let now = self.service.clock.now();
        self.expires_at(now + life)
    }

    /// When the access token expires; it may be past.
    pub fn expires_at(self, at: SystemTime) -> Self {
        self.with(|record| record.expires_at = to_millis(at))
    }

    /// The access token never expires: `expiresAt` is 0.
    pub fn persistent(self) -> Self {
        self.with(|record| record.expires_at = 0)
    }

    /// The resources that the token is for. Default: none.
    pub fn resources(self, resources: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.with(|record| record.resources = resources.into_iter().map(Into::into).collect())
    }

    /// The authentication context class. Default: none.
    pub fn acr(self, acr: impl Into<String>) -> Self {
        self.with(|record| record.acr = Some(acr.into()))
    }

    /// When the user was authenticated, in whole seconds. Default: unknown.
    pub fn auth_time(self, at: SystemTime) -> Self {
        self.with(|record| record.auth_time = Some(to_millis(at) / 1000))
    }

    /// Rich authorization details. Default: none.
    pub fn authorization_details(self, details: impl Into<AuthzDetails>) -> Self {
        self.with(|record| record.authorization_details = Some(details.into()))
    }

    /// Binds the token to a certificate with this thumbprint (`x5t#S256`, RFC 8705 §3.1).
    pub fn certificate_thumbprint(self, thumbprint: impl Into<String>) -> Self {
        self.with(|record| record.certificate_thumbprint = Some(thumbprint.into()))
    }

    /// Binds the token to a DPoP key with this thumbprint (RFC 7638).
    pub fn dpop_key_thumbprint(self, thumbprint: impl Into<String>) -> Self {
        self.with(|record| record.dpop_key_thumbprint = Some(thumbprint.into()))
    }

    /// Resource servers must sign responses to requests with this token. Default: off.
    pub fn response_signing_required(self) -> Self {
        self.with(|record| record.response_signing_required = true)
    }

    /// The access token's value. Default: random.
    pub fn value(self, value: impl Into<String>) -> Self {
        self.with(|record| record.access = value.into())
    }

    /// Issues the access token. A token of the same value is replaced.
    pub async fn issue(self) -> String {
        self.insert().access
    }

    /// Issues the access token with a refresh token of the default life.
    pub async fn issue_with_refresh(self) -> TokenPair {
        let Self { service, .. } = self;
        let refresh_expires_at = service.expiry(None, service.refresh_token_duration);
        let refresh_token = random();
        let issued = self
            .with(|record| {
                record.refresh = Some(refresh_token.clone());
                record.refresh_expires_at = refresh_expires_at;
                record.refresh_scopes.clone_from(&record.scopes);
                record.refresh_resources.clone_from(&record.resources);
            })
            .insert();
        TokenPair { access_token: issued.access, refresh_token }
    }

    fn insert(self) -> TokenRecord {
        let mut state = self.service.state();
        let taken = state.store.by_access(&self.record.access).map(|record| record.id);
        taken.and_then(|id| state.store.remove(id));
        state.store.insert(self.record.clone()).unwrap_or(self.record)
    }
}
