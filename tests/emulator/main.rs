//! The emulator answers as Authlete's documents say, one file a group of APIs.
#![cfg(feature = "emulator")]

mod binding;
mod create;
mod dpop;
mod faults;
mod grants;
mod introspection;
#[path = "../shared/keys.rs"]
mod keys;
mod management;
mod protocol;
mod support;
mod update;
