//! Macros that define the API's JSON documents as structs.
//!
//! Authlete's servers differ in how they send an absent value: not at all, as `null`, or as the type's zero.
//! Structs made by `document!` deserialize absent and `null` as the default, do not serialize a default,
//! and ignore unknown fields.
//!
//! A field is declared as `name: kind`:
//!
//! | kind | field | setter (requests) or accessor (responses) |
//! |---|---|---|
//! | `text` | `Option<String>` | `impl Into<String>` |
//! | `secret` | `Option<Secret>` | `impl Into<Secret>` |
//! | `hidden` | `Option<String>` that `Debug` does not show, since it can hold a secret | `impl Into<String>` |
//! | `number` | `Option<i64>` | `i64` |
//! | `millis` | `Option<i64>`, ms since the epoch | `SystemTime` |
//! | `instant` | `Option<i64>`, s since the epoch | `SystemTime` |
//! | `seconds` | `Option<i64>`, s | `Duration` |
//! | `flag` | `bool` | `bool` |
//! | `texts` | `Vec<String>` | strings |
//! | `list T` | `Vec<T>` | items |
//! | `some_texts`, `some_list T` | `Option<Vec<…>>`: `null` and empty differ | as above |
//! | `value T` | `Option<T>` | `T` |
//! | `action T` | `T`, whose default is the action that grants nothing | |

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer};

/// Deserializes `null` as the default.
pub(crate) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Whether a field has its default, and is not serialized.
pub(crate) trait Unset {
    fn is_unset(&self) -> bool;
}

impl Unset for bool {
    fn is_unset(&self) -> bool {
        !self
    }
}

impl<T> Unset for Option<T> {
    fn is_unset(&self) -> bool {
        self.is_none()
    }
}

impl<T> Unset for Vec<T> {
    fn is_unset(&self) -> bool {
        self.is_empty()
    }
}

/// Milliseconds since the epoch as an instant; `None` for 0, which stands for an absent value, and for
/// instants that the platform cannot represent.
pub(crate) fn from_millis(millis: Option<i64>) -> Option<SystemTime> {
    let millis = millis.filter(|millis| *millis != 0)?;
    let distance = Duration::from_millis(millis.unsigned_abs());
    if millis > 0 { UNIX_EPOCH.checked_add(distance) } else { UNIX_EPOCH.checked_sub(distance) }
}

/// Seconds since the epoch as an instant; `None` as in [`from_millis`].
pub(crate) fn from_seconds(seconds: Option<i64>) -> Option<SystemTime> {
    from_millis(seconds.map(|seconds| seconds.saturating_mul(1000)))
}

/// An instant as milliseconds since the epoch, saturating.
pub(crate) fn to_millis(instant: SystemTime) -> i64 {
    match instant.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    }
}

/// A duration as whole seconds, saturating.
pub(crate) fn to_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// Whole seconds as a duration; `None` for 0 or less, which stand for an absent value.
pub(crate) fn as_duration(seconds: Option<i64>) -> Option<Duration> {
    u64::try_from(seconds?).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
}

macro_rules! field_type {
    (text) => { Option<String> };
    (secret) => { Option<$crate::api::Secret> };
    (hidden) => { Option<String> };
    (number) => { Option<i64> };
    (millis) => { Option<i64> };
    (instant) => { Option<i64> };
    (seconds) => { Option<i64> };
    (flag) => { bool };
    (texts) => { Vec<String> };
    (list $item:ty) => { Vec<$item> };
    (some_texts) => { Option<Vec<String>> };
    (some_list $item:ty) => { Option<Vec<$item>> };
    (value $value:ty) => { Option<$value> };
    (action $action:ty) => { $action };
}

/// The `Debug` value of a field.
macro_rules! debug_value {
    (hidden $value:expr) => {
        &$value.as_ref().map(|_| $crate::api::Secret::default())
    };
    ($kind:ident $value:expr) => {
        &$value
    };
}

