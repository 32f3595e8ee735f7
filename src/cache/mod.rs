//! What is known of tokens, and what is being asked about them.

mod flight;
mod front;
mod key;
mod memory;

#[cfg(any(feature = "dpop", feature = "session"))]
pub(crate) use self::key::digest_of;
pub(crate) use self::{
    flight::{Flight, Flights, Landed, Purpose, Standing, Table, Told, shard},
    key::{Holder, Key, KeySpace, Thumbprint},
    memory::{Known, Limits, MemoryCache},
};
