//! `/auth/token`, `/auth/token/issue` and `/auth/token/fail`.

use std::collections::HashMap;

use serde_json::json;

use super::{
    binding::Binding,
    management::positive,
    service::{Service, result},
    store::{Record, random},
};
use crate::api::{
    ExchangedTokenInfo, GrantType, Property, Secret, TokenAction, TokenFailAction, TokenFailReason,
    TokenFailRequest, TokenFailResponse, TokenIssueAction, TokenIssueRequest, TokenIssueResponse,
    TokenRequest, TokenResponse, TokenType,
};

/// What a token request that needs a decision asks for.
#[derive(Clone)]
pub(super) struct Ticket {
    grant_type: GrantType,
    scopes: Vec<String>,
    resources: Vec<String>,
    alias_used: bool,
    /// Life of the tokens (s), if the token request gives one.
    access_token_duration: Option<i64>,
    refresh_token_duration: Option<i64>,
    binding: Binding,
}

/// An error of the token and revocation endpoints (RFC 6749 §5.2).
pub(super) struct OAuthError {
    pub(super) error: &'static str,
    pub(super) code: &'static str,
    pub(super) message: &'static str,
}

impl OAuthError {
    pub(super) fn new(error: &'static str, code: &'static str, message: &'static str) -> Self {
        Self { error, code, message }
    }

    /// The body for the client.
    pub(super) fn content(&self) -> String {
        let Self { error, code, message } = self;
        json!({
            "error": error,
            "error_description": format!("[{code}] {message}"),
            "error_uri": format!("https://docs.authlete.com/#{code}"),
        })
        .to_string()
    }
}

/// The parameters of a client's request.
pub(super) struct Form {
    pairs: Vec<(String, String)>,
    alias_used: bool,
    binding: Binding,
}

impl Form {
    /// A parameter that is there and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.pairs.iter().find(|(key, value)| key == name && !value.is_empty())?;
        Some(value)
    }

    fn all(&self, name: &str) -> Vec<String> {
        self.pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }

    fn scopes(&self) -> Vec<String> {
        self.get("scope").unwrap_or_default().split_whitespace().map(Into::into).collect()
    }
}

impl Service {
    /// Reads the client's request, and who it is.
    pub(super) fn authenticate(
        &self,
        parameters: Option<&Secret>,
        id: Option<&str>,
        secret: Option<&Secret>,
    ) -> Result<Form, OAuthError> {
        let malformed = || OAuthError::new("invalid_request", "A050201", "The form is malformed.");
        let body = parameters.map_or("", Secret::expose);
        let pairs = serde_html_form::from_str(body).map_err(|_| malformed())?;
        let mut form = Form { pairs, alias_used: false, binding: Binding::default() };
        let id = id.or(form.get("client_id")).unwrap_or_default();
        let secret = secret.map(Secret::expose).or(form.get("client_secret")).unwrap_or_default();
        if !self.client.is(id) || secret != self.client.secret {
            let message = "The client cannot be authenticated.";
            return Err(OAuthError::new("invalid_client", "A050301", message));
        }
        form.alias_used = id == self.client.alias;
        Ok(form)
    }

    pub(super) fn token(&self, request: &TokenRequest) -> TokenResponse {
        let response = self.try_token(request).unwrap_or_else(|error| {
            let (result_code, result_message) = result(error.code, error.message);
            TokenResponse {
                result_code,
                result_message,
                action: match error.error {
                    "invalid_client" => TokenAction::InvalidClient,
                    _ => TokenAction::BadRequest,
                },
                response_content: Some(error.content().into()),
                ..TokenResponse::default()
            }
        });
        let tells = response.action == TokenAction::Ok || request.dpop.is_some();
        let dpop_nonce = self.state().proofs.nonce().filter(|_| tells);
        TokenResponse { dpop_nonce, ..response }
    }

