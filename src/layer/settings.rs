//! What the services of a layer share.

use std::sync::Arc;

#[cfg(feature = "dpop")]
use crate::proof::Prover;
use crate::{
    authorize::Require,
    credentials::TokenSource,
    introspect::Introspector,
    lifecycle::Lifecycle,
    precheck::Precheck,
    proof::{ClientCertificates, MessageSignatures},
    rejection::Challenges,
    verify::Verifier,
};

/// What all services of a layer share.
pub(crate) struct Settings<R> {
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) introspector: Arc<Introspector>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) options: Options,
    pub(crate) renderer: Arc<R>,
}

/// How requests are treated.
pub(crate) struct Options {
    pub(crate) sources: Vec<Box<dyn TokenSource>>,
    pub(crate) max_token_length: usize,
    pub(crate) optional: bool,
    pub(crate) strip: bool,
    pub(crate) token_info_alone: bool,
    pub(crate) precheck: Option<Precheck>,
    pub(crate) require: Option<Require>,
    pub(crate) challenges: Challenges,
    pub(crate) certificates: Option<ClientCertificates>,
    pub(crate) signatures: Option<MessageSignatures>,
    #[cfg(feature = "dpop")]
    pub(crate) dpop: Option<Arc<Prover>>,
}

impl Options {
    /// Whether responses can be signed.
    pub(crate) fn signs(&self) -> bool {
        self.signatures.as_ref().is_some_and(MessageSignatures::has_signer)
    }
}
