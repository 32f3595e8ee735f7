//! `/auth/token`.

use super::{
    binding::{Binding, thumbprint},
    error::{OAuthError, result},
    form::Form,
    proofs::Unproven,
    service::Service,
    store::{Record, random},
    ticket::Ticket,
};
use crate::api::{GrantType, Property, TokenAction, TokenRequest, TokenResponse};

impl Service {
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
                let (username, password) = (Some(username.into()), Some(password.into()));
                let told = TokenResponse { username, password, ..TokenResponse::default() };
                Ok(self.undecided(kind, request, &form, told))
            }
            Some("urn:ietf:params:oauth:grant-type:token-exchange") => {
                let kind = (TokenAction::TokenExchange, GrantType::TokenExchange);
                let told = self.exchange(&form)?;
                Ok(self.undecided(kind, request, &form, told))
            }
            Some("urn:ietf:params:oauth:grant-type:jwt-bearer") => {
                let Some(assertion) = form.get("assertion") else {
                    return Err(missing("`assertion` is missing."));
                };
                let kind = (TokenAction::JwtBearer, GrantType::JwtBearer);
                let assertion = Some(assertion.into());
                let told = TokenResponse { assertion, ..TokenResponse::default() };
                Ok(self.undecided(kind, request, &form, told))
            }
            Some(_) => {
                let message = "The grant type is not supported.";
                Err(OAuthError::new("unsupported_grant_type", "A050204", message))
            }
        }
    }

    /// What a new token is bound to.
    fn binding(&self, request: &TokenRequest) -> Result<Binding, OAuthError> {
        let certificate =
            request.client_certificate.as_deref().filter(|_| self.certificate_bound_tokens);
        let unreadable = || {
            OAuthError::new("invalid_request", "A050206", "The client's certificate is malformed.")
        };
        let certificate = certificate.map(|pem| thumbprint(pem).ok_or_else(unreadable));
        Ok(Binding { certificate: certificate.transpose()?, key: self.proven_key(request)? })
    }

    fn proven_key(&self, request: &TokenRequest) -> Result<Option<String>, Unproven> {
        let Some(proof) = &request.dpop else {
            return Ok(None);
        };
        let method = request.htm.as_deref().or(Some("POST"));
        let proof = self.proof(proof, (method, request.htu.as_deref()), None)?;
        let key = proof.thumbprint.clone();
        let mut state = self.state();
        if request.dpop_nonce_required {
            state.proofs.require_nonce();
        }
        state.proofs.accept(proof, self.now_seconds())?;
        Ok(Some(key))
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

    /// The answer to a request that somebody has to decide about, and what it is `told` of it.
    fn undecided(
        &self,
        (action, grant_type): (TokenAction, GrantType),
        request: &TokenRequest,
        form: &Form,
        told: TokenResponse,
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
            ..told
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
}

fn taken() -> OAuthError {
    OAuthError::new("invalid_request", "A050205", "The value of the token is taken.")
}
