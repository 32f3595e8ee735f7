//! What is found out about a token.

use std::time::Duration;

use crate::{
    observe::{LogLimit, counters, limited},
    rejection::Rejection,
    token::TokenInfo,
};

/// When a client may try again, if Authlete does not say.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The facts of a good token, or why a request with it is refused.
pub(crate) type Verdict = Result<TokenInfo, Rejection>;

/// Whether it says something about the token.
pub(crate) fn is_one(verdict: &Verdict) -> bool {
    verdict.as_ref().map_or_else(Rejection::is_verdict, |_| true)
}

/// There is no such token.
pub(crate) fn not_found() -> Rejection {
    Rejection::invalid_token("the access token does not exist")
}

/// Nothing is known of the token.
pub(crate) fn unknown() -> Rejection {
    Rejection::unavailable(RETRY_AFTER)
}

/// Nothing is known of the token, since something of ours is wrong.
pub(crate) fn at_fault() -> Rejection {
    Rejection::misconfigured("access tokens cannot be checked here")
}

/// There was no room or no time for a check, which says nothing of Authlete.
pub(crate) fn overloaded(log: &LogLimit) -> Rejection {
    limited!(warn, log, "too many access tokens are being checked");
    counters::full("calls");
    Rejection::overloaded(RETRY_AFTER)
}
