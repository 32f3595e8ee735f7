//! Whether the presenter of a token is its holder: DPoP proofs (RFC 9449), client certificates (RFC 8705)
//! and message signatures (RFC 9421).
//!
//! ```
//! use tower_authlete::{AuthLayer, Authlete, proof::ClientCertificates};
//!
//! # fn example(authlete: Authlete) -> Result<(), tower_authlete::ConfigError> {
//! let certificates = ClientCertificates::from_connection();
//! let auth = AuthLayer::builder(authlete).client_certificates(certificates).build()?;
//! # let _ = auth;
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "dpop")]
mod dpop;
mod evidence;
#[cfg(any(feature = "dpop", feature = "jwt"))]
pub(crate) mod jose;
mod mtls;
#[cfg(feature = "dpop")]
mod nonce;
mod origin;
mod quoted_list;
#[cfg(feature = "dpop")]
mod replay;
mod signatures;

#[cfg(all(feature = "dpop", any(fuzzing, test)))]
pub(crate) use self::dpop::ProofFor;
#[cfg(feature = "dpop")]
pub(crate) use self::dpop::{Proof, Prover};
#[cfg(feature = "dpop")]
pub use self::{
    dpop::{Dpop, DpopAlgorithm},
    replay::{MemoryReplays, ProofId, ProofUse, ProofUseFuture, ReplayStore},
};
pub(crate) use self::{
    evidence::{Evidence, ProofSettings},
    mtls::to_pem,
    signatures::SignedRequest,
};
pub use self::{
    mtls::{ClientCertificate, ClientCertificates},
    origin::{Origin, PeerAddr},
    signatures::{MessageSignatures, SignatureError},
};
