//! State of the emulator: its service, counts of calls, faults and holds.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use super::{
    faults::{Api, Faults},
    service::EmulatedService,
};

/// What the server's tasks share with [`Emulator`](super::Emulator).
pub(super) struct EmulatorState {
    pub(super) service: EmulatedService,
    pub(super) latency: Duration,
    /// How many calls of each API have arrived.
    pub(super) calls: Vec<watch::Sender<u64>>,
    pub(super) faults: Mutex<Faults>,
    pub(super) holds: Mutex<Vec<(Api, watch::Receiver<bool>)>>,
}

impl EmulatorState {
    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn holds(&self) -> MutexGuard<'_, Vec<(Api, watch::Receiver<bool>)>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count(&self, api: Api) {
        self.calls[api as usize].send_modify(|calls| *calls += 1);
    }

    /// Waits until no hold is on the API.
    pub(super) async fn released(&self, api: Api) {
        let holds: Vec<_> = self.holds().iter().filter(|(held, _)| *held == api).cloned().collect();
        for (_, mut hold) in holds {
            // A hold that is dropped is released too.
            let _ = hold.wait_for(|released| *released).await;
        }
    }
}
