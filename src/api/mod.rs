//! Authlete's Web API: its token APIs as typed calls.
//!
//! [`Authlete`] is the client. Each API has a request and a response type with every documented field.
//! Unset fields of a request are not sent; absent fields of a response are `None`, `false` or empty.
//! Tokens, proofs and credentials are [`Secret`]s, which `Debug` redacts.

#[macro_use]
pub(crate) mod document;
mod client;
mod common;
mod config;
mod config_error;
mod error;
mod introspection;
mod redact;
mod secret;
mod token;
mod token_create;
mod token_issue;
mod token_revoke;
mod token_update;
mod transport;
mod version;

pub(crate) use self::config_error::Problems;
#[cfg(feature = "redis")]
pub(crate) use self::transport::certificates;
pub use self::{
    client::Authlete,
    common::*,
    config::AuthleteBuilder,
    config_error::{ConfigError, WrongSetting},
    error::{Error, ErrorKind, ErrorResponse},
    introspection::*,
    secret::Secret,
    token::*,
    token_create::*,
    token_issue::*,
    token_revoke::*,
    token_update::*,
    transport::{RequestBody, TlsRoots, Transport},
    version::ApiVersion,
};
