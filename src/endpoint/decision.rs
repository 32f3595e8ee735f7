//! What becomes of a token request that Authlete does not decide about.

use crate::api::{Property, TokenCreateRequest, TokenFailReason, TokenIssueRequest};

/// What becomes of a token request that needs a decision.
#[derive(Debug, Clone)]
pub struct Decision(pub(super) Kind);

#[derive(Debug, Clone)]
pub(super) enum Kind {
    Issue(TokenIssueRequest),
    Create(Box<TokenCreateRequest>),
    Refuse(TokenFailReason),
}

impl Decision {
    /// Tokens are issued to this user (`/auth/token/issue`).
    #[must_use]
    pub fn issue(subject: impl Into<String>) -> Self {
        Self::issue_with(subject, Vec::<Property>::new())
    }

    /// The same, with extra properties.
    #[must_use]
    pub fn issue_with(
        subject: impl Into<String>,
        properties: impl IntoIterator<Item = impl Into<Property>>,
    ) -> Self {
        Self(Kind::Issue(TokenIssueRequest::new().subject(subject).properties(properties)))
    }

    /// A token is made as said (`/auth/token/create`), which suits token exchange.
    #[must_use]
    pub fn create(request: TokenCreateRequest) -> Self {
        Self(Kind::Create(Box::new(request)))
    }

    /// The request is refused (`/auth/token/fail`).
    #[must_use]
    pub fn refuse(reason: TokenFailReason) -> Self {
        Self(Kind::Refuse(reason))
    }
}
