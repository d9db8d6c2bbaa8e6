//! Claims of nodes that are gone: blocks, and addresses of pods.
//!
//! A node that is gone does not give its claims back, so this does, in steps that each leave time for somebody to object:
//!
//! 1. The Node object is gone for [`NodeLoss::grace`]: longer than routers keep the routes of a speaker that died, and than somebody
//!    needs who deleted it by mistake.
//! 2. A block's claim is marked `released`. Speakers that still have a route to such a block say so in their reports, and the node
//!    itself, should it be alive, takes the mark off again.
//! 3. After [`HEARD_WAIT`], and once no living report says that the block is announced or heard of, the claim is deleted.
//!
//! A pod's single address goes after the first step, unless the node's own report still tells of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::Plan;
use super::claim::{StoredClaim, Uid};
use super::ledger::is_service;
use super::message::{NodePods, Now, Write};
use super::settle::whole_second;
use super::timers::Timer;
use roadstead_api::checked::AddressRange;

/// How long a block stays marked before it goes: speakers report within a second, and a routers' withdrawals take their time.
pub(super) const HEARD_WAIT: Duration = Duration::from_secs(10);

/// How often it is looked again at what could not go yet.
const LOOK: Duration = Duration::from_secs(5);

/// A report that was not renewed for so long tells nothing any more: three heartbeats.
const REPORT_LIFE: Duration = Duration::from_secs(90);

/// What becomes of the claims of a node that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLoss {
    /// How long the Node object has to be gone.
    pub grace: Duration,
    /// Nodes that need no object to be there: a single machine has none.
    pub implied: BTreeSet<String>,
}

impl Default for NodeLoss {
    fn default() -> Self {
        Self { grace: Duration::from_secs(300), implied: BTreeSet::new() }
    }
}

/// Whether a claim is for a block, and not for a single address.
pub(super) fn is_block(net: IpNet) -> bool {
    net.prefix_len() != net.max_prefix_len()
}

/// What nodes hold, and what they say of it.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    nodes: BTreeSet<String>,
    by_node: BTreeMap<String, BTreeSet<IpNet>>,
    node_of: BTreeMap<IpNet, String>,
    /// Nodes whose loss a timer runs for.
    lost: BTreeSet<String>,
    /// When a block was first seen to be marked.
    marked: BTreeMap<IpNet, Instant>,
    /// What the last report of each node says is announced and heard, and when it came.
    reports: BTreeMap<String, (Instant, BTreeSet<IpNet>, BTreeSet<IpNet>)>,
}

impl Holdings {
    pub(super) fn node_applied(&mut self, name: &str) {
        self.nodes.insert(name.to_owned());
    }

    /// Takes note of a report.
    pub(super) fn hear(&mut self, now: Instant, node: &str, pods: &NodePods) {
        if pods.announced.is_empty() && pods.heard.is_empty() {
            self.reports.remove(node);
        } else {
            self.reports.insert(node.to_owned(), (now, pods.announced.clone(), pods.heard.clone()));
        }
    }

    pub(super) fn remove(&mut self, net: IpNet) {
        self.marked.remove(&net);
        if let Some(node) = self.node_of.remove(&net)
            && let Some(nets) = self.by_node.get_mut(&node)
        {
            nets.remove(&net);
            if nets.is_empty() {
                self.by_node.remove(&node);
            }
        }
    }

    fn set(&mut self, net: IpNet, node: &str) {
        if self.node_of.get(&net).is_none_or(|before| before != node) {
            self.remove(net);
            self.node_of.insert(net, node.to_owned());
            self.by_node.entry(node.to_owned()).or_default().insert(net);
        }
    }

    /// Whether a living report says that routers know the way to a node's prefix.
    fn is_announced(&self, now: Instant, node: &str, net: IpNet) -> bool {
        let living = self.reports.iter().filter(|(_, (at, ..))| now.saturating_duration_since(*at) < REPORT_LIFE);
        let mut says = living.map(|(reporter, (_, announced, heard))| {
            heard.contains(&net) || reporter == node && announced.contains(&net)
        });
        says.any(|says| says)
    }
}

impl Plan {
    /// Notes which node uses a claimed prefix.
    pub(super) fn note_holding(&mut self, now: Now, net: IpNet, node: Option<&str>) {
        let Some(node) = node else { return self.holdings.remove(net) };
        self.holdings.set(net, node);
        self.watch_out_for(now, node);
    }

