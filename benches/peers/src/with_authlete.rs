//! Ours.

use std::time::{Duration, UNIX_EPOCH};

use http::StatusCode;
use tower_authlete::{AuthLayer, ConfigError, RequireScopes, emulator::Emulator};

use crate::contender::{Answer, Contender, SCOPE, router};

/// How long answers are kept: longer than a run takes.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(60 * 60);

/// Tokens of Authlete's.
pub(crate) struct Tokens {
    pub(crate) good: String,
    pub(crate) without_scope: String,
    pub(crate) expired: String,
}

impl Tokens {
    /// Tokens that this emulator knows.
    pub(crate) async fn issue(emulator: &Emulator) -> Self {
        let token = || {
            let token = emulator.token().subject("alice").property("plan", "gold");
            token.expires_in(2 * MAX_AGE)
        };
        Self {
            good: token().scopes([SCOPE, "profile"]).issue().await,
            expired: token().scopes([SCOPE]).expires_at(UNIX_EPOCH + MAX_AGE).issue().await,
            without_scope: token().scopes(["profile"]).issue().await,
        }
    }
}

/// A router behind this crate's layer.
pub(crate) fn contender<A: Answer>(
    emulator: &Emulator,
    tokens: &Tokens,
) -> Result<Contender, ConfigError> {
    let layer = AuthLayer::builder(emulator.authlete()).max_age(MAX_AGE);
    let layer = layer.require(RequireScopes::all([SCOPE])).build()?;
    Ok(Contender::new("tower-authlete", router::<A>().layer(layer), &tokens.good)
        .refuses("rubbish", StatusCode::UNAUTHORIZED)
        .refuses(&tokens.expired, StatusCode::UNAUTHORIZED)
        .refuses(&tokens.without_scope, StatusCode::FORBIDDEN))
}