    fn try_token(&self, request: &TokenRequest) -> Result<TokenResponse, OAuthError> {
        let mut form = self.authenticate(
            request.parameters.as_ref(),
            request.client_id.as_deref(),
            request.client_secret.as_ref(),
        )?;
        form.binding = self.binding(request)?;
        let missing = |message| OAuthError::new("invalid_request", "A050202", message);
        if !form.scopes().iter().all(|scope| self.supports(scope)) {
            return Err(OAuthError::new("invalid_scope", "A050203", "A scope is not supported."));
        }
        match form.get("grant_type") {
            None => Err(missing("`grant_type` is missing.")),
            Some("client_credentials") => self.client_credentials(request, &form),
            Some("refresh_token") => self.refresh(request, &form),
            Some("password") => {
                let (Some(username), Some(password)) = (form.get("username"), form.get("password"))
                else {
                    return Err(missing("`username` or `password` is missing."));
                };
                let kind = (TokenAction::Password, GrantType::Password);
                let response = self.undecided(kind, request, &form);
                let (username, password) = (Some(username.into()), Some(password.into()));
                Ok(TokenResponse { username, password, ..response })
            }
            Some("urn:ietf:params:oauth:grant-type:token-exchange") => {
                self.exchange(request, &form)
            }
            Some("urn:ietf:params:oauth:grant-type:jwt-bearer") => {
                let Some(assertion) = form.get("assertion") else {
                    return Err(missing("`assertion` is missing."));
                };
                let kind = (TokenAction::JwtBearer, GrantType::JwtBearer);
                let response = self.undecided(kind, request, &form);
                Ok(TokenResponse { assertion: Some(assertion.into()), ..response })
            }
            Some(_) => {
                let message = "The grant type is not supported.";
                Err(OAuthError::new("unsupported_grant_type", "A050204", message))
            }
        }
    }

    /// A token as a token request asks for it.
    fn requested(&self, request: &TokenRequest, form: &Form) -> Record {
        let properties = request.properties.as_deref().unwrap_or("[]");
        let properties: Vec<Property> = serde_json::from_str(properties).unwrap_or_default();
        let chosen = request.access_token.as_ref();
        let access = chosen.map_or_else(random, |value| value.expose().to_owned());
        Record {
            access,
            expires_at: self.expiry(request.access_token_duration, self.access_token_duration),
            scopes: form.scopes(),
            resources: form.all("resource"),
            alias_used: form.alias_used,
            properties,
            ..self.record()
        }
    }

    fn client_credentials(
        &self,
        request: &TokenRequest,
        form: &Form,
    ) -> Result<TokenResponse, OAuthError> {
        let grant_type = Some(GrantType::ClientCredentials);
        let record = Record { grant_type, ..self.requested(request, form) };
        let record = form.binding.clone().bind(record);
        let kept = self.state().store.insert(record).ok_or_else(taken)?;
        Ok(self.issued_by_token(kept))
    }

    fn refresh(&self, request: &TokenRequest, form: &Form) -> Result<TokenResponse, OAuthError> {
        let gone = || {
            let message = "The refresh token is unknown, used or expired.";
            OAuthError::new("invalid_grant", "A050305", message)
        };
        let value = form.get("refresh_token").ok_or_else(|| {
            OAuthError::new("invalid_request", "A050202", "`refresh_token` is missing.")
        })?;
        let mut state = self.state();
        let old = state.store.by_refresh(value).ok_or_else(gone)?.clone();
        if old.client_id != self.client.id || !old.is_refreshable(self.now()) {
            return Err(gone());
        }
        let asked = form.scopes();
        if !asked.iter().all(|scope| old.refresh_scopes.contains(scope)) {
            let message = "The scopes are more than were granted.";
            return Err(OAuthError::new("invalid_scope", "A050306", message));
        }
        let targets = form.all("resource");
        if !targets.iter().all(|resource| old.refresh_resources.contains(resource)) {
            let message = "The resources are more than were granted.";
            return Err(OAuthError::new("invalid_target", "A050307", message));
        }
        let requested = self.requested(request, form);
        let record = Record {
            scopes: if asked.is_empty() { old.refresh_scopes.clone() } else { asked },
            resources: if targets.is_empty() { old.refresh_resources.clone() } else { targets },
            access: requested.access,
            expires_at: requested.expires_at,
            refresh: Some(random()),
            refresh_expires_at: self
                .expiry(request.refresh_token_duration, self.refresh_token_duration),
            last_refreshed_at: self.now(),
            ..old.clone()
        };
        let record = form.binding.clone().bind(record);
        if state.store.by_access(&record.access).is_some_and(|taken| taken.id != old.id) {
            return Err(taken());
        }
        state.store.remove(old.id);
        let kept = state.store.insert(record).ok_or_else(taken)?;
        drop(state);
        Ok(self.issued_by_token(kept))
    }

