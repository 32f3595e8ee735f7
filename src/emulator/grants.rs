//! `/auth/token`: the grants of a token endpoint.

use super::{
    binding::{TokenBinding, thumbprint},
    client_request::ClientForm,
    error::{OAuthError, result},
    pending::PendingTokenRequest,
    proofs::ProofError,
    service::EmulatedService,
    store::{TokenRecord, random},
};
use crate::api::{GrantType, Property, TokenAction, TokenRequest, TokenResponse};

impl EmulatedService {
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
        let sends_nonce = response.action == TokenAction::Ok || request.dpop.is_some();
        let dpop_nonce = self.state().proofs.nonce().filter(|_| sends_nonce);
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
                let facts = TokenResponse { username, password, ..TokenResponse::default() };
                Ok(self.pending(kind, request, &form, facts))
            }
            Some("urn:ietf:params:oauth:grant-type:token-exchange") => {
                let kind = (TokenAction::TokenExchange, GrantType::TokenExchange);
                let facts = self.exchange(&form)?;
                Ok(self.pending(kind, request, &form, facts))
            }
            Some("urn:ietf:params:oauth:grant-type:jwt-bearer") => {
                let Some(assertion) = form.get("assertion") else {
                    return Err(missing("`assertion` is missing."));
                };
                let kind = (TokenAction::JwtBearer, GrantType::JwtBearer);
                let assertion = Some(assertion.into());
                let facts = TokenResponse { assertion, ..TokenResponse::default() };
                Ok(self.pending(kind, request, &form, facts))
            }
            Some(_) => {
                let message = "The grant type is not supported.";
                Err(OAuthError::new("unsupported_grant_type", "A050204", message))
            }
        }
    }

    /// The certificate and key to bind a new token to.
    fn binding(&self, request: &TokenRequest) -> Result<TokenBinding, OAuthError> {
        let certificate =
            request.client_certificate.as_deref().filter(|_| self.certificate_bound_tokens);
        let unreadable = || {
            OAuthError::new("invalid_request", "A050206", "The client's certificate is malformed.")
        };
        let certificate = certificate.map(|pem| thumbprint(pem).ok_or_else(unreadable));
        Ok(TokenBinding { certificate: certificate.transpose()?, key: self.proven_key(request)? })
    }

    fn proven_key(&self, request: &TokenRequest) -> Result<Option<String>, ProofError> {
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

    /// The token that a request asks for.
    fn requested(&self, request: &TokenRequest, form: &ClientForm) -> TokenRecord {
        let properties = request.properties.as_deref().unwrap_or("[]");
        let properties: Vec<Property> = serde_json::from_str(properties).unwrap_or_default();
        let chosen = request.access_token.as_ref();
        let access = chosen.map_or_else(random, |value| value.expose().to_owned());
        TokenRecord {
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
        form: &ClientForm,
    ) -> Result<TokenResponse, OAuthError> {
        let grant_type = Some(GrantType::ClientCredentials);
        let record = TokenRecord { grant_type, ..self.requested(request, form) };
        let record = form.binding.clone().bind(record);
        let issued = self.state().store.insert(record).ok_or_else(value_taken)?;
        Ok(self.issued_by_token(issued))
    }

    fn refresh(
        &self,
        request: &TokenRequest,
        form: &ClientForm,
    ) -> Result<TokenResponse, OAuthError> {
        let invalid_grant = || {
            let message = "The refresh token is unknown, used or expired.";
            OAuthError::new("invalid_grant", "A050305", message)
        };
        let value = form.get("refresh_token").ok_or_else(|| {
            OAuthError::new("invalid_request", "A050202", "`refresh_token` is missing.")
        })?;
        let mut state = self.state();
        let old = state.store.by_refresh(value).ok_or_else(invalid_grant)?.clone();
        if old.client_id != self.client.id || !old.is_refreshable(self.now()) {
            return Err(invalid_grant());
        }
        let scopes = form.scopes();
        if !scopes.iter().all(|scope| old.refresh_scopes.contains(scope)) {
            let message = "The scopes are more than were granted.";
            return Err(OAuthError::new("invalid_scope", "A050306", message));
        }
        let resources = form.all("resource");
        if !resources.iter().all(|resource| old.refresh_resources.contains(resource)) {
            let message = "The resources are more than were granted.";
            return Err(OAuthError::new("invalid_target", "A050307", message));
        }
        let requested = self.requested(request, form);
        let record = TokenRecord {
            scopes: if scopes.is_empty() { old.refresh_scopes.clone() } else { scopes },
            resources: if resources.is_empty() { old.refresh_resources.clone() } else { resources },
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
            return Err(value_taken());
        }
        state.store.remove(old.id);
        let issued = state.store.insert(record).ok_or_else(value_taken)?;
        drop(state);
        Ok(self.issued_by_token(issued))
    }

    /// The response to a request that the authorization server has to decide about, with a ticket for its
    /// decision. `facts` are the members that depend on the grant.
    fn pending(
        &self,
        (action, grant_type): (TokenAction, GrantType),
        request: &TokenRequest,
        form: &ClientForm,
        facts: TokenResponse,
    ) -> TokenResponse {
        let ticket = PendingTokenRequest {
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
            ..facts
        };
        self.state().tickets.insert(name, ticket);
        response
    }

    fn issued_by_token(&self, record: TokenRecord) -> TokenResponse {
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

fn value_taken() -> OAuthError {
    OAuthError::new("invalid_request", "A050205", "The value of the token is taken.")
}
