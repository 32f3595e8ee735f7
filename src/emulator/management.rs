//! `/auth/token/create` and `/auth/token/update`.

use super::{
    error::result,
    service::{EmulatedService, positive},
    store::{TokenRecord, TokenRecords, random},
};
use crate::api::{
    GrantType, Secret, TokenCreateAction, TokenCreateRequest, TokenCreateResponse,
    TokenUpdateAction, TokenUpdateRequest, TokenUpdateResponse,
};

/// Attributes of scopes (s).
const ACCESS_DURATION: &str = "access_token.duration";
const REFRESH_DURATION: &str = "refresh_token.duration";

/// `action`, `resultCode` and `resultMessage` of a call that fails.
type ManagementError<A> = (A, &'static str, &'static str);

impl EmulatedService {
    pub(super) fn create(&self, request: &TokenCreateRequest) -> TokenCreateResponse {
        match self.try_create(request) {
            Ok(record) => self.created(request, record),
            Err((action, code, message)) => {
                let (result_code, result_message) = result(code, message);
                TokenCreateResponse { result_code, result_message, action, ..Default::default() }
            }
        }
    }

    fn try_create(
        &self,
        request: &TokenCreateRequest,
    ) -> Result<TokenRecord, ManagementError<TokenCreateAction>> {
        let bad = |code, message| Err((TokenCreateAction::BadRequest, code, message));
        let Some(grant_type) = request.grant_type.clone() else {
            return bad("A109201", "The grant type is missing.");
        };
        let client_credentials = grant_type == GrantType::ClientCredentials;
        let named = request.client_identifier.as_deref();
        if named.is_none() && request.client_id.is_none_or(|id| id == 0) {
            return bad("A109202", "The client is missing.");
        }
        let known =
            named.map_or(request.client_id == Some(self.client.id), |id| self.client.is(id));
        if !known {
            return bad("A109203", "There is no such client.");
        }
        if request.subject.is_none() && !client_credentials {
            return bad("A109204", "The subject is missing.");
        }
        if !request.scopes.iter().all(|scope| self.supports(scope)) {
            return bad("A109205", "A scope is not supported.");
        }
        let access = self.expiry(request.access_token_duration, self.access_token_duration);
        let refreshes = !client_credentials && grant_type != GrantType::Implicit;
        let value = |chosen: &Option<Secret>| {
            chosen.as_ref().map_or_else(random, |value| value.expose().to_owned())
        };
        let record = TokenRecord {
            access: value(&request.access_token),
            expires_at: if request.access_token_persistent { 0 } else { access },
            refresh: refreshes.then(|| value(&request.refresh_token)),
            refresh_expires_at: self
                .expiry(request.refresh_token_duration, self.refresh_token_duration),
            refresh_scopes: request.scopes.clone(),
            refresh_resources: request.resources.clone(),
            alias_used: request.client_id_alias_used || named == Some(&self.client.alias),
            subject: request.subject.clone().filter(|_| !client_credentials),
            grant_type: Some(grant_type),
            scopes: request.scopes.clone(),
            properties: request.properties.clone(),
            resources: request.resources.clone(),
            authorization_details: request.authorization_details.clone(),
            certificate_thumbprint: request.certificate_thumbprint.clone(),
            dpop_key_thumbprint: request.dpop_key_thumbprint.clone(),
            for_external_attachment: request.for_external_attachment,
            acr: request.acr.clone(),
            auth_time: request.auth_time,
            session_id: request.session_id.clone(),
            ..self.record()
        };
        let created = self.state().store.insert(record);
        created.ok_or((
            TokenCreateAction::BadRequest,
            "A109206",
            "The value of the token is taken.",
        ))
    }

    fn created(&self, request: &TokenCreateRequest, record: TokenRecord) -> TokenCreateResponse {
        let (result_code, result_message) = result("A109001", "The access token was created.");
        let expires_in = (record.expires_at - self.now()).max(0) / 1000;
        TokenCreateResponse {
            result_code,
            result_message,
            action: TokenCreateAction::Ok,
            token_type: Some(record.token_type().into()),
            access_token: Some(record.access.into()),
            client_id: Some(record.client_id),
            expires_at: Some(record.expires_at),
            expires_in: Some(expires_in),
            grant_type: record.grant_type,
            properties: record.properties,
            refresh_token_scopes: match record.refresh {
                Some(_) => record.refresh_scopes,
                None => Vec::new(),
            },
            refresh_token: record.refresh.map(Into::into),
            scopes: record.scopes,
            subject: record.subject,
            authorization_details: record.authorization_details,
            for_external_attachment: record.for_external_attachment,
            token_id: Some(record.id.to_string()),
            client_identifier: request.client_identifier.clone(),
            session_id: record.session_id,
            ..Default::default()
        }
    }

