//! Errors of settings.

use std::fmt;

/// Settings are missing or wrong. It tells all of them at once.
///
/// Its text has a line for each, which names the setting, the shape of its value and a remedy, never the value
/// itself.
///
/// ```
/// use tower_authlete::{Authlete, ConfigError};
///
/// let error = Authlete::builder().base_url("https://us.authlete.com").build().unwrap_err();
/// let missing: Vec<_> = error.iter().map(|wrong| wrong.setting()).collect();
/// assert_eq!(missing, [
///     "service_id (AUTHLETE_SERVICE_APIKEY)",
///     "service_access_token (AUTHLETE_SERVICE_ACCESSTOKEN)",
/// ]);
/// assert_eq!(error.to_string().lines().count(), 2);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(Vec<WrongSetting>);

impl ConfigError {
    pub(crate) fn new(
        setting: &'static str,
        problem: impl Into<String>,
        remedy: &'static str,
    ) -> Self {
        Self(vec![WrongSetting { setting, problem: problem.into(), remedy }])
    }

    /// The settings that are wrong: at least one.
    pub fn iter(&self) -> std::slice::Iter<'_, WrongSetting> {
        self.0.iter()
    }
}

impl<'e> IntoIterator for &'e ConfigError {
    type Item = &'e WrongSetting;
    type IntoIter = std::slice::Iter<'e, WrongSetting>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (line, wrong) in self.iter().enumerate() {
            if line > 0 {
                writeln!(f)?;
            }
            wrong.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// A setting that is missing or wrong, in a [`ConfigError`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongSetting {
    setting: &'static str,
    problem: String,
    remedy: &'static str,
}

impl WrongSetting {
    /// The name of the setting: that of the builder's method, such as `realm`; within a group `cache.max_age`;
    /// with the environment variable if there is one.
    #[must_use]
    pub fn setting(&self) -> &str {
        self.setting
    }

    /// The shape of its value, never the value of a secret.
    #[must_use]
    pub fn problem(&self) -> &str {
        &self.problem
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &str {
        self.remedy
    }
}

impl fmt::Display for WrongSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is wrong ({}): {}", self.setting, self.problem, self.remedy)
    }
}

/// The problems of settings that are being validated.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<WrongSetting>);

impl Problems {
    /// What is wrong as far as `validate` tells.
    pub(crate) fn of(validate: impl FnOnce(&mut Self)) -> Result<(), ConfigError> {
        let mut problems = Self::default();
        validate(&mut problems);
        problems.finish(Some(()))
    }

    /// Adds a problem.
    pub(crate) fn add(
        &mut self,
        setting: &'static str,
        problem: impl Into<String>,
        remedy: &'static str,
    ) {
        self.0.push(WrongSetting { setting, problem: problem.into(), remedy });
    }

    /// The value of a setting; `None` adds its problems.
    pub(crate) fn take<T>(&mut self, outcome: Result<T, ConfigError>) -> Option<T> {
        outcome.map_err(|error| self.0.extend(error.0)).ok()
    }

    /// What was built of the settings, if there is no problem. Without a value, there is one.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, ConfigError> {
        value.filter(|_| self.0.is_empty()).ok_or(ConfigError(self.0))
    }
}
