//! A pool, and what of it this node may hand out at the moment.
//!
//! Both are sets of ranges that are kept up to date with every address that comes and goes, so that the choice of the next one costs
//! the same in an almost full pool as in an empty one, whatever its size.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use ipnet::IpNet;
use roadstead_api::checked::{AddressRange, AddressSet, Blocks, PodPool};

use super::blocks::OwnBlock;

/// See the module's essay.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) pool: PodPool,
    /// The blocks that nodes may claim; none where the pool is not made of any.
    pub(super) blocks: Blocks,
    /// Whether no other node may hand out what this one may, so that no claim is needed.
    pub(super) is_own: bool,
    /// All of the pool but for what is left out, whoever may hand it out.
    whole: AddressSet,
    usable: AddressSet,
    free: AddressSet,
    /// Where addresses are looked for, one after the other: each block of ours, or the subnet.
    stretches: Vec<AddressRange>,
    /// Where the search goes on in each stretch.
    next: BTreeMap<IpAddr, IpAddr>,
}

/// What a room depends on besides its pool.
pub(super) struct Surroundings<'a> {
    pub(super) node: &'a str,
    pub(super) own_blocks: &'a BTreeMap<IpNet, OwnBlock>,
    /// Blocks of other nodes, and what pods may have from a pool that is not in force.
    pub(super) denied: [&'a AddressSet; 2],
    pub(super) taken: &'a AddressSet,
}

impl Room {
    pub(super) fn new(pool: PodPool, surroundings: &Surroundings<'_>) -> Self {
        let mut whole = pool.usable();
        for address in &pool.foreign {
            whole.remove(AddressRange::from(IpNet::from(*address)));
        }
        let is_own = pool.block_length.is_some() || pool.is_pinned_to(surroundings.node);
        let mut room = Self {
            blocks: pool.blocks(),
            pool,
            is_own,
            whole,
            usable: AddressSet::default(),
            free: AddressSet::default(),
            stretches: Vec::new(),
            next: BTreeMap::new(),
        };
        room.renew(surroundings);
        room
    }

    /// Where the search goes on.
    pub(super) fn into_places(self) -> BTreeMap<IpAddr, IpAddr> {
        self.next
    }

    /// Goes on where another version of the pool was.
    pub(super) fn go_on_at(&mut self, places: BTreeMap<IpAddr, IpAddr>) {
        let has = |first: &IpAddr| self.stretches.iter().any(|stretch| stretch.first() == *first);
        self.next = places.into_iter().filter(|(first, _)| has(first)).collect();
    }

    /// Whether the pool is made of blocks.
    pub(super) fn has_blocks(&self) -> bool {
        self.pool.block_length.is_some()
    }

    /// Looks at everything anew.
    pub(super) fn renew(&mut self, surroundings: &Surroundings<'_>) {
        let Surroundings { node, own_blocks, denied, taken } = surroundings;
        if self.has_blocks() {
            let usable = own_blocks.iter().filter(|(net, block)| self.takes_from(**net, block));
            self.stretches = usable.map(|(net, _)| AddressRange::from(*net)).collect();
            self.usable = self.stretches.iter().copied().collect::<AddressSet>().common(&self.whole);
            for address in denied[1].ranges() {
                self.usable.remove(address);
            }
        } else {
            self.stretches = vec![AddressRange::from(self.pool.subnet)];
            self.usable = self.pool.usable_on(node).into_iter().collect();
            for denied in denied {
                for other in denied.common(&self.usable).ranges() {
                    self.usable.remove(other);
                }
            }
        }
        self.free = self.usable.clone();
        for taken in taken.common(&self.usable).ranges() {
            self.free.remove(taken);
        }
        self.next.retain(|first, _| self.stretches.iter().any(|stretch| stretch.first() == *first));
        if !self.is_own
            && self.next.is_empty()
            && let Some(start) = self.first_look(node)
        {
            self.next.insert(self.stretches[0].first(), start);
        }
    }

    /// Whether addresses of a block of ours are handed out.
    fn takes_from(&self, net: IpNet, block: &OwnBlock) -> bool {
        block.pool == self.pool.name && block.is_usable() && self.blocks.contains(net)
    }

