//! The access token that a request presents.

use super::settings::Options;
use crate::{
    credentials::{self, AccessToken, RequestHead, Scheme},
    observe::counters,
    rejection::{Challenges, Rejection},
};

/// The access token of a request, which may be one of the service's and comes by a scheme that is
/// accepted; `None` if there is none. A refusal comes with the scheme that was used.
#[inline]
pub(super) fn extract<'r>(
    options: &Options,
    head: RequestHead<'r>,
) -> Result<Option<AccessToken<'r>>, (Scheme, Rejection)> {
    let found = credentials::find(&options.sources, head, options.max_token_length);
    let token = match found.map_err(|rejection| (Scheme::Bearer, rejection))? {
        Some(token) => token,
        None => return Ok(None),
    };
    if !accepts(&options.challenges, token.scheme) {
        return Err((token.scheme, Rejection::no_credentials()));
    }
    if options.precheck.as_ref().is_some_and(|precheck| !precheck.has_shape(token.value)) {
        counters::prechecked("shape");
        return Err((token.scheme, Rejection::foreign_token()));
    }
    Ok(Some(token))
}

/// Whether tokens may be presented by this scheme.
fn accepts(challenges: &Challenges, scheme: Scheme) -> bool {
    match scheme {
        Scheme::Bearer => !challenges.only_dpop,
        Scheme::Dpop => challenges.algorithms.is_some(),
    }
}
