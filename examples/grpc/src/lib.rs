//! The server and the client of the example; see `main.rs`.

pub mod client;
pub mod server;

/// What is made of `proto/reports.proto`.
pub mod proto {
    tonic::include_proto!("reports");
}
