//! Processes that share what they know by Redis: real servers, and what goes wrong with them and between.
#![cfg(target_os = "linux")]

#[path = "../shared/keys.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod keys;
#[path = "../shared/servers/mod.rs"]
mod servers;

mod isolation;
mod lifecycle;
mod nodes;
mod replays;
mod revocation;
mod session_stores;
mod sharing;
mod support;
mod tls;
