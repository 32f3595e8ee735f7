//! Texts that no client may see.

pub(crate) const TOKEN: &str = "t0ken-of-alice";
pub(crate) const CREDENTIAL: &str = "s3rvice-access-t0ken";
