//! Proofs that were used, as all processes of a fleet know them.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use redis::{RedisResult, pipe};

use super::{
    FleetError,
    link::{CALL, Connection, Link},
    names,
};
use crate::{
    api::Problems,
    proof::{MemoryReplays, ProofId, ProofUse, ProofUseFuture, ReplayStore},
};

/// For how much longer than a proof is good it is kept, since clocks of processes differ.
const CLOCKS: Duration = Duration::from_secs(60);

/// How long a replica is waited for at most.
const MAX_WAIT: Duration = Duration::from_millis(400);

/// Records used DPoP proofs for all processes of a fleet: [`Fleet::replays`](super::Fleet::replays).
///
/// A proof is recorded in this process first, then in Redis by `SET NX PX`, for as long as it is good and a minute
/// more, by which the clocks of processes may differ. It takes about 150 bytes in each. What is known in this
/// process is refused without a call, whatever Redis has lost.
///
/// | case | a proof that was used in another process |
/// |---|---|
/// | Redis answers | is refused with 401 |
/// | Redis does not answer within 50 ms, or has no room | passes here once, or is refused with 503: [`refuse_without_redis`](Self::refuse_without_redis) |
/// | Redis has lost its data, or failed over to a replica that lacks the record | passes here once, within its minute; see [`wait_for_replicas`](Self::wait_for_replicas) |
///
/// In this process itself, no proof passes twice in any case.
///
/// ```no_run
/// use tower_authlete::{AuthLayer, Authlete, Dpop, fleet::Fleet};
///
/// # async fn example(secret: String) -> Result<(), Box<dyn std::error::Error>> {
/// let fleet = Fleet::redis("rediss://redis.internal").secret(secret).connect().await?;
/// let dpop = Dpop::for_origin("https://api.example.com").replay_store(fleet.replays());
/// let auth = AuthLayer::builder(Authlete::from_env()?).fleet(fleet).dpop(dpop).build()?;
/// # let _ = auth;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FleetReplays {
    link: Arc<Link>,
    own: Arc<MemoryReplays>,
    refuses: bool,
    replicas: Option<Replicas>,
}

/// Who has to have a record.
#[derive(Clone, Copy)]
struct Replicas {
    number: usize,
    timeout: Duration,
}

impl FleetReplays {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self { link, own: Arc::default(), refuses: false, replicas: None }
    }

    /// The store of this process. Default: [`MemoryReplays::default`], with room for 250 000 proofs. While it is
    /// full, Redis alone tells what was used; without Redis, requests are then refused with 503.
    #[must_use]
    pub fn in_process(self, own: MemoryReplays) -> Self {
        Self { own: Arc::new(own), ..self }
    }

    /// Refuses requests with a proof by 503 while Redis does not answer. Default: what this process knows decides,
    /// so that Redis in trouble refuses nobody, and a proof may pass once in each process meanwhile.
    ///
    /// A client needs a new proof after that 503: the one before counts as used.
    #[must_use]
    pub fn refuse_without_redis(self) -> Self {
        Self { refuses: true, ..self }
    }

    /// Waits until so many replicas have the record of a proof (`WAIT`), up to this time (1 to 400 ms), so that it
    /// survives a failover to one of them. What fewer replicas have by then counts as not recorded by Redis.
    ///
    /// This uses a connection of its own, on which the proofs of this process wait one after another: the time
    /// until a replica has one bounds how many pass in a second. Not for a cluster.
    ///
    /// # Errors
    /// If there are to be no replicas, the time is out of bounds, the fleet is on a cluster, or Redis cannot be
    /// reached.
    pub async fn wait_for_replicas(
        self,
        number: usize,
        timeout: Duration,
    ) -> Result<Self, FleetError> {
        let problems = wrong(number, timeout, self.link.server().is_cluster());
        problems.finish(Some(())).map_err(FleetError::from)?;
        let link = self.link.another();
        link.connect().await.map_err(|error| FleetError::Unreachable(error.into()))?;
        Ok(Self { link, replicas: Some(Replicas { number, timeout }), ..self })
    }

    /// Whether Redis has recorded the first use of a proof; `None` if it does not tell.
    async fn record(&self, proof: &ProofId, life: Duration) -> Option<bool> {
        let (name, replicas) = (names::proof(proof.as_bytes()), self.replicas);
        let time = CALL + replicas.map_or(Duration::ZERO, |it| it.timeout);
        let record =
            |connection| async move { record(connection, &name, millis(life), replicas).await };
        self.link.guarded(time, record).await?
    }
}

fn wrong(number: usize, timeout: Duration, is_cluster: bool) -> Problems {
    let (mut problems, setting) = (Problems::default(), "wait_for_replicas");
    if number == 0 {
        problems.add(setting, "0 replicas", "give how many replicas have to have a record");
    }
    if timeout < Duration::from_millis(1) || timeout > MAX_WAIT {
        let problem = format!("{} ms", timeout.as_millis());
        problems.add(setting, problem, "give 1 to 400 ms");
    }
    if is_cluster {
        let remedy = "leave it out, or use a fleet on one Redis or on sentinels";
        problems.add(setting, "the fleet is on a cluster", remedy);
    }
    problems
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Whether this use is the first; `None` if too few replicas know.
async fn record(
    mut connection: Connection,
    name: &str,
    life: u64,
    replicas: Option<Replicas>,
) -> RedisResult<Option<bool>> {
    let mut calls = pipe();
    calls.cmd("SET").arg(name).arg("").arg("NX").arg("PX").arg(life);
    let Some(Replicas { number, timeout }) = replicas else {
        let (set,): (Option<String>,) = calls.query_async(&mut connection).await?;
        return Ok(Some(set.is_some()));
    };
    // A pipeline is sent whole, also on a connection that many share. `WAIT` is about all that was written on
    // the connection before it.
    calls.cmd("WAIT").arg(number).arg(millis(timeout));
    let (set, known): (Option<String>, usize) = calls.query_async(&mut connection).await?;
    Ok(match set {
        None => Some(false),
        Some(_) if known < number => None,
        Some(_) => Some(true),
    })
}

impl ReplayStore for FleetReplays {
    fn record_use(&self, proof: ProofId, until: SystemTime, now: SystemTime) -> ProofUseFuture<'_> {
        Box::pin(async move {
            let own = self.own.record_use(proof, until, now).await;
            if own == ProofUse::Replay {
                return own;
            }
            let life = until.duration_since(now).unwrap_or_default().saturating_add(CLOCKS);
            match self.record(&proof, life).await {
                Some(true) => ProofUse::First,
                Some(false) => ProofUse::Replay,
                None if self.refuses => ProofUse::Unknown,
                None => own,
            }
        })
    }
}

impl fmt::Debug for FleetReplays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetReplays").field("refuses", &self.refuses).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ConfigError;

    #[test]
    fn replicas_that_cannot_be_waited_for_are_a_mistake() {
        let ms = Duration::from_millis;
        let check = |number, time, cluster| -> Result<(), ConfigError> {
            wrong(number, time, cluster).finish(Some(()))
        };
        assert!(check(1, ms(1), false).is_ok() && check(2, MAX_WAIT, false).is_ok());
        for (number, time, cluster) in
            [(0, ms(10), false), (1, ms(0), false), (1, ms(401), false), (1, ms(10), true)]
        {
            let error = check(number, time, cluster).unwrap_err();
            assert!(error.iter().map(|it| it.setting()).eq(["wait_for_replicas"]));
        }
    }
}
