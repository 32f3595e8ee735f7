//! What asks Authlete, but for the calls themselves: the explorations have an Authlete of their own.

#[path = "../../../src/introspect/presented.rs"]
mod presented;
#[path = "../../../src/introspect/remote.rs"]
mod remote;

use crate::api::{TokenUpdateAction, TokenUpdateResponse};

pub(crate) use self::{
    presented::Presented,
    remote::{Attempts, Remote, Reply},
};

pub(crate) fn is_gone(response: &TokenUpdateResponse) -> bool {
    response.action == TokenUpdateAction::NotFound
}
