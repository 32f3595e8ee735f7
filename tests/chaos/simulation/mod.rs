//! A simulation: an environment of layers and clients, a driver of random operations, and a reference
//! model.

mod answers;
mod audit;
mod calls;
mod changes;
mod clocks;
mod driver;
mod endpoints;
mod environment;
mod extending;
mod faults;
mod holders;
mod log;
mod model;
mod operations;
mod processes;
mod requests;
mod sessions;
mod settings;
mod tally;
mod time_scale;
mod tokens;
mod waiting;

pub(crate) use self::{driver::Driver, log::Log, tally::Tally, time_scale::TimeScale};
