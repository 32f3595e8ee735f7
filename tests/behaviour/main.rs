//! What the layer does, one file a behaviour. Authlete is an emulator behind a real socket, and time
//! is a clock that stands still unless it is moved.
#![cfg(all(feature = "emulator", feature = "axum"))]

mod again;
mod audited;
mod breaker;
#[cfg(feature = "session")]
mod browser;
mod caching;
mod check_by_update;
mod credentials;
mod deadlines;
mod delegating;
mod dpop;
mod endings;
mod endpoints;
mod extending;
mod extensions;
mod flights;
mod floods;
mod grpc;
#[path = "../shared/keys.rs"]
mod keys;
mod log;
mod loopholes;
mod lost_answers;
mod metadata;
mod mtls;
mod nesting;
mod outages;
mod overlooked;
mod patience;
mod policy;
mod prechecks;
mod racing;
mod readiness;
mod refusals;
mod revocation;
mod rotating;
mod secrets;
mod servers;
mod sessions;
mod sessions_rotated;
mod sessions_shared;
mod settings;
mod signatures;
mod stale;
mod support;
