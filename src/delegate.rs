//! Calls to other services on behalf of a request: an outbound layer that attaches a narrow token of
//! its own to each call, made by `/auth/token/create`.

mod layer;
mod tokens;

pub use self::{
    layer::{DelegateFuture, DelegateLayer, DelegateService},
    tokens::DelegateError,
};
