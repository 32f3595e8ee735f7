//! Is the presenter of a token its holder? DPoP proofs (RFC 9449), client certificates (RFC 8705)
//! and message signatures (RFC 9421).

#[cfg(feature = "dpop")]
mod dpop;
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

#[cfg(feature = "dpop")]
pub(crate) use self::dpop::{Proof, ProofFor, Prover};
#[cfg(feature = "dpop")]
pub use self::{
    dpop::{Dpop, DpopAlgorithm},
    replay::{MemoryReplays, ProofId, Remembered, Remembering, ReplayStore},
};
pub(crate) use self::{mtls::to_pem, origin::Unplaced};
pub use self::{
    mtls::{ClientCertificate, ClientCertificates},
    origin::{Origin, PeerAddr},
    signatures::{MessageSignatures, SignatureError},
};
