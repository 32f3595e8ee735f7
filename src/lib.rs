//! Tower middleware for resource servers whose access tokens are issued by Authlete.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod api;
mod clock;

pub use self::clock::Clock;
