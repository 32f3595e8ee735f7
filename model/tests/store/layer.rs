//! What a layer has of a token, from the sources as they are, around an Authlete that has one token. Whoever is
//! told of the token checks that it is not from before what has been told or invalidated.

use core::sync::atomic::{AtomicU64, Ordering};
use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

use http::{Extensions, HeaderMap, HeaderName};
use loom::{
    future::block_on,
    thread::{self, JoinHandle},
};
use tower_authlete_model::{Register, real, set_up};

use crate::{
    AGE, TOKEN,
    api::TokenUpdateRequest,
    at_once,
    authlete::{Authlete, Token, VALUES},
    cache::CachePolicy,
    clock::Clock,
    introspect::{Presented, Remote},
    lifecycle::{
        AccessTokenRotation, Admits, ExtendLifetime, Lifecycle, LifecycleParts, Lineages,
        PendingRotation,
    },
    observe::LogLimit,
    proof::{Proof, Prover, Settings},
    rejection::{Refuser, Rejection},
    resilience::Deadline,
    store::{
        Alias, AtLeast, Binding, CacheHit, CheckJoin, Key, KeySpace, Lead, PendingCheck,
        TokenStore, epoch::Epochs,
    },
    token::{Facts, TokenInfo},
    verdict::Verdict,
    verify::{Freshness, Resolved, Verifier},
};

/// How many shards there are.
const SHARDS: u64 = 1024;

/// Another token, of the same shard. Since there is one slot, it has that of all others, too.
pub(crate) static NEIGHBOUR: LazyLock<String> = LazyLock::new(|| {
    let shard = |token: &str| key_space("access").key(token).prefix() % SHARDS;
    (0..).map(|n: u64| n.to_string()).find(|it| shard(it) == shard(TOKEN)).unwrap()
});

fn key_space(kind: &str) -> KeySpace {
    KeySpace::new(&[0; 32], kind)
}

pub(crate) struct Layer {
    pub(crate) authlete: Arc<Authlete>,
    pub(crate) clock: Clock,
    pub(crate) store: Arc<TokenStore>,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) lifecycle: Lifecycle,
    /// Nobody who begins now may be told what was said before this.
    least: Register<Facts>,
    /// Nor may anybody who began before, since the token was invalidated after them.
    gone: Arc<Register<Facts>>,
}

/// A store without calls.
pub(crate) fn store(clock: &Clock, max_age: Duration) -> Arc<TokenStore> {
    let policy = CachePolicy::new()
        .max_age(max_age)
        .max_entries(1)
        .negative_max_age(max_age)
        .negative_max_entries(1);
    set_up(|| {
        let epochs = Arc::new(Epochs::new());
        let store = TokenStore::new(key_space("access"), clock.clone(), policy, epochs, 10, None);
        let store = Arc::new(store);
        for token in VALUES.into_iter().chain([&**NEIGHBOUR]) {
            let key = store.key(token);
            store.look_up(token, Binding::BEARER, clock.moment());
            store.reject(key, &Rejection::Bad);
            store.invalidate(key);
        }
        store.invalidate_issues();
        store.begin_issue();
        store
    })
}

impl Layer {
    fn build(
        extension: Option<ExtendLifetime>,
        rotation: Option<AccessTokenRotation>,
        max_age: Duration,
        deadline: Duration,
    ) -> Arc<Self> {
        let gone = Arc::new(Register::new(Facts::default()));
        let clock = Clock::frozen(SystemTime::UNIX_EPOCH);
        let store = store(&clock, max_age);
        let authlete = Arc::new(Authlete::new(SystemTime::UNIX_EPOCH + 3 * AGE, gone.clone()));
        let (remote, log) = (authlete.clone() as Arc<dyn Remote>, LogLimit::new(&clock));
        let verifier = Verifier {
            store: store.clone(),
            remote: remote.clone(),
            clock: clock.clone(),
            log: log.clone(),
            refuser: Arc::new(Refuser),
            deadline: AGE,
            precheck: None,
            extends: extension.is_some(),
        };
        let parts = LifecycleParts {
            store: store.clone(),
            remote,
            lineages: Lineages::new(extension.as_ref()),
            clock: clock.clone(),
            log,
            refuser: Arc::new(Refuser),
            deadline,
        };
        Arc::new(Self {
            authlete,
            store,
            verifier: Arc::new(verifier),
            lifecycle: Lifecycle::new(parts, key_space("refresh"), extension, rotation),
            clock,
            least: Register::new(Facts::default()),
            gone,
        })
    }

