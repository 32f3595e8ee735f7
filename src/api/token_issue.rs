//! `/auth/token/issue` and `/auth/token/fail`: complete a token request that Authlete left to the authorization
//! server.

use serde::{Deserialize, Serialize};

use super::{AuthzDetails, Pair, Property};

document! {
    /// Request of `/auth/token/issue`.
    request TokenIssueRequest {
        /// The ticket of `/auth/token`. Required.
        ticket: secret,
        /// The user. Required.
        subject: text,
        /// Extra properties for the token.
        properties: list Property,
        /// More claims for a JWT access token, as the text of a JSON object.
        jwt_at_claims: hidden,
        /// A value for the new access token.
        access_token: secret,
        /// The access token's life (s); the service's setting if unset.
        access_token_duration: seconds,
        /// The refresh token's life (s); the service's setting if unset.
        refresh_token_duration: seconds,
    }
}

action! {
    /// How a token endpoint responds after `/auth/token/issue`.
    TokenIssueAction {
        /// A token was issued: 200 with `responseContent`.
        Ok,
    }
}

document! {
    /// Response of `/auth/token/issue`.
    response TokenIssueResponse {
        /// A code for logs.
        result_code: text,
        /// A message for logs.
        result_message: text,
        /// How to respond.
        action: action TokenIssueAction,
        /// The body of the response to the client. It contains the tokens.
        response_content: secret,
        /// The new access token.
        access_token: secret,
        /// When it expires, in ms since the epoch.
        access_token_expires_at: millis,
        /// Its life (s).
        access_token_duration: seconds,
        /// The new refresh token.
        refresh_token: secret,
        /// When it expires, in ms since the epoch.
        refresh_token_expires_at: millis,
        /// Its life (s).
        refresh_token_duration: seconds,
        /// The client.
        client_id: number,
        /// The client's alias.
        client_id_alias: text,
        /// Whether the client used the alias.
        client_id_alias_used: flag,
        /// The user.
        subject: text,
        /// The token's scopes.
        scopes: texts,
        /// Extra properties of the token.
        properties: list Property,
        /// The access token as a JWT, if the service issues those.
        jwt_access_token: secret,
        /// Resources the token is for.
        access_token_resources: texts,
        /// Rich authorization details.
        authorization_details: value AuthzDetails,
        /// Attributes of the service.
        service_attributes: list Pair,
        /// Attributes of the client.
        client_attributes: list Pair,
        /// The client's entity ID.
        client_entity_id: text,
        /// Whether the client used the entity ID.
        client_entity_id_used: flag,
        /// Scopes of the refresh token.
        refresh_token_scopes: texts,
        /// Where the client's metadata document was found.
        metadata_document_location: text,
        /// Whether the client's metadata came from such a document.
        metadata_document_used: flag,
    }
}

/// Why a token request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum TokenFailReason {
    /// No reason is given.
    #[default]
    Unknown,
    /// The user's name or password is wrong.
    InvalidResourceOwnerCredentials,
    /// The resource or audience is not acceptable.
    InvalidTarget,
}

document! {
    /// Request of `/auth/token/fail`.
    request TokenFailRequest {
        /// The ticket of `/auth/token`. Required.
        ticket: secret,
        /// The reason. Required.
        reason: value TokenFailReason,
    }
}

action! {
    /// How a token endpoint responds after `/auth/token/fail`.
    TokenFailAction {
        /// 400 with `responseContent`.
        BadRequest,
    }
}

document! {
    /// Response of `/auth/token/fail`.
    response TokenFailResponse {
        /// A code for logs.
        result_code: text,
        /// A message for logs.
        result_message: text,
        /// How to respond.
        action: action TokenFailAction,
        /// The body of the response to the client.
        response_content: text,
    }
}
