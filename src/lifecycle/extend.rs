//! Sliding expiry: tokens that admitted requests use get a longer life by `/auth/token/update`.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, SystemTime},
};

use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{MAX_REMEMBERED, lineage::Lineages};
use crate::{
    api::{ConfigError, Error, TokenUpdateAction, TokenUpdateRequest, TokenUpdateResponse},
    cache::{Flight, Key, shard},
    clock::{CENTURY, Moment},
    observe::{LogLimit, limited},
    resilience::{Deadline, RetryMode},
    single_flight::{Call, Join, Leader, SingleFlight},
    token::TokenInfo,
    verdict::{self, Verdict, is_gone},
    verifier::{Asked, Change, Presented, Verifier},
};

/// How many tokens are extended at a time; further ones have to wait for their next request.
const MAX_UNDER_WAY: usize = 64;

/// No update is sent for a token that has less left of its life: it could arrive after the token's expiry.
const MARGIN: Duration = Duration::from_millis(500);

/// Whether the layer lets a request pass whose token has these facts.
pub(crate) type Admits = Box<dyn Fn(TokenInfo) -> bool + Send + Sync>;

type Chooses = Arc<dyn Fn(&TokenInfo) -> bool + Send + Sync>;

/// How tokens are kept alive that are in use.
///
/// A token of an admitted request that has less than [`when_below`](Self::when_below) left gets a life of
/// [`to`](Self::to) from now on. A request that is refused extends nothing, whether the layer refuses it
/// or a requirement of a route: Authlete is told when the head of the response is there, beside the
/// request, which does not wait for it. A failure is logged and changes nothing.
///
/// Extending an expired token would bring it back to life. So an update follows an introspection that
/// said that the token is good: that of this request, unless it was longer ago than
/// [a check](crate::AuthLayerBuilder::check_deadline) may take, or one that is made for it because what is
/// cached falls below the threshold. If the layer would not admit the request by what that says, nothing is
/// extended. It is not sent in the last 500 ms of the token's life, is given up before
/// half of what is left has passed, and is not repeated after that. Nor is it sent after
/// [`AuthHandle::update`](crate::AuthHandle::update) has changed the token since; but one that is on its
/// way at that moment may be applied later. To end a token, revoke it.
///
/// At most 64 tokens are extended at a time; further ones with a later request. After a failure, a token
/// is not tried again before a quarter of `when_below` has passed.
///
/// ```
/// use std::time::Duration;
/// use tower_authlete::{AuthLayer, Refresh};
///
/// # fn example(authlete: tower_authlete::Authlete) -> Result<(), tower_authlete::ConfigError> {
/// let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
/// let refresh = Refresh::extend()
///     .when_below(minutes(5))
///     .to(minutes(30))
///     .never_beyond(minutes(12 * 60))
///     .when(|token| token.scopes().contains("session"));
/// let auth = AuthLayer::builder(authlete).refresh(refresh).build()?;
/// # let _ = auth;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Refresh {
    when_below: Duration,
    to: Duration,
    never_beyond: Duration,
    wait: bool,
    chooses: Option<Chooses>,
}

impl Refresh {
    /// Extends tokens with less than 5 minutes left to 30 minutes, for 12 hours at most.
    #[must_use]
    pub fn extend() -> Self {
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
    /// The latter is known to this process alone: another one counts from when it saw the token. It is
    /// forgotten when the process ends, when the token was not used for so long, and, of more than 100 000
    /// values, for those that were not used for longest. Then the token is counted anew.
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
    /// than three quarters of [a check's time](crate::AuthLayerBuilder::check_deadline), which its check
    /// is part of. What is learnt of the token meanwhile counts: a request that waits is refused if the
    /// token is revoked here, if the introspection tells that it is gone, or if it no longer has what the
    /// layer requires. The requirements of routes are looked at later, so that a request which a route
    /// refuses may have extended its token.
    #[must_use]
    pub fn wait(self) -> Self {
        Self { wait: true, ..self }
    }

    /// A panic of who chooses is not one of the check that found out about the token.
    fn is_chosen(&self, token: &TokenInfo, log: &LogLimit) -> bool {
        let Some(chooses) = &self.chooses else { return true };
        catch_unwind(AssertUnwindSafe(|| chooses(token))).unwrap_or_else(|_| {
            limited!(error, log, "`Refresh::when` panicked; the access token is not extended");
            false
        })
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if self.when_below.is_zero() {
            let remedy = "give the rest of a token's life below which it is extended";
            return Err(ConfigError::new("refresh.when_below", "0", remedy));
        }
        if self.to <= self.when_below {
            let problem = format!(
                "{} ms, and when_below is {} ms",
                self.to.as_millis(),
                self.when_below.as_millis()
            );
            let remedy = "give more than when_below, or every request would extend the token";
            return Err(ConfigError::new("refresh.to", problem, remedy));
        }
        if self.never_beyond < self.to {
            let problem = format!(
                "{} ms, and to is {} ms",
                self.never_beyond.as_millis(),
                self.to.as_millis()
            );
            let remedy = "give the longest life of a token, which is not less than `to`";
            return Err(ConfigError::new("refresh.never_beyond", problem, remedy));
        }
        Ok(())
    }
}

impl fmt::Debug for Refresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refresh")
            .field("when_below", &self.when_below)
            .field("to", &self.to)
            .field("never_beyond", &self.never_beyond)
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}

