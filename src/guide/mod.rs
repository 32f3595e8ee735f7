//! Guides: documentation only, without items to use.
//!
//! | guide | for |
//! |---|---|
//! | [`getting_started`] | an axum API from the first line to nested routers, optional routes, typed properties and refusals |
//! | [`testing`] | unit tests without Authlete, tests with an emulator, faults and time |
//! | [`production`] | settings, health, shutdown, outages, metrics, logs, and a list to go through before the first day |
//! | [`scaling`] | what one process does, and what changes with several |
//! | [`proof_of_possession`] | DPoP, client certificates, message signatures, step-up authentication |
//! | [`browsers`] | CORS, cookies, and sessions that keep tokens away from the browser |
//! | [`migrating`] | from a hand-written middleware, from tower-http, from a crate that validates JWTs |
//!
//! Each code block is compiled as a test of this crate, most of them with all features on. A section that needs a
//! feature says so.

pub mod getting_started {
    #![doc = include_str!("getting_started.md")]
}
pub mod testing {
    #![doc = include_str!("testing.md")]
}
pub mod production {
    #![doc = include_str!("production.md")]
    //!
    #![doc = include_str!("../../benches/peers.svg")]
}
pub mod scaling {
    #![doc = include_str!("scaling.md")]
}
pub mod proof_of_possession {
    #![doc = include_str!("proof_of_possession.md")]
}
pub mod browsers {
    #![doc = include_str!("browsers.md")]
}
pub mod migrating {
    #![doc = include_str!("migrating.md")]
}
