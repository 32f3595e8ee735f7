//! The access token that a request presents.

use super::settings::Options;
use crate::{
    credentials::{self, AccessToken, RequestHead, Scheme},
    observe::counters,
    rejection::{Challenges, Rejection},
};

/// The access token of a request, which may be one of the service's and comes by a scheme that is
/// accepted; `None` if there is none. The scheme that was used is noted for a refusal, too.
#[inline]
pub(super) fn extract<'r>(
    options: &Options,
    head: RequestHead<'r>,
    scheme: &mut Scheme,
) -> Result<Option<AccessToken<'r>>, Rejection> {
    let found = credentials::find(&options.sources, head, options.max_token_length)?;
    let Some(token) = found else { return Ok(None) };
    *scheme = token.scheme;
    if !accepts(&options.challenges, token.scheme) {
        return Err(Rejection::no_credentials());
    }
    if options.precheck.as_ref().is_some_and(|precheck| !precheck.has_shape(token.text())) {
        counters::prechecked("shape");
        return Err(Rejection::foreign_token());
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
