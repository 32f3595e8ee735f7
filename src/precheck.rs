//! Whether a token can be one of the service's: any other is refused without a call.
//!
//! ```
//! use tower_authlete::{AuthLayer, Authlete, precheck::Precheck};
//!
//! # fn example(authlete: Authlete) -> Result<(), tower_authlete::ConfigError> {
//! let random = Precheck::base64url().and(Precheck::length(43..=43));
//! let auth = AuthLayer::builder(authlete).precheck(random).build()?;
//! # let _ = auth;
//! # Ok(())
//! # }
//! ```

use std::{
    fmt,
    ops::{Bound, RangeBounds, RangeInclusive},
    sync::Arc,
    time::SystemTime,
};

#[cfg(feature = "jwt")]
mod jwt;

#[cfg(feature = "jwt")]
pub use self::jwt::{JwtKeys, JwtPrecheck};

/// The shape of the service's access tokens. A token of another shape is refused with 401
/// `invalid_token`, without a call; one that fits is checked as without this.
///
/// Shapes are tested on every request, before the cache is looked up. So are closures, which convert into
/// [`Precheck::when`]: they must not block.
///
/// ```
/// use tower_authlete::{AuthLayer, precheck::Precheck};
///
/// # fn example(authlete: tower_authlete::Authlete) -> Result<(), tower_authlete::ConfigError> {
/// // Random strings as Authlete makes them, or those of an old server.
/// let shape = Precheck::length(43..=43).and(Precheck::base64url());
/// let auth = AuthLayer::builder(authlete).precheck(shape.or(Precheck::prefix("old_"))).build()?;
/// # let _ = auth;
/// # Ok(())
/// # }
/// ```
///
/// If the service issues JWTs, their signatures can be verified too: see [`JwtPrecheck`].
#[derive(Clone)]
pub struct Precheck(Arc<Rule>);

enum Rule {
    Length(RangeInclusive<usize>),
    /// One bit for each character of ASCII.
    Alphabet(u128),
    Prefix(String),
    Test(Box<dyn Fn(&str) -> bool + Send + Sync>),
    #[cfg(feature = "jwt")]
    Jwt(JwtPrecheck),
    All(Precheck, Precheck),
    Any(Precheck, Precheck),
}

/// What is tested of a token.
#[derive(Clone, Copy)]
enum Depth {
    /// Its shape alone.
    Shape,
    /// Of a JWT also the signature, and the expiry at this time if there is one.
    #[cfg_attr(
        not(feature = "jwt"),
        expect(dead_code, reason = "only JWTs have more than a shape")
    )]
    Full(Option<SystemTime>),
}

impl Precheck {
    fn new(rule: Rule) -> Self {
        Self(Arc::new(rule))
    }