    pub(crate) fn new() -> Arc<Self> {
        Self::build(None, None, AGE, AGE)
    }

    /// One that keeps nothing.
    pub(crate) fn without_cache() -> Arc<Self> {
        Self::build(None, None, Duration::ZERO, AGE)
    }

    /// One that knows the token as it was first.
    pub(crate) fn warm() -> Arc<Self> {
        Self::new().warmed()
    }

    /// One that extends the token, which is about to expire.
    pub(crate) fn extending() -> Arc<Self> {
        Self::build(Some(extension()), None, AGE, AGE)
    }

    /// One that knows the token, and gives it another value when it is used. The old one is accepted for
    /// some time. If it is impatient, it waits for no rotation when it revokes the token.
    pub(crate) fn rotating(impatient: bool) -> Arc<Self> {
        let deadline = if impatient { Duration::ZERO } else { AGE };
        Self::build(None, Some(rotation()), AGE, deadline).used()
    }

    /// One that does both.
    pub(crate) fn extending_and_rotating() -> Arc<Self> {
        Self::build(Some(extension()), Some(rotation()), AGE, AGE).used()
    }

    /// One whose token has been in use for so long that it is due for another value.
    fn used(self: Arc<Self>) -> Arc<Self> {
        // The table of aliases is made before other threads are.
        let (other, now) = (self.store.key("other"), self.clock.moment());
        let alias = Alias { key: other, value: "other".into(), until: now };
        self.store.begin_update(other).commit(other, Some(alias), |_, _| None);
        self.lifecycle.rotator.as_ref().unwrap().see(&self.key());
        self.clock.advance(EVERY);
        self.warmed()
    }

    pub(crate) fn warmed(self: Arc<Self>) -> Arc<Self> {
        assert_eq!(self.look().unwrap().facts, Facts::default());
        self
    }

    /// One whose token was introspected for an extension lately, so that there is none for now.
    pub(crate) fn introspected(self: Arc<Self>) -> Arc<Self> {
        let (token, presented) = (self.look().unwrap(), self.presented(TOKEN));
        let admits = || Box::new(|_: TokenInfo| false) as Admits;
        let extension = self.lifecycle.extension(&token, presented, None, None, admits).unwrap();
        block_on(extension.wait(token, Deadline::after(AGE)));
        self
    }

    /// One that has a copy of the token's entry in the hot cache.
    pub(crate) fn hot() -> Arc<Self> {
        let layer = Self::warm();
        // What is looked up twice gets the slot.
        for _ in 0..2 {
            assert!(layer.look().is_ok());
        }
        layer
    }

    pub(crate) fn key(&self) -> Key {
        self.store.key(TOKEN)
    }

    fn presented(&self, token: &str) -> Arc<Presented> {
        Arc::new(Presented::new(self.store.key(token), Binding::BEARER, token))
    }

    fn look_up(&self, token: &str) -> Option<CacheHit> {
        self.store.look_up(token, Binding::BEARER, self.clock.moment()).1
    }

    fn resolve(&self, presented: &Arc<Presented>, fresh: bool) -> (Resolved, Facts) {
        let freshness = Freshness { fresh, stale: Duration::ZERO };
        self.wait(self.verifier.clone().resolve(presented.clone(), freshness))
    }

    /// What comes of a future, and what was gone when it was polled for the last time: what is invalidated
    /// before that must not be told.
    fn wait<T>(&self, future: impl Future<Output = T>) -> (T, Facts) {
        let mut future = pin!(future);
        block_on(poll_fn(|context| {
            let gone = self.gone.get();
            future.as_mut().poll(context).map(|told| (told, gone))
        }))
    }
}

/// How long a value is in use.
const EVERY: Duration = Duration::from_secs(2);

fn rotation() -> AccessTokenRotation {
    AccessTokenRotation::in_header(HeaderName::from_static("x-new-token"))
        .every(EVERY)
        .overlap(EVERY / 2)
}

