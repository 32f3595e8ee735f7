//! The log of invalidations, as this process follows it.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{
    FromRedisValue, RedisResult, Script,
    streams::{StreamId, StreamReadOptions, StreamReadReply},
};
use tokio::time::{Instant, sleep};

use super::{
    link::{Connection, Link},
    names::{Names, unique},
    scripts,
};
use crate::{
    clock::Clock,
    observe::limited,
    store::{Key, TokenStore, tier::Contact},
};

/// How often the state of the log is looked at, and how long a read of it waits at most.
const ROUND: Duration = Duration::from_millis(500);

/// How long (ms) after a look at the log this process counts as told of invalidations.
pub(super) const LEASE: u64 = 2000;

/// How long an answer may take beyond the time that it waits for records.
const ANSWER: Duration = Duration::from_millis(500);

/// How many records are read at once.
const BATCH: usize = 1000;

/// The pause after a failure, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Applies what other processes invalidate, of some buckets, in the store of a layer.
pub(super) struct Reader {
    pub(super) link: Arc<Link>,
    pub(super) names: Names,
    pub(super) buckets: Vec<usize>,
    pub(super) store: Weak<TokenStore>,
    pub(super) contact: Arc<Contact>,
    /// Until when each reader of the layer has told of invalidations, and the place of this one.
    pub(super) leases: (Arc<[AtomicU64]>, usize),
    pub(super) clock: Clock,
    pub(super) origin: [u8; 16],
}

/// The state of the log in one bucket.
#[derive(Clone, PartialEq, Eq)]
struct Place {
    generation: Vec<u8>,
    /// How many records were written.
    number: u64,
    /// The ID of the last one.
    id: String,
}

/// The state of the log.
#[derive(Clone)]
struct State {
    /// Names the history of the server, which a failover changes.
    history: String,
    places: Vec<Place>,
}

/// Whether what was read continues what was read before.
#[derive(PartialEq, Eq)]
enum Reading {
    Continues,
    /// Records are missing.
    Broken,
}

