//! Properties of untrusted input, for `cargo fuzz` (see `fuzz/`) and for the tests beside them. Each function
//! panics if its property does not hold for the input.
//!
//! Inputs are lines of text, so that seeds are readable. `MARK` in an input stands for a secret.
//!
//! This is a module of the library in its tests and when it is fuzzed, with access to private items.

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