fn extension() -> ExtendLifetime {
    ExtendLifetime::new().when_below(4 * AGE).to(10 * AGE)
}

/// What the explorations do.
impl Layer {
    pub(crate) fn told(&self, verdict: Verdict, least: Facts) -> Verdict {
        let facts = match verdict {
            // What is not known is no news.
            Err(Rejection::Unknown) => return verdict,
            // The token has got another value.
            Err(Rejection::Bad) if self.token().value() != TOKEN => return verdict,
            Err(Rejection::Bad) => Facts::END,
            Ok(TokenInfo { facts, .. }) => facts,
        };
        // A verdict that was on its way may tell of less of the token's life.
        let least = Facts { extended: least.extended.min(facts.extended), ..least };
        assert!(facts.are_after(least), "told of {facts:?}, after {least:?}");
        self.least.change(|it| it.raise(facts));
        verdict
    }

    fn told_by(&self, (resolved, gone): (Resolved, Facts), mut least: Facts) -> Verdict {
        least.raise(gone);
        self.told(resolved.verdict, least)
    }

    /// Tells what is cached.
    fn cached(&self, verdict: Verdict, least: Facts) -> Verdict {
        let extended = verdict.map_or(u64::MAX, |token| token.facts.extended);
        assert!(extended >= least.extended, "told of {verdict:?}, after {least:?}");
        self.told(verdict, least)
    }

    /// What must not be told from now on.
    pub(crate) fn gone_by_now(&self) -> Facts {
        self.gone.get()
    }

    fn gone(&self, facts: Facts) {
        self.least.change(|it| it.raise(facts));
        self.gone.change(|it| it.raise(facts));
    }

    /// As a request does.
    pub(crate) fn look(self: &Arc<Self>) -> Verdict {
        self.look_at(TOKEN)
    }

    /// The same with another value.
    pub(crate) fn look_at(self: &Arc<Self>, value: &str) -> Verdict {
        let least = self.least.get();
        match self.look_up(value) {
            Some(hit) => self.cached(hit.verdict, least),
            None => self.told_by(self.resolve(&self.presented(value), false), least),
        }
    }

    /// The same by a request that needs all facts.
    pub(crate) fn ask(self: &Arc<Self>, fresh: bool) -> Verdict {
        let least = self.least.get();
        self.told_by(self.resolve(&self.presented(TOKEN), fresh), least)
    }

    /// As a request does, without a look at what it may be told.
    pub(crate) fn look_unchecked(&self) -> Verdict {
        let asked = || self.resolve(&self.presented(TOKEN), false).0.verdict;
        self.look_up(TOKEN).map_or_else(asked, |hit| hit.verdict)
    }

    /// The same, with a certificate.
    pub(crate) fn ask_with_certificate(self: &Arc<Self>) -> Verdict {
        let least = self.least.get();
        let binding = Binding { certificate: Some([1; 32]), ..Binding::BEARER };
        let presented = Arc::new(Presented::new(self.key(), binding, TOKEN));
        self.told_by(self.resolve(&presented, false), least)
    }

    /// The same, with a proof. What is invalidated before the proof is used up must not be told.
    pub(crate) fn ask_with_proof(self: &Arc<Self>) -> Verdict {
        let least = Arc::new(real::Mutex::new(self.least.get()));
        let meanwhile = {
            let (gone, least) = (self.gone.clone(), least.clone());
            Box::new(move || least.lock().unwrap().raise(gone.get()))
        };
        let prover = Arc::new(Prover { settings: Settings::default(), meanwhile });
        let freshness = Freshness { fresh: false, stale: Duration::ZERO };
        let (proof, presented) = (Proof { nonce: None }, self.presented(TOKEN));
        let resolving = self
            .verifier
            .clone()
            .resolve_with_proof(prover, proof, presented, freshness, false, false);
        let verdict = block_on(resolving).verdict;
        let least = *least.lock().unwrap();
        self.told(verdict, least)
    }

