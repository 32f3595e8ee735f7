//! What Redis does in one step. Each script touches the keys of one bucket, but for the watch of a server that
//! has all of them.

pub(super) const LOAD: &str = include_str!("scripts/load.lua");
pub(super) const SHARE: &str = include_str!("scripts/share.lua");
pub(super) const INVALIDATE: &str = include_str!("scripts/invalidate.lua");
pub(super) const INVALIDATE_ALL: &str = include_str!("scripts/invalidate_all.lua");
pub(super) const WATCH: &str = include_str!("scripts/watch.lua");
pub(super) const CLAIM: &str = include_str!("scripts/claim.lua");
pub(super) const FIRST_SEEN: &str = include_str!("scripts/first_seen.lua");
#[cfg(feature = "session")]
pub(super) const LOAD_SESSION: &str = include_str!("scripts/load_session.lua");
#[cfg(feature = "session")]
pub(super) const STORE_SESSION: &str = include_str!("scripts/store_session.lua");
#[cfg(feature = "session")]
pub(super) const REMOVE_SESSION: &str = include_str!("scripts/remove_session.lua");
