//! The reasons of refusals, with their status and error codes.

use http::StatusCode;

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// No credentials of a scheme that is accepted here: 401, and a challenge without an error code
    /// (RFC 6750 §3.1).
    NoCredentials,
    /// The credentials are malformed: 400 `invalid_request` (RFC 6750 §3.1).
    InvalidRequest,
    /// The token is unknown, expired, revoked or not for this server: 401 `invalid_token`.
    InvalidToken,
    /// The token is valid but does not grant this: 403 `insufficient_scope`.
    InsufficientScope,
    /// The user's authentication is too weak or too long ago: 401
    /// `insufficient_user_authentication` (RFC 9470).
    InsufficientUserAuthentication,
    /// The DPoP proof is missing, malformed, for another request or replayed: 401
    /// `invalid_dpop_proof` (RFC 9449 §7.1). It is no statement about the token.
    InvalidDpopProof,
    /// The DPoP proof has to have the nonce of the response's `DPoP-Nonce`: 401 `use_dpop_nonce` (RFC 9449
    /// §9). It is no statement about the token.
    UseDpopNonce,
    /// A handler refuses this to everybody with such a token, whatever its scopes: 403 `access_denied`,
    /// without a challenge, since no other token of the user would do.
    Forbidden,
    /// Authlete could not be asked: 503 `temporarily_unavailable`. It is no statement about the token.
    Unavailable,
    /// This server is misconfigured: 500 `server_error`. It is no statement about the token.
    Misconfigured,
}

impl Reason {
    /// The status of the response.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::NoCredentials
            | Self::InvalidToken
            | Self::InvalidDpopProof
            | Self::UseDpopNonce
            | Self::InsufficientUserAuthentication => StatusCode::UNAUTHORIZED,
            Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::InsufficientScope | Self::Forbidden => StatusCode::FORBIDDEN,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Misconfigured => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// A name for logs and metrics: the label `reason` of the crate's own counters. Unlike
    /// [`error`](Self::error), every reason has one.
    ///
    /// ```
    /// use tower_authlete::Reason;
    ///
    /// assert_eq!(Reason::InvalidToken.as_str(), "invalid_token");
    /// assert_eq!(Reason::NoCredentials.as_str(), "no_credentials");
    /// ```
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoCredentials => "no_credentials",
            Self::InvalidRequest => "invalid_request",
            Self::InvalidToken => "invalid_token",
            Self::InsufficientScope => "insufficient_scope",
            Self::InsufficientUserAuthentication => "insufficient_user_authentication",
            Self::InvalidDpopProof => "invalid_dpop_proof",
            Self::UseDpopNonce => "use_dpop_nonce",
            Self::Forbidden => "forbidden",
            Self::Unavailable => "unavailable",
            Self::Misconfigured => "misconfigured",
        }
    }

    /// The status code of gRPC.
    pub(crate) fn grpc_status(self) -> u8 {
        match self {
            Self::InvalidRequest => 3,
            Self::InsufficientScope | Self::Forbidden => 7,
            Self::Misconfigured => 13,
            Self::Unavailable => 14,
            Self::NoCredentials
            | Self::InvalidToken
            | Self::InvalidDpopProof
            | Self::UseDpopNonce
            | Self::InsufficientUserAuthentication => 16,
        }
    }

    /// The `error` of the response: in the challenge (RFC 6750 §3.1, RFC 9449 §7.1, RFC 9470 §3), and in
    /// [`ProblemDetails`](crate::ProblemDetails). Where there is no challenge (403 of a handler, 500, 503),
    /// it is a code of RFC 6749 §4.1.2.1. `None` for [`NoCredentials`](Self::NoCredentials) (RFC 6750
    /// §3.1).
    #[must_use]
    pub fn error(self) -> Option<&'static str> {
        match self {
            Self::NoCredentials => None,
            Self::Forbidden => Some("access_denied"),
            Self::Unavailable => Some("temporarily_unavailable"),
            Self::Misconfigured => Some("server_error"),
            reason => Some(reason.as_str()),
        }
    }

    /// Whether the token is valid, and only what it allows, or the user's authentication, does not suffice.
    pub(crate) fn is_of_rights(self) -> bool {
        let authentication = Self::InsufficientUserAuthentication;
        matches!(self, Self::InsufficientScope | Self::Forbidden) || self == authentication
    }

    /// Whether the response has a challenge: another token, proof or authentication can do.
    pub(crate) fn has_challenge(self) -> bool {
        !matches!(self, Self::Forbidden | Self::Unavailable | Self::Misconfigured)
    }
}
