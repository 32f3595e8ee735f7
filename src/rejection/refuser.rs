//! What code inside a layer needs to refuse a request as the layer does.

use std::{
    any::Any,
    sync::{Arc, OnceLock, PoisonError, RwLock},
};

use super::{challenge::Challenges, render::Renderer};
use crate::{
    clock::Clock,
    store::{Key, Lease, epoch::Epochs},
    token::TokenInfo,
};

/// The challenges, renderers and clock of a layer, for requirements and extractors inside it, and the
/// leases of its tokens, for tokens derived from them.
pub(crate) struct Refuser {
    challenges: Challenges,
    clock: Clock,
    /// For the body type of the first service of the layer, which is usually the only one.
    first: OnceLock<ErasedRenderer>,
    others: RwLock<Vec<ErasedRenderer>>,
    epochs: Arc<Epochs>,
}

/// An `Arc<dyn Renderer<B>>` for some body type `B`.
type ErasedRenderer = Box<dyn Any + Send + Sync>;

fn downcast<B: 'static>(renderer: &ErasedRenderer) -> Option<&Arc<dyn Renderer<B>>> {
    renderer.downcast_ref()
}

impl Refuser {
    pub(crate) fn new(challenges: Challenges, clock: Clock, epochs: Arc<Epochs>) -> Arc<Self> {
        let (first, others) = (OnceLock::new(), RwLock::default());
        Arc::new(Self { challenges, clock, first, others, epochs })
    }

    /// That of the layer that resolved a token.
    pub(crate) fn of(token: &TokenInfo) -> Option<&Self> {
        token.layer()?.downcast_ref()
    }

    /// The lease of one of the layer's tokens.
    pub(crate) fn lease(&self, key: Key) -> Arc<Lease> {
        self.epochs.lease(key)
    }

    /// Identifies the layer among all that exist.
    pub(crate) fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Adds the layer's renderer for bodies of this type, unless it has one.
    #[inline]
    pub(crate) fn add_renderer<B: 'static>(&self, renderer: &Arc<impl Renderer<B>>) {
        if self.first.get().and_then(downcast::<B>).is_none() {
            self.add_other_renderer(renderer);
        }
    }

    #[inline(never)]
    fn add_other_renderer<B: 'static>(&self, renderer: &Arc<impl Renderer<B>>) {
        let erased = || -> ErasedRenderer { Box::new(renderer.clone() as Arc<dyn Renderer<B>>) };
        let first = self.first.get_or_init(erased);
        if downcast::<B>(first).is_none() && self.renderer::<B>().is_none() {
            let mut others = self.others.write().unwrap_or_else(PoisonError::into_inner);
            others.push(erased());
        }
    }

    /// The layer's renderer for bodies of this type; `None` if the layer wraps no service with such bodies.
    pub(crate) fn renderer<B: 'static>(&self) -> Option<Arc<dyn Renderer<B>>> {
        if let Some(renderer) = self.first.get().and_then(downcast) {
            return Some(renderer.clone());
        }
        let others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        others.iter().find_map(downcast).cloned()
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn challenges(&self) -> &Challenges {
        &self.challenges
    }
}
