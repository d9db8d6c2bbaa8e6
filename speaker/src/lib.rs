//! The speaker: one per node. It decides what this node announces, and tells routers over BGP.
//!
//! The pure part is [`picture`], the store as one node sees it: [`intent`] says what is to be announced, to whom, with which
//! attributes, and [`session`] turns a `BGPPeer` into a session. [`fn@run`] joins it to the engine of `roadstead-bgp`; [`report`] and
//! [`http`] show what is going on.

pub mod http;
pub mod intent;
pub mod node;
pub mod picture;
pub mod report;
mod run;
pub mod session;

pub use run::{Ending, Options, RunError, run};
