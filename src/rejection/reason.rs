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
    /// Authlete could not be asked: 503. It is no statement about the token.
    Unavailable,
    /// This server is misconfigured: 500. It is no statement about the token.
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
            Self::InsufficientScope => StatusCode::FORBIDDEN,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Misconfigured => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The value of the counters' label.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NoCredentials => "no_credentials",
            Self::Unavailable => "unavailable",
            Self::Misconfigured => "misconfigured",
            reason => reason.error().unwrap_or_default(),
        }
    }

    /// The status code of gRPC.
    pub(crate) fn grpc_status(self) -> u8 {
        match self {
            Self::InvalidRequest => 3,
            Self::InsufficientScope => 7,
            Self::Misconfigured => 13,
            Self::Unavailable => 14,
            Self::NoCredentials
            | Self::InvalidToken
            | Self::InvalidDpopProof
            | Self::UseDpopNonce
            | Self::InsufficientUserAuthentication => 16,
        }
    }

    /// The code of the challenge's `error` (RFC 6750 §3.1, RFC 9449 §7.1, RFC 9470 §3).
    #[must_use]
    pub fn error(self) -> Option<&'static str> {
        match self {
            Self::InvalidRequest => Some("invalid_request"),
            Self::InvalidToken => Some("invalid_token"),
            Self::InvalidDpopProof => Some("invalid_dpop_proof"),
            Self::UseDpopNonce => Some("use_dpop_nonce"),
            Self::InsufficientScope => Some("insufficient_scope"),
            Self::InsufficientUserAuthentication => Some("insufficient_user_authentication"),
            Self::NoCredentials | Self::Unavailable | Self::Misconfigured => None,
        }
    }
}
