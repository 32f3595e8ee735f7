//! One request: what a layer leaves in it for what is inside.

pub(crate) mod context;
pub(crate) mod refuse;
