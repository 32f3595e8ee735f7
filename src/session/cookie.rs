//! The cookie that names a session.

use std::{collections::HashSet, sync::Arc};

use http::{HeaderMap, HeaderValue};
use tower::BoxError;

use super::store::SessionId;
use crate::{
    api::{ConfigError, Secret},
    credentials::cookies,
};

/// With this prefix, browsers accept the cookie only from this host and over HTTPS (RFC 6265bis §4.1.3.2).
const PREFIX: &str = "__Host-";

const ATTRIBUTES: &str = "HttpOnly; Secure; SameSite=Lax; Path=/";

/// How many sessions one request can end.
const MAX_NAMED: usize = 16;

/// The cookie of one application.
#[derive(Debug, Clone)]
pub(super) struct Cookie {
    name: Arc<str>,
    /// The `Set-Cookie` value that removes it.
    removal: HeaderValue,
}

impl Cookie {
    pub(super) fn new(name: &str) -> Result<Self, ConfigError> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let rest = name.strip_prefix(PREFIX).unwrap_or_default();
        let removal = HeaderValue::try_from(format!("{name}=; {ATTRIBUTES}; Max-Age=0"));
        match removal {
            Ok(removal) if !rest.is_empty() && rest.bytes().all(legal) => {
                Ok(Self { name: name.into(), removal })
            }
            _ => {
                let problem =
                    format!("{} bytes, not `__Host-` and a token of RFC 9110", name.len());
                let remedy = "begin with `__Host-` and go on with letters, digits, - and _";
                Err(ConfigError::new("cookie", problem, remedy))
            }
        }
    }

    /// The `Set-Cookie` value that sets it.
    pub(super) fn set(&self, value: &Secret) -> Result<HeaderValue, BoxError> {
        let text = format!("{}={}; {ATTRIBUTES}", self.name, value.expose());
        let mut value = HeaderValue::try_from(text)?;
        value.set_sensitive(true);
        Ok(value)
    }

    pub(super) fn removal(&self) -> HeaderValue {
        self.removal.clone()
    }

    /// The session that a request names; `None` if it has no such cookie, or several.
    pub(super) fn session(&self, headers: &HeaderMap) -> Option<SessionId> {
        let mut values = cookies(headers, &self.name);
        let value = values.next()?;
        values.next().is_none().then(|| SessionId::of(value))
    }

    /// The sessions that a request names, up to [`MAX_NAMED`], and whether it has more cookies than that.
    pub(super) fn sessions(&self, headers: &HeaderMap) -> (Vec<SessionId>, bool) {
        let values: HashSet<_> = cookies(headers, &self.name).take(MAX_NAMED + 1).collect();
        let more = cookies(headers, &self.name).nth(MAX_NAMED).is_some();
        (values.into_iter().take(MAX_NAMED).map(SessionId::of).collect(), more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_prefix_and_legal_characters() {
        for name in ["__Host-session", "__Host-s", "__Host-my.app_2"] {
            assert!(Cookie::new(name).is_ok(), "{name}");
        }
        for name in
            ["", "session", "__Host-", "__Secure-session", "__Host-a b", "__Host-a;b", "__Host-é"]
        {
            let error = Cookie::new(name).unwrap_err();
            assert!(error.iter().map(|it| it.setting()).eq(["cookie"]), "{name}");
        }
    }
}
