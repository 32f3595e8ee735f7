//! What `load` and `memory` are made of.

pub mod authority;
pub mod cores;
pub mod figures;
pub mod flood;
pub mod http;
pub mod miss;
pub mod server;
pub mod threads;
pub mod tokens;
mod tools;
pub mod upstream;
pub mod waiters;

// The same sources as in `peers`: what is compared there and here is one thing.
#[path = "../../peers/src/by_hand.rs"]
mod by_hand;
#[allow(dead_code)]
#[path = "../../peers/src/contender.rs"]
mod contender;
#[path = "../../peers/src/machine.rs"]
mod machine;
#[path = "../../peers/src/with_authlete.rs"]
mod with_authlete;
#[path = "../../peers/src/with_zitadel.rs"]
mod with_zitadel;

/// Whatever goes wrong ends the program.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The machine that figures are of.
#[must_use]
pub fn machine_name() -> String {
    machine::name()
}
