//! Prefixes of edge hosts that come from a pool: blocks of it, claimed for the host as a node claims its own.
//!
//! A prefix is a whole block of a `PodPool`, because then its claim has the name that a node's claim of the same addresses would
//! have, and the store refuses the second of two. A host keeps its block for as long as it asks for that pool and length; when the
//! host is gone, its claim goes, and at a start only after [`ORPHAN_GRACE`], as the lists that a start reads are not of one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use ipnet::IpNet;
use roadstead_api::checked::{AddressRange, PodPool};
use roadstead_api::kinds::OwnerKind;

use super::claim::{Claim, Owner, StoredClaim, Uid};
use super::lost_nodes::is_block;
use super::message::{EdgeWish, Now, Write};
use super::timers::Timer;
use super::{ORPHAN_GRACE, Plan, REFUSED_RETRY};

/// The length of a prefix where a host names none: sixteen addresses.
const DEFAULT_IPV4: u8 = 28;
const DEFAULT_IPV6: u8 = 124;

/// What edge hosts ask for.
#[derive(Debug, Default)]
pub(super) struct EdgeHosts {
    wishes: BTreeMap<Uid, EdgeWish>,
    /// Why a host has no prefix, by its name.
    refusals: BTreeMap<String, String>,
    /// Claims that are being made, and for whom.
    under_way: BTreeMap<IpNet, Uid>,
    /// Owners in claims that nobody knows, and when their claims go.
    orphans: BTreeMap<Uid, Instant>,
}

impl Plan {
    /// Why an edge host has no prefix of its pool, in words.
    pub fn edge_refusal(&self, name: &str) -> Option<&str> {
        self.edge_hosts.refusals.get(name).map(String::as_str)
    }

    /// An edge host is there, or changed; one whose prefix is given wishes for none.
    pub(super) fn edge_host_applied(&mut self, now: Now, uid: Uid, wish: Option<EdgeWish>) {
        let hosts = &mut self.edge_hosts;
        hosts.orphans.remove(&uid);
        let former = match wish {
            Some(wish) => hosts.wishes.insert(uid, wish),
            None => hosts.wishes.remove(&uid),
        };
        hosts.refusals.retain(|name, _| former.as_ref().is_none_or(|former| former.name != *name));
        self.settle_edge_hosts(now);
    }

    /// The edge host of this UID is gone.
    pub(super) fn edge_host_deleted(&mut self, now: Now, uid: &str) {
        if let Some(wish) = self.edge_hosts.wishes.remove(uid) {
            self.edge_hosts.refusals.remove(&wish.name);
        }
        // Its deletion was heard of: nobody has to wait for it.
        self.edge_hosts.orphans.insert(uid.to_owned(), now.instant);
        self.settle_edge_hosts(now);
    }

    /// The store has something else, or nothing, under a block's name.
    pub(super) fn edge_claim_told(&mut self, now: Now, net: IpNet) {
        let was_ours = self.edge_hosts.under_way.remove(&net).is_some();
        let stored = self.blocks.get(&net);
        let is_ours = stored.is_some_and(|stored| owner(stored).is_some());
        // What somebody gave back may be had by a host that waits.
        let is_to_be_had = stored.is_none() && !self.edge_hosts.refusals.is_empty();
        if was_ours || is_ours || is_to_be_had {
            self.settle_edge_hosts(now);
        }
    }

    /// The store refused a claim that a host was to have; true where it was one.
    pub(super) fn edge_claim_refused(&mut self, now: Now, net: IpNet, reason: &str) -> bool {
        let Some(uid) = self.edge_hosts.under_way.remove(&net) else { return false };
        if let Some(wish) = self.edge_hosts.wishes.get(&uid) {
            self.edge_hosts.refusals.insert(wish.name.clone(), format!("AddressClaim for {net}: {reason}"));
        }
        self.timers.set(Timer::EdgeHosts, now.instant + REFUSED_RETRY);
        true
    }

