//! What has to hold of everything that comes from outside: for `cargo fuzz` (see `fuzz/`), and for
//! the tests beside it. Each of these functions panics if it does not hold for its input.
//!
//! Inputs are lines, so that seeds can be written and read by people. Where an input holds `MARK`, it
//! stands for a secret.
//!
//! It is a module of the library in its tests and when it is fuzzed, and calls what is private there.

mod answer;
mod challenge;
mod credentials;
mod forwarding;
#[cfg(feature = "jwt")]
mod jwt;
#[cfg(feature = "dpop")]
mod proof;
mod shared;
#[cfg(any(feature = "dpop", feature = "jwt"))]
mod signing;
#[cfg(test)]
mod strategies;

#[cfg(feature = "jwt")]
pub use self::jwt::jwt;
#[cfg(feature = "dpop")]
pub use self::proof::proof;
pub use self::{
    answer::answer, challenge::challenge, credentials::credentials, forwarding::forwarding,
};
