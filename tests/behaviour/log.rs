//! Captures the log of a test.

use std::{
    io,
    sync::{Arc, Mutex, OnceLock},
};

use tracing::{Dispatch, Level, subscriber::DefaultGuard};

#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    /// The lines of a level that contain a text.
    pub(crate) fn lines(&self, level: Level, part: &str) -> Vec<String> {
        let (text, level) = (self.text(), format!(" {level} "));
        let lines = text.lines().filter(|line| line.contains(&level) && line.contains(part));
        lines.map(Into::into).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Captures everything that is logged on this thread, at every level.
pub(crate) fn logged() -> (Log, DefaultGuard) {
    // With a single subscriber, tracing caches the interest of the thread that first reaches a callsite,
    // which can be that of a test without a subscriber. A second one disables this cache.
    static SECOND: OnceLock<Dispatch> = OnceLock::new();
    SECOND.get_or_init(|| Dispatch::new(tracing_subscriber::registry()));
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    (log, guard)
}
