//! Requests of clients: parsing and client authentication.

use super::{binding::TokenBinding, error::OAuthError, service::EmulatedService};
use crate::api::Secret;

/// The form of a client's request. The client is authenticated.
pub(super) struct ClientForm {
    pairs: Vec<(String, String)>,
    pub(super) alias_used: bool,
    pub(super) binding: TokenBinding,
}

impl ClientForm {
    /// The first value of a parameter, unless it is empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.pairs.iter().find(|(key, value)| key == name && !value.is_empty())?;
        Some(value)
    }

    pub(super) fn all(&self, name: &str) -> Vec<String> {
        self.pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }

    pub(super) fn scopes(&self) -> Vec<String> {
        self.get("scope").unwrap_or_default().split_whitespace().map(Into::into).collect()
    }
}

impl EmulatedService {
    /// Parses the request, and authenticates its client.
    pub(super) fn authenticate(
        &self,
        parameters: Option<&Secret>,
        id: Option<&str>,
        secret: Option<&Secret>,
    ) -> Result<ClientForm, OAuthError> {
        let malformed = || OAuthError::new("invalid_request", "A050201", "The form is malformed.");
        let body = parameters.map_or("", Secret::expose);
        let pairs = serde_html_form::from_str(body).map_err(|_| malformed())?;
        let mut form = ClientForm { pairs, alias_used: false, binding: TokenBinding::default() };
        let id = id.or(form.get("client_id")).unwrap_or_default();
        let secret = secret.map(Secret::expose).or(form.get("client_secret")).unwrap_or_default();
        if !self.client.is(id) || secret != self.client.secret {
            let message = "The client cannot be authenticated.";
            return Err(OAuthError::new("invalid_client", "A050301", message));
        }
        form.alias_used = id == self.client.alias;
        Ok(form)
    }
}
