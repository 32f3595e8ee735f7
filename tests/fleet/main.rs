//! Processes that share what they know by Redis: real servers, and what goes wrong with them and between.
#![cfg(target_os = "linux")]

#[path = "../shared/servers/mod.rs"]
mod servers;

mod isolation;
mod nodes;
mod revocation;
mod sharing;
mod support;