    pub(super) fn update(&self, request: &TokenUpdateRequest) -> TokenUpdateResponse {
        match self.try_update(request) {
            Ok(record) => updated(record),
            Err((action, code, message)) => {
                let (result_code, result_message) = result(code, message);
                TokenUpdateResponse { result_code, result_message, action, ..Default::default() }
            }
        }
    }

    fn try_update(
        &self,
        request: &TokenUpdateRequest,
    ) -> Result<TokenRecord, ManagementError<TokenUpdateAction>> {
        if !names_a_token(request) {
            let message = "The request names no token.";
            return Err((TokenUpdateAction::BadRequest, "A135201", message));
        }
        let mut state = self.state();
        let Some(record) = find_named(&state.store, request) else {
            return Err((TokenUpdateAction::NotFound, "A135202", "There is no such token."));
        };
        let record = self.changed(request, record.clone());
        state.store.replace(record.clone());
        Ok(record)
    }

    fn changed(&self, request: &TokenUpdateRequest, mut record: TokenRecord) -> TokenRecord {
        let before = sorted(&record.scopes);
        if let Some(scopes) = &request.scopes {
            record.scopes = scopes.iter().filter(|scope| self.supports(scope)).cloned().collect();
        }
        let scopes_changed = sorted(&record.scopes) != before;
        if let Some(properties) = &request.properties {
            record.properties.clone_from(properties);
        }
        if request.authorization_details.is_some() {
            record.authorization_details.clone_from(&request.authorization_details);
        }
        let by_scope = |flag: bool, attribute| {
            let duration = self.scope_duration(&record.scopes, attribute);
            duration.filter(|_| flag && scopes_changed).map(|s| self.now() + s * 1000)
        };
        let flag = request.access_token_expires_at_updated_on_scope_update;
        let expiry = positive(request.access_token_expires_at);
        let expiry = expiry.or(by_scope(flag, ACCESS_DURATION));
        let flag = request.refresh_token_expires_at_updated_on_scope_update;
        let refresh_expiry = positive(request.refresh_token_expires_at);
        let refresh_expiry = refresh_expiry.or(by_scope(flag, REFRESH_DURATION));
        record.expires_at = match (request.access_token_persistent, expiry) {
            (true, _) => 0,
            (false, Some(at)) => at,
            (false, None) => record.expires_at,
        };
        record.refresh_expires_at = refresh_expiry.unwrap_or(record.refresh_expires_at);
        if request.access_token_value_updated {
            record.access = random();
        }
        if request.certificate_thumbprint.is_some() {
            record.certificate_thumbprint.clone_from(&request.certificate_thumbprint);
        }
        if request.dpop_key_thumbprint.is_some() {
            record.dpop_key_thumbprint.clone_from(&request.dpop_key_thumbprint);
        }
        record.for_external_attachment |= request.for_external_attachment;
        record
    }
}

fn sorted(scopes: &[String]) -> Vec<String> {
    let mut scopes = scopes.to_vec();
    scopes.sort();
    scopes
}

/// A value that is empty counts as absent.
fn non_empty(token: &Option<Secret>) -> Option<&Secret> {
    token.as_ref().filter(|value| !value.is_empty())
}

fn names_a_token(request: &TokenUpdateRequest) -> bool {
    non_empty(&request.access_token).is_some()
        || request.access_token_hash.is_some()
        || non_empty(&request.refresh_token).is_some()
        || request.refresh_token_hash.is_some()
        || request.token_id.is_some()
}

/// The token that a request names, by the first identifier that is set.
fn find_named<'s>(
    store: &'s TokenRecords,
    request: &TokenUpdateRequest,
) -> Option<&'s TokenRecord> {
    if let Some(value) = non_empty(&request.access_token) {
        store.by_access(value.expose())
    } else if let Some(hash) = &request.access_token_hash {
        store.by_access_hash(hash)
    } else if let Some(value) = non_empty(&request.refresh_token) {
        store.by_refresh(value.expose())
    } else if let Some(hash) = &request.refresh_token_hash {
        store.by_refresh_hash(hash)
    } else {
        store.by_id(request.token_id.as_ref()?.parse().ok()?)
    }
}

fn updated(record: TokenRecord) -> TokenUpdateResponse {
    let (result_code, result_message) = result("A135001", "The access token was updated.");
    TokenUpdateResponse {
        result_code,
        result_message,
        action: TokenUpdateAction::Ok,
        token_type: Some(record.token_type().into()),
        access_token: Some(record.access.into()),
        access_token_expires_at: Some(record.expires_at),
        properties: record.properties,
        scopes: record.scopes,
        authorization_details: record.authorization_details,
        for_external_attachment: record.for_external_attachment,
        token_id: Some(record.id.to_string()),
        refresh_token_expires_at: record.refresh.is_some().then_some(record.refresh_expires_at),
    }
}
