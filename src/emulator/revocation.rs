//! `/auth/token/revoke`, `/auth/token/delete`, `/auth/token/get/list` and `/auth/revocation`.

use http::StatusCode;

use super::{
    error::{CallError, OAuthError, result},
    service::EmulatedService,
    store::{TokenRecord, TokenRecords, hash},
};
use crate::api::{
    ClientLimited, ClientType, ListedToken, RevocationAction, RevocationRequest,
    RevocationResponse, TokenListRequest, TokenListResponse, TokenRevokeRequest,
    TokenRevokeResponse,
};

impl EmulatedService {
    pub(super) fn revoke(
        &self,
        request: &TokenRevokeRequest,
    ) -> Result<TokenRevokeResponse, CallError> {
        let mut state = self.state();
        let store = &mut state.store;
        let one = if let Some(name) = &request.access_token_identifier {
            Some(by_access(store, name.expose()))
        } else {
            request.refresh_token_identifier.as_ref().map(|name| by_refresh(store, name.expose()))
        };
        if one.is_none() && request.client_identifier.is_none() && request.subject.is_none() {
            let message = "The request names no tokens.".into();
            return Err(CallError { status: StatusCode::BAD_REQUEST, code: "A312201", message });
        }
        let fits = |record: &TokenRecord| {
            one.as_ref().is_none_or(|one| one.is_some_and(|one| one.id == record.id))
                && self.belongs(record, &request.client_identifier, &request.subject)
        };
        let ids: Vec<_> = store.find(fits).iter().map(|record| record.id).collect();
        for id in &ids {
            store.remove(*id);
        }
        let (result_code, result_message) =
            result("A312001", &format!("Revoked {} access token(s).", ids.len()));
        let count = i64::try_from(ids.len()).ok();
        Ok(TokenRevokeResponse { result_code, result_message, count })
    }

    fn belongs(
        &self,
        record: &TokenRecord,
        client: &Option<String>,
        subject: &Option<String>,
    ) -> bool {
        let client_fits = client.as_ref().is_none_or(|name| {
            *name == record.client_id.to_string()
                || (record.client_id == self.client.id && self.client.is(name))
        });
        client_fits && (subject.is_none() || *subject == record.subject)
    }

    pub(super) fn delete(&self, name: &str) -> Result<(), CallError> {
        let mut state = self.state();
        let id = by_access(&state.store, name).map(|record| record.id);
        if id.and_then(|id| state.store.remove(id)).is_some() {
            return Ok(());
        }
        let message = "There is no such token.".into();
        Err(CallError { status: StatusCode::NOT_FOUND, code: "A151201", message })
    }

    pub(super) fn list(&self, request: &TokenListRequest) -> Result<TokenListResponse, CallError> {
        let (start, end) = (request.start.unwrap_or(0), request.end.unwrap_or(5));
        let (Ok(from), Ok(to)) = (usize::try_from(start), usize::try_from(end)) else {
            let message = "The range is negative.".into();
            return Err(CallError { status: StatusCode::BAD_REQUEST, code: "A152201", message });
        };
        let state = self.state();
        let belongs = |record: &TokenRecord| {
            self.belongs(record, &request.client_identifier, &request.subject)
        };
        let found = state.store.find(belongs);
        let listed = found.iter().skip(from).take(to.saturating_sub(from));
        let client = request.client_identifier.as_ref().filter(|name| self.client.is(name));
        Ok(TokenListResponse {
            start: Some(start),
            end: Some(end),
            total_count: i64::try_from(found.len()).ok(),
            client: client.map(|_| ClientLimited {
                client_id: Some(self.client.id),
                client_id_alias: Some(self.client.alias.clone()),
                client_id_alias_enabled: true,
                client_type: Some(ClientType::Confidential),
                ..ClientLimited::default()
            }),
            subject: request.subject.clone(),
            access_tokens: listed.map(|record| listed_token(record)).collect(),
        })
    }

    pub(super) fn revocation(&self, request: &RevocationRequest) -> RevocationResponse {
        match self.try_revocation(request) {
            Ok(()) => {
                let (result_code, result_message) = result("A113001", "The token is revoked.");
                let action = RevocationAction::Ok;
                RevocationResponse { result_code, result_message, action, response_content: None }
            }
            Err(error) => {
                let (result_code, result_message) = result(error.code, error.message);
                let action = match error.error {
                    "invalid_client" => RevocationAction::InvalidClient,
                    _ => RevocationAction::BadRequest,
                };
                let response_content = Some(error.content());
                RevocationResponse { result_code, result_message, action, response_content }
            }
        }
    }

    fn try_revocation(&self, request: &RevocationRequest) -> Result<(), OAuthError> {
        let form = self.authenticate(
            request.parameters.as_ref(),
            request.client_id.as_deref(),
            request.client_secret.as_ref(),
        )?;
        let Some(token) = form.get("token") else {
            return Err(OAuthError::new("invalid_request", "A113201", "`token` is missing."));
        };
        let mut state = self.state();
        let store = &state.store;
        let record = store.by_access(token).or_else(|| store.by_refresh(token));
        // A client may revoke its own tokens only, and does not learn of others (RFC 7009 §2.1).
        let id = record.filter(|record| record.client_id == self.client.id).map(|record| record.id);
        id.and_then(|id| state.store.remove(id));
        Ok(())
    }
}

/// By value or hash.
fn by_access<'s>(store: &'s TokenRecords, name: &str) -> Option<&'s TokenRecord> {
    store.by_access_hash(name).or_else(|| store.by_access(name))
}

fn by_refresh<'s>(store: &'s TokenRecords, name: &str) -> Option<&'s TokenRecord> {
    store.by_refresh_hash(name).or_else(|| store.by_refresh(name))
}

fn listed_token(record: &TokenRecord) -> ListedToken {
    ListedToken {
        access_token_hash: Some(hash(&record.access)),
        access_token_expires_at: Some(record.expires_at),
        refresh_token_hash: record.refresh.as_deref().map(hash),
        refresh_token_expires_at: record.refresh.is_some().then_some(record.refresh_expires_at),
        created_at: Some(record.created_at),
        last_refreshed_at: Some(record.last_refreshed_at),
        client_id: Some(record.client_id),
        subject: record.subject.clone(),
        grant_type: record.grant_type.clone(),
        scopes: record.scopes.clone(),
        properties: record.properties.clone(),
        refresh_token_scopes: match &record.refresh {
            Some(_) => record.refresh_scopes.clone(),
            None => Vec::new(),
        },
    }
}
