//! The speaker: one per node. It decides what this node announces, and tells routers over BGP.
//!
//! The pure part is [`picture`], the store as one node sees it: [`intent`] says what is to be announced, to whom, with which
//! attributes, and [`session`] turns a `BGPPeer` into a session. [`fn@run`] joins it to the engine of `roadstead-bgp`; [`report`],
//! [`http`] and [`local`] show what is going on. [`pods`] gives the pods of the node their addresses, [`links`] joins the cluster with
//! others, and [`fib`] puts what is learned into the kernel.

pub mod fib;
pub mod http;
pub mod intent;
pub mod links;
pub mod local;
pub mod node;
pub mod picture;
pub mod pods;
mod record;
pub mod report;
mod run;
pub mod session;

pub use record::RecordFlags;
pub use run::{Ending, Options, RunError, run};
