//! `/auth/introspection`: validates an access token.

use super::{AuthzDetails, Grant, GrantType, Pair, Property, Scope};

document! {
    /// Request of `/auth/introspection`.
    ///
    /// Authlete does not check what is unset. This crate's layer leaves scopes, subject, resources and
    /// authentication unset, and checks them itself on every request.
    ///
    /// ```
    /// use tower_authlete::api::IntrospectionRequest;
    ///
    /// let request = IntrospectionRequest::new().token("SlAV32hkKG").scopes(["read"]);
    /// ```
    request IntrospectionRequest {
        /// The access token. Required.
        token: secret,
        /// Scopes that the token must cover.
        scopes: some_texts,
        /// The subject that the token must belong to.
        subject: text,
        /// The client's certificate, as PEM, for tokens that are bound to one (RFC 8705).
        client_certificate: text,
        /// The value of the request's `DPoP` header (RFC 9449).
        dpop: secret,
        /// The request's method, which the DPoP proof must name.
        htm: text,
        /// The request's URI without query and fragment, which the DPoP proof must name.
        htu: hidden,
        /// Resources that the token must be for (RFC 8707).
        resources: some_texts,
        /// Authentication context classes, one of which the user's authentication must have met.
        acr_values: some_texts,
        /// How long ago (s) the user may have been authenticated.
        max_age: seconds,
        /// Deprecated by Authlete: components that a message signature must cover.
        required_components: some_texts,
        /// Deprecated by Authlete: the URL of the userinfo endpoint.
        uri: hidden,
        /// Deprecated by Authlete: the body of the request.
        message: hidden,
        /// Headers that a message signature covers (RFC 9421), and the signature's own.
        headers: some_list Pair,
        /// The request's URI with its query, for message signatures.
        target_uri: hidden,
        /// Whether the DPoP proof must hold the nonce that Authlete expects.
        dpop_nonce_required: flag,
        /// Whether the request has a body, which a message signature must then cover.
        request_body_contained: flag,
    }
}

action! {
    /// How a resource server responds after `/auth/introspection`.
    IntrospectionAction {
        /// The token is valid: process the request.
        Ok,
        /// The request is malformed: 400.
        BadRequest,
        /// The token is unknown or expired, or its proof of possession is missing or wrong: 401.
        Unauthorized,
        /// The token does not have the requested scopes, subject or resources: 403.
        Forbidden,
    }
}

document! {
    /// Response of `/auth/introspection`.
    response IntrospectionResponse {
        /// A code for logs. Authlete asks not to branch on it.
        result_code: text,
        /// A message for logs.
        result_message: text,
        /// How to respond.
        action: action IntrospectionAction,
        /// A value for `WWW-Authenticate`. Authlete sets it on success too; use it on failure only.
        response_content: text,
        /// The client that the token was issued to.
        client_id: number,
        /// The client's alias at the time of the token request.
        client_id_alias: text,
        /// Whether the client used the alias.
        client_id_alias_used: flag,
        /// When the token expires, in ms since the epoch.
        expires_at: millis,
        /// The user; none for the client credentials flow.
        subject: text,
        /// The token's scopes.
        scopes: texts,
        /// Whether the token exists.
        existent: flag,
        /// Whether it exists and has not expired.
        usable: flag,
        /// Whether it has the requested scopes.
        sufficient: flag,
        /// Whether its refresh token can still be used.
        refreshable: flag,
        /// Extra properties, hidden ones included.
        properties: list Property,
        /// SHA-256 thumbprint of the certificate that the token is bound to (RFC 8705 `x5t#S256`).
        certificate_thumbprint: text,
        /// Resources named in the authorization request (RFC 8707).
        resources: texts,
        /// Resources the token is for, which the token request may have narrowed: its audience.
        access_token_resources: texts,
        /// Rich authorization details (RFC 9396).
        authorization_details: value AuthzDetails,
        /// Attributes of the service.
        service_attributes: list Pair,
        /// Attributes of the client.
        client_attributes: list Pair,
        /// The token's scopes with their attributes.
        scope_details: list Scope,
        /// The grant's identifier (Grant Management for OAuth 2.0).
        grant_id: text,
        /// The grant.
        grant: value Grant,
        /// Whether the token is for an external attachment (OpenID Connect for Identity Assurance).
        for_external_attachment: flag,
        /// Claims that the user has agreed to share with the client.
        consented_claims: texts,
        /// The flow by which the token was issued.
        grant_type: value GrantType,
        /// The authentication context class that the user's authentication met.
        acr: text,
        /// When the user was authenticated, in **seconds** since the epoch.
        auth_time: instant,
        /// The client's entity ID (OpenID Federation).
        client_entity_id: text,
        /// Whether the client used the entity ID.
        client_entity_id_used: flag,
        /// Whether the token is for the issuance of verifiable credentials.
        for_credential_issuance: flag,
        /// `c_nonce` (OpenID for Verifiable Credential Issuance).
        cnonce: text,
        /// When `cnonce` expires, in ms since the epoch.
        cnonce_expires_at: millis,
        /// Credentials that the token can be used to obtain, as JSON.
        issuable_credentials: text,
        /// The nonce for DPoP proofs, to be sent on as `DPoP-Nonce` (RFC 9449 §8), on success too.
        dpop_nonce: text,
        /// Whether the resource server must sign its response (FAPI 2.0 Message Signing).
        response_signing_required: flag,
        /// Where the client's metadata document was found.
        metadata_document_location: text,
        /// Whether the client's metadata came from such a document.
        metadata_document_used: flag,
    }
}
