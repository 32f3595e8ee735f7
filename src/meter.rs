//! Counters for the `metrics` facade, if the feature is on. They hold no token, subject or client.

/// A request was refused.
pub(crate) fn refused(reason: &'static str) {
    count("tower_authlete_refused_total", "reason", reason);
}

/// A call to Authlete about a token has ended.
pub(crate) fn called(answered: bool) {
    let outcome = if answered { "answered" } else { "failed" };
    count("tower_authlete_calls_total", "outcome", outcome);
}

/// A call to Authlete was not made, since they fail one after another.
pub(crate) fn suspended() {
    count("tower_authlete_calls_total", "outcome", "suspended");
}

/// What is out of date was used, since Authlete could not be asked.
pub(crate) fn stale() {
    count("tower_authlete_degraded_total", "kind", "stale");
}

/// A request was refused because there was no room for it.
pub(crate) fn full(what: &'static str) {
    count("tower_authlete_full_total", "kind", what);
}

/// A token was refused by what it looks like, without a call.
pub(crate) fn prechecked(kind: &'static str) {
    count("tower_authlete_precheck_refused_total", "kind", kind);
}

#[cfg(feature = "metrics")]
fn count(name: &'static str, label: &'static str, value: &'static str) {
    metrics::counter!(name, label => value).increment(1);
}

#[cfg(not(feature = "metrics"))]
fn count(_: &'static str, _: &'static str, _: &'static str) {}
