//! Sessions of browsers that all processes of a fleet serve.

use std::{fmt, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use redis::{FromRedisValue, Script, ScriptInvocation};
use tower::BoxError;

use super::{
    link::{Link, SLOW_CALL},
    names, scripts,
    seal::Sealer,
};
use crate::{
    clock::CENTURY,
    session::{Replaced, SessionId, SessionStore, SessionTokens},
    store::digest_of,
};

/// How long a session is kept by default: 30 days.
const LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

const UNREADABLE: &str = "a stored session cannot be read: it was sealed with another secret";

/// Keeps sessions in the Redis of a fleet: [`Fleet::sessions`](super::Fleet::sessions).
///
/// All processes serve all sessions. Their tokens are replaced by compare-and-set in a script, so that one process
/// renews a session for all, and a session that ends in one process has ended in all. A claim of a renewal ends by
/// the clock of Redis.
///
/// Tokens are sealed with AES-256-GCM: by a key that is derived from the fleet's
/// [secret](super::FleetBuilder::secret) and the digest of the session's cookie. Redis has neither; it names a
/// session by another digest. To replace the secret without ending sessions, keep the old one as
/// [`old_secret`](super::FleetBuilder::old_secret) until each session was renewed or has expired.
///
/// Without Redis there are no sessions: a call fails within 500 ms, or at once if the connection is lost, and the
/// [`SessionLayer`](crate::session::SessionLayer) responds with 503. After a loss of data, or a failover to a
/// replica that lacks what was written last, a session can be gone, or have tokens that are used up: it ends, and
/// its user has to log in. Let Redis keep what it is given: `maxmemory-policy noeviction`, and append-only files
/// or replicas.
///
/// ```no_run
/// use std::time::Duration;
/// use tower_authlete::{Authlete, fleet::Fleet, session::SessionLayer};
///
/// # async fn example(secret: String) -> Result<(), Box<dyn std::error::Error>> {
/// let fleet = Fleet::redis("rediss://redis.internal").secret(secret).connect().await?;
/// let store = fleet.sessions().life(Duration::from_secs(8 * 60 * 60));
/// let sessions = SessionLayer::builder(Authlete::from_env()?, store)
///     .client("26478243745571", "client-secret")
///     .build()?;
/// # let _ = sessions;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FleetSessions {
    link: Arc<Link>,
    sealer: Arc<Sealer>,
    life: Duration,
    application: Arc<str>,
    scripts: Arc<Scripts>,
}

struct Scripts {
    load: Script,
    store: Script,
    remove: Script,
}

impl FleetSessions {
    pub(super) fn new(link: Arc<Link>, sealer: Arc<Sealer>) -> Self {
        let [load, store, remove] =
            [scripts::LOAD_SESSION, scripts::STORE_SESSION, scripts::REMOVE_SESSION]
                .map(Script::new);
        let scripts = Arc::new(Scripts { load, store, remove });
        Self { link, sealer, life: LIFE, application: "".into(), scripts }
    }

    /// A session whose tokens do not change for so long expires: give the lifetime of refresh tokens. Default: 30
    /// days. At least a second, and at most 100 years.
    #[must_use]
    pub fn life(self, life: Duration) -> Self {
        Self { life: life.clamp(Duration::from_secs(1), CENTURY), ..self }
    }

    /// The application that the sessions belong to. Another one with the same fleet knows none of them. Default:
    /// no name.
    #[must_use]
    pub fn application(self, name: &str) -> Self {
        Self { application: name.into(), ..self }
    }

    /// The name of a session in Redis. It does not tell what its tokens are sealed with.
    fn name(&self, id: &SessionId) -> String {
        let parts = [b"session".as_slice(), self.application.as_bytes(), id.digest()];
        names::session(&BASE64_URL_SAFE_NO_PAD.encode(digest_of(parts)))
    }

    fn context(name: &str, version: &str) -> Vec<u8> {
        [name.as_bytes(), version.as_bytes()].concat()
    }

    async fn call<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, BoxError> {
        Ok(self.link.call_within(SLOW_CALL, script).await?)
    }

    /// Stores tokens, if those of the loaded version are stored, or if there is none for a new session.
    async fn store(
        &self,
        id: &SessionId,
        loaded: &str,
        tokens: &SessionTokens,
    ) -> Result<bool, BoxError> {
        let (name, version) = (self.name(id), tokens.version());
        let context = Self::context(&name, &version);
        // An error of serde would quote the tokens.
        let plain = serde_json::to_vec(tokens).map_err(|_| "the tokens cannot be written")?;
        let sealed = self.sealer.seal(id.digest(), &context, plain);
        let sealed = sealed.map_err(|_| "the tokens are too long, or there is no randomness")?;
        let life = u64::try_from(self.life.as_millis()).unwrap_or(u64::MAX);
        let mut call = self.scripts.store.key(name);
        call.arg(loaded).arg(version).arg(sealed).arg(tokens.claims()).arg(life);
        self.call(&call).await
    }

    fn open(
        &self,
        id: &SessionId,
        version: &str,
        sealed: &[u8],
    ) -> Result<Option<SessionTokens>, BoxError> {
        if sealed.is_empty() {
            return Ok(None);
        }
        let context = Self::context(&self.name(id), version);
        let plain = self.sealer.open(id.digest(), &context, sealed).map_err(|_| UNREADABLE)?;
        Ok(Some(serde_json::from_slice(&plain).map_err(|_| UNREADABLE)?))
    }
}

impl fmt::Debug for FleetSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetSessions")
            .field("life", &self.life)
            .field("application", &self.application)
            .finish_non_exhaustive()
    }
}

impl SessionStore for FleetSessions {
    async fn load(&self, id: &SessionId) -> Result<Option<SessionTokens>, BoxError> {
        let call = self.scripts.load.key(self.name(id));
        let (version, sealed, age): (String, Vec<u8>, i64) = self.call(&call).await?;
        let tokens = self.open(id, &version, &sealed)?;
        Ok(tokens.map(|tokens| tokens.with_claim_age(age)))
    }

    async fn insert(&self, id: &SessionId, tokens: &SessionTokens) -> Result<(), BoxError> {
        self.store(id, "", tokens).await.map(|_| ())
    }

    async fn replace(
        &self,
        id: &SessionId,
        loaded: &SessionTokens,
        new: &SessionTokens,
    ) -> Result<Replaced, BoxError> {
        let done = self.store(id, &loaded.version(), new).await?;
        Ok(if done { Replaced::Done } else { Replaced::Conflict })
    }

    async fn remove(&self, id: &SessionId) -> Result<Option<SessionTokens>, BoxError> {
        let call = self.scripts.remove.key(self.name(id));
        let (version, sealed): (String, Vec<u8>) = self.call(&call).await?;
        self.open(id, &version, &sealed)
    }
}
