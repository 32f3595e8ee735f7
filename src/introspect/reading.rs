//! What an answer of Authlete says about a token.

use std::time::SystemTime;

use crate::{
    api::{
        Error, IntrospectionAction, IntrospectionResponse, TokenUpdateAction, TokenUpdateResponse,
    },
    observe::{LogLimit, limited},
    rejection::Rejection,
    token::TokenInfo,
    verdict::{self, RETRY_AFTER, Verdict},
};

/// What `/auth/introspection` says.
pub(crate) fn of_introspection(response: &IntrospectionResponse, log: &LogLimit) -> Verdict {
    let rejection = match response.action {
        IntrospectionAction::Ok => return Ok(TokenInfo::from(response)),
        IntrospectionAction::BadRequest => Rejection::invalid_request("the request is malformed"),
        IntrospectionAction::Unauthorized => {
            Rejection::invalid_token("the access token is unknown, expired or revoked")
        }
        IntrospectionAction::Forbidden => {
            Rejection::denied("the access token does not allow this", None)
        }
        action => {
            let code = response.result_code.as_deref();
            return Err(no_verdict(log, "/auth/introspection", &format!("{action:?}"), code));
        }
    };
    let rejection = rejection.with_authlete_challenge(response.response_content.as_deref());
    Err(rejection.of_its_challenge())
}

/// What `/auth/token/update` says, when nothing was to be changed.
pub(crate) fn of_update(
    response: &TokenUpdateResponse,
    now: SystemTime,
    log: &LogLimit,
) -> Verdict {
    let code = response.result_code.as_deref();
    match response.action {
        TokenUpdateAction::Ok => {}
        _ if is_gone(response) => {
            return Err(verdict::not_found());
        }
        action => return Err(no_verdict(log, "/auth/token/update", &format!("{action:?}"), code)),
    }
    let token = TokenInfo::from(response);
    match token.token_type() {
        Some(kind) if kind.eq_ignore_ascii_case("Bearer") => {}
        Some(_) => {
            let description = "the access token cannot be used as a bearer token";
            return Err(Rejection::invalid_token(description));
        }
        None => return Err(no_verdict(log, "/auth/token/update", "OK without a token type", code)),
    }
    // Unlike introspection, this API does not look at the expiry.
    if token.expires_at().is_some_and(|at| at <= now) {
        return Err(Rejection::invalid_token("the access token has expired"));
    }
    Ok(token)
}

/// Whether an update says that there is no such token.
pub(crate) fn is_gone(response: &TokenUpdateResponse) -> bool {
    matches!(response.action, TokenUpdateAction::NotFound | TokenUpdateAction::Forbidden)
}

/// Authlete answered, but the answer says nothing of the token.
fn no_verdict(log: &LogLimit, api: &str, action: &str, code: Option<&str>) -> Rejection {
    limited!(error, log, api, action, code, "Authlete gave no verdict on an access token");
    verdict::unknown()
}

/// What a call that failed says of the token: nothing.
pub(crate) fn of_failure(error: &Error, log: &LogLimit) -> Rejection {
    // As an error with its causes, so that logs tell what failed.
    let cause = error as &dyn std::error::Error;
    if error.is_our_fault() {
        limited!(
            error,
            log,
            error = cause,
            "Authlete refuses our calls; check this server's AUTHLETE_* settings"
        );
        return verdict::at_fault();
    }
    limited!(warn, log, error = cause, "an access token could not be checked");
    Rejection::unavailable(error.retry_after().unwrap_or(RETRY_AFTER))
}
