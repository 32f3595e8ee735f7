//! What protects an axum router: this crate's layer, and what it is compared with, over the same route.

pub mod by_hand;
mod contender;
pub mod jwt;
pub mod machine;
pub mod with_authlete;
pub mod with_zitadel;

pub use self::{
    contender::{Answer, Contender, PATH},
    with_authlete::Tokens,
};

/// Whatever goes wrong ends the program.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