macro_rules! setter {
    ($field:ident: text) => { setter!(@ $field, impl Into<String>, value => Some(value.into())); };
    ($field:ident: secret) => { setter!(@ $field, impl Into<$crate::api::Secret>, value => Some(value.into())); };
    ($field:ident: hidden) => { setter!($field: text); };
    ($field:ident: number) => { setter!(@ $field, i64, value => Some(value)); };
    ($field:ident: millis) => { setter!(@ $field, std::time::SystemTime, value => Some($crate::api::document::to_millis(value))); };
    ($field:ident: instant) => { setter!(@ $field, std::time::SystemTime, value => Some($crate::api::document::to_millis(value) / 1000)); };
    ($field:ident: seconds) => { setter!(@ $field, std::time::Duration, value => Some($crate::api::document::to_seconds(value))); };
    ($field:ident: flag) => { setter!(@ $field, bool, value => value); };
    ($field:ident: texts) => { setter!(@ $field, impl IntoIterator<Item = impl Into<String>>, value => value.into_iter().map(Into::into).collect()); };
    ($field:ident: list $item:ty) => { setter!(@ $field, impl IntoIterator<Item = impl Into<$item>>, value => value.into_iter().map(Into::into).collect()); };
    ($field:ident: some_texts) => { setter!(@ $field, impl IntoIterator<Item = impl Into<String>>, value => Some(value.into_iter().map(Into::into).collect())); };
    ($field:ident: some_list $item:ty) => { setter!(@ $field, impl IntoIterator<Item = impl Into<$item>>, value => Some(value.into_iter().map(Into::into).collect())); };
    ($field:ident: value $value:ty) => { setter!(@ $field, impl Into<$value>, value => Some(value.into())); };
    (@ $field:ident, $argument:ty, $value:ident => $set:expr) => {
        #[doc = concat!("Sets the field `", stringify!($field), "`.")]
        #[must_use]
        pub fn $field(mut self, $value: $argument) -> Self {
            self.$field = $set;
            self
        }
    };
}

macro_rules! accessor {
    ($field:ident: millis) => { accessor!(@ $field, std::time::SystemTime, from_millis); };
    ($field:ident: instant) => { accessor!(@ $field, std::time::SystemTime, from_seconds); };
    ($field:ident: seconds) => { accessor!(@ $field, std::time::Duration, as_duration); };
    ($field:ident: $($other:tt)+) => {};
    (@ $field:ident, $type:ty, $convert:ident) => {
        #[doc = concat!("[`", stringify!($field), "`](Self#structfield.", stringify!($field), ") as a [`", stringify!($type), "`]; `None` if it is absent or zero.")]
        #[must_use]
        pub fn $field(&self) -> Option<$type> {
            $crate::api::document::$convert(self.$field)
        }
    };
}

/// Defines a JSON document; see the module docs.
macro_rules! document {
    (@struct $(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $field:ident: $kind:ident $($of:ty)?,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        #[non_exhaustive]
        pub struct $name {
            $(
                $(#[$doc])*
                #[serde(
                    deserialize_with = "crate::api::document::nullable",
                    skip_serializing_if = "crate::api::document::Unset::is_unset"
                )]
                pub $field: field_type!($kind $($of)?),
            )*
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name))
                    $(.field(stringify!($field), debug_value!($kind self.$field)))*
                    .finish()
            }
        }
    };
    ($(#[$meta:meta])* request $name:ident { $($(#[$doc:meta])* $field:ident: $kind:ident $($of:ty)?,)* }) => {
        document!(@struct $(#[$meta])* $name { $($(#[$doc])* $field: $kind $($of)?,)* });

        impl $name {
            /// A request without any field set.
            #[must_use]
            pub fn new() -> Self {
                Self::default()
            }

            $(setter!($field: $kind $($of)?);)*
        }
    };
    ($(#[$meta:meta])* response $name:ident { $($(#[$doc:meta])* $field:ident: $kind:ident $($of:ty)?,)* }) => {
        document!(@struct $(#[$meta])* $name { $($(#[$doc])* $field: $kind $($of)?,)* });

        impl $name {
            $(accessor!($field: $kind $($of)?);)*
        }
    };
}

/// Defines the `action` of a response. An unknown action fails to deserialize, so that it can never grant
/// anything. An absent one is the default, which grants nothing.
macro_rules! action {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$doc])* $variant,)*
            /// Authlete failed, or the call was wrong. It says nothing about a token.
            #[default]
            InternalServerError,
        }

        impl $crate::api::document::Unset for $name {
            fn is_unset(&self) -> bool {
                false
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_out_of_range_do_not_panic() {
        for millis in [i64::MIN, -1, 0, 1, i64::MAX] {
            let _ = from_millis(Some(millis));
            let _ = from_seconds(Some(millis));
        }
        assert_eq!(from_millis(Some(0)), None);
        assert_eq!(from_millis(Some(-1000)), UNIX_EPOCH.checked_sub(Duration::from_secs(1)));
    }

    #[test]
    fn instants_round_trip_as_millis() {
        for millis in [-1500, 1, 1_640_416_873_000] {
            assert_eq!(from_millis(Some(millis)).map(to_millis), Some(millis));
        }
    }
}
