//! Looks for secrets in all that is logged, to the finest level.

use std::{
    io,
    sync::{Arc, Mutex},
};

use tracing::Level;

use crate::world::SECRET;

#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Found>>);

#[derive(Default)]
struct Found {
    lines: u64,
    leak: Option<String>,
}

impl Log {
    pub(crate) fn lines(&self) -> u64 {
        self.0.lock().unwrap().lines
    }

    /// The first line in which a secret was seen.
    pub(crate) fn leak(&self) -> Option<String> {
        self.0.lock().unwrap().leak.clone()
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
        if text.contains(SECRET) {
            found.leak.get_or_insert_with(|| text.into_owned());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
