//! What is kept of routes: per peer what it told us (Adj-RIB-In), and what it is to be told and was told (Adj-RIB-Out).

use std::sync::Arc;

use ipnet::IpNet;

use crate::RouteAttributes;

/// A change to what an embedder wants one peer to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteChange {
    /// The prefix is wanted, with these attributes; an earlier announcement of it is replaced.
    Announce(IpNet, Arc<RouteAttributes>),
    /// The prefix is not wanted any more.
    Withdraw(IpNet),
}
