//! The blocks of this node: which it has, which it wants, and which it can do without. Pure, a part of the book.
//!
//! A block is ours when the store's watch has told our own claim of it. The claim's name keeps others from the very same block; and
//! because a watch tells claims in one order to everybody, of two that overlap in another way (blocks of a pool that was deleted and
//! made again with another length, single addresses in a block) both sides see the same one first, and the later is given up.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use roadstead_api::checked::{AddressRange, host_prefix};
use roadstead_api::kinds::PodAdvertisement;

use super::book::Book;
use super::record::ClaimVersion;
use super::room::{Room, successor};

/// A block is nearly full when so many hundredths of it are in use: then the next one is claimed ahead.
const NEARLY_FULL: u128 = 80;

/// Blocks that are looked at here and there for one that nobody has, before it is worked out which are left.
const LOOKS: u128 = 256;

/// Of those that are left, so many are looked at. More than any cluster has claims.
const MOST_LOOKS: usize = 1 << 20;

/// A block that the store says is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnBlock {
    /// The pool that it is of.
    pub(super) pool: String,
    /// Its claim.
    pub(super) version: ClaimVersion,
    /// The controller takes this node for lost, and is about to give the block to others.
    pub(super) is_marked: bool,
    /// Since when it is on its way back: no address is handed out any more, and no router is to be told.
    pub(super) leaving: Option<Instant>,
    /// Since when no pod has an address of it.
    pub(super) empty_since: Option<Instant>,
}

impl OwnBlock {
    pub(super) fn confirmed(pool: &str, version: ClaimVersion) -> Self {
        Self { pool: pool.to_owned(), version, is_marked: false, leaving: None, empty_since: None }
    }

    /// Whether addresses of it may be handed out.
    pub(super) fn is_usable(&self) -> bool {
        !self.is_marked && self.leaving.is_none()
    }
}

impl Book {
    /// The store tells our own claim of a block. One that lies across what others have is void: it is to be given back at once.
    pub(crate) fn set_own_block(&mut self, now: Instant, net: IpNet, block: OwnBlock) {
        let known = self.own_blocks.get(&net).filter(|known| known.version.uid == block.version.uid);
        let block = match known {
            Some(known) => OwnBlock { leaving: known.leaving, empty_since: known.empty_since, ..block },
            None if self.is_others(net) => {
                tracing::warn!(%net, pool = block.pool, "given back: others have addresses in this block");
                OwnBlock { leaving: Some(now), ..block }
            }
            None => {
                tracing::info!(%net, pool = block.pool, "a block of ours");
                block
            }
        };
        let pool = block.pool.clone();
        self.own_blocks.insert(net, block);
        self.renew(&pool);
    }

    /// The claim of a block is gone, be it ours or another's.
    pub(crate) fn forget_block(&mut self, net: IpNet) {
        if let Some(block) = self.own_blocks.remove(&net) {
            if block.leaving.is_none() && self.is_in_use(net) {
                tracing::error!(%net, pool = block.pool, "pods here have addresses of a block that was taken from this node");
            }
            self.renew(&block.pool);
        }
        if self.foreign_blocks.remove(&net) {
            self.others_blocks = self.foreign_blocks.iter().copied().map(AddressRange::from).collect();
            self.renew_in(net);
        }
    }

    /// Another node has this block.
    pub(crate) fn set_foreign_block(&mut self, net: IpNet) {
        if let Some(block) = self.own_blocks.remove(&net) {
            tracing::error!(%net, pool = block.pool, "this node's block is another's now");
            self.renew(&block.pool);
        }
        if self.foreign_blocks.insert(net) {
            self.others_blocks.insert(AddressRange::from(net));
            self.renew_in(net);
        }
    }

