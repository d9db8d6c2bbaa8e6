//! What is kept of routes: per peer what it told us (Adj-RIB-In), and what it is to be told and was told (Adj-RIB-Out).
//!
//! There is no Loc-RIB, because nothing is chosen: learned routes are shown with all their paths, and announced ones come
//! from the embedder, per peer.

mod adj_rib_in;
mod adj_rib_out;
mod interner;
mod refresh;
mod replacement;

use std::sync::Arc;

use ipnet::IpNet;

use crate::RouteAttributes;

pub(crate) use adj_rib_in::{AcceptedRoute, AdjRibIn, Unconfirmed};
pub(crate) use adj_rib_out::{AdjRibOut, EndOfRib};
pub(crate) use interner::Interner;

/// A change to what an embedder wants one peer to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteChange {
    /// The prefix is wanted, with these attributes; an earlier announcement of it is replaced.
    Announce(IpNet, Arc<RouteAttributes>),
    /// The prefix is not wanted any more.
    Withdraw(IpNet),
}
