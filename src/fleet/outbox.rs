//! Invalidations that are to be sent.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use redis::Script;
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

use super::{
    link::Link,
    names::{Names, unique},
    scripts,
};
use crate::{
    clock::{Clock, DAY, Moment},
    store::{BUCKETS, Key},
};

/// How many invalidations wait while Redis cannot be asked. Beyond, they become one of all tokens.
const MAX_WAITING: usize = 10_000;

/// How many are sent at once.
const BATCH: usize = 128;

/// How long sending may take.
const SEND: Duration = Duration::from_millis(500);

/// The pause after a failure, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How long it is waited for that all is sent.
const REACH: Duration = Duration::from_secs(1);

/// How many records a log keeps. Who is further behind asks anew about everything.
const LOG_LENGTH: usize = 10_000;

/// How long (ms) a fence stands. An answer is shared for half of that after its load.
pub(super) const FENCE: u64 = 10 * 60 * 1000;

/// An invalidation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Record {
    Token(Key),
    All,
}

/// Sends the invalidations of this process in the background, in batches, until they have arrived.
pub(super) struct Outbox {
    link: Arc<Link>,
    names: Names,
    scripts: [Script; 2],
    /// Names this process in the log.
    origin: [u8; 16],
    clock: Clock,
    queue: Mutex<Queue>,
    /// Something is in the queue, or nothing will come any more.
    filled: Notify,
    closed: AtomicBool,
    progress: watch::Sender<Progress>,
}

struct Waiting {
    record: Record,
    /// How many were put in before it, and it.
    number: u64,
    since: Moment,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// How many were put in, ever.
    put: u64,
}

#[derive(Clone, Copy, Default)]
struct Progress {
    /// Of those that were put in, how many need no sending any more.
    done: u64,
    /// How often sending has failed.
    failures: u64,
}

impl Outbox {
    pub(super) fn new(link: Arc<Link>, names: Names, origin: [u8; 16], clock: Clock) -> Self {
        let scripts = [scripts::INVALIDATE, scripts::INVALIDATE_ALL].map(Script::new);
        Self {
            link,
            names,
            scripts,
            origin,
            clock,
            queue: Mutex::default(),
            filled: Notify::new(),
            closed: AtomicBool::new(false),
            progress: watch::Sender::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn invalidate(&self, key: Key) {
        self.put(Record::Token(key));
    }

    pub(super) fn invalidate_all(&self) {
        self.put(Record::All);
    }

    fn put(&self, record: Record) {
        let since = self.clock.moment();
        let mut queue = self.lock();
        queue.put += 1;
        let number = queue.put;
        let is_full = queue.waiting.len() >= MAX_WAITING;
        if is_full {
            queue.waiting.clear();
        }
        let record = if is_full { Record::All } else { record };
        queue.waiting.push_back(Waiting { record, number, since });
        drop(queue);
        self.filled.notify_one();
    }

    /// Whether an invalidation of the token waits to arrive.
    pub(super) fn waits(&self, key: &Key) -> bool {
        let concerns = |record| record == Record::All || record == Record::Token(*key);
        self.lock().waiting.iter().any(|waiting| concerns(waiting.record))
    }

    /// Whether all that was put in before has arrived. Waits for an attempt, and for a second at most.
    pub(super) async fn is_sent(&self) -> bool {
        let put = self.lock().put;
        let mut progress = self.progress.subscribe();
        let failures = progress.borrow().failures;
        let attempted = |now: &Progress| now.done >= put || now.failures > failures;
        let wait = timeout(REACH, progress.wait_for(attempted));
        wait.await.is_ok_and(|now| now.is_ok_and(|now| now.done >= put))
    }

    /// Nothing more is put in: the task that sends ends with what it has.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.filled.notify_one();
    }

    /// Sends until it is closed.
    pub(super) async fn run(self: Arc<Self>) {
        let mut pause = PAUSE.0;
        loop {
            let closed = self.closed.load(Ordering::Acquire);
            let sent = self.send_all().await;
            if closed {
                return;
            }
            if sent {
                pause = PAUSE.0;
                self.filled.notified().await;
            } else {
                self.progress.send_modify(|progress| progress.failures += 1);
                sleep(pause).await;
                pause = (2 * pause).min(PAUSE.1);
            }
        }
    }

    /// Whether all was sent that was in the queue.
    async fn send_all(&self) -> bool {
        loop {
            let (batch, last) = self.next_batch();
            let sent = join_all(batch.iter().map(|record| self.send(*record))).await;
            if sent.contains(&false) {
                return false;
            }
            self.lock().waiting.retain(|waiting| waiting.number > last);
            self.progress.send_modify(|progress| progress.done = last);
            if batch.is_empty() {
                return true;
            }
        }
    }

    /// The first that wait, and the number of the last of them.
    fn next_batch(&self) -> (Vec<Record>, u64) {
        let now = self.clock.moment();
        let mut queue = self.lock();
        // No facts are used for longer than a day.
        queue.waiting.retain(|waiting| waiting.since.elapsed(now) < DAY);
        let batch: Vec<_> = queue.waiting.iter().take(BATCH).collect();
        let last = batch.last().map_or(queue.put, |waiting| waiting.number);
        (batch.into_iter().map(|waiting| waiting.record).collect(), last)
    }

    async fn send(&self, record: Record) -> bool {
        match record {
            Record::Token(key) => self.send_token(&key).await,
            Record::All => {
                let buckets = 0..BUCKETS;
                let sent = join_all(buckets.map(|bucket| self.send_bucket(bucket))).await;
                !sent.contains(&false)
            }
        }
    }

    async fn send_token(&self, key: &Key) -> bool {
        let (names, [script, _]) = (self.names.token(key), &self.scripts);
        let mut call = script.key(self.names.counter(names.bucket));
        call.key(self.names.log(names.bucket)).key(names.fence()).key(names.facts());
        call.arg(LOG_LENGTH).arg(&self.origin).arg(key.bytes()).arg(FENCE);
        self.link.call_within::<u64>(SEND, &call).await.is_ok()
    }

    async fn send_bucket(&self, bucket: usize) -> bool {
        let mut call = self.scripts[1].key(self.names.counter(bucket));
        call.key(self.names.log(bucket)).key(self.names.generation(bucket));
        call.arg(LOG_LENGTH).arg(&self.origin).arg(&unique());
        self.link.call_within::<u64>(SEND, &call).await.is_ok()
    }
}
