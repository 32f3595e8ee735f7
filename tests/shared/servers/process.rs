use std::{
    collections::VecDeque,
    env,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread::{self, JoinHandle},
};

use super::{child::Child, eventually};

/// How many of its last lines are kept.
const LINES: usize = 1000;

/// A program of ours as a process that listens on a port of the loopback interface.
pub(crate) struct Process {
    child: Child,
    port: u16,
    output: Arc<Output>,
}

/// The file of an example of this crate, built with this test by the `cargo` command without a filter of
/// targets.
pub(crate) fn example(name: &str) -> PathBuf {
    let test = env::current_exe().unwrap();
    let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
    let file = profile.join("examples").join(name);
    assert!(file.is_file(), "no {}: cargo build --example {name}", file.display());
    file
}

impl Process {
    /// Returns when it has told its address, `127.0.0.1:` and the port, in a line on its standard output. What
    /// it prints is read until it ends.
    ///
    /// # Panics
    /// With what it printed, if it ends before that.
    pub(crate) async fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (child, output) = (Child::spawn(&mut command), Arc::new(Output::default()));
        let (stdout, stderr) = child.pipes();
        let mut readers = vec![output.drain(stdout, true), output.drain(stderr, false)];
        let port = eventually(async || {
            if child.has_ended() {
                readers.drain(..).for_each(|it| it.join().unwrap());
            }
            let told = output.port();
            let state = if child.has_ended() { "has ended" } else { "has told no address" };
            assert!(
                told.is_some() || !child.has_ended(),
                "{command:?} {state}:\n{}",
                output.text()
            );
            told.ok_or_else(|| format!("{command:?} {state}:\n{}", output.text()))
        })
        .await;
        Self { child, port, output }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its last lines on standard output and standard error.
    pub(crate) fn output(&self) -> String {
        self.output.text()
    }

    pub(crate) fn child(&self) -> &Child {
        &self.child
    }
}

#[derive(Default)]
struct Output {
    lines: Mutex<VecDeque<String>>,
    port: OnceLock<u16>,
}

impl Output {
    fn port(&self) -> Option<u16> {
        self.port.get().copied()
    }

    fn text(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Reads to the end of the pipe, which may tell the address.
    fn drain(self: &Arc<Self>, pipe: impl Read + Send + 'static, tells: bool) -> JoinHandle<()> {
        let output = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                if let Some(port) = port_in(&line).filter(|_| tells) {
                    let _ = output.port.set(port);
                }
                output.keep(line);
            }
        })
    }

    fn keep(&self, line: String) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

fn port_in(line: &str) -> Option<u16> {
    let (_, rest) = line.split_once("127.0.0.1:")?;
    let digits = rest.split(|it: char| !it.is_ascii_digit()).next()?;
    digits.parse().ok()
}