/// Times of tokens, each of which is remembered until nobody has asked for it for so long.
pub(super) fn remembered(idle: Duration) -> Cache<Key, Moment> {
    Cache::builder().max_capacity(MAX_REMEMBERED).time_to_idle(idle.min(CENTURY)).build()
}

/// Decides which tokens are extended, and sees to it that each is extended once at a time.
pub(crate) struct Extender {
    refresh: Refresh,
    log: LogLimit,
    extensions: SingleFlight<Key, Extended>,
    room: Arc<Semaphore>,
    /// When a token was last tried. A failure is not tried again by the very next request.
    tried: Cache<Key, Moment>,
    /// When a token was last introspected because of it.
    introspected: Cache<Key, Moment>,
}

impl Extender {
    pub(crate) fn new(refresh: Refresh, log: LogLimit) -> Self {
        Self {
            tried: remembered(refresh.when_below),
            introspected: remembered(refresh.when_below),
            extensions: SingleFlight::new(),
            room: Arc::new(Semaphore::new(MAX_UNDER_WAY)),
            refresh,
            log,
        }
    }

    /// Whether requests wait for it.
    pub(crate) fn waits(&self) -> bool {
        self.refresh.wait
    }

    /// For how long the first sight of a token matters.
    pub(crate) fn longest_life(&self) -> Duration {
        self.refresh.never_beyond
    }

    /// Until when a token is to live, if it is to be extended.
    fn wants(
        &self,
        key: &Key,
        token: &TokenInfo,
        lineages: &Lineages,
        now: Moment,
    ) -> Option<SystemTime> {
        let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(now.wall))?;
        let expires_at = token.expires_at()?;
        let left = expires_at.duration_since(time).ok()?;
        if left.is_zero()
            || left >= self.refresh.when_below
            || !self.refresh.is_chosen(token, &self.log)
        {
            return None;
        }
        let age = token.auth_age(time);
        let age = age.unwrap_or_else(|| lineages.first_seen(key, now).elapsed(now));
        let rest = self.refresh.never_beyond.saturating_sub(age);
        let until = time.checked_add(self.refresh.to.min(rest))?;
        (until > expires_at).then_some(until)
    }

    /// Whether a token of an admitted request is to be extended.
    pub(crate) fn is_due(
        &self,
        key: &Key,
        token: &TokenInfo,
        lineages: &Lineages,
        now: Moment,
    ) -> bool {
        let under_way = || self.extensions.lock().under_way(key).is_some();
        self.wants(key, token, lineages, now).is_some()
            && (self.has_rested(&self.tried, key, now) || under_way())
    }

    /// Whether a token that is due has to be introspected for it, which is then taken to be done.
    pub(crate) fn introspects(&self, key: &Key, now: Moment) -> bool {
        let rested = self.has_rested(&self.introspected, key, now);
        if rested {
            self.introspected.insert(*key, now);
        }
        rested
    }

    fn has_rested(&self, last: &Cache<Key, Moment>, key: &Key, now: Moment) -> bool {
        last.get(key).is_none_or(|at| at.elapsed(now) >= self.refresh.when_below / 4)
    }
}

/// What became of an extension.
#[derive(Clone)]
enum Extended {
    /// The token lives longer.
    Longer(Arc<(TokenUpdateRequest, TokenUpdateResponse)>),
    /// There is no such token any more.
    Gone,
    /// Nothing changed, as far as is known.
    Not,
}

impl Extended {
    /// The facts of a token after it.
    fn apply(&self, token: TokenInfo) -> TokenInfo {
        match self {
            Self::Longer(update) => token.updated(&update.0, &update.1).unwrap_or(token),
            Self::Gone | Self::Not => token,
        }
    }
}

/// The extension that an admitted request asks for.
pub(crate) struct PendingExtension {
    verifier: Arc<Verifier>,
    presented: Arc<Presented>,
    /// The introspection that it follows, if its request has led to one.
    call: Option<Arc<Flight<Asked>>>,
    admits: Admits,
}

impl PendingExtension {
    /// Without a call, an introspection is begun for it.
    pub(crate) fn new(
        verifier: &Arc<Verifier>,
        presented: &Arc<Presented>,
        call: Option<Arc<Flight<Asked>>>,
        admits: Admits,
    ) -> Self {
        Self { verifier: verifier.clone(), presented: presented.clone(), call, admits }
    }

    /// Begins it beside the request.
    pub(crate) fn begin(self) {
        let _not_waited_for = self.start();
    }

