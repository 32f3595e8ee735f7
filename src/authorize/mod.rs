//! Requirements of tokens: data, and a pure function of a token's facts.

mod check;
mod details;
mod require;

pub use self::{details::RequireDetails, require::Require};
