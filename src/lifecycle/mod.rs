//! How long tokens live, and by which values: extension, rotation, and the lineage of a token.

mod extend;
mod lineage;
mod rotate;
mod sink;

#[cfg(feature = "session")]
pub(crate) use self::sink::NewValueSink;
pub use self::{extend::Refresh, rotate::Rotation};
pub(crate) use self::{
    extend::{Admits, Extender, PendingExtension},
    lineage::Lineages,
    rotate::{PendingRotation, Reservation, Rotating, Rotator, Successor},
};

/// Of how many tokens times and values are remembered.
const MAX_REMEMBERED: u64 = 100_000;
