//! Outbound calls on behalf of a user: a layer that attaches an access token to each call, created by
//! `/auth/token/create` with at most the rights of the inbound token.

mod layer;
mod tokens;

pub use self::{
    layer::{DelegateFuture, DelegateLayer, DelegateService},
    tokens::DelegateError,
};
