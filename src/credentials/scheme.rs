//! Authentication schemes.

/// How a token is presented.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) enum Scheme {
    /// By whoever has it (RFC 6750).
    #[default]
    Bearer,
    /// With a proof (RFC 9449).
    Dpop,
}
