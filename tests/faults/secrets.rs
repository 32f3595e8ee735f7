//! What no client may see of others.

pub(crate) const TOKEN: &str = "t0ken-of-alice";
pub(crate) const CREDENTIAL: &str = "s3rvice-access-t0ken";
