//! What is known of tokens, and what is being asked about them.

mod entry;
mod flight;
mod front;
mod key;
mod memory;

#[cfg(any(feature = "dpop", feature = "session"))]
pub(crate) use self::key::digest_of;
pub(crate) use self::{
    entry::Known,
    flight::{Flight, Flights, Landed, Purpose, Standing, Table, Told, shard},
    key::{Binding, Key, KeySpace, Thumbprint},
    memory::{Limits, MemoryCache},
};
