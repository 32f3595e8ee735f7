//! The token and revocation endpoints, and what the layer learns from them.

mod certificates;
mod invalidation;
mod issuance;
mod limits;
mod requests;
