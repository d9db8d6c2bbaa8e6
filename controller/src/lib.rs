//! The controller: assigns addresses to Services, and says in conditions how our objects fare.
//!
//! - [`plan`]: which address belongs to whom. Pure; the place to start reading.
//! - `conditions`: what is said of BGPPeers and Advertisements, from the nodes' reports. Pure.
//! - `clusters`: what this cluster uses, and what is said of ClusterNetwork, ClusterLinks and EdgeHosts. Pure.
//! - `edge`: objects of the API to the types of these, and back.
//! - `writer`: doing what they want written.
//! - [`run()`]: the event loop that joins them; [`rehearse()`]: the plan alone, with nothing written.

mod clusters;
mod conditions;
mod edge;
mod judged;
mod metrics;
pub mod plan;
mod rehearsal;
mod reported;
mod run;
pub mod verdict;
mod writer;

pub use rehearsal::{Rehearsal, rehearse};
pub use run::{Options, RunError, run};
