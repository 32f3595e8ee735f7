//! Versions of Authlete's Web API.

use std::{fmt, str::FromStr};

use super::{config_error::ConfigError, error::shape};

/// The version of Authlete's Web API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ApiVersion {
    /// 3.0: paths contain the service ID, and calls are authenticated by a service access token.
    #[default]
    V3,
    /// 2.x: calls are authenticated by service API key and secret.
    V2,
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V3 => "V3",
            Self::V2 => "V2",
        })
    }
}

impl FromStr for ApiVersion {
    type Err = ConfigError;

    /// Parses `V3` or `V2`, in upper or lower case.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text {
            "V3" | "v3" => Ok(Self::V3),
            "V2" | "v2" => Ok(Self::V2),
            _ => Err(ConfigError::new(
                "api_version (AUTHLETE_API_VERSION)",
                shape(text),
                "use V3 or V2",
            )),
        }
    }
}