    /// The same twice, by two layers of which the inner one goes by the check of the outer one. What is
    /// invalidated before the inner one looks must not be told by it.
    pub(crate) fn ask_by_two_layers(self: &Arc<Self>) -> Verdict {
        let (Resolved { verdict, check, .. }, least) = self.resolve(&self.presented(TOKEN), false);
        let verdict = self.told(verdict, least);
        let (Ok(token), Some(check)) = (&verdict, check) else { return verdict };
        let least = self.gone.get();
        let known = self.verifier.known_since(&self.key(), &check, token, Duration::ZERO);
        self.told(known.unwrap(), least)
    }

    pub(crate) fn join(&self, at_least: AtLeast) -> CheckJoin {
        self.store.join(self.key(), Binding::BEARER, at_least)
    }

    pub(crate) fn complete(&self, lead: Lead) {
        let presented = self.presented(TOKEN);
        let verdict = block_on(self.authlete.introspect(&presented, false));
        lead.complete(verdict);
    }

    /// The check of a token that is led or joined.
    fn check(&self, at_least: AtLeast) -> Result<Arc<PendingCheck>, Verdict> {
        match self.join(at_least) {
            CheckJoin::Known(verdict) => Err(verdict),
            CheckJoin::Wait(check) => Ok(check),
            CheckJoin::Lead(lead) => {
                let check = lead.check().clone();
                self.complete(lead);
                Ok(check)
            }
            CheckJoin::Full => unreachable!(),
        }
    }

    /// Waits for the verdict of a check, which is led or joined.
    pub(crate) fn ask_once(self: &Arc<Self>) -> Verdict {
        let least = self.least.get();
        let check = match self.check(AtLeast::Cached) {
            Ok(check) => check,
            Err(verdict) => return self.told(verdict, least),
        };
        match self.wait(check.verdict()) {
            (Some(verdict), gone) => self.told(verdict, gone),
            (None, _) => self.ask(false),
        }
    }

    /// Asks again in the background, and waits for the verdict.
    pub(crate) fn revalidate(self: &Arc<Self>) -> Verdict {
        let check = self.verifier.revalidate(&self.presented(TOKEN)).unwrap();
        match self.wait(Verifier::wait(check)) {
            (Resolved { verdict, .. }, gone) => self.told(verdict, gone),
        }
    }

    /// Starts a check, if there is none, that breaks off.
    pub(crate) fn break_off(&self) {
        drop(self.join(AtLeast::Cached));
    }

    /// Starts a check, if there is none, or waits for it, and goes away.
    pub(crate) fn go_away(self: &Arc<Self>) {
        let check = match self.join(AtLeast::Cached) {
            CheckJoin::Wait(check) => check,
            CheckJoin::Lead(lead) => {
                let (check, layer) = (lead.check().clone(), self.clone());
                thread::spawn(move || layer.complete(lead));
                check
            }
            _ => return,
        };
        let _ = at_once(pin!(check.verdict()));
    }

    /// Extends the token, as a request does that is admitted by what it was told and waits for it. What is
    /// invalidated before or while it waits must not be told. The introspection that the extension follows knows what
    /// was changed before that was sent.
    pub(crate) fn extend(self: &Arc<Self>, fresh: bool) -> Verdict {
        let (least, presented) = (self.least.get(), self.presented(TOKEN));
        let (lease, known) = self.verifier.take_lease(&presented);
        let hit = known.filter(|_| !fresh).map(|known| (Resolved::known(known), least));
        let (resolved, gone) = hit.unwrap_or_else(|| self.resolve(&presented, fresh));
        let (verdict, check) = (self.told(resolved.verdict, gone), resolved.check);
        let Ok(token) = verdict else { return verdict };
        let presented = self.verifier.by_current_value(&presented);
        // What the introspection knew, unless another request leads.
        let knew = Arc::new(AtomicU64::new(u64::MAX));
        let admits = {
            let knew = knew.clone();
            Box::new(move |token: TokenInfo| {
                knew.store(token.facts.updated, Ordering::SeqCst);
                true
            })
        };
        let lease = Some(check.as_ref().map_or(lease, |check| check.lease().clone()));
        let lifecycle = &self.lifecycle;
        let extension = lifecycle.extension(&token, presented.clone(), check, lease, || admits);
        let Some(extension) = extension else { return verdict };
        // Not loom's, which would be one more thing to interleave.
        let least = Arc::new(real::Mutex::new(least));
        let raise = {
            let (layer, least) = (self.clone(), least.clone());
            move || least.lock().unwrap().raise(layer.gone.get())
        };
        raise();
        let deadline = Deadline::watched(raise);
        let verdict = block_on(async {
            match extension.wait(token, deadline).await {
                Some(verdict) => verdict,
                None => self.verifier.ask_again(&presented).await,
            }
        });
        let least = *least.lock().unwrap();
        let verdict = self.told(verdict, least);
        if verdict.is_ok_and(|it| it.facts.extended > token.facts.extended) {
            let (knew, gone) = (knew.load(Ordering::SeqCst), self.authlete.attempted());
            assert!(knew >= gone, "extended by what was told of {knew}, after {gone}");
        }
        verdict
    }

