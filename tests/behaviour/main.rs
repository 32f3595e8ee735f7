//! The behaviour of the layer, one module for each. Authlete is the emulator behind a real socket. The clock is
//! frozen unless a test moves it.
#![cfg(all(feature = "axum", feature = "dpop", feature = "emulator", feature = "jwt"))]

mod authorization_server;
mod breaker;
#[cfg(feature = "session")]
mod browser;
mod caching;
mod check_by_update;
mod credentials;
mod deadlines;
mod delegating;
mod dpop;
mod endpoints;
mod extending;
mod extensions;
mod floods;
mod grpc;
mod handlers;
mod health;
mod holder;
mod invalidation;
mod issued_tokens;
#[path = "../shared/keys.rs"]
mod keys;
mod limits;
mod log;
mod metadata;
mod mtls;
mod nesting;
mod nesting_one_handle;
mod outages;
mod panics;
mod policy;
mod prechecks;
mod properties;
mod readiness;
mod refusals;
mod replays;
mod retries;
mod revalidation;
mod revocation;
mod rotating;
mod routes;
mod secrets;
mod servers;
mod sessions;
mod sessions_rotated;
mod sessions_shared;
mod settings;
mod shutdown;
mod signatures;
mod single_flight;
mod stacks;
mod stale;
mod stale_routes;
mod support;
mod test_util;
mod transports;
mod updates;
