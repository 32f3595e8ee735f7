//! How a request is refused: status, challenge and body, in one place for the layer, the requirements
//! of routes and the extractors.

pub(crate) mod challenge;
mod grpc;
mod guard;
mod reason;
mod refusal;
mod render;

pub(crate) use self::{
    challenge::Challenges,
    grpc::Protocol,
    guard::Guard,
    render::{Refused, render},
};
pub use self::{
    reason::Reason,
    refusal::Rejection,
    render::{EmptyBody, ProblemDetails, Renderer},
};
