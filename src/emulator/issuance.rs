//! `/auth/token/issue` and `/auth/token/fail`: decisions about token requests.

use super::{
    error::{OAuthError, result},
    service::{EmulatedService, positive},
    store::{TokenRecord, random},
};
use crate::api::{
    Secret, TokenFailAction, TokenFailReason, TokenFailRequest, TokenFailResponse,
    TokenIssueAction, TokenIssueRequest, TokenIssueResponse,
};

impl EmulatedService {
    pub(super) fn issue(&self, request: &TokenIssueRequest) -> TokenIssueResponse {
        let ticket = request.ticket.as_ref().map_or("", Secret::expose);
        // A ticket is single-use.
        let ticket = self.state().tickets.remove(ticket);
        let (Some(ticket), Some(subject)) = (ticket, request.subject.clone()) else {
            let (result_code, result_message) = result("A054201", "No such ticket, or no subject.");
            return TokenIssueResponse { result_code, result_message, ..Default::default() };
        };
        let chosen = request.access_token.as_ref();
        let duration = positive(request.access_token_duration).or(ticket.access_token_duration);
        let refresh_duration =
            positive(request.refresh_token_duration).or(ticket.refresh_token_duration);
        let record = TokenRecord {
            access: chosen.map_or_else(random, |value| value.expose().to_owned()),
            expires_at: self.expiry(duration, self.access_token_duration),
            refresh: Some(random()),
            refresh_expires_at: self.expiry(refresh_duration, self.refresh_token_duration),
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
        let Some(issued) = self.state().store.insert(record) else {
            let (result_code, result_message) = result("A054202", "The token's value is taken.");
            return TokenIssueResponse { result_code, result_message, ..Default::default() };
        };
        self.issued_by_ticket(issued)
    }

    fn issued_by_ticket(&self, record: TokenRecord) -> TokenIssueResponse {
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
}
