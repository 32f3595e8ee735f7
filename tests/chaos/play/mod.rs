//! The play: a world with many layers and clients, something that does things to it at random, and what
//! knows what is true.

mod answers;
mod audit;
mod calls;
mod changes;
mod clocks;
mod driver;
mod endpoints;
mod extending;
mod faults;
mod holders;
mod log;
mod model;
mod operations;
mod pace;
mod processes;
mod requests;
mod sessions;
mod settings;
mod tally;
mod tokens;
mod waiting;
mod world;

pub(crate) use self::{driver::Driver, log::Log, pace::Pace, tally::Tally};