    pub(super) fn node_deleted(&mut self, now: Now, node: &str) {
        self.holdings.nodes.remove(node);
        self.watch_out_for(now, node);
    }

    /// Nodes that were gone before this plan began.
    pub(super) fn look_for_lost_nodes(&mut self, now: Now) {
        let holders: Vec<String> = self.holdings.by_node.keys().cloned().collect();
        for node in holders {
            self.watch_out_for(now, &node);
        }
    }

    /// Lets a node's grace begin, if it is gone, holds something, and has not begun yet.
    fn watch_out_for(&mut self, now: Now, node: &str) {
        let is_there = self.holdings.nodes.contains(node) || self.node_loss.implied.contains(node);
        let holds = self.holdings.by_node.contains_key(node);
        if self.synced && !is_there && holds && self.holdings.lost.insert(node.to_owned()) {
            self.timers.set(Timer::LostNode(node.to_owned()), now.instant + self.node_loss.grace);
        }
    }

    /// Takes the next step with everything that a lost node holds.
    pub(super) fn reclaim(&mut self, now: Now, node: &str) {
        self.holdings.lost.remove(node);
        if self.holdings.nodes.contains(node) {
            return;
        }
        let nets = self.holdings.by_node.get(node).cloned().unwrap_or_default();
        for net in nets {
            if is_block(net) {
                self.reclaim_block(now, node, net);
            } else if !self.holdings.is_announced(now.instant, node, net) {
                self.reclaim_address(now, net.addr());
            }
        }
        if self.holdings.by_node.contains_key(node) {
            self.holdings.lost.insert(node.to_owned());
            self.timers.set(Timer::LostNode(node.to_owned()), now.instant + LOOK);
        }
    }

    fn reclaim_block(&mut self, now: Now, node: &str, net: IpNet) {
        let Some(stored) = self.blocks.get(&net) else { return self.holdings.remove(net) };
        let write = if stored.claim.released.is_none() {
            self.holdings.marked.remove(&net);
            let mut claim = stored.claim.clone();
            claim.released = Some(whole_second(now.wall));
            Write::ReplaceClaim(claim, stored.version.clone())
        } else {
            let marked = *self.holdings.marked.entry(net).or_insert(now.instant);
            let is_over = now.instant.saturating_duration_since(marked) >= HEARD_WAIT;
            if !is_over || self.holdings.is_announced(now.instant, node, net) {
                return;
            }
            Write::DeleteClaim(net, stored.version.clone())
        };
        self.block_writes.insert(net, write);
    }

    fn reclaim_address(&mut self, now: Now, address: IpAddr) {
        let Some(held) = self.state.ledger.get(address) else { return };
        let owners: Vec<Uid> =
            held.owners.iter().filter(|(_, owner)| !is_service(owner)).map(|(uid, _)| uid.clone()).collect();
        for uid in owners {
            self.give_back(now, address, &uid);
        }
    }

    /// A block's claim is there, or changed.
    pub(super) fn block_applied(&mut self, now: Now, stored: StoredClaim) {
        let net = stored.claim.net;
        let known = self.blocks.get(&net);
        if known.is_some_and(|known| !stored.version.is_newer_than(&known.version)) {
            return;
        }
        let is_new = known.is_none();
        self.note_holding(now, net, stored.claim.node.as_deref());
        self.pod_reports.touch(&stored.claim.pool);
        self.blocks.insert(net, stored);
        if is_new {
            self.block_came_or_went(now, net);
        }
    }

    /// A block's claim of this UID is gone.
    pub(super) fn block_deleted(&mut self, now: Now, net: IpNet, uid: &str) {
        if self.blocks.get(&net).is_some_and(|known| known.version.uid == uid) {
            self.blocks.remove(&net);
            self.holdings.remove(net);
            self.block_came_or_went(now, net);
        }
    }

    /// Pools for Services leave blocks alone. Seldom are there any in them, and a thousand nodes may claim theirs at once.
    fn block_came_or_went(&mut self, now: Now, net: IpNet) {
        let block = AddressRange::from(net);
        let lies_in = |pool: &roadstead_api::checked::Pool| pool.addresses.iter().any(|range| range.overlaps(&block));
        if self.state.pools.good().any(lies_in) {
            self.pools_changed(now);
        }
    }
}
