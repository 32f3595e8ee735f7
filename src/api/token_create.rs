//! `/auth/token/create`: creates an access token without a client's request.

use super::{AuthzDetails, GrantType, Property};

document! {
    /// Request of `/auth/token/create`.
    ///
    /// ```
    /// use tower_authlete::api::{GrantType, TokenCreateRequest};
    ///
    /// let request = TokenCreateRequest::new()
    ///     .grant_type(GrantType::ClientCredentials)
    ///     .client_id(26_888_344_961_664)
    ///     .scopes(["history.read"]);
    /// ```
    request TokenCreateRequest {
        /// The flow to imitate. Required.
        grant_type: value GrantType,
        /// The client; this or `client_identifier` is required.
        client_id: number,
        /// The user. Required except for the client credentials flow.
        subject: text,
        /// The token's scopes. Scopes that the service does not support are an error.
        scopes: texts,
        /// The access token's life (s); the service's setting if unset.
        access_token_duration: seconds,
        /// The refresh token's life (s); the service's setting if unset.
        refresh_token_duration: seconds,
        /// Extra properties for the token.
        properties: list Property,
        /// Whether to act as if the client had used its alias.
        client_id_alias_used: flag,
        /// A value for the access token, for tokens of another system.
        access_token: secret,
        /// A value for the refresh token.
        refresh_token: secret,
        /// Whether the token never expires.
        access_token_persistent: flag,
        /// SHA-256 thumbprint of the certificate to bind the token to (RFC 8705).
        certificate_thumbprint: text,
        /// Thumbprint of the DPoP key to bind the token to (RFC 9449); its type becomes `DPoP`.
        dpop_key_thumbprint: text,
        /// Rich authorization details.
        authorization_details: value AuthzDetails,
        /// Resources the token is for (RFC 8707).
        resources: texts,
        /// Whether the token is for an external attachment.
        for_external_attachment: flag,
        /// More claims for a JWT access token, as the text of a JSON object.
        jwt_at_claims: hidden,
        /// The authentication context class that the user's authentication met.
        acr: text,
        /// When the user was authenticated, in **seconds** since the epoch.
        auth_time: instant,
        /// Whether to act as if the client had used its entity ID.
        client_entity_id_used: flag,
        /// The client's ID, alias or entity ID.
        client_identifier: text,
        /// The user's authentication session.
        session_id: hidden,
        /// Whether to act as if the client's metadata came from a metadata document.
        metadata_document_used: flag,
    }
}

action! {
    /// The outcome of `/auth/token/create`.
    TokenCreateAction {
        /// The token was created.
        Ok,
        /// The request is invalid.
        BadRequest,
        /// The request is not allowed.
        Forbidden,
    }
}

document! {
    /// Response of `/auth/token/create`.
    response TokenCreateResponse {
        /// A code for logs.
        result_code: text,
        /// A message for logs.
        result_message: text,
        /// The outcome.
        action: action TokenCreateAction,
        /// The new access token.
        access_token: secret,
        /// The client.
        client_id: number,
        /// When the token expires, in ms since the epoch.
        expires_at: millis,
        /// Its life (s).
        expires_in: seconds,
        /// The flow.
        grant_type: value GrantType,
        /// Extra properties of the token.
        properties: list Property,
        /// The new refresh token.
        refresh_token: secret,
        /// The token's scopes.
        scopes: texts,
        /// The user.
        subject: text,
        /// The token's type: `Bearer` or `DPoP`.
        token_type: text,
        /// The access token as a JWT, if the service issues those.
        jwt_access_token: secret,
        /// Rich authorization details.
        authorization_details: value AuthzDetails,
        /// Whether the token is for an external attachment.
        for_external_attachment: flag,
        /// The token's identifier.
        token_id: text,
        /// Scopes of the refresh token.
        refresh_token_scopes: texts,
        /// The client's ID, alias or entity ID.
        client_identifier: text,
        /// The user's authentication session.
        session_id: hidden,
    }
}