    /// Whether this node may hand out an address, taken or not.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.usable.contains(address)
    }

    /// Whether this node may hand out nothing at all.
    pub(super) fn is_empty(&self) -> bool {
        self.usable.is_empty()
    }

    /// All of the pool but for what is left out and these.
    pub(super) fn without<'a>(&self, others: &AddressSet, own: impl Iterator<Item = &'a IpNet>) -> AddressSet {
        let mut left = self.whole.clone();
        for other in others.common(&self.whole).ranges().chain(own.map(|net| AddressRange::from(*net))) {
            left.remove(other);
        }
        left
    }

    /// The block that an address is in, where the pool is made of blocks.
    pub(super) fn block_of(&self, address: IpAddr) -> Option<IpNet> {
        IpNet::new(address, self.pool.block_length?).ok().map(|net| net.trunc())
    }

    /// Whether a block has anything that may be handed out.
    pub(super) fn is_worth_claiming(&self, net: IpNet) -> bool {
        self.whole.overlaps(AddressRange::from(net))
    }

    /// How many addresses of a range may be handed out, and how many of them are free.
    pub(super) fn count(&self, net: IpNet) -> (u128, u128) {
        let range = AddressRange::from(net);
        (self.usable.count_in(range), self.free.count_in(range))
    }

    pub(super) fn take(&mut self, address: IpAddr) {
        if self.free.contains(address) {
            self.free.remove(single(address));
        }
    }

    pub(super) fn give_back(&mut self, address: IpAddr) {
        if self.usable.contains(address) {
            self.free.insert(single(address));
        }
    }

    /// The next free address. An address that was given back comes up again as late as possible.
    pub(super) fn next_free(&self) -> Option<IpAddr> {
        self.stretches.iter().find_map(|stretch| {
            let start = self.next.get(&stretch.first()).copied().unwrap_or_else(|| stretch.first());
            let behind = AddressRange::new(start, stretch.last()).ok()?;
            self.free.first_in(behind).or_else(|| self.free.first_in(*stretch))
        })
    }

    /// The search goes on behind this address.
    pub(super) fn go_on_behind(&mut self, address: IpAddr) {
        let Some(stretch) = self.stretches.iter().find(|stretch| stretch.contains(address)) else { return };
        let next = if address == stretch.last() { stretch.first() } else { successor(address) };
        self.next.insert(stretch.first(), next);
    }

    /// Nodes that share a pool begin in different places, so that they seldom want the same address.
    fn first_look(&self, node: &str) -> Option<IpAddr> {
        let ranges: Vec<AddressRange> = self.usable.ranges().collect();
        let mut hasher = DefaultHasher::new();
        (node, &self.pool.name).hash(&mut hasher);
        let count = u64::try_from(ranges.len()).ok().filter(|count| *count > 0)?;
        let range = ranges.get(usize::try_from(hasher.finish() % count).ok()?)?;
        let (first, last) = range.bounds();
        let number = first + u128::from(hasher.finish()) % (last - first).saturating_add(1);
        Some(if range.is_ipv4() { AddressRange::ipv4(number) } else { AddressRange::ipv6(number) })
    }
}

pub(super) fn single(address: IpAddr) -> AddressRange {
    AddressRange::from(IpNet::from(address))
}

pub(super) fn successor(address: IpAddr) -> IpAddr {
    let number = AddressRange::number(address).saturating_add(1);
    if address.is_ipv4() { AddressRange::ipv4(number) } else { AddressRange::ipv6(number) }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use roadstead_api::kinds;

    use super::super::record::ClaimVersion;

    use super::*;

    fn room(spec: &str, own_blocks: &BTreeMap<IpNet, OwnBlock>, taken: &AddressSet) -> Room {
        let raw = format!(r#"{{"metadata":{{"name":"p"}},"spec":{spec}}}"#);
        let raw: kinds::PodPool = serde_json::from_str(&raw).unwrap();
        let nothing = AddressSet::default();
        let surroundings = Surroundings { node: "n", own_blocks, denied: [&nothing, &nothing], taken };
        Room::new(PodPool::check(&raw).unwrap(), &surroundings)
    }

    /// Takes as many addresses as there are, at most `most`.
    fn take(room: &mut Room, most: usize) -> Vec<String> {
        let mut taken = Vec::new();
        while let Some(address) = room.next_free().filter(|_| taken.len() < most) {
            room.take(address);
            room.go_on_behind(address);
            taken.push(address.to_string());
        }
        taken
    }

    #[test]
    fn the_next_free_address_goes_round() {
        let spec = r#"{"subnet":"192.0.2.0/24","ranges":["192.0.2.2-192.0.2.3","192.0.2.9"],"nodeNames":["n"]}"#;
        let mut room = room(spec, &BTreeMap::new(), &AddressSet::default());
        assert_eq!(take(&mut room, 2), ["192.0.2.2", "192.0.2.3"]);
        room.give_back("192.0.2.2".parse().unwrap());
        room.give_back("192.0.2.77".parse().unwrap());
        assert_eq!(take(&mut room, 9), ["192.0.2.9", "192.0.2.2"]);
    }

    #[test]
    fn the_last_address_of_all_is_followed_by_the_first() {
        let spec = r#"{"subnet":"ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127","nodeNames":["n"]}"#;
        let mut room = room(spec, &BTreeMap::new(), &AddressSet::default());
        assert_eq!(take(&mut room, 9).len(), 2);
        room.give_back("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe".parse().unwrap());
        assert_eq!(take(&mut room, 9), ["ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"]);
    }

    #[test]
    fn one_block_is_filled_before_the_next() {
        let blocks = ["10.1.0.4/30", "10.1.0.8/30", "10.2.0.0/30"]
            .map(|net| (net.parse().unwrap(), OwnBlock::confirmed("p", ClaimVersion::default())));
        let mut blocks = BTreeMap::from(blocks);
        let spec = r#"{"subnet":"10.1.0.0/24","blockPrefixLength":30}"#;
        let mut whole = room(spec, &blocks, &AddressSet::from_iter(["10.1.0.5".parse().unwrap()]));
        assert_eq!(whole.count("10.1.0.4/30".parse().unwrap()), (4, 3));
        let expected = ["10.1.0.4", "10.1.0.6", "10.1.0.7", "10.1.0.8", "10.1.0.9", "10.1.0.10", "10.1.0.11"];
        assert_eq!(take(&mut whole, 99), expected);
        blocks.values_mut().for_each(|block| block.leaving = Some(Instant::now()));
        assert!(room(spec, &blocks, &AddressSet::default()).is_empty());
    }
}
