//! Processes that serve sessions from one store, which is slow and fails at times.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
};

use axum::Router;
use rand::{Rng, rngs::StdRng};
use tower::{BoxError, ServiceBuilder};
use tower_authlete::{
    AuthLayer, Authlete,
    api::Secret,
    clock::Clock,
    emulator::Emulator,
    session::{
        MemoryStore, Replaced, SessionId, SessionLayer, SessionStore, SessionTokens, Sessions,
    },
};

use super::{environment::routes, log::Log, tally::Visits, time_scale::TimeScale};

/// How many processes there are.
pub(crate) const PROCESSES: usize = 2;

/// How many yields a call of the store takes at most.
const TURNS: u64 = 24;

/// How many recently stored tokens are remembered.
const REMEMBERED: usize = 64;

/// Before how much of an access token's life it is renewed (s).
const MARGIN: u32 = 30;

/// A layer for sessions around one for tokens.
pub(crate) struct Process {
    pub(crate) router: Router,
    pub(crate) sessions: Sessions<Way>,
    pub(crate) way: Way,
}

impl Process {
    pub(super) fn new(
        authlete: &Emulator,
        client: Authlete,
        (layer, clock): (AuthLayer, Clock),
        store: &Arc<Shared>,
        time_scale: TimeScale,
    ) -> Self {
        let way = Way { shared: store.clone(), state: Arc::default() };
        let sessions = SessionLayer::builder(client, way.clone())
            .client(authlete.client_id().to_string(), authlete.client_secret())
            .clock(clock)
            .margin(time_scale.seconds(MARGIN))
            .store_deadline(time_scale.deadline)
            .build()
            .unwrap();
        let handle = sessions.sessions();
        let router = routes().layer(ServiceBuilder::new().layer(sessions).layer(layer));
        Self { router, sessions: handle, way }
    }
}

/// How the store is reached.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(crate) enum State {
    Good,
    /// Calls have no effect.
    Down,
    /// Calls take effect, and fail.
    Deaf,
}

/// What all processes share.
pub(crate) struct Shared {
    memory: MemoryStore,
    log: Log,
    random: AtomicU64,
    under_way: AtomicUsize,
    visits: Mutex<Visits>,
    /// Recently stored tokens. No browser may see them.
    tokens: Mutex<VecDeque<String>>,
}

impl Shared {
    pub(super) fn new(rng: &mut StdRng, log: Log) -> Self {
        Self {
            memory: MemoryStore::default(),
            log,
            random: AtomicU64::new(rng.next_u64()),
            under_way: AtomicUsize::new(0),
            visits: Mutex::default(),
            tokens: Mutex::default(),
        }
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.under_way.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn count(&self, visits: &mut Visits) {
        let seen = self.visits.lock().unwrap();
        (visits.renewed, visits.rotated, visits.conflicts) =
            (seen.renewed, seen.rotated, seen.conflicts);
    }

    /// Whether a text holds a token that was stored.
    pub(crate) fn shows(&self, text: &str) -> bool {
        self.tokens.lock().unwrap().iter().any(|token| text.contains(token))
    }

    fn remember(&self, new: &SessionTokens) {
        let mut tokens = self.tokens.lock().unwrap();
        for token in [Some(&new.access_token), new.refresh_token.as_ref()].into_iter().flatten() {
            if !tokens.iter().any(|known| known == token.expose()) {
                self.log.look_for(token.expose().to_owned());
                tokens.push_back(token.expose().to_owned());
            }
        }
        let old = tokens.len().saturating_sub(REMEMBERED);
        tokens.drain(..old);
    }

    fn note(&self, loaded: &SessionTokens, new: &SessionTokens, replaced: Replaced) {
        let secret = |token: &Option<Secret>| token.as_ref().map(|it| it.expose().to_owned());
        let mut visits = self.visits.lock().unwrap();
        if replaced == Replaced::Conflict {
            visits.conflicts += 1;
        } else if secret(&loaded.refresh_token) != secret(&new.refresh_token) {
            visits.renewed += 1;
        } else if loaded.access_token.expose() != new.access_token.expose() {
            visits.rotated += 1;
        }
    }

    /// The seed of the delay of a call.
    fn turns(&self) -> u64 {
        let seed = self.random.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed ^ (mixed >> 27)) % TURNS
    }
}

/// The store as one process reaches it.
#[derive(Clone)]
pub(crate) struct Way {
    shared: Arc<Shared>,
    state: Arc<AtomicU8>,
}

struct UnderWay<'s>(&'s Shared);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Way {
    pub(crate) fn set(&self, state: State) {
        self.state.store(state as u8, Ordering::SeqCst);
    }

    async fn go<T>(&self, call: impl Future<Output = Result<T, BoxError>>) -> Result<T, BoxError> {
        self.shared.under_way.fetch_add(1, Ordering::SeqCst);
        let _under_way = UnderWay(&self.shared);
        let turns = self.shared.turns();
        for _ in 0..turns / 2 {
            tokio::task::yield_now().await;
        }
        let state = self.state.load(Ordering::SeqCst);
        if state == State::Down as u8 {
            return Err("the store is down".into());
        }
        let answer = call.await;
        for _ in 0..turns / 2 {
            tokio::task::yield_now().await;
        }
        if state == State::Deaf as u8 {
            Err("the answer of the store is lost".into())
        } else {
            answer
        }
    }
}

impl SessionStore for Way {
    async fn load(&self, id: &SessionId) -> Result<Option<SessionTokens>, BoxError> {
        self.go(self.shared.memory.load(id)).await
    }

    async fn insert(&self, id: &SessionId, tokens: &SessionTokens) -> Result<(), BoxError> {
        self.shared.remember(tokens);
        self.go(self.shared.memory.insert(id, tokens)).await
    }

    async fn replace(
        &self,
        id: &SessionId,
        loaded: &SessionTokens,
        new: &SessionTokens,
    ) -> Result<Replaced, BoxError> {
        self.shared.remember(new);
        let replaced = self.go(self.shared.memory.replace(id, loaded, new)).await?;
        self.shared.note(loaded, new, replaced);
        Ok(replaced)
    }

    async fn remove(&self, id: &SessionId) -> Result<Option<SessionTokens>, BoxError> {
        self.go(self.shared.memory.remove(id)).await
    }
}
