//! Builds the facts of a token by hand.

use std::time::{SystemTime, UNIX_EPOCH};

use super::TokenInfo;
use crate::api::{
    AuthzDetails, GrantType, IntrospectionResponse, Pair, Property, document::to_millis,
};

/// Builds a [`TokenInfo`]; made by [`TokenInfo::builder`]. What is not set is absent.
#[derive(Clone, Default)]
#[must_use = "nothing is built until `build` is called"]
pub struct TokenInfoBuilder(IntrospectionResponse);

impl TokenInfoBuilder {
    fn with(mut self, change: impl FnOnce(&mut IntrospectionResponse)) -> Self {
        change(&mut self.0);
        self
    }

    /// The user.
    pub fn subject(self, subject: impl Into<String>) -> Self {
        self.with(|facts| facts.subject = Some(subject.into()))
    }

    /// The ID of the client. 0 stands for none.
    pub fn client_id(self, client_id: i64) -> Self {
        self.with(|facts| facts.client_id = Some(client_id))
    }

    /// The alias of the client.
    pub fn client_id_alias(self, alias: impl Into<String>) -> Self {
        self.with(|facts| facts.client_id_alias = Some(alias.into()))
    }

    /// The scopes, instead of those that were set before.
    pub fn scopes(self, scopes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.with(|facts| facts.scopes = scopes.into_iter().map(Into::into).collect())
    }

    /// Adds a property that client applications may see.
    pub fn property(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.with(|facts| facts.properties.push(Property::new(key, value)))
    }

    /// Adds a property that is hidden from client applications.
    pub fn hidden_property(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.with(|facts| facts.properties.push(Property::hidden(key, value)))
    }

    /// When the token expires, in whole milliseconds.
    pub fn expires_at(self, at: SystemTime) -> Self {
        self.with(|facts| facts.expires_at = Some(to_millis(at)))
    }

    /// The resources that the token is for, instead of those that were set before.
    pub fn audience(self, resources: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let resources = resources.into_iter().map(Into::into).collect();
        self.with(|facts| facts.access_token_resources = resources)
    }

    /// Rich authorization details (RFC 9396).
    pub fn authorization_details(self, details: impl Into<AuthzDetails>) -> Self {
        self.with(|facts| facts.authorization_details = Some(details.into()))
    }

    /// The authentication context class that the user's authentication met.
    pub fn acr(self, acr: impl Into<String>) -> Self {
        self.with(|facts| facts.acr = Some(acr.into()))
    }

    /// When the user was authenticated, in whole seconds; absent if that is before 1970.
    pub fn auth_time(self, at: SystemTime) -> Self {
        let seconds = at.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs());
        self.with(|facts| facts.auth_time = seconds.and_then(|it| i64::try_from(it).ok()))
    }

    /// The grant by which the token was issued.
    pub fn grant_type(self, grant_type: GrantType) -> Self {
        self.with(|facts| facts.grant_type = Some(grant_type))
    }

    /// Attributes of the client, instead of those that were set before.
    pub fn client_attributes(self, attributes: impl IntoIterator<Item = Pair>) -> Self {
        self.with(|facts| facts.client_attributes = attributes.into_iter().collect())
    }

    /// Attributes of the Authlete service, instead of those that were set before.
    pub fn service_attributes(self, attributes: impl IntoIterator<Item = Pair>) -> Self {
        self.with(|facts| facts.service_attributes = attributes.into_iter().collect())
    }

    /// Builds the facts.
    #[must_use]
    pub fn build(self) -> TokenInfo {
        TokenInfo::new(self.0, None, true)
    }
}

impl std::fmt::Debug for TokenInfoBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.clone().build().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_set_is_told_and_nothing_else() {
        let at = UNIX_EPOCH + Duration::from_secs(2_000_000_000);
        let token = TokenInfo::builder()
            .subject("alice")
            .client_id(7)
            .scopes(["a", "b"])
            .property("plan", "gold")
            .hidden_property("score", "90")
            .expires_at(at)
            .auth_time(at)
            .audience(["https://api.example.com"])
            .acr("gold")
            .grant_type(GrantType::AuthorizationCode)
            .build();
        assert_eq!((token.subject(), token.client_id()), (Some("alice"), Some(7)));
        assert_eq!(token.scopes().to_string(), "a b");
        assert_eq!(token.properties().get("score"), Some("90"));
        assert!(token.properties().is_hidden("score") && !token.properties().is_hidden("plan"));
        assert_eq!((token.expires_at(), token.auth_time()), (Some(at), Some(at)));
        assert_eq!((token.audience().len(), token.acr()), (1, Some("gold")));
        assert_eq!(token.grant_type(), Some(&GrantType::AuthorizationCode));
        let nothing = TokenInfo::builder().build();
        assert!(nothing.subject().is_none() && nothing.scopes().is_empty());
        assert!(nothing.expires_at().is_none() && !nothing.is_stale());
    }

    #[test]
    fn debug_hides_hidden_properties() {
        let builder = TokenInfo::builder().hidden_property("score", "90").property("plan", "gold");
        let shown = format!("{builder:?}");
        assert!(shown.contains("gold") && !shown.contains("90"), "{shown}");
    }
}
