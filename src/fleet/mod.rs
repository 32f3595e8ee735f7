//! Processes that share what they know of tokens, on Redis or Valkey.
//!
//! A process asks Authlete about a token that no other one has asked about, and a token that is revoked in one
//! process is refused in all of them. The shared tier can only make a fleet quicker and its revocations earlier:
//! whatever of it is lost, late or forged, no answer is used longer than
//! [`max_age`](crate::layer::AuthLayerBuilder::max_age) after Authlete was asked, and Redis in trouble refuses no
//! request with a plain token.
//!
//! ```no_run
//! use std::time::Duration;
//! use tower_authlete::{AuthLayer, Authlete, fleet::Fleet};
//!
//! # async fn example(secret: String) -> Result<(), Box<dyn std::error::Error>> {
//! let fleet = Fleet::redis("rediss://redis.internal")
//!     .secret(secret)
//!     .isolated_max_age(Duration::from_secs(5))
//!     .connect()
//!     .await?;
//! let auth = AuthLayer::builder(Authlete::from_env()?).fleet(fleet).build()?;
//! # let _ = auth;
//! # Ok(())
//! # }
//! ```
//!
//! # What Redis holds
//! For each service 16 buckets, whose keys share a hash tag: the sealed facts of good tokens, a fence for each
//! token that was invalidated in the last ten minutes, a log of invalidations with a counter that has no gaps,
//! and a random generation. Names are digests. Facts are sealed with AES-256-GCM; the key is derived from the
//! token and the [secret](FleetBuilder::secret), neither of which is in Redis. Who can read Redis learns nothing of
//! a token. Who can write to it, but has not the secret, can at most bring back what was true within `max_age`, and
//! invalidate.
//!
//! Beside it: since when tokens are known, if a layer extends or rotates them; digests of used DPoP proofs
//! (`Fleet::replays`); and sealed sessions (`Fleet::sessions`).
//!
//! # What is promised
//! | case | a token that was revoked in another process is refused |
//! |---|---|
//! | this process is connected | as soon as the record arrives, before the other process's `revoke` returns or some ms later |
//! | it is cut off, paused or starved | after 2 s and [`isolated_max_age`](FleetBuilder::isolated_max_age) at most |
//! | Redis has lost its data, or failed over to a replica without the record | the same, counted from the change |
//! | it is connected to an old master beyond a partition | within `max_age` |
//!
//! A process that has not heard from Redis for 2 s is *isolated*: it neither takes nor shares facts, and uses its
//! own for `isolated_max_age` at most. Redis has to keep what it is given: set `maxmemory-policy noeviction`.

use std::{
    fmt,
    sync::{Arc, OnceLock, atomic::AtomicU64},
    time::Duration,
};

use self::{
    address::{Address, Tls},
    link::Link,
    names::{Names, unique},
    outbox::Outbox,
    reader::Reader,
    seal::Sealer,
    tier::{RedisTier, TierScripts},
};
use crate::{
    api::{ConfigError, Problems, Secret},
    clock::{Clock, DAY},
    rejection::Refuser,
    store::{
        BUCKETS, TokenStore,
        tier::{Contact, Tier},
    },
};

mod address;
mod link;
mod names;
mod outbox;
mod position;
mod reader;
#[cfg(feature = "dpop")]
mod replays;
mod scripts;
mod seal;
#[cfg(feature = "session")]
mod sessions;
mod tier;

#[cfg(feature = "dpop")]
#[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
pub use self::replays::FleetReplays;
#[cfg(feature = "session")]
#[cfg_attr(docsrs, doc(cfg(feature = "session")))]
pub use self::sessions::FleetSessions;

/// The shortest secret, in bytes.
const MIN_SECRET: usize = 32;

/// A connection of this process to what a fleet shares. Cloning is cheap; clones share the connection.
#[derive(Clone)]
pub struct Fleet(Arc<Shared>);

struct Shared {
    link: Arc<Link>,
    sealer: Arc<Sealer>,
    isolated_max_age: Duration,
}

