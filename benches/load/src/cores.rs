//! Servers have one core, and all that loads them another.

use core_affinity::CoreId;

/// The cores that are used: the same one twice, or none, if there are no more.
#[derive(Clone, Copy)]
pub struct Cores {
    pub server: Option<CoreId>,
    pub client: Option<CoreId>,
}

impl Cores {
    /// The first core for servers, the last one for clients.
    #[must_use]
    pub fn choose() -> Self {
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        Self { server: cores.first().copied(), client: cores.last().copied() }
    }
}

/// Keeps this thread on a core.
pub fn stay_on(core: Option<CoreId>) {
    // Without it, figures are noisier and still true.
    let _ = core.map(core_affinity::set_for_current);
}
