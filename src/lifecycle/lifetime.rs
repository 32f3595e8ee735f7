//! The settings of sliding expiry.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use crate::{
    api::Problems,
    observe::{LogLimit, limited},
    token::TokenInfo,
};

type Chooses = Arc<dyn Fn(&TokenInfo) -> bool + Send + Sync>;

/// Extends the life of tokens in use: sliding expiry.
///
/// A token of an admitted request that has less than [`when_below`](Self::when_below) left gets a life of
/// [`to`](Self::to) from now on. A request that is refused extends nothing, whether the layer refuses it
/// or a requirement of a route: Authlete is told when the head of the response is there, beside the
/// request, which does not wait for it. A failure is logged and changes nothing.
///
/// Extending an expired token would bring it back to life. So an update follows an introspection that
/// said that the token is good: that of this request, unless it was longer ago than
/// [a check](crate::resilience::Resilience::deadline) may take, or one that is made for it because what is
/// cached falls below the threshold. If the layer would not admit the request by what that says, nothing is
/// extended. It is not sent in the last 500 ms of the token's life, is given up before
/// half of what is left has passed, and is not repeated after that. Nor is it sent after
/// [`AuthHandle::update`](crate::AuthHandle::update) has changed the token since; but one that is on its
/// way at that moment may be applied later. To end a token, revoke it.
///
/// At most 64 tokens are extended at a time; further ones with a later request. After a failure, a token
/// is not tried again before a quarter of `when_below` has passed.
///
/// | setting | unit | default | bounds |
/// |---|---|---|---|
/// | [`when_below`](Self::when_below) | duration | 5 minutes | more than 0 |
/// | [`to`](Self::to) | duration | 30 minutes | more than `when_below` |
/// | [`never_beyond`](Self::never_beyond) | duration | 12 hours | at least `to` |
/// | [`when`](Self::when) | test of a token | all tokens | |
/// | [`wait`](Self::wait) | | off | |
///
/// ```
/// use std::time::Duration;
/// use tower_authlete::{AuthLayer, lifecycle::ExtendLifetime};
///
/// # fn example(authlete: tower_authlete::Authlete) -> Result<(), tower_authlete::ConfigError> {
/// let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
/// let extension = ExtendLifetime::new()
///     .when_below(minutes(5))
///     .to(minutes(30))
///     .never_beyond(minutes(12 * 60))
///     .when(|token| token.scopes().contains("session"));
/// let auth = AuthLayer::builder(authlete).extend_lifetime(extension).build()?;
/// # let _ = auth;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ExtendLifetime {
    pub(super) when_below: Duration,
    pub(super) to: Duration,
    pub(super) never_beyond: Duration,
    pub(super) wait: bool,
    chooses: Option<Chooses>,
}

impl ExtendLifetime {
    /// Extends tokens with less than 5 minutes left to 30 minutes, for 12 hours at most.
    #[must_use]
    pub fn new() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        Self {
            when_below: minutes(5),
            to: minutes(30),
            never_beyond: minutes(12 * 60),
            wait: false,
            chooses: None,
        }
    }

    /// Below which rest of its life a token is extended.
    #[must_use]
    pub fn when_below(self, when_below: Duration) -> Self {
        Self { when_below, ..self }
    }

    /// How long a token lives from then on.
    #[must_use]
    pub fn to(self, to: Duration) -> Self {
        Self { to, ..self }
    }

    /// How long a token lives in all, by whatever values: counted from the user's authentication, or if
    /// that is not known, from when this layer first saw the token or its
    /// [endpoint](crate::endpoint::TokenEndpoint) issued it.
    ///
    /// The latter is forgotten when the process ends, when the token was not used for so long, and, of more
    /// than 100 000 values, for those that were not used for longest. Then the token is counted anew. Other
    /// processes count from when they saw the token, unless they share it by a `Fleet` (feature `redis`), which
    /// remembers it for twice as long, by the clock of Redis. Who cannot reach Redis counts by itself.
    #[must_use]
    pub fn never_beyond(self, never_beyond: Duration) -> Self {
        Self { never_beyond, ..self }
    }

    /// Which tokens are extended. Default: all. If it panics, the token is not.
    #[must_use]
    pub fn when(self, chooses: impl Fn(&TokenInfo) -> bool + Send + Sync + 'static) -> Self {
        Self { chooses: Some(Arc::new(chooses)), ..self }
    }

    /// Lets the request wait until Authlete has been told, so that it sees the new expiry, but no longer
    /// than three quarters of [a check's time](crate::resilience::Resilience::deadline), which its check
    /// is part of. What is learnt of the token meanwhile counts: a request that waits is refused if the
    /// token is revoked here, if the introspection tells that it is gone, or if it no longer has what the
    /// layer requires. The requirements of routes are looked at later, so that a request which a route
    /// refuses may have extended its token.
    #[must_use]
    pub fn wait(self) -> Self {
        Self { wait: true, ..self }
    }

    /// Whether a token is one of those that are extended. A panic of who chooses stays here.
    pub(super) fn is_chosen(&self, token: &TokenInfo, log: &LogLimit) -> bool {
        let Some(chooses) = &self.chooses else { return true };
        catch_unwind(AssertUnwindSafe(|| chooses(token))).unwrap_or_else(|_| {
            limited!(
                error,
                log,
                "`ExtendLifetime::when` panicked; the access token is not extended"
            );
            false
        })
    }

    pub(crate) fn validate(&self, problems: &mut Problems) {
        if self.when_below.is_zero() {
            let remedy = "give the rest of a token's life below which it is extended";
            problems.add("extend_lifetime.when_below", "0", remedy);
        }
        if self.to <= self.when_below {
            let problem = format!(
                "{} ms, and when_below is {} ms",
                self.to.as_millis(),
                self.when_below.as_millis()
            );
            let remedy = "give more than when_below, or every request would extend the token";
            problems.add("extend_lifetime.to", problem, remedy);
        }
        if self.never_beyond < self.to {
            let problem = format!(
                "{} ms, and to is {} ms",
                self.never_beyond.as_millis(),
                self.to.as_millis()
            );
            let remedy = "give the longest life of a token, which is not less than `to`";
            problems.add("extend_lifetime.never_beyond", problem, remedy);
        }
    }
}

impl Default for ExtendLifetime {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ExtendLifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExtendLifetime")
            .field("when_below", &self.when_below)
            .field("to", &self.to)
            .field("never_beyond", &self.never_beyond)
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}
