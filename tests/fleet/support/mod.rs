//! What the tests of this binary stand on does what it says.

mod cluster;
mod processes;
mod proxy;
mod redis;
mod sentinel;
