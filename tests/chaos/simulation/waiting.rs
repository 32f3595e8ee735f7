//! Pending requests and their responses.

use std::time::SystemTime;

use http::StatusCode;
use tokio::task::JoinHandle;

use super::{
    holders::Shown,
    model::{Order, With},
};

/// A request whose response was not checked yet.
pub(crate) struct Waiting {
    pub(crate) plan: Plan,
    pub(crate) began: Order,
    pub(crate) at: SystemTime,
    pub(crate) what: String,
    pub(crate) task: JoinHandle<Reply>,
}

pub(crate) struct Plan {
    pub(crate) with: With,
    pub(crate) layer: usize,
    pub(crate) route: Route,
    pub(crate) scope: Option<usize>,
    pub(crate) shown: Shown,
    /// The number of the proof, and whether another request has it.
    pub(crate) proof: Option<u64>,
    pub(crate) replayed: bool,
}

impl Plan {
    /// A request that needs no scope but those of the layer.
    pub(crate) fn new(with: With, layer: usize, shown: Shown) -> Self {
        Self { with, layer, route: Route::Cached, scope: None, shown, proof: None, replayed: false }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Route {
    Cached,
    Fresh,
    Nested,
    Strict,
}

/// A response, and when it arrived.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: String,
    pub(crate) new: Option<String>,
    pub(crate) ended: Order,
    pub(crate) until: SystemTime,
}

#[derive(Clone)]
pub(crate) struct Proof {
    pub(crate) number: u64,
    pub(crate) text: String,
}

/// A proof that can be used again.
pub(crate) struct Spare {
    pub(crate) token: usize,
    pub(crate) layer: usize,
    pub(crate) scope: Option<usize>,
    pub(crate) key: usize,
    pub(crate) proof: Proof,
}

/// A request that was answered.
pub(crate) struct Answered {
    pub(crate) plan: Plan,
    pub(crate) began: Order,
    pub(crate) at: SystemTime,
    pub(crate) what: String,
    pub(crate) reply: Reply,
}
