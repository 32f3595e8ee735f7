//! What the rest of the crate asks of Authlete about a token.

use std::{pin::Pin, time::Duration};

use super::presented::Presented;
use crate::{
    api::{Error, Secret, TokenUpdateRequest, TokenUpdateResponse},
    resilience::Availability,
    verdict::Verdict,
};

/// What Authlete says.
pub(crate) type Reply<'r, T> = Pin<Box<dyn Future<Output = T> + Send + 'r>>;

/// Calls about one token, for the tasks that share their outcomes. [`Introspector`](super::Introspector) makes
/// them; the model has an Authlete of its own.
pub(crate) trait Remote: Send + Sync {
    /// The verdict on a token. `known_good`: whether facts of it are cached for this binding,
    /// which is told of tokens that come with a proof.
    fn introspect<'r>(&'r self, presented: &'r Presented, known_good: bool) -> Reply<'r, Verdict>;

    /// Calls `/auth/token/update`.
    fn update<'r>(
        &'r self,
        request: &'r TokenUpdateRequest,
        attempts: Attempts<'r>,
    ) -> Reply<'r, Result<TokenUpdateResponse, Error>>;

    /// Revokes a value of a token. Tells how many tokens Authlete revoked.
    fn revoke<'r>(&'r self, value: &'r Secret) -> Reply<'r, Result<u64, Error>>;

    /// Whether Authlete can be asked, as far as the last calls tell.
    fn availability(&self) -> Availability;
}

/// How often a call is attempted.
#[derive(Clone, Copy)]
pub(crate) enum Attempts<'a> {
    /// Once, as long as it takes: the answer tells what is told once.
    One,
    /// As often as the policy allows.
    Policy,
    /// The same, but each attempt only within the time that this gives it, or not at all.
    Within(&'a (dyn Fn() -> Result<Duration, Error> + Send + Sync)),
}
