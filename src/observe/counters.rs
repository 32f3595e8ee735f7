//! Counters for the `metrics` facade, with the feature `metrics`; without it they do nothing. No label holds
//! a token, a subject or a client.

/// A request was refused, for a [`Reason`](crate::rejection::Reason) of this name.
pub(crate) fn refused(reason: &'static str) {
    count("tower_authlete_refused_total", "reason", reason);
}

/// A call to check a token has ended, with or without an answer.
pub(crate) fn called(answered: bool) {
    let outcome = if answered { "answered" } else { "failed" };
    count("tower_authlete_calls_total", "outcome", outcome);
}

/// A call to check a token was not made, because the circuit breaker is open.
pub(crate) fn suspended() {
    count("tower_authlete_calls_total", "outcome", "suspended");
}

/// A stale cache entry was used, because Authlete could not be asked.
pub(crate) fn stale() {
    count("tower_authlete_degraded_total", "kind", "stale");
}

/// A request was refused because this limit was reached.
pub(crate) fn full(limit: &'static str) {
    count("tower_authlete_full_total", "kind", limit);
}

/// Shared facts could not be read.
#[cfg(feature = "redis")]
pub(crate) fn unreadable() {
    count("tower_authlete_degraded_total", "kind", "unreadable");
}

/// A precheck of this kind refused a token.
pub(crate) fn prechecked(kind: &'static str) {
    count("tower_authlete_precheck_refused_total", "kind", kind);
}

#[cfg(feature = "metrics")]
fn count(name: &'static str, label: &'static str, value: &'static str) {
    metrics::counter!(name, label => value).increment(1);
}

#[cfg(not(feature = "metrics"))]
fn count(_: &'static str, _: &'static str, _: &'static str) {}
