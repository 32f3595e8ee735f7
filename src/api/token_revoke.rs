//! `/auth/token/revoke`, `/auth/token/get/list`, and `/auth/revocation` (RFC 7009).

use super::{ClientType, GrantType, Property, TaggedValue};

document! {
    /// Request of `/auth/token/revoke`: by access token, by refresh token, or all of a client,
    /// of a subject, or of both.
    request TokenRevokeRequest {
        /// An access token or its hash.
        access_token_identifier: secret,
        /// A refresh token or its hash.
        refresh_token_identifier: secret,
        /// A client's ID or alias.
        client_identifier: text,
        /// A user.
        subject: text,
    }
}

document! {
    /// Response of `/auth/token/revoke`.
    response TokenRevokeResponse {
        /// A code for logs.
        result_code: text,
        /// A message for logs.
        result_message: text,
        /// How many tokens were revoked.
        count: number,
    }
}

document! {
    /// Request of `/auth/revocation`: a client's revocation request (RFC 7009).
    request RevocationRequest {
        /// The form of the revocation request, unchanged. Required.
        parameters: secret,
        /// The client ID of its Basic credentials.
        client_id: text,
        /// The client secret of its Basic credentials.
        client_secret: secret,
        /// The client's certificate, as PEM.
        client_certificate: text,
        /// The certificate path, each certificate as PEM.
        client_certificate_path: texts,
        /// The `OAuth-Client-Attestation` header.
        oauth_client_attestation: secret,
        /// The `OAuth-Client-Attestation-PoP` header.
        oauth_client_attestation_pop: secret,
    }
}

action! {
    /// How a revocation endpoint responds after `/auth/revocation`.
    RevocationAction {
        /// The token is revoked, or there was none: 200.
        Ok,
        /// The client could not be authenticated: 401 or 400 with `responseContent`.
        InvalidClient,
        /// The request is invalid: 400 with `responseContent`.
        BadRequest,
    }
}

document! {
    /// Response of `/auth/revocation`.
    response RevocationResponse {
        /// A code for logs.
        result_code: text,
        /// A message for logs.
        result_message: text,
        /// How to respond.
        action: action RevocationAction,
        /// The body of the response to the client.
        response_content: text,
    }
}

document! {
    /// Query of `/auth/token/get/list`.
    request TokenListRequest {
        /// Only tokens of this client (its ID or alias).
        client_identifier: text,
        /// Only tokens of this user.
        subject: text,
        /// The first entry, counted from 0, which is also the default.
        start: number,
        /// The entry after the last; 5 if unset.
        end: number,
    }
}

document! {
    /// Response of `/auth/token/get/list`.
    response TokenListResponse {
        /// The first entry.
        start: number,
        /// The entry after the last.
        end: number,
        /// How many there are in all.
        total_count: number,
        /// The client that was asked for.
        client: value ClientLimited,
        /// The user that was asked for.
        subject: text,
        /// The tokens.
        access_tokens: list ListedToken,
    }
}

document! {
    /// The client of a token list.
    response ClientLimited {
        /// A number that Authlete gave it.
        number: number,
        /// Its name.
        client_name: text,
        /// Its name in other languages.
        client_names: list TaggedValue,
        /// Its description.
        description: text,
        /// Its description in other languages.
        descriptions: list TaggedValue,
        /// Its ID.
        client_id: number,
        /// Its alias.
        client_id_alias: text,
        /// Deprecated by Authlete: always true.
        client_id_alias_enabled: flag,
        /// Whether it can keep a secret.
        client_type: value ClientType,
    }
}

document! {
    /// A token in a list (Authlete's `AccessToken`), identified by hashes.
    response ListedToken {
        /// The hash by which Authlete names the access token.
        access_token_hash: text,
        /// When it expires, in ms since the epoch.
        access_token_expires_at: millis,
        /// The hash by which Authlete names the refresh token.
        refresh_token_hash: text,
        /// When that expires, in ms since the epoch.
        refresh_token_expires_at: millis,
        /// When the token was made, in ms since the epoch.
        created_at: millis,
        /// When it was last refreshed, in ms since the epoch.
        last_refreshed_at: millis,
        /// The client.
        client_id: number,
        /// The user.
        subject: text,
        /// The flow.
        grant_type: value GrantType,
        /// The token's scopes.
        scopes: texts,
        /// Its extra properties.
        properties: list Property,
        /// Scopes of the refresh token.
        refresh_token_scopes: texts,
    }
}
