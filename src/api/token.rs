//! `/auth/token`: processes a client's token request.

use super::{AuthzDetails, GrantType, Pair, Property, Scope, TokenType};

document! {
    /// Request of `/auth/token`: a client's token request.
    request TokenRequest {
        /// The form of the token request, unchanged. Required.
        parameters: secret,
        /// The client ID of its Basic credentials.
        client_id: text,
        /// The client secret of its Basic credentials.
        client_secret: secret,
        /// The client's certificate, as PEM.
        client_certificate: text,
        /// The certificate path, each certificate as PEM.
        client_certificate_path: texts,
        /// Extra properties for the token, as the text of a JSON array.
        properties: hidden,
        /// The `DPoP` header.
        dpop: secret,
        /// The method, which the proof must name; `POST` if unset.
        htm: text,
        /// The token endpoint's URL, which the proof must name; the service's setting if unset.
        htu: hidden,
        /// A value for the new access token.
        access_token: secret,
        /// More claims for a JWT access token, as the text of a JSON object.
        jwt_at_claims: hidden,
        /// The `OAuth-Client-Attestation` header.
        oauth_client_attestation: secret,
        /// The `OAuth-Client-Attestation-PoP` header.
        oauth_client_attestation_pop: secret,
        /// The access token's life (s); the service's setting if unset.
        access_token_duration: seconds,
        /// The refresh token's life (s); the service's setting if unset.
        refresh_token_duration: seconds,
        /// Whether the DPoP proof must hold a nonce.
        dpop_nonce_required: flag,
        /// How client metadata documents are treated.
        cimd_options: value CimdOptions,
    }
}

document! {
    /// How client metadata documents (OAuth Client ID Metadata Document) are treated in one call.
    request CimdOptions {
        /// Fetch the document even if a cached one is still valid.
        always_retrieved: flag,
        /// Allow `http` client IDs.
        http_permitted: flag,
        /// Allow client IDs with a query.
        query_permitted: flag,
    }
}

action! {
    /// How a token endpoint responds after `/auth/token`.
    TokenAction {
        /// A token was issued: 200 with `responseContent`.
        Ok,
        /// The client could not be authenticated: 401 or 400 with `responseContent`.
        InvalidClient,
        /// The request is invalid: 400 with `responseContent`.
        BadRequest,
        /// Check the user's password, then call `/auth/token/issue` or `/auth/token/fail`.
        Password,
        /// Decide about a token exchange (RFC 8693).
        TokenExchange,
        /// Decide about a JWT bearer grant (RFC 7523).
        JwtBearer,
        /// Decide about a native SSO request.
        NativeSso,
        /// A token was issued and an ID token can be.
        IdTokenReissuable,
    }
}

document! {
    /// Response of `/auth/token`.
    response TokenResponse {
        /// A code for logs.
        result_code: text,
        /// A message for logs.
        result_message: text,
        /// How to respond.
        action: action TokenAction,
        /// The body of the response to the client. It contains the tokens.
        response_content: secret,
        /// `username` of the password flow.
        username: text,
        /// `password` of the password flow.
        password: secret,
        /// The ticket for `/auth/token/issue` and `/auth/token/fail`.
        ticket: secret,
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
        /// The new ID token.
        id_token: secret,
        /// The flow.
        grant_type: value GrantType,
        /// The client.
        client_id: number,
        /// The client's alias.
        client_id_alias: text,
        /// Whether the client used the alias.
        client_id_alias_used: flag,
        /// The user; none for the client credentials flow.
        subject: text,
        /// The token's scopes.
        scopes: texts,
        /// Extra properties of the token.
        properties: list Property,
        /// The access token as a JWT, if the service issues those.
        jwt_access_token: secret,
        /// Resources named in the request.
        resources: texts,
        /// Resources the token is for.
        access_token_resources: texts,
        /// Rich authorization details.
        authorization_details: value AuthzDetails,
        /// More claims for an ID token, as the text of a JSON object.
        additional_claims: text,
        /// Attributes of the service.
        service_attributes: list Pair,
        /// Attributes of the client.
        client_attributes: list Pair,
        /// How the client was authenticated.
        client_auth_method: text,
        /// The grant's identifier.
        grant_id: text,
        /// `audience` parameters of a token exchange.
        audiences: texts,
        /// `requested_token_type` of a token exchange.
        requested_token_type: value TokenType,
        /// `subject_token` of a token exchange.
        subject_token: secret,
        /// Its type.
        subject_token_type: value TokenType,
        /// The facts about it.
        subject_token_info: value ExchangedTokenInfo,
        /// `actor_token` of a token exchange.
        actor_token: secret,
        /// Its type.
        actor_token_type: value TokenType,
        /// The facts about it.
        actor_token_info: value ExchangedTokenInfo,
        /// `assertion` of a JWT bearer grant.
        assertion: secret,
        /// Whether the previous refresh token was used, within its grace period.
        previous_refresh_token_used: flag,
        /// The client's entity ID.
        client_entity_id: text,
        /// Whether the client used the entity ID.
        client_entity_id_used: flag,
        /// The life of `cnonce` (s).
        cnonce_duration: seconds,
        /// The nonce for DPoP proofs, to be sent on as `DPoP-Nonce`.
        dpop_nonce: text,
        /// `c_nonce`.
        cnonce: text,
        /// When `cnonce` expires, in ms since the epoch.
        cnonce_expires_at: millis,
        /// Claims that were asked for in ID tokens.
        requested_id_token_claims: texts,
        /// Scopes of the refresh token.
        refresh_token_scopes: texts,
        /// The user's authentication session.
        session_id: hidden,
        /// The device secret of native SSO.
        device_secret: secret,
        /// Its hash.
        device_secret_hash: text,
        /// Where the client's metadata document was found.
        metadata_document_location: text,
        /// Whether the client's metadata came from such a document.
        metadata_document_used: flag,
    }
}

document! {
    /// The facts about the subject token or actor token of a token exchange (Authlete's `TokenInfo`).
    response ExchangedTokenInfo {
        /// The client.
        client_id: number,
        /// The client's alias.
        client_id_alias: text,
        /// Whether the client used the alias.
        client_id_alias_used: flag,
        /// The user.
        subject: text,
        /// The token's scopes.
        scopes: list Scope,
        /// When the token expires, in ms since the epoch.
        expires_at: millis,
        /// Extra properties.
        properties: list Property,
        /// Resources the token is for.
        resources: texts,
        /// Rich authorization details.
        authorization_details: value AuthzDetails,
        /// The client's entity ID.
        client_entity_id: text,
        /// Whether the client used the entity ID.
        client_entity_id_used: flag,
        /// Where the client's metadata document was found.
        metadata_document_location: text,
        /// Whether the client's metadata came from such a document.
        metadata_document_used: flag,
    }
}
