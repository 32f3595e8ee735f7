//! Authlete's Web API: its token APIs as typed calls.
//!
//! [`Authlete`] is the client. Each API has a request and a response with every field that is
//! documented; unset fields of a request are not sent, absent fields of a response read as `None`,
//! `false` or empty. What is secret in them is a [`Secret`], which `Debug` does not show.

#[macro_use]
pub(crate) mod document;
mod client;
mod config;
mod error;
mod introspection;
mod parts;
mod redact;
mod secret;
mod token;
mod token_create;
mod token_issue;
mod token_revoke;
mod token_update;
mod transport;
mod version;

pub use self::{
    client::Authlete,
    config::AuthleteBuilder,
    error::{ConfigError, Error, ErrorKind, Refusal},
    introspection::*,
    parts::*,
    secret::Secret,
    token::*,
    token_create::*,
    token_issue::*,
    token_revoke::*,
    token_update::*,
    transport::{RequestBody, TlsRoots, Transport},
    version::ApiVersion,
};