impl Reader {
    /// Follows the log until the task is aborted.
    pub(super) async fn run(self) {
        let mut pause = PAUSE.0;
        let mut known = None;
        let watch = Script::new(scripts::WATCH);
        loop {
            let connection = self.link.server().connect(ROUND + ANSWER).await;
            let followed = match connection {
                Ok(mut connection) => {
                    self.follow(&mut connection, &watch, &mut known, &mut pause).await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = followed {
                let cause = &error as &dyn std::error::Error;
                limited!(
                    warn,
                    self.link.log(),
                    error = cause,
                    "the log of invalidations cannot be read"
                );
            }
            sleep(pause).await;
            pause = (2 * pause).min(PAUSE.1);
        }
    }

    /// Follows the log as long as the connection lasts.
    async fn follow(
        &self,
        connection: &mut Connection,
        watch: &Script,
        known: &mut Option<State>,
        pause: &mut Duration,
    ) -> RedisResult<()> {
        loop {
            let sent = self.clock.moment().monotonic;
            let state = self.watch(connection, watch).await?;
            if !self.catch_up(connection, known, &state).await? {
                self.begin_anew(connection, known, &state).await?;
                continue;
            }
            // All that was invalidated before the look has been applied.
            self.extend(sent + LEASE);
            self.link.answered();
            *pause = PAUSE.0;
            let end = Instant::now() + ROUND;
            while let Some(left) =
                end.checked_duration_since(Instant::now()).filter(|it| !it.is_zero())
            {
                let Some(known) = known.as_mut() else { break };
                if self.read(connection, known, left).await? == Reading::Broken {
                    break;
                }
            }
        }
    }

    fn extend(&self, until: u64) {
        let (leases, place) = &self.leases;
        leases[*place].store(until, Ordering::Release);
        let least = leases.iter().map(|lease| lease.load(Ordering::Acquire)).min();
        self.contact.extend(least.unwrap_or_default());
    }

    async fn watch(&self, connection: &mut Connection, watch: &Script) -> RedisResult<State> {
        let mut call = watch.prepare_invoke();
        for bucket in &self.buckets {
            call.key(self.names.generation(*bucket));
            call.key(self.names.counter(*bucket)).key(self.names.log(*bucket));
        }
        call.arg(&unique());
        let state: Vec<redis::Value> = call.invoke_async(connection).await?;
        let mut state = state.into_iter();
        let history = state.next().map(String::from_redis_value).transpose()?.unwrap_or_default();
        let place = |place| {
            let (generation, number, id) = FromRedisValue::from_redis_value(place)?;
            Ok(Place { generation, number, id })
        };
        let places = state.map(place).collect::<RedisResult<Vec<_>>>()?;
        Ok(State { history, places })
    }

    /// Applies all records up to this state of the log. Tells whether they continue what is known.
    async fn catch_up(
        &self,
        connection: &mut Connection,
        known: &mut Option<State>,
        state: &State,
    ) -> RedisResult<bool> {
        let Some(known) = known else { return Ok(false) };
        if known.history != state.history {
            return Ok(false);
        }
        let behind = |known: &State| {
            let mut places = known.places.iter().zip(&state.places);
            places.any(|(known, now)| known.number < now.number)
        };
        while behind(known) {
            let before: u64 = known.places.iter().map(|place| place.number).sum();
            if self.read(connection, known, ROUND).await? == Reading::Broken {
                return Ok(false);
            }
            let after: u64 = known.places.iter().map(|place| place.number).sum();
            if after == before {
                return Ok(false);
            }
        }
        let mut places = known.places.iter().zip(&state.places);
        Ok(places.all(|(known, now)| known.number > now.number || known == now))
    }

    /// Begins with this state, since records may have been missed: what is known is in doubt.
    async fn begin_anew(
        &self,
        connection: &mut Connection,
        known: &mut Option<State>,
        state: &State,
    ) -> RedisResult<()> {
        let failover = known.as_ref().is_some_and(|known| known.history != state.history);
        if failover {
            // Fences may be lost, too: answers from before are not shared any more.
            for (bucket, place) in self.buckets.iter().zip(&state.places) {
                self.renew(connection, *bucket, &place.generation).await?;
            }
        }
        if known.is_some() {
            limited!(warn, self.link.log(), "records of invalidations may have been lost");
        }
        if let Some(store) = self.store.upgrade() {
            store.doubt_all();
        }
        // The generation has changed: the next look begins with that.
        *known = (!failover).then(|| state.clone());
        Ok(())
    }

    async fn renew(
        &self,
        connection: &mut Connection,
        bucket: usize,
        lost: &[u8],
    ) -> RedisResult<()> {
        let script = Script::new(scripts::RENEW);
        let mut call = script.key(self.names.generation(bucket));
        call.arg(lost).arg(&unique());
        call.invoke_async(connection).await
    }

    /// Waits for records, and applies them.
    async fn read(
        &self,
        connection: &mut Connection,
        known: &mut State,
        wait: Duration,
    ) -> RedisResult<Reading> {
        let names: Vec<_> = self.buckets.iter().map(|bucket| self.names.log(*bucket)).collect();
        let ids: Vec<_> = known.places.iter().map(|place| place.id.as_str()).collect();
        // Zero would wait for ever.
        let wait = usize::try_from(wait.as_millis()).unwrap_or(1).max(1);
        let options = StreamReadOptions::default().block(wait).count(BATCH);
        let reply: Option<StreamReadReply> =
            redis::AsyncCommands::xread_options(connection, &names, &ids, &options).await?;
        for log in reply.into_iter().flat_map(|reply| reply.keys) {
            let Some(place) = names.iter().position(|name| *name == log.key) else { continue };
            for record in log.ids {
                if self.apply(&record, &mut known.places[place]) == Reading::Broken {
                    return Ok(Reading::Broken);
                }
            }
        }
        Ok(Reading::Continues)
    }

    /// Applies a record that continues the log.
    fn apply(&self, record: &StreamId, place: &mut Place) -> Reading {
        if record.get::<u64>("n") != Some(place.number + 1) {
            return Reading::Broken;
        }
        let generation = record.get::<Vec<u8>>("g");
        let token = record.get::<Vec<u8>>("t").and_then(|key| key.try_into().ok());
        // What this process has invalidated, it has invalidated here.
        let own = record.get::<Vec<u8>>("o").is_some_and(|origin| origin == self.origin);
        let store = self.store.upgrade().filter(|_| !own);
        match (&generation, token) {
            (Some(_), _) => store.iter().for_each(|store| store.invalidate_all_here()),
            (None, Some(key)) => {
                store.iter().for_each(|store| store.invalidate_here(Key::of_bytes(key)));
            }
            // Of a kind that this version does not know.
            (None, None) => return Reading::Broken,
        }
        place.number += 1;
        place.id.clone_from(&record.id);
        place.generation = generation.unwrap_or_else(|| std::mem::take(&mut place.generation));
        Reading::Continues
    }
}
