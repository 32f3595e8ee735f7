//! Token exchange (RFC 8693) at `/auth/token`.

use super::{client_request::ClientForm, error::OAuthError, service::EmulatedService};
use crate::api::{ExchangedTokenInfo, TokenResponse, TokenType};

impl EmulatedService {
    /// The members of the response about the subject token and the actor token.
    pub(super) fn exchange(&self, form: &ClientForm) -> Result<TokenResponse, OAuthError> {
        let (Some(subject), Some(kind)) =
            (form.get("subject_token"), form.get("subject_token_type"))
        else {
            let message = "`subject_token` or `subject_token_type` is missing.";
            return Err(OAuthError::new("invalid_request", "A050202", message));
        };
        let actor = form.get("actor_token");
        let actor_kind = form.get("actor_token_type");
        self.check_exchangeable(subject, Some(kind))?;
        actor.map_or(Ok(()), |actor| self.check_exchangeable(actor, actor_kind))?;
        Ok(TokenResponse {
            audiences: form.all("audience"),
            requested_token_type: form.get("requested_token_type").map(token_type),
            subject_token_info: self.exchanged_token_info(subject),
            subject_token: Some(subject.into()),
            subject_token_type: Some(token_type(kind)),
            actor_token_info: actor.and_then(|token| self.exchanged_token_info(token)),
            actor_token: actor.map(Into::into),
            actor_token_type: actor_kind.map(token_type),
            ..TokenResponse::default()
        })
    }

    /// Checks that an access token is valid (RFC 8693 §2.2.2). Tokens of other types are not checked.
    fn check_exchangeable(&self, token: &str, kind: Option<&str>) -> Result<(), OAuthError> {
        let is_access = kind.map(token_type) == Some(TokenType::AccessToken);
        if !is_access || self.exchanged_token_info(token).is_some() {
            return Ok(());
        }
        let message = "An access token to be exchanged is unknown or expired.";
        Err(OAuthError::new("invalid_request", "A050308", message))
    }

    /// The facts about a token that is exchanged, unless it is unknown or expired.
    fn exchanged_token_info(&self, token: &str) -> Option<ExchangedTokenInfo> {
        let state = self.state();
        let record =
            state.store.by_access(token).filter(|record| !record.is_expired(self.now()))?;
        Some(ExchangedTokenInfo {
            client_id: Some(record.client_id),
            client_id_alias: Some(self.client.alias.clone()),
            client_id_alias_used: record.alias_used,
            subject: record.subject.clone(),
            scopes: self.scope_details(&record.scopes),
            expires_at: Some(record.expires_at),
            properties: record.properties.clone(),
            resources: record.resources.clone(),
            authorization_details: record.authorization_details.clone(),
            ..ExchangedTokenInfo::default()
        })
    }
}

/// Authlete's name of a token type identifier (RFC 8693 §3).
fn token_type(urn: &str) -> TokenType {
    match urn {
        "urn:ietf:params:oauth:token-type:jwt" => TokenType::Jwt,
        "urn:ietf:params:oauth:token-type:access_token" => TokenType::AccessToken,
        "urn:ietf:params:oauth:token-type:refresh_token" => TokenType::RefreshToken,
        "urn:ietf:params:oauth:token-type:id_token" => TokenType::IdToken,
        "urn:ietf:params:oauth:token-type:saml1" => TokenType::Saml1,
        "urn:ietf:params:oauth:token-type:saml2" => TokenType::Saml2,
        "urn:openid:params:token-type:device-secret" => TokenType::DeviceSecret,
        other => TokenType::Other(other.to_owned()),
    }
}
