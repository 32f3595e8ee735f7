//! What this crate writes to the log.

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

    /// The lines of a level that hold this.
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

/// Everything of this crate that is logged on this thread, to the finest level.
pub(crate) fn logged() -> (Log, DefaultGuard) {
    // With one subscriber alone, tracing asks that of the thread that first comes by a line of the log,
    // which can be another test's and have none. So there are two.
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