    /// Gives the token a new value, as a request does that is answered with success.
    pub(crate) fn rotate(&self) -> Option<String> {
        let rotator = self.lifecycle.rotator.as_ref()?;
        let pending = PendingRotation::due(rotator, self.key(), TOKEN, &Extensions::new())?;
        let value = block_on(pending.start())?;
        let mut headers = HeaderMap::new();
        value.tell(&mut headers);
        Some(headers["x-new-token"].to_str().unwrap().to_owned())
    }

    /// Whether the first value stands for another one.
    pub(crate) fn has_alias(&self) -> bool {
        self.store.alias(&self.key(), Binding::BEARER).is_some()
    }

    /// Somebody else changes the token at Authlete, and nothing is told of it here.
    pub(crate) fn change_elsewhere(&self) {
        self.authlete.change();
    }

    pub(crate) fn revoke_elsewhere(&self) {
        self.authlete.revoke_now(TOKEN);
    }

    /// The next extension is made twice: it fails at first.
    pub(crate) fn failing(self: Arc<Self>) -> Arc<Self> {
        self.authlete.fails.store(true, Ordering::SeqCst);
        self
    }

    /// What has become of the token at Authlete.
    pub(crate) fn token(&self) -> Token {
        self.authlete.token()
    }

    /// Somebody else changes the token, and then it is invalidated.
    pub(crate) fn change_and_invalidate(&self) {
        self.change_and(|| self.lifecycle.invalidate(TOKEN));
    }

    /// The same, and then everything is invalidated.
    pub(crate) fn change_and_invalidate_all(&self) {
        self.change_and(|| self.lifecycle.invalidate_all());
    }

    /// Somebody else changes it, and then this is done.
    pub(crate) fn change_and(&self, invalidate: impl FnOnce()) {
        let change = self.authlete.change();
        invalidate();
        self.gone(Facts { updated: change, asked: change, extended: 0 });
    }

    /// Another token is invalidated.
    pub(crate) fn invalidate_neighbour(&self) {
        self.lifecycle.invalidate(&NEIGHBOUR);
    }

    /// Revokes it, by this value. Tells how many tokens that were.
    pub(crate) fn revoke(&self, value: &str) -> u64 {
        let revoked = block_on(self.lifecycle.revoke(value)).unwrap();
        self.gone(Facts::END);
        revoked
    }

    pub(crate) fn update(&self) {
        self.update_by(TokenUpdateRequest::new());
    }

    pub(crate) fn update_value(&self) {
        self.update_by(TokenUpdateRequest::new().access_token_value_updated(true));
    }

    fn update_by(&self, request: TokenUpdateRequest) {
        let response = block_on(self.lifecycle.update(TOKEN, request)).unwrap();
        self.gone(response.updated);
    }
}

pub(crate) fn beside<T: 'static>(
    layer: &Arc<Layer>,
    run: impl FnOnce(Arc<Layer>) -> T + 'static,
) -> JoinHandle<T> {
    let layer = layer.clone();
    thread::spawn(move || run(layer))
}

pub(crate) fn looks(layer: &Arc<Layer>) -> JoinHandle<Verdict> {
    beside(layer, |layer| layer.look())
}

/// It learnt something.
pub(crate) fn learns(other: JoinHandle<Verdict>) {
    assert!(other.join().unwrap().is_ok());
}
