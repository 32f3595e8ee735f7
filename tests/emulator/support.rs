//! An emulator with a frozen clock, and its facts about tokens.

use std::time::{Duration, UNIX_EPOCH};

use tower_authlete::{
    Authlete,
    api::{IntrospectionAction, IntrospectionRequest, IntrospectionResponse, TokenRequest},
    clock::Clock,
    emulator::Emulator,
};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// A frozen clock, at a whole second.
pub(crate) fn clock() -> Clock {
    Clock::frozen(UNIX_EPOCH + 2_000_000_000 * SECOND)
}

/// An emulator with a frozen clock, and a client of it.
pub(crate) async fn start() -> (Emulator, Authlete) {
    let emulator = Emulator::builder().clock(clock()).start().await.unwrap();
    let authlete = emulator.authlete();
    (emulator, authlete)
}

pub(crate) async fn introspect(authlete: &Authlete, token: &str) -> IntrospectionResponse {
    authlete.introspection(&IntrospectionRequest::new().token(token)).await.unwrap()
}

pub(crate) async fn is_good(authlete: &Authlete, token: &str) -> bool {
    introspect(authlete, token).await.action == IntrospectionAction::Ok
}

/// A token request of the emulator's client.
pub(crate) fn token_request(emulator: &Emulator, parameters: &str) -> TokenRequest {
    TokenRequest::new()
        .parameters(parameters)
        .client_id(emulator.client_id().to_string())
        .client_secret(emulator.client_secret())
}
