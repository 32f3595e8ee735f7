//! The emulator behaves as Authlete's API is documented; one file for each group of APIs.
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
