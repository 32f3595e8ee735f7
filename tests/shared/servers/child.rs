use std::{
    process::{self, ChildStderr, ChildStdout, Command},
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::Pid,
};

/// A child process, killed when it is dropped. Signals go to its process id, which nobody else gets before it
/// has been waited for.
pub(crate) struct Child {
    process: Mutex<process::Child>,
}

impl Child {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let spawned = command.spawn();
        let process = spawned.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self { process: Mutex::new(process) }
    }

    pub(crate) fn id(&self) -> u32 {
        self.lock().id()
    }

    /// Its standard output and standard error.
    ///
    /// # Panics
    /// If it was not spawned with pipes, and the second time.
    pub(super) fn pipes(&self) -> (ChildStdout, ChildStderr) {
        let mut process = self.lock();
        (process.stdout.take().unwrap(), process.stderr.take().unwrap())
    }

    /// Whether it ended by itself, or was killed.
    pub(crate) fn has_ended(&self) -> bool {
        self.lock().try_wait().unwrap().is_some()
    }

    /// `SIGKILL`; returns when it has ended, of whatever it did before.
    pub(crate) fn kill9(&self) {
        let mut process = self.lock();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// `SIGSTOP`; returns when it has stopped.
    pub(crate) fn pause(&self) {
        let id = self.signal(Signal::SIGSTOP);
        waitid(Id::Pid(id), WaitPidFlag::WSTOPPED | WaitPidFlag::WNOWAIT).unwrap();
    }

    /// `SIGCONT`.
    pub(crate) fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) -> Pid {
        let mut process = self.lock();
        assert!(process.try_wait().unwrap().is_none(), "{signal} to a process that has ended");
        let id = Pid::from_raw(process.id().try_into().unwrap());
        kill(id, signal).unwrap();
        id
    }

    fn lock(&self) -> MutexGuard<'_, process::Child> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let process = self.process.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = process.kill();
        let _ = process.wait();
    }
}
