//! How a layer refuses, for what is inside of it.

use std::{
    any::Any,
    sync::{Arc, OnceLock, PoisonError, RwLock},
};

use super::{challenge::Challenges, render::Renderer};
use crate::{clock::Clock, store::epoch::Epochs};

/// How a layer refuses, for routes and extractors inside of it, which refuse in the same way.
#[derive(Clone)]
pub(crate) struct Guard(Arc<GuardParts>);

struct GuardParts {
    challenges: Challenges,
    clock: Clock,
    /// For the type of the response bodies of the service that was asked first: mostly the only one.
    first: OnceLock<Erased>,
    others: RwLock<Vec<Erased>>,
    epochs: Arc<Epochs>,
}

/// An `Arc<dyn Renderer<B>>` for a type `B` of the layer's response bodies.
type Erased = Box<dyn Any + Send + Sync>;

fn restored<B: 'static>(renderer: &Erased) -> Option<&Arc<dyn Renderer<B>>> {
    renderer.downcast_ref()
}

impl Guard {
    pub(crate) fn new(challenges: Challenges, clock: Clock, epochs: Arc<Epochs>) -> Self {
        let (first, others) = (OnceLock::new(), RwLock::default());
        Self(Arc::new(GuardParts { challenges, clock, first, others, epochs }))
    }

    /// How often tokens of a shard were invalidated.
    pub(crate) fn epoch(&self, shard: u16) -> u64 {
        self.0.epochs.of_shard(shard)
    }

    /// Differs from that of any other guard that exists.
    pub(crate) fn id(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// Lets it make responses with bodies of this type.
    pub(crate) fn renders<B: 'static>(&self, renderer: &Arc<impl Renderer<B>>) {
        let erased = || -> Erased { Box::new(renderer.clone() as Arc<dyn Renderer<B>>) };
        let first = self.0.first.get_or_init(erased);
        if restored::<B>(first).is_none() && self.renderer::<B>().is_none() {
            let mut others = self.0.others.write().unwrap_or_else(PoisonError::into_inner);
            others.push(erased());
        }
    }

    pub(crate) fn renderer<B: 'static>(&self) -> Option<Arc<dyn Renderer<B>>> {
        if let Some(renderer) = self.0.first.get().and_then(restored) {
            return Some(renderer.clone());
        }
        let others = self.0.others.read().unwrap_or_else(PoisonError::into_inner);
        others.iter().find_map(restored).cloned()
    }

    /// The clock that the layer goes by.
    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(crate) fn challenges(&self) -> &Challenges {
        &self.0.challenges
    }
}
