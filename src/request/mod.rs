//! The steps of one request: extract, prove, verify, authorize, then admit or refuse.

mod admit;
mod authenticator;
mod authorize;
mod context;
mod extract;
mod finish;
mod outcome;
mod prove;
pub(crate) mod refuse;
mod require;
mod settings;
mod state;

pub(crate) use self::{
    authenticator::Authenticator,
    outcome::{Finish, OnResponse, Outcome},
    require::{RouteIntrospection, check},
    settings::{Options, Settings, Variant},
    state::Begin,
};
