//! `/auth/token/update`: changes the expiry, scopes, properties, value or binding of an access token.

use super::{AuthzDetails, Property};

document! {
    /// Request of `/auth/token/update`.
    ///
    /// The token is identified by the first of `access_token`, `access_token_hash`, `refresh_token` and
    /// `refresh_token_hash` that is set, or else by `token_id`. With nothing else set, nothing changes, and
    /// the response has the token's facts. `OK` does not mean that the token has not expired.
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    /// use tower_authlete::api::TokenUpdateRequest;
    ///
    /// let request = TokenUpdateRequest::new()
    ///     .access_token("SlAV32hkKG")
    ///     .access_token_expires_at(SystemTime::now() + Duration::from_secs(600))
    ///     .properties([("plan", "gold")]);
    /// ```
    request TokenUpdateRequest {
        /// The access token.
        access_token: secret,
        /// When it shall expire, in ms since the epoch; unchanged if 0, negative or unset.
        access_token_expires_at: millis,
        /// Its scopes, in place of those it has; unchanged if unset, removed if empty. Scopes that
        /// are not supported are dropped in silence.
        scopes: some_texts,
        /// Its extra properties, in place of those it has; unchanged if unset, removed if empty.
        properties: some_list Property,
        /// If the set of scopes changes and no expiry is given: take the expiry from the scopes'
        /// `access_token.duration` attributes.
        access_token_expires_at_updated_on_scope_update: flag,
        /// The hash by which Authlete names the access token.
        access_token_hash: text,
        /// Whether to give the token a new value, which the answer holds.
        access_token_value_updated: flag,
        /// Whether the token shall never expire; `access_token_expires_at` is then ignored.
        access_token_persistent: flag,
        /// SHA-256 thumbprint of the certificate to bind the token to (RFC 8705).
        certificate_thumbprint: text,
        /// Thumbprint of the DPoP key to bind the token to (RFC 9449); its type becomes `DPoP`.
        dpop_key_thumbprint: text,
        /// Rich authorization details, in place of those it has; unchanged if unset.
        authorization_details: value AuthzDetails,
        /// Whether the token is for an external attachment.
        for_external_attachment: flag,
        /// When its refresh token shall expire, in ms since the epoch; unchanged if 0, negative or
        /// unset.
        refresh_token_expires_at: millis,
        /// The same as `access_token_expires_at_updated_on_scope_update`, for the refresh token.
        refresh_token_expires_at_updated_on_scope_update: flag,
        /// The token's identifier.
        token_id: text,
        /// The refresh token that names it.
        refresh_token: secret,
        /// The hash by which Authlete names the refresh token.
        refresh_token_hash: text,
    }
}

action! {
    /// The outcome of `/auth/token/update`.
    TokenUpdateAction {
        /// The token was updated.
        Ok,
        /// The request is invalid, for example since it identifies no token.
        BadRequest,
        /// The token does not belong to this service.
        Forbidden,
        /// There is no such token.
        NotFound,
    }
}

document! {
    /// Response of `/auth/token/update`. It has no subject and no client.
    response TokenUpdateResponse {
        /// A code for logs.
        result_code: text,
        /// A message for logs.
        result_message: text,
        /// The outcome.
        action: action TokenUpdateAction,
        /// The access token: the new value if it was changed.
        access_token: secret,
        /// When it expires, in ms since the epoch.
        access_token_expires_at: millis,
        /// Its extra properties.
        properties: list Property,
        /// Its scopes.
        scopes: texts,
        /// Its rich authorization details.
        authorization_details: value AuthzDetails,
        /// Its type: `Bearer` or `DPoP`.
        token_type: text,
        /// Whether it is for an external attachment.
        for_external_attachment: flag,
        /// Its identifier.
        token_id: text,
        /// When its refresh token expires, in ms since the epoch.
        refresh_token_expires_at: millis,
    }
}
