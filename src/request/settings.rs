//! The settings of a layer, as its requests need them.

use std::sync::Arc;

use crate::{
    authorize::Require,
    credentials::TokenSource,
    introspect::Introspector,
    lifecycle::Lifecycle,
    precheck::Precheck,
    proof::ProofSettings,
    rejection::Challenges,
    verify::{Freshness, Verifier},
};

/// What all services of a layer share.
pub(crate) struct Settings<R> {
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) introspector: Arc<Introspector>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) options: Options,
    pub(crate) renderer: Arc<R>,
}

/// What differs between the layers that share settings and cache.
#[derive(Clone, Copy)]
pub(crate) struct Variant {
    pub(crate) freshness: Freshness,
    /// Requests without credentials pass.
    pub(crate) optional: bool,
}

/// How requests are treated.
pub(crate) struct Options {
    pub(crate) sources: Vec<Box<dyn TokenSource>>,
    pub(crate) max_token_length: usize,
    pub(crate) strip: bool,
    pub(crate) token_info_alone: bool,
    pub(crate) precheck: Option<Precheck>,
    pub(crate) require: Option<Require>,
    pub(crate) challenges: Challenges,
    pub(crate) proofs: ProofSettings,
}
