//! Decisions about token requests that Authlete leaves to the authorization server.

use crate::api::{Property, TokenCreateRequest, TokenFailReason, TokenIssueRequest};

/// The decision about a token request that Authlete leaves to this server, as
/// [`TokenEndpointBuilder::decide`](super::TokenEndpointBuilder::decide) returns it.
#[derive(Debug, Clone)]
pub struct Decision(pub(super) DecidedCall);

/// The call to Authlete that carries the decision out.
#[derive(Debug, Clone)]
pub(super) enum DecidedCall {
    Issue(TokenIssueRequest),
    Create(Box<TokenCreateRequest>),
    Fail(TokenFailReason),
}

impl Decision {
    /// Issues tokens to this user (`/auth/token/issue`).
    #[must_use]
    pub fn issue(subject: impl Into<String>) -> Self {
        Self::issue_with(subject, Vec::<Property>::new())
    }

    /// Issues tokens to this user, with extra properties of the access token.
    #[must_use]
    pub fn issue_with(
        subject: impl Into<String>,
        properties: impl IntoIterator<Item = impl Into<Property>>,
    ) -> Self {
        let request = TokenIssueRequest::new().subject(subject).properties(properties);
        Self(DecidedCall::Issue(request))
    }

    /// Creates an access token with these parameters (`/auth/token/create`), for example in a token
    /// exchange (RFC 8693), in which the new token can differ from what was requested.
    #[must_use]
    pub fn create(request: TokenCreateRequest) -> Self {
        Self(DecidedCall::Create(Box::new(request)))
    }

    /// Refuses the token request (`/auth/token/fail`).
    #[must_use]
    pub fn refuse(reason: TokenFailReason) -> Self {
        Self(DecidedCall::Fail(reason))
    }
}
