//! Looks for secrets in all that is logged, to the finest level.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex},
};

use tracing::Level;

/// The prefix of all secrets of the test.
pub(crate) const SECRET: &str = "S3CR3T";

/// The prefix of every proof: its header in base64url.
const PROOF: &str = "eyJhbGciO";

/// The prefix of the credentials of API V2: the emulator's service ID and [`SECRET`] in base64.
const BASIC: &str = "NzE1OTQ4MzE3OlMzQ1IzV";

/// How many secrets of other origin are searched for, at most.
const REMEMBERED: usize = 16;

#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Found>>);

#[derive(Default)]
struct Found {
    lines: u64,
    leak: Option<String>,
    secrets: VecDeque<String>,
}

impl Log {
    pub(crate) fn lines(&self) -> u64 {
        self.0.lock().unwrap().lines
    }

    /// The first line in which a secret was seen.
    pub(crate) fn leak(&self) -> Option<String> {
        self.0.lock().unwrap().leak.clone()
    }

    /// Adds a secret to search for.
    pub(crate) fn look_for(&self, secret: String) {
        let secrets = &mut self.0.lock().unwrap().secrets;
        if secrets.len() == REMEMBERED {
            secrets.pop_front();
        }
        secrets.push_back(secret);
    }

    pub(crate) fn subscriber(&self) -> impl tracing::Subscriber + Send + Sync + use<> {
        let writer = self.clone();
        let subscriber = tracing_subscriber::fmt().with_max_level(Level::TRACE).with_ansi(false);
        subscriber.with_writer(move || writer.clone()).finish()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut found = self.0.lock().unwrap();
        found.lines += 1;
        let text = String::from_utf8_lossy(bytes);
        let secrets = found.secrets.iter().map(String::as_str);
        if secrets.chain([SECRET, PROOF, BASIC]).any(|secret| text.contains(secret)) {
            found.leak.get_or_insert_with(|| text.into_owned());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