    /// The block that a pool's next claim is to be for; none where all are somebody's. Nodes begin in different places and go on by
    /// different steps, so that a thousand of them that claim at once seldom want the same.
    pub(crate) fn next_block(&self, pool: &str) -> Option<IpNet> {
        let room = self.pools.get(pool)?;
        let count = room.blocks.count();
        if count == 0 {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        (&self.node, pool).hash(&mut hasher);
        let mut number = u128::from(hasher.finish()) % count;
        "step".hash(&mut hasher);
        let mut step = u128::from(hasher.finish()) % count;
        while greatest_common_divisor(step, count) != 1 {
            step = (step + 1) % count.max(2);
        }
        for _ in 0..count.min(LOOKS) {
            let net = room.blocks.nth(number)?;
            if room.is_worth_claiming(net) && self.is_claimable(room, net) {
                return Some(net);
            }
            number = (number + step) % count;
        }
        self.first_left(room)
    }

    /// The lowest block of a pool that can be claimed. Looked for in what no claim covers: of an exhausted pool next to nothing, however
    /// large it is.
    fn first_left(&self, room: &Room) -> Option<IpNet> {
        let left = room.without(&self.others_blocks, self.own_blocks.keys());
        let blocks_in = |range: AddressRange| {
            let following = move |net: &IpNet| {
                let last = AddressRange::from(*net).last();
                if last < range.last() { room.block_of(successor(last)) } else { None }
            };
            std::iter::successors(room.block_of(range.first()), following)
        };
        let mut blocks = left.ranges().flat_map(blocks_in).take(MOST_LOOKS);
        blocks.find(|net| room.blocks.contains(*net) && self.is_claimable(room, *net))
    }

    /// Whether a pool has neither a free address here nor a block under way.
    pub(crate) fn needs_block(&self, pool: &str) -> bool {
        self.pools.get(pool).is_some_and(|room| room.has_blocks() && room.next_free().is_none())
    }

    /// Whether the store says that a block is ours, whatever becomes of it.
    pub(crate) fn knows_block(&self, net: IpNet) -> bool {
        self.own_blocks.contains_key(&net)
    }

    /// Pools of which this node has blocks, all nearly full.
    pub(crate) fn pools_nearly_full(&self) -> Vec<String> {
        let nearly_full = |(name, room): (&String, &Room)| {
            let mut blocks = self.usable_blocks(name).peekable();
            let serves = !room.pool.disabled && room.pool.is_judged && !self.overlaps.contains_key(name);
            let takes = serves && room.pool.takes_node(&self.node, &self.node_labels);
            let all = blocks.peek().is_some() && blocks.all(|net| is_nearly_full(room, net));
            (takes && all).then(|| name.clone())
        };
        self.pools.iter().filter_map(nearly_full).collect()
    }

    /// Lets blocks go that no pod has had an address of for a while: all but the last of a pool that is for this node, and none that
    /// would be claimed again at once. Returns whether there were any.
    pub(crate) fn let_empty_blocks_go(&mut self, now: Instant, delay: Duration) -> bool {
        let all: Vec<(IpNet, String)> = self.own_blocks.iter().map(|(net, block)| (*net, block.pool.clone())).collect();
        let mut any = false;
        for (net, pool) in all {
            let is_in_use = self.is_in_use(net);
            let is_needed = self.is_needed(&pool, net);
            let Some(block) = self.own_blocks.get_mut(&net) else { continue };
            if is_in_use {
                block.empty_since = None;
                continue;
            }
            let since = *block.empty_since.get_or_insert(now);
            if block.leaving.is_none() && !is_needed && now.saturating_duration_since(since) >= delay {
                tracing::info!(%net, pool, "a block goes back: no pod has an address of it");
                block.leaving = Some(now);
                any = true;
                self.renew(&pool);
            }
        }
        any
    }

    /// Blocks on their way back, with their claims.
    pub(crate) fn leaving_blocks(&self) -> Vec<(IpNet, ClaimVersion)> {
        let leaving = self.own_blocks.iter().filter(|(_, block)| block.leaving.is_some());
        leaving.map(|(net, block)| (*net, block.version.clone())).collect()
    }

    /// Blocks that the controller is about to give to others, because it takes this node for lost.
    pub(crate) fn marked_blocks(&self) -> Vec<IpNet> {
        self.own_blocks.iter().filter(|(_, block)| block.is_marked).map(|(net, _)| *net).collect()
    }

    /// All blocks that the store says are ours.
    pub(crate) fn own_blocks(&self) -> impl Iterator<Item = (&IpNet, &OwnBlock)> {
        self.own_blocks.iter()
    }

    /// How many addresses of a block pods have, or are kept for one.
    pub(crate) fn allocated_in(&self, net: IpNet) -> usize {
        self.journal().flat_map(|record| &record.held).filter(|held| net.contains(&held.address)).count()
    }

    /// What routers are to be told of, with its pool: blocks that are `held` in the kernel, and addresses of pods.
    pub(crate) fn announcements(&self, held: &BTreeSet<IpNet>) -> BTreeMap<IpNet, String> {
        let advertise = |pool: &String| self.pools.get(pool).map(|room| room.pool.advertise);
        let mut wanted = BTreeMap::new();
        for (net, block) in &self.own_blocks {
            // Of a pool that is gone the blocks are announced for as long as pods have addresses of them.
            let is_told = advertise(&block.pool).is_none_or(|advertise| advertise == PodAdvertisement::Block);
            if is_told && block.leaving.is_none() && held.contains(net) {
                wanted.insert(*net, block.pool.clone());
            }
        }
        for held in self.records().flat_map(|record| &record.held) {
            if advertise(&held.pool) == Some(PodAdvertisement::Address) {
                wanted.insert(host_prefix(held.address), held.pool.clone());
            }
        }
        wanted
    }

    fn usable_blocks<'a>(&'a self, pool: &'a str) -> impl Iterator<Item = IpNet> + 'a {
        let of_pool =
            move |(net, block): (&IpNet, &OwnBlock)| (block.pool == pool && block.is_usable()).then_some(*net);
        self.own_blocks.iter().filter_map(of_pool)
    }

    /// Whether a block of ours is the last of its pool, or would be missed.
    fn is_needed(&self, pool: &str, net: IpNet) -> bool {
        let Some(room) = self.pools.get(pool) else { return false };
        let is_for_us = room.blocks.contains(net) && room.pool.takes_node(&self.node, &self.node_labels);
        let mut others = self.usable_blocks(pool).filter(|other| *other != net);
        is_for_us && others.all(|other| is_nearly_full(room, other))
    }

    /// Whether anybody has, or is about to have, an address of a block, or one of them still rests.
    fn is_in_use(&self, net: IpNet) -> bool {
        let is_held = self.journal().flat_map(|record| &record.held).any(|held| net.contains(&held.address));
        let mut others = self.reserved.values().flatten().chain(self.resting.keys());
        is_held || others.any(|address| net.contains(address))
    }

    fn is_claimable(&self, room: &Room, net: IpNet) -> bool {
        let is_foreign = |addresses: &BTreeSet<IpAddr>| {
            let range = AddressRange::from(net);
            addresses.range(range.first()..=range.last()).next().is_some()
        };
        !self.is_others(net)
            && !is_foreign(&self.foreign)
            // A block leads everything in it here, and the nodes' own addresses are not here.
            && !is_foreign(&room.pool.foreign)
            && !self.contested.overlaps(AddressRange::from(net))
            && !self.is_in_use(net)
            && !self.own_blocks.keys().any(|own| own.contains(&net) || net.contains(own))
    }

    /// Whether somebody else has claimed an address of a block.
    fn is_others(&self, net: IpNet) -> bool {
        let range = AddressRange::from(net);
        self.others_blocks.overlaps(range) || self.others_addresses.range(range.first()..=range.last()).next().is_some()
    }
}

fn is_nearly_full(room: &Room, net: IpNet) -> bool {
    let (usable, free) = room.count(net);
    (usable - free).saturating_mul(100) >= usable.saturating_mul(NEARLY_FULL)
}

fn greatest_common_divisor(mut one: u128, mut other: u128) -> u128 {
    while other != 0 {
        (one, other) = (other, one % other);
    }
    one
}

#[cfg(test)]
mod tests;
