//! DPoP (RFC 9449).

mod binding;
mod checks;
mod nonces;
mod origin;
mod proofs;
mod replay;
