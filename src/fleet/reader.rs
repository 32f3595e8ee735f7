//! The log of invalidations, as this process follows it.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{
    RedisResult, Script,
    streams::{StreamId, StreamReadOptions, StreamReadReply},
};
use tokio::time::{Instant, sleep};

use super::{
    link::{Connection, Link},
    names::{Names, unique},
    position::{Place, Progress, Step, progress},
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
        known: &mut Option<Vec<Place>>,
        pause: &mut Duration,
    ) -> RedisResult<()> {
        loop {
            let sent = self.clock.moment().monotonic;
            let state = self.watch(connection, watch).await?;
            let continues = match known.as_mut() {
                Some(known) => self.catch_up(connection, known, &state).await?,
                None => Reading::Broken,
            };
            if continues == Reading::Broken {
                self.begin_anew(known, state);
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
                if self.read(connection, known, None, left).await? == Reading::Broken {
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

    async fn watch(&self, connection: &mut Connection, watch: &Script) -> RedisResult<Vec<Place>> {
        let mut call = watch.prepare_invoke();
        for bucket in &self.buckets {
            call.key(self.names.generation(*bucket)).key(self.names.history(*bucket));
            call.key(self.names.counter(*bucket)).key(self.names.log(*bucket));
        }
        call.arg(&unique());
        let state: Vec<(Vec<u8>, u64, String)> = call.invoke_async(connection).await?;
        let place = |(generation, number, id)| Place { generation, number, id };
        Ok(state.into_iter().map(place).collect())
    }

    /// Applies all records up to this state of the log.
    async fn catch_up(
        &self,
        connection: &mut Connection,
        known: &mut [Place],
        state: &[Place],
    ) -> RedisResult<Reading> {
        match progress(known, state) {
            Progress::Reached => return Ok(Reading::Continues),
            Progress::Broken => return Ok(Reading::Broken),
            Progress::Behind => {}
        }
        let read = |known: &[Place]| known.iter().map(|place| place.number).sum::<u64>();
        let behind =
            |known: &[Place]| known.iter().zip(state).any(|(known, now)| known.number < now.number);
        while behind(known) {
            let before = read(known);
            let reading = self.read(connection, known, Some(state), ROUND).await?;
            if reading == Reading::Broken || read(known) == before {
                return Ok(Reading::Broken);
            }
        }
        Ok(Reading::Continues)
    }

    /// Begins with this state, since records may have been missed: what is known is in doubt.
    fn begin_anew(&self, known: &mut Option<Vec<Place>>, state: Vec<Place>) {
        if known.is_some() {
            limited!(warn, self.link.log(), "records of invalidations may have been lost");
        }
        if let Some(store) = self.store.upgrade() {
            store.doubt_all();
        }
        *known = Some(state);
    }

    /// Waits for records, and applies them, on the way to this state.
    async fn read(
        &self,
        connection: &mut Connection,
        known: &mut [Place],
        to: Option<&[Place]>,
        wait: Duration,
    ) -> RedisResult<Reading> {
        let names: Vec<_> = self.buckets.iter().map(|bucket| self.names.log(*bucket)).collect();
        let ids: Vec<_> = known.iter().map(|place| place.id.as_str()).collect();
        // Zero would wait for ever.
        let wait = usize::try_from(wait.as_millis()).unwrap_or(1).max(1);
        let options = StreamReadOptions::default().block(wait).count(BATCH);
        let reply: Option<StreamReadReply> =
            redis::AsyncCommands::xread_options(connection, &names, &ids, &options).await?;
        for log in reply.into_iter().flat_map(|reply| reply.keys) {
            let Some(place) = names.iter().position(|name| *name == log.key) else { continue };
            let to = to.map(|to| &to[place]);
            for record in log.ids {
                let bucket = self.buckets[place];
                if self.apply(&record, bucket, &mut known[place], to) == Reading::Broken {
                    return Ok(Reading::Broken);
                }
            }
        }
        Ok(Reading::Continues)
    }

    /// Applies a record that continues the log.
    fn apply(
        &self,
        record: &StreamId,
        bucket: usize,
        place: &mut Place,
        to: Option<&Place>,
    ) -> Reading {
        let generation = record.get::<Vec<u8>>("g");
        let token = record.get::<Vec<u8>>("t").and_then(|key| key.try_into().ok());
        let all = generation.is_some();
        let step = Step { number: record.get("n"), id: record.id.clone(), generation };
        // Of a kind that this version does not know.
        if (!all && token.is_none()) || !place.advance(step, to) {
            return Reading::Broken;
        }
        // What this process has invalidated, it has invalidated here, and it has loaded nothing about it since.
        let own = record.get::<Vec<u8>>("o").is_some_and(|origin| origin == self.origin);
        if let Some(store) = self.store.upgrade().filter(|_| !own) {
            match token.filter(|_| !all) {
                Some(key) => store.invalidate_here(Key::of_bytes(key)),
                None => store.invalidate_bucket_here(bucket),
            }
        }
        Reading::Continues
    }
}