    /// Tokens have a length (bytes) in this range.
    ///
    /// # Panics
    /// If the range is empty: no token would fit.
    #[must_use]
    #[track_caller]
    pub fn length(lengths: impl RangeBounds<usize>) -> Self {
        let first = match lengths.start_bound() {
            Bound::Included(first) => *first,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let last = match lengths.end_bound() {
            Bound::Included(last) => Some(*last),
            Bound::Excluded(after) => after.checked_sub(1),
            Bound::Unbounded => Some(usize::MAX),
        };
        let lengths = last.map(|last| first..=last).filter(|lengths| !lengths.is_empty());
        let Some(lengths) = lengths else {
            panic!("Precheck::length needs at least one length; the range is empty")
        };
        Self::new(Rule::Length(lengths))
    }

    /// All characters of a token, including those of a prefix, are among these.
    ///
    /// ```
    /// use tower_authlete::precheck::Precheck;
    ///
    /// let hex = Precheck::alphabet(('0'..='9').chain('a'..='f'));
    /// ```
    ///
    /// # Panics
    /// If there are none, or if one is not ASCII: no access token can have it (RFC 6750 §2.1).
    #[must_use]
    #[track_caller]
    pub fn alphabet(characters: impl IntoIterator<Item = char>) -> Self {
        let add = |alphabet, character: char| {
            assert!(character.is_ascii(), "Precheck::alphabet takes ASCII; got {character:?}");
            alphabet | 1_u128 << u32::from(character)
        };
        let alphabet = characters.into_iter().fold(0, add);
        assert!(alphabet != 0, "Precheck::alphabet needs at least one character; none was given");
        Self::new(Rule::Alphabet(alphabet))
    }

    /// All characters are letters, digits, `-` and `_` (RFC 4648 §5), as in Authlete's tokens.
    #[must_use]
    pub fn base64url() -> Self {
        Self::alphabet(('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['-', '_']))
    }

    /// Tokens start with this.
    #[must_use]
    pub fn prefix(prefix: impl Into<String>) -> Self {
        Self::new(Rule::Prefix(prefix.into()))
    }

    /// Tokens pass a test of yours, which runs on every request and must not block.
    #[must_use]
    pub fn when(fits: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self::new(Rule::Test(Box::new(fits)))
    }

    /// Tokens are JWTs that are signed by one of these keys: a [`JwtPrecheck`] with its defaults.
    #[cfg(feature = "jwt")]
    #[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
    #[must_use]
    pub fn jwt(keys: &JwtKeys) -> Self {
        JwtPrecheck::new(keys).into()
    }

    /// Tokens fit both.
    #[must_use]
    pub fn and(self, other: impl Into<Self>) -> Self {
        Self::new(Rule::All(self, other.into()))
    }

    /// Tokens fit at least one of both.
    #[must_use]
    pub fn or(self, other: impl Into<Self>) -> Self {
        Self::new(Rule::Any(self, other.into()))
    }

    /// Whether a token has the right shape.
    pub(crate) fn has_shape(&self, token: &str) -> bool {
        self.fits(token, Depth::Shape)
    }

    /// Whether [`fits_closely`](Self::fits_closely) tests more than the shape.
    pub(crate) fn looks_closer(&self) -> bool {
        match &*self.0 {
            #[cfg(feature = "jwt")]
            Rule::Jwt(_) => true,
            Rule::All(one, other) | Rule::Any(one, other) => {
                one.looks_closer() || other.looks_closer()
            }
            _ => false,
        }
    }

    /// Whether only JWTs fit.
    pub(crate) fn takes_only_jwts(&self) -> bool {
        match &*self.0 {
            #[cfg(feature = "jwt")]
            Rule::Jwt(_) => true,
            Rule::All(one, other) => one.takes_only_jwts() || other.takes_only_jwts(),
            Rule::Any(one, other) => one.takes_only_jwts() && other.takes_only_jwts(),
            _ => false,
        }
    }

    /// Whether a token fits, with signatures verified, and the expiry tested at `now` if that is given.
    pub(crate) fn fits_closely(&self, token: &str, now: Option<SystemTime>) -> bool {
        self.fits(token, Depth::Full(now))
    }

    #[cfg_attr(not(feature = "jwt"), expect(clippy::only_used_in_recursion))]
    fn fits(&self, token: &str, depth: Depth) -> bool {
        match &*self.0 {
            Rule::Length(lengths) => lengths.contains(&token.len()),
            Rule::Alphabet(alphabet) => {
                token.bytes().all(|byte| byte.is_ascii() && alphabet >> byte & 1 == 1)
            }
            Rule::Prefix(prefix) => token.starts_with(prefix.as_str()),
            Rule::Test(fits) => fits(token),
            #[cfg(feature = "jwt")]
            Rule::Jwt(jwt) => match depth {
                Depth::Shape => JwtPrecheck::has_shape(token),
                Depth::Full(now) => jwt.fits(token, now),
            },
            Rule::All(one, other) => one.fits(token, depth) && other.fits(token, depth),
            Rule::Any(one, other) => one.fits(token, depth) || other.fits(token, depth),
        }
    }
}

impl<F: Fn(&str) -> bool + Send + Sync + 'static> From<F> for Precheck {
    fn from(fits: F) -> Self {
        Self::when(fits)
    }
}

#[cfg(feature = "jwt")]
impl From<JwtPrecheck> for Precheck {
    fn from(jwt: JwtPrecheck) -> Self {
        Self::new(Rule::Jwt(jwt))
    }
}

impl fmt::Debug for Precheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Precheck").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_of_the_range() {
        for (precheck, fitting) in [
            (Precheck::length(2..4), [false, true, true, false]),
            (Precheck::length(2..=3), [false, true, true, false]),
            (Precheck::length(..=2), [true, true, false, false]),
            (Precheck::length(3..), [false, false, true, true]),
            (Precheck::length(..), [true; 4]),
            (Precheck::length((Bound::Excluded(3), Bound::Unbounded)), [false, false, false, true]),
        ] {
            let tokens = ["a", "aa", "aaa", "aaaa"];
            assert_eq!(tokens.map(|token| precheck.has_shape(token)), fitting);
        }
    }

    #[test]
    fn a_range_without_lengths_is_a_mistake() {
        #[expect(clippy::reversed_empty_ranges, reason = "it is the mistake")]
        for range in [0..0, 5..5, 5..2] {
            assert!(std::panic::catch_unwind(|| Precheck::length(range)).is_err());
        }
        assert!(std::panic::catch_unwind(|| Precheck::alphabet(['ä'])).is_err());
    }

    #[test]
    fn an_alphabet_is_for_every_character() {
        let precheck = Precheck::base64url();
        for token in ["", "azAZ09-_", "a", "_"] {
            assert!(precheck.has_shape(token), "{token}");
        }
        for token in ["a.b", "a=", "a+b", "a/b", "~", "ä", "\u{7f}", " a", "a\0"] {
            assert!(!precheck.has_shape(token), "{token}");
        }
    }

    #[test]
    fn shapes_go_together() {
        let shape = Precheck::prefix("at_").and(Precheck::length(6..=6)).or(|token: &str| {
            let mut bytes = token.bytes();
            bytes.next() == Some(b'#')
        });
        for (token, fits) in
            [("at_abc", true), ("#", true), ("at_", false), ("ta_abc", false), ("", false)]
        {
            assert_eq!(shape.has_shape(token), fits, "{token}");
            assert_eq!(shape.fits_closely(token, None), fits, "{token}");
        }
        assert!(!shape.looks_closer());
    }
}
