//! Authlete's Web API: its token APIs as typed calls.

#[macro_use]
mod document;
mod introspection;
mod parts;
mod secret;
mod token;
mod token_create;
mod token_issue;
mod token_revoke;
mod token_update;

pub use self::{
    introspection::*, parts::*, secret::*, token::*, token_create::*, token_issue::*,
    token_revoke::*, token_update::*,
};
