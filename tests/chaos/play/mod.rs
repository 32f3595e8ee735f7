//! The play: a world with many layers and clients, something that does things to it at random, and what
//! knows what is true.

mod answers;
mod calls;
mod changes;
mod driver;
mod faults;
mod holders;
mod log;
mod model;
mod operations;
mod pace;
mod requests;
mod settings;
mod tally;
mod tokens;
mod waiting;
mod world;

pub(crate) use self::{driver::Driver, log::Log, pace::Pace, tally::Tally};