/// Settings of a [`Fleet`].
///
/// | setting | unit | default | bounds |
/// |---|---|---|---|
/// | [`secret`](Self::secret) | text | none: it has to be set | at least 32 bytes |
/// | [`old_secret`](Self::old_secret) | text | none | at least 32 bytes |
/// | [`isolated_max_age`](Self::isolated_max_age) | duration | 5 s | at most a day |
/// | [`root_certificate_pem`](Self::root_certificate_pem) | PEM | those of the operating system | at least one |
/// | [`client_certificate_pem`](Self::client_certificate_pem) | PEM | none | a certificate and its key |
///
/// # TLS
/// URLs that begin with `rediss://` are connected to by TLS, with rustls: sentinels and the servers that they name,
/// or all nodes of a cluster. Their certificates have to be for the names or addresses by which sentinels and
/// clusters announce them. The certificates of the operating system are read with each connection, also beside
/// `root_certificate_pem`, which takes some ms: a directory of them that cannot be read is an error.
///
/// The client of Redis uses the crypto provider that is installed in the process. If none is
/// ([`install_default`](rustls::crypto::CryptoProvider::install_default)) when a fleet with TLS is built, that of
/// ring is installed: to use another one, install it before.
#[must_use = "settings do nothing until the fleet is connected"]
pub struct FleetBuilder {
    address: Address,
    secret: Option<Secret>,
    old_secret: Option<Secret>,
    isolated_max_age: Duration,
    tls: Tls,
}

/// Why a fleet cannot be connected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FleetError {
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Redis cannot be reached, or refuses the connection.
    #[error("redis cannot be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Fleet {
    /// A fleet on one Redis, or on a service that looks like one: `redis://[user:password@]host[:port][/db]`, with
    /// TLS `rediss://`.
    pub fn redis(url: impl Into<String>) -> FleetBuilder {
        FleetBuilder::new(Address::Single(url.into()))
    }

    /// A fleet on the master of this name, which the sentinels at these URLs tell. User and password of the first
    /// URL, and its database, are those of all sentinels and servers.
    pub fn sentinel<U: Into<String>>(
        urls: impl IntoIterator<Item = U>,
        master: impl Into<String>,
    ) -> FleetBuilder {
        let urls = urls.into_iter().map(Into::into).collect();
        FleetBuilder::new(Address::Sentinel(urls, master.into()))
    }

    /// A fleet on a cluster, some of whose nodes are at these URLs.
    pub fn cluster<U: Into<String>>(urls: impl IntoIterator<Item = U>) -> FleetBuilder {
        FleetBuilder::new(Address::Cluster(urls.into_iter().map(Into::into).collect()))
    }

    /// A store of used DPoP proofs that all processes share. It is of no service: layers with other tokens can use
    /// it, too.
    #[cfg(feature = "dpop")]
    #[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
    #[must_use]
    pub fn replays(&self) -> FleetReplays {
        FleetReplays::new(self.0.link.clone())
    }

    /// A store of sessions that all processes share.
    #[cfg(feature = "session")]
    #[cfg_attr(docsrs, doc(cfg(feature = "session")))]
    #[must_use]
    pub fn sessions(&self) -> FleetSessions {
        FleetSessions::new(self.0.link.clone(), self.0.sealer.clone())
    }

    /// The tier of a layer, which shares nothing until it is [started](Seat::start).
    pub(crate) fn seat(&self, layer: FleetLayer) -> Seat {
        let Shared { link, sealer, isolated_max_age } = &*self.0;
        let FleetLayer { service, check, clock, refuser } = layer;
        let names = Names::new(&service);
        let origin = unique();
        let contact = Arc::new(Contact::none(*isolated_max_age));
        let outbox = Outbox::new(link.clone(), names.clone(), origin, clock.clone());
        let tier = RedisTier {
            link: link.clone(),
            names,
            sealer: sealer.clone(),
            outbox: Arc::new(outbox),
            contact,
            clock,
            refuser,
            check,
            origin,
            scripts: TierScripts::new(),
            readers: OnceLock::new(),
        };
        Seat(Arc::new(tier))
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").finish_non_exhaustive()
    }
}

/// What the tier has to know of a layer.
pub(crate) struct FleetLayer {
    /// The digest that names the service.
    pub(crate) service: [u8; 32],
    /// By which API tokens are checked: each tells other facts.
    pub(crate) check: &'static str,
    pub(crate) clock: Clock,
    pub(crate) refuser: Arc<Refuser>,
}

/// The place of a layer in a fleet.
pub(crate) struct Seat(Arc<RedisTier>);

impl Seat {
    pub(crate) fn tier(&self) -> (Arc<dyn Tier>, Arc<Contact>) {
        (self.0.clone(), self.0.contact.clone())
    }