    /// Brings claims in line with wishes.
    pub(super) fn settle_edge_hosts(&mut self, now: Now) {
        if !self.synced {
            return;
        }
        let mut has: BTreeMap<Uid, IpNet> = BTreeMap::new();
        let mut given_back = Vec::new();
        for (net, stored) in &self.blocks {
            let Some(uid) = owner(stored) else { continue };
            match self.edge_hosts.wishes.get(uid) {
                Some(wish) if self.serves(wish, stored) && !has.contains_key(uid) => {
                    has.insert(uid.clone(), *net);
                }
                Some(_) => given_back.push((*net, stored.version.clone())),
                None => {
                    let grace = now.instant + ORPHAN_GRACE;
                    let goes = *self.edge_hosts.orphans.entry(uid.clone()).or_insert(grace);
                    if goes <= now.instant {
                        given_back.push((*net, stored.version.clone()));
                    } else {
                        self.timers.set(Timer::EdgeHosts, goes);
                    }
                }
            }
        }
        let owners: BTreeSet<&Uid> = self.blocks.values().filter_map(owner).collect();
        self.edge_hosts.orphans.retain(|uid, _| owners.contains(uid));
        for (net, version) in given_back {
            self.block_writes.insert(net, Write::DeleteClaim(net, version));
        }
        let waiting: BTreeSet<Uid> = self.edge_hosts.under_way.values().cloned().collect();
        let wishes: Vec<(Uid, EdgeWish)> = self
            .edge_hosts
            .wishes
            .iter()
            .filter(|(uid, _)| !has.contains_key(*uid) && !waiting.contains(*uid))
            .map(|(uid, wish)| (uid.clone(), wish.clone()))
            .collect();
        self.edge_hosts.refusals.retain(|name, _| wishes.iter().any(|(_, wish)| wish.name == *name));
        for (uid, wish) in wishes {
            match self.choose_prefix(&wish) {
                Ok(net) => {
                    self.edge_hosts.refusals.remove(&wish.name);
                    self.edge_hosts.under_way.insert(net, uid.clone());
                    self.block_writes.insert(net, Write::CreateClaim(claim(net, uid, wish)));
                }
                Err(refusal) => drop(self.edge_hosts.refusals.insert(wish.name, refusal)),
            }
        }
    }

    /// Whether a block is what a host asks for. What the pool says now takes nothing from a host that has its prefix.
    fn serves(&self, wish: &EdgeWish, stored: &StoredClaim) -> bool {
        let length = stored.claim.net.prefix_len();
        stored.claim.pool == wish.pool && wish.length.is_none_or(|wanted| wanted == length)
    }

    /// The lowest block of a pool that nobody has.
    fn choose_prefix(&self, wish: &EdgeWish) -> Result<IpNet, String> {
        let EdgeWish { pool: name, length, .. } = wish;
        let pool = self.state.pod_pools.good().find(|pool| pool.name == *name);
        let pool =
            pool.ok_or_else(|| format!("spec.pool: {name:?}: there is no PodPool of that name that can be read"))?;
        if !self.state.pod_pools.is_in_force(name) {
            return Err(format!("PodPool {name} is not in force"));
        }
        let wanted = length.unwrap_or(if pool.is_ipv4() { DEFAULT_IPV4 } else { DEFAULT_IPV6 });
        match pool.block_length {
            Some(blocks) if blocks == wanted => self.lowest_free(pool),
            Some(blocks) => Err(format!(
                "PodPool {name} is made of blocks of /{blocks}, and a prefix is one of them: say prefixLength: {blocks} here, or \
                 blockPrefixLength: {wanted} there"
            )),
            None => Err(format!(
                "PodPool {name} has no blocks, of which a prefix is one: say blockPrefixLength: {wanted} there"
            )),
        }
    }

    fn lowest_free(&self, pool: &PodPool) -> Result<IpNet, String> {
        let blocks = pool.blocks();
        // Of another length: claimed before the pool's blocks had this one.
        let (same, other): (Vec<&IpNet>, Vec<&IpNet>) =
            self.blocks.keys().partition(|net| Some(net.prefix_len()) == pool.block_length);
        let same: BTreeSet<&IpNet> = same.into_iter().collect();
        let is_free = |net: &IpNet| {
            let range = AddressRange::from(*net);
            let holds_reserved = || self.state.reserved.keys().any(|address| net.contains(address));
            !same.contains(net)
                && !self.edge_hosts.under_way.contains_key(net)
                && !other.iter().any(|held| range.overlaps(&AddressRange::from(**held)))
                && !holds_reserved()
        };
        let free =
            (0..blocks.count()).filter_map(|number| blocks.nth(number)).find(|net| is_block(*net) && is_free(net));
        free.ok_or_else(|| format!("PodPool {} has no free block left of {}", pool.name, blocks.count()))
    }
}

/// The edge host that has a block.
fn owner(stored: &StoredClaim) -> Option<&Uid> {
    stored.claim.owners.iter().find(|(_, owner)| owner.kind == OwnerKind::EdgeHost).map(|(uid, _)| uid)
}

fn claim(net: IpNet, uid: Uid, wish: EdgeWish) -> Claim {
    let owner =
        Owner { kind: OwnerKind::EdgeHost, namespace: None, name: wish.name, share_key: None, ports: BTreeSet::new() };
    Claim { net, pool: wish.pool, owners: BTreeMap::from([(uid, owner)]), node: None, released: None, assured: 0 }
}