    /// Begins it, unless it is under way or there is no room. Who wants to can wait for what it tells.
    fn start(self) -> Option<Arc<Call<Extended>>> {
        let Self { verifier, presented, call, admits } = self;
        let (key, extender) = (presented.key, verifier.extender.as_ref()?);
        let (extension, leader, call, room) = {
            let mut extensions = extender.extensions.lock();
            if let Some(extension) = extensions.under_way(&key) {
                return Some(extension);
            }
            let now = verifier.clock.moment();
            // One that has ended since this request was admitted is enough for it.
            if !extender.has_rested(&extender.tried, &key, now) {
                return None;
            }
            let introspects = || !presented.is_sent() && extender.introspects(&key, now);
            let ask = || introspects().then(|| verifier.ask_in_background(&presented)).flatten();
            // The token may have expired in the time that a response takes.
            let recent = call.filter(|call| verifier.is_recent(call, now));
            let call = recent.or_else(ask)?;
            let room = extender.room.clone().try_acquire_owned().ok()?;
            let Join::Lead(extension, leader) = extensions.join(key) else { return None };
            (extension, leader, call, room)
        };
        tokio::spawn(Extending { verifier, presented, call, admits, _room: room }.run(leader));
        Some(extension)
    }

    /// Waits for it until the deadline at most, and tells what is known by then of a token that was
    /// admitted before.
    pub(crate) async fn wait(self, token: TokenInfo, deadline: Deadline) -> Verdict {
        let (verifier, presented) = (self.verifier.clone(), self.presented.clone());
        let epoch = verifier.epoch(shard(&presented.key));
        let extended = match self.start() {
            Some(extension) => deadline.wait(extension.outcome()).await.flatten(),
            None => None,
        };
        let extended = extended.unwrap_or(Extended::Not);
        if matches!(extended, Extended::Gone) {
            return Err(verdict::not_found());
        }
        if let Some(known) = verifier.known_by_newest_value(&presented) {
            return known;
        }
        if verifier.epoch(shard(&presented.key)) != epoch {
            return verifier.look_again(&presented).await;
        }
        Ok(extended.apply(token))
    }
}

/// An extension under way.
struct Extending {
    verifier: Arc<Verifier>,
    presented: Arc<Presented>,
    call: Arc<Flight<Asked>>,
    admits: Admits,
    _room: OwnedSemaphorePermit,
}

impl Extending {
    async fn run(self, leader: Leader<Key, Extended>) {
        let extended = self.extend().await;
        leader.complete(extended);
    }

    async fn extend(&self) -> Extended {
        let Self { verifier, presented, call, .. } = self;
        let (key, Some(extender)) = (presented.key, &verifier.extender) else {
            return Extended::Not;
        };
        let unknown = Err(verdict::unknown());
        let Some(Ok(token)) = verifier.flights.answer(&key, call, unknown).await else {
            return Extended::Not;
        };
        if !(self.admits)(token.clone()) {
            return Extended::Not;
        }
        let now = verifier.clock.moment();
        let until = extender.wants(&key, &token, &verifier.lineages, now);
        let Some((until, expires_at)) = until.zip(token.expires_at()) else {
            return Extended::Not;
        };
        // What was learnt or changed since the introspection is not undone by the update.
        let Some(change) = verifier.change_after(key, call) else { return Extended::Not };
        extender.tried.insert(key, now);
        let request = TokenUpdateRequest::new()
            .access_token(presented.token())
            .access_token_expires_at(until);
        let attempt = || verifier.attempt_extension(&change, &request, expires_at);
        // To set the same end once more changes nothing, unless the token was changed in between.
        let response = verifier.caller.call("/auth/token/update", RetryMode::Always, attempt).await;
        match response {
            Ok(response) if response.action == TokenUpdateAction::Ok => {
                verifier.write_extension_through(&change, &request, &response);
                Extended::Longer(Arc::new((request, response)))
            }
            // By this value only.
            Ok(response) if is_gone(&response) && verifier.has_other_value(&key) => Extended::Not,
            Ok(response) if is_gone(&response) => {
                verifier.forget_value(key);
                Extended::Gone
            }
            Ok(response) => {
                let (action, code) = (response.action, response.result_code);
                limited!(
                    warn,
                    verifier.log,
                    ?action,
                    code,
                    "the life of an access token could not be extended"
                );
                Extended::Not
            }
            Err(error) => {
                let cause = &error as &dyn std::error::Error;
                limited!(
                    warn,
                    verifier.log,
                    error = cause,
                    "the life of an access token could not be extended"
                );
                Extended::Not
            }
        }
    }
}

impl Verifier {
    /// One attempt to extend a token that expires then, which must not arrive after that.
    async fn attempt_extension(
        &self,
        change: &Change<'_>,
        request: &TokenUpdateRequest,
        expires_at: SystemTime,
    ) -> Result<TokenUpdateResponse, Error> {
        const API: &str = "/auth/token/update";
        if !change.is_current() {
            return Err(Error::not_made(API, "the token was changed or invalidated meanwhile"));
        }
        let left = expires_at.duration_since(self.clock.now()).unwrap_or_default();
        if left < MARGIN {
            return Err(Error::not_made(API, "the token is about to expire"));
        }
        let time = left / 2;
        let update = tokio::time::timeout(time, self.authlete.token_update(request)).await;
        update.unwrap_or_else(|_| Err(Error::deadline(API, time)))
    }
}