    fn exchange(&self, request: &TokenRequest, form: &Form) -> Result<TokenResponse, OAuthError> {
        let (Some(subject), Some(kind)) =
            (form.get("subject_token"), form.get("subject_token_type"))
        else {
            let message = "`subject_token` or `subject_token_type` is missing.";
            return Err(OAuthError::new("invalid_request", "A050202", message));
        };
        let actor = form.get("actor_token");
        let actor_kind = form.get("actor_token_type");
        self.exchangeable(subject, Some(kind))?;
        actor.map_or(Ok(()), |actor| self.exchangeable(actor, actor_kind))?;
        let action = (TokenAction::TokenExchange, GrantType::TokenExchange);
        let response = self.undecided(action, request, form);
        Ok(TokenResponse {
            audiences: form.all("audience"),
            requested_token_type: form.get("requested_token_type").map(token_type),
            subject_token_info: self.exchanged(subject),
            subject_token: Some(subject.into()),
            subject_token_type: Some(token_type(kind)),
            actor_token_info: actor.and_then(|token| self.exchanged(token)),
            actor_token: actor.map(Into::into),
            actor_token_type: actor_kind.map(token_type),
            ..response
        })
    }

    /// Access tokens that are exchanged have to be good (RFC 8693 §2.2.2); of others nothing is known.
    fn exchangeable(&self, token: &str, kind: Option<&str>) -> Result<(), OAuthError> {
        let is_access = kind.map(token_type) == Some(TokenType::AccessToken);
        if !is_access || self.exchanged(token).is_some() {
            return Ok(());
        }
        let message = "An access token to be exchanged is unknown or expired.";
        Err(OAuthError::new("invalid_request", "A050308", message))
    }

