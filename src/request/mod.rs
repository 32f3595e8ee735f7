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
mod returned;
mod settings;
mod state;

#[cfg(feature = "test-util")]
pub(crate) use self::context::TestRefuser;
pub(crate) use self::{
    authenticator::Authenticator,
    outcome::{Admission, Finish, OnResponse, Outcome},
    require::{RouteIntrospection, check},
    returned::Admitted,
    settings::{Options, Settings, Variant},
    state::{Begin, RequestState},
};
