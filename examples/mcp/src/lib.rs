//! The server and the client of the example; see `main.rs`.

pub mod client;
pub mod metadata;
pub mod server;
pub mod tools;