    /// Follows what other processes invalidate, as long as the store lives.
    pub(crate) fn start(self, store: &Arc<TokenStore>) {
        let tier = &self.0;
        let buckets: Vec<Vec<usize>> = if tier.link.server().is_cluster() {
            (0..BUCKETS).map(|bucket| vec![bucket]).collect()
        } else {
            vec![(0..BUCKETS).collect()]
        };
        let leases: Arc<[AtomicU64]> = buckets.iter().map(|_| AtomicU64::new(0)).collect();
        let reader = |(place, buckets)| Reader {
            link: tier.link.clone(),
            names: tier.names.clone(),
            buckets,
            store: Arc::downgrade(store),
            contact: tier.contact.clone(),
            leases: (leases.clone(), place),
            clock: tier.clock.clone(),
            origin: tier.origin,
        };
        let runtime = tier.link.runtime();
        let spawn = |reader: Reader| runtime.spawn(reader.run()).abort_handle();
        let readers = buckets.into_iter().enumerate().map(reader).map(spawn).collect();
        // It is started once.
        let _ = tier.readers.set(readers);
        runtime.spawn(tier.outbox.clone().run());
    }
}

impl FleetBuilder {
    fn new(address: Address) -> Self {
        Self {
            address,
            secret: None,
            old_secret: None,
            isolated_max_age: Duration::from_secs(5),
            tls: Tls::default(),
        }
    }

    /// What all processes of the fleet know and Redis does not: at least 32 random bytes. Facts and sessions are sealed
    /// by it.
    /// Processes with another secret share no facts with these, but hear of their invalidations.
    pub fn secret(self, secret: impl Into<Secret>) -> Self {
        Self { secret: Some(secret.into()), ..self }
    }

    /// A secret whose facts are read, too. To replace a secret, give all processes the new one as the old one,
    /// then swap both, then take the old one away.
    pub fn old_secret(self, secret: impl Into<Secret>) -> Self {
        Self { old_secret: Some(secret.into()), ..self }
    }

    /// For how long a process uses what it knows once it does not hear from Redis any more, or once records of
    /// invalidations may have been lost: until then, tokens in use are asked about anew, spread over that time.
    /// Default: 5 s. At most a day; beyond `max_age` it changes nothing.
    pub fn isolated_max_age(self, age: Duration) -> Self {
        Self { isolated_max_age: age, ..self }
    }

    /// The certificate authorities to trust, as PEM, in place of those of the operating system.
    pub fn root_certificate_pem(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.tls.roots = Some(pem.as_ref().to_vec());
        self
    }

    /// The certificate of this client, with those between it and its authority, and its private key, each as PEM,
    /// for servers that ask for one (`tls-auth-clients`). Default: none.
    pub fn client_certificate_pem(
        mut self,
        chain: impl AsRef<[u8]>,
        key: impl Into<Secret>,
    ) -> Self {
        self.tls.client = Some((chain.as_ref().to_vec(), key.into()));
        self
    }

    /// Connects to Redis.
    ///
    /// # Errors
    /// If a setting is wrong, or Redis cannot be reached.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect(self) -> Result<Fleet, FleetError> {
        let fleet = self.build()?;
        let connected = fleet.0.link.connect().await;
        connected.map_err(|error| FleetError::Unreachable(error.into()))?;
        Ok(fleet)
    }

    /// Connects to Redis in the background, so that a process starts while Redis cannot be reached. Until it is
    /// connected, it is isolated.
    ///
    /// # Errors
    /// If a setting is wrong.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn connect_lazily(self) -> Result<Fleet, ConfigError> {
        let fleet = self.build()?;
        fleet.0.link.reconnect();
        Ok(fleet)
    }

    fn build(self) -> Result<Fleet, ConfigError> {
        let mut problems = Problems::default();
        let server = self.address.open(&self.tls, &mut problems);
        self.validate(&mut problems);
        let server = problems.finish(server)?;
        let clock = Clock::system();
        let secrets = self.secret.iter().chain(&self.old_secret);
        Ok(Fleet(Arc::new(Shared {
            link: Link::new(Arc::new(server), clock),
            sealer: Arc::new(Sealer::new(secrets)),
            isolated_max_age: self.isolated_max_age,
        })))
    }

    fn validate(&self, problems: &mut Problems) {
        let remedy = "give at least 32 random bytes, the same ones to all processes";
        let mut check = |setting, secret: Option<&Secret>| match secret {
            Some(secret) if secret.expose().len() >= MIN_SECRET => {}
            Some(secret) => {
                problems.add(setting, format!("{} bytes", secret.expose().len()), remedy);
            }
            None if setting == "fleet.secret" => problems.add(setting, "not set", remedy),
            None => {}
        };
        check("fleet.secret", self.secret.as_ref());
        check("fleet.old_secret", self.old_secret.as_ref());
        if self.isolated_max_age > DAY {
            let problem = format!("{} ms", self.isolated_max_age.as_millis());
            problems.add("fleet.isolated_max_age", problem, "give at most a day");
        }
    }
}

impl fmt::Debug for FleetBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetBuilder").finish_non_exhaustive()
    }
}
