//! Authentication schemes.

/// How a token is presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scheme {
    /// By whoever has it (RFC 6750).
    Bearer,
    /// With a proof (RFC 9449).
    Dpop,
}
