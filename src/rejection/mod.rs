//! Refusals: reason, status, challenge and body, shared by the layer, requirements of routes and extractors.

pub(crate) mod challenge;
mod grpc;
mod reason;
mod refusal;
mod refuser;
mod render;

pub(crate) use self::{
    challenge::Challenges,
    grpc::Protocol,
    refuser::Refuser,
    render::{Refused, render},
};
pub use self::{
    reason::Reason,
    refusal::Rejection,
    render::{EmptyBody, ProblemDetails, Refusal, Renderer},
};
