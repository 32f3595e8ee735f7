//! The play: a world with many layers and clients, something that does things to it at random, and what
//! knows what is true.

mod calls;
mod changes;
mod driver;
mod faults;
mod holders;
#[allow(dead_code, reason = "other tests use more of it")]
#[path = "../../shared/keys.rs"]
mod keys;
mod log;
mod model;
mod requests;
mod settings;
mod tally;
mod tokens;
mod world;

pub(crate) use self::{driver::Driver, log::Log, tally::Tally, world::Pace};
