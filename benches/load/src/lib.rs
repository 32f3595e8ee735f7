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

/// Whatever goes wrong ends the program.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