    /// What is known of a token that is handed in for exchange.
    fn exchanged(&self, token: &str) -> Option<ExchangedTokenInfo> {
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

    /// The answer to a request that somebody has to decide about.
    fn undecided(
        &self,
        (action, grant_type): (TokenAction, GrantType),
        request: &TokenRequest,
        form: &Form,
    ) -> TokenResponse {
        let ticket = Ticket {
            grant_type: grant_type.clone(),
            scopes: form.scopes(),
            resources: form.all("resource"),
            alias_used: form.alias_used,
            access_token_duration: request.access_token_duration,
            refresh_token_duration: request.refresh_token_duration,
            binding: form.binding.clone(),
        };
        let name = random();
        let (result_code, result_message) = result("A050002", "The request has to be decided.");
        let response = TokenResponse {
            result_code,
            result_message,
            action,
            ticket: Some(name.as_str().into()),
            grant_type: Some(grant_type),
            client_id: Some(self.client.id),
            client_id_alias: Some(self.client.alias.clone()),
            client_id_alias_used: form.alias_used,
            scopes: ticket.scopes.clone(),
            resources: ticket.resources.clone(),
            ..TokenResponse::default()
        };
        self.state().tickets.insert(name, ticket);
        response
    }

    fn issued_by_token(&self, record: Record) -> TokenResponse {
        let (result_code, result_message) = result("A050001", "The token was issued.");
        TokenResponse {
            result_code,
            result_message,
            action: TokenAction::Ok,
            response_content: Some(self.body(&record).into()),
            access_token_expires_at: Some(record.expires_at),
            access_token_duration: Some(self.seconds_until(record.expires_at)),
            refresh_token_expires_at: record.refresh.as_ref().map(|_| record.refresh_expires_at),
            refresh_token_duration: (record.refresh.as_ref())
                .map(|_| self.seconds_until(record.refresh_expires_at)),
            grant_type: record.grant_type.clone(),
            client_id: Some(record.client_id),
            client_id_alias: Some(self.client.alias.clone()),
            client_id_alias_used: record.alias_used,
            access_token: Some(record.access.into()),
            refresh_token_scopes: match record.refresh {
                Some(_) => record.refresh_scopes,
                None => Vec::new(),
            },
            refresh_token: record.refresh.map(Into::into),
            subject: record.subject,
            scopes: record.scopes,
            properties: record.properties,
            resources: record.resources.clone(),
            access_token_resources: record.resources,
            authorization_details: record.authorization_details,
            ..TokenResponse::default()
        }
    }

    pub(super) fn issue(&self, request: &TokenIssueRequest) -> TokenIssueResponse {
        let ticket = request.ticket.as_ref().map_or("", Secret::expose);
        // A ticket is good for one decision.
        let ticket = self.state().tickets.remove(ticket);
        let (Some(ticket), Some(subject)) = (ticket, request.subject.clone()) else {
            let (result_code, result_message) = result("A054201", "No such ticket, or no subject.");
            return TokenIssueResponse { result_code, result_message, ..Default::default() };
        };
        let chosen = request.access_token.as_ref();
        let life = positive(request.access_token_duration).or(ticket.access_token_duration);
        let refresh_life =
            positive(request.refresh_token_duration).or(ticket.refresh_token_duration);
        let record = Record {
            access: chosen.map_or_else(random, |value| value.expose().to_owned()),
            expires_at: self.expiry(life, self.access_token_duration),
            refresh: Some(random()),
            refresh_expires_at: self.expiry(refresh_life, self.refresh_token_duration),
            refresh_scopes: ticket.scopes.clone(),
            refresh_resources: ticket.resources.clone(),
            alias_used: ticket.alias_used,
            subject: Some(subject),
            grant_type: Some(ticket.grant_type),
            scopes: ticket.scopes,
            resources: ticket.resources,
            properties: request.properties.clone(),
            ..self.record()
        };
        let record = ticket.binding.bind(record);
        let Some(kept) = self.state().store.insert(record) else {
            let (result_code, result_message) = result("A054202", "The token's value is taken.");
            return TokenIssueResponse { result_code, result_message, ..Default::default() };
        };
        self.issued_by_ticket(kept)
    }

    fn issued_by_ticket(&self, record: Record) -> TokenIssueResponse {
        let (result_code, result_message) = result("A054001", "The token was issued.");
        TokenIssueResponse {
            result_code,
            result_message,
            action: TokenIssueAction::Ok,
            response_content: Some(self.body(&record).into()),
            access_token_expires_at: Some(record.expires_at),
            access_token_duration: Some(self.seconds_until(record.expires_at)),
            refresh_token_expires_at: Some(record.refresh_expires_at),
            refresh_token_duration: Some(self.seconds_until(record.refresh_expires_at)),
            client_id: Some(record.client_id),
            client_id_alias: Some(self.client.alias.clone()),
            client_id_alias_used: record.alias_used,
            access_token: Some(record.access.into()),
            refresh_token: record.refresh.map(Into::into),
            refresh_token_scopes: record.refresh_scopes,
            subject: record.subject,
            scopes: record.scopes,
            properties: record.properties,
            access_token_resources: record.resources,
            authorization_details: record.authorization_details,
            ..Default::default()
        }
    }

    pub(super) fn fail(&self, request: &TokenFailRequest) -> TokenFailResponse {
        let ticket = request.ticket.as_ref().map_or("", Secret::expose);
        if self.state().tickets.remove(ticket).is_none() {
            let (result_code, result_message) = result("A067201", "There is no such ticket.");
            return TokenFailResponse { result_code, result_message, ..Default::default() };
        }
        let error = match request.reason.unwrap_or_default() {
            TokenFailReason::InvalidTarget => {
                OAuthError::new("invalid_target", "A067302", "The target is not acceptable.")
            }
            TokenFailReason::InvalidResourceOwnerCredentials => {
                OAuthError::new("invalid_grant", "A067301", "The user's credentials are wrong.")
            }
            TokenFailReason::Unknown => {
                OAuthError::new("invalid_request", "A067303", "The request was refused.")
            }
        };
        let (result_code, result_message) = result(error.code, error.message);
        let action = TokenFailAction::BadRequest;
        let response_content = Some(error.content());
        TokenFailResponse { result_code, result_message, action, response_content }
    }

    /// The body of a successful token response (RFC 6749 §5.1).
    fn body(&self, record: &Record) -> String {
        let mut body = json!({});
        for property in record.properties.iter().filter(|property| !property.hidden) {
            body[&property.key] = property.value.as_str().into();
        }
        body["access_token"] = record.access.as_str().into();
        body["token_type"] = record.token_type().into();
        body["expires_in"] = self.seconds_until(record.expires_at).into();
        body["scope"] = record.scopes.join(" ").into();
        if let Some(refresh) = &record.refresh {
            body["refresh_token"] = refresh.as_str().into();
        }
        body.to_string()
    }

    pub(super) fn seconds_until(&self, millis: i64) -> i64 {
        (millis - self.now()).max(0) / 1000
    }
}

fn taken() -> OAuthError {
    OAuthError::new("invalid_request", "A050205", "The value of the token is taken.")
}

/// A token type identifier (RFC 8693 §3) by Authlete's name.
fn token_type(urn: &str) -> TokenType {
    let types = HashMap::from([
        ("urn:ietf:params:oauth:token-type:jwt", TokenType::Jwt),
        ("urn:ietf:params:oauth:token-type:access_token", TokenType::AccessToken),
        ("urn:ietf:params:oauth:token-type:refresh_token", TokenType::RefreshToken),
        ("urn:ietf:params:oauth:token-type:id_token", TokenType::IdToken),
        ("urn:ietf:params:oauth:token-type:saml1", TokenType::Saml1),
        ("urn:ietf:params:oauth:token-type:saml2", TokenType::Saml2),
        ("urn:openid:params:token-type:device-secret", TokenType::DeviceSecret),
    ]);
    types.get(urn).cloned().unwrap_or_else(|| TokenType::Other(urn.to_owned()))
}
