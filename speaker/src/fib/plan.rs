//! What table 179 is to hold: pure. Whatever changes marks the prefixes that it concerns, and [`Plan::changes`] looks at those alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// One way out of this machine: `via` is on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hop {
    pub(super) via: IpAddr,
    pub(super) link: u32,
}

/// A route of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// By one of these.
    Ways(BTreeSet<Hop>),
    /// Not in this table: the main table has a route of somebody else within a prefix of ours.
    Throw,
}

/// How a next hop is reached by routes that are not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// By a route that is about it.
    Route(BTreeSet<Hop>),
    /// By the default route alone.
    Default(BTreeSet<Hop>),
    /// Not, with the reason in words.
    No(String),
}

/// A route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Foreign {
    /// Who put it there, as `ip route` names it.
    pub(super) protocol: String,
    pub(super) link: Option<u32>,
    /// The kernel's own, for a network that an address of this machine lies in.
    pub(super) is_connected: bool,
}

/// Something to do in the kernel: this entry in the place of whatever is there, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) prefix: IpNet,
    pub(super) entry: Option<Entry>,
}

#[derive(Default)]
struct NextHop {
    reach: Option<Reach>,
    prefixes: BTreeSet<IpNet>,
}

/// What the kernel has of us, as far as is known, and by which interfaces.
#[derive(Default)]
struct Kernel {
    entries: BTreeMap<IpNet, Entry>,
    ways: usize,
    /// How many ways lead out of each interface; IPv6 apart.
    links: BTreeMap<(u32, bool), usize>,
}

/// The table, as it is and as it is to be.
#[derive(Default)]
pub(super) struct Plan {
    wanted: BTreeMap<IpNet, BTreeSet<IpAddr>>,
    next_hops: BTreeMap<IpAddr, NextHop>,
    foreign: BTreeMap<IpNet, Foreign>,
    kernel: Kernel,
    /// Of an earlier run: these stay as they are until somebody says what is wanted of them.
    adopted: BTreeSet<IpNet>,
    /// What the kernel said to the last try.
    refused: BTreeMap<IpNet, String>,
    missing: BTreeMap<IpNet, String>,
    dirty: BTreeSet<IpNet>,
}

impl Plan {
    /// What an earlier run left.
    pub(super) fn adopt(&mut self, found: BTreeMap<IpNet, Entry>) {
        self.dirty.extend(found.keys());
        let ways = found.iter().filter(|(_, entry)| matches!(entry, Entry::Ways(_)));
        self.adopted.extend(ways.map(|(prefix, _)| *prefix));
        self.kernel = Kernel::of(found);
    }

    /// Nothing more is adopted.
    pub(super) fn settle(&mut self) {
        for prefix in std::mem::take(&mut self.adopted) {
            self.touch(prefix);
        }
    }

    pub(super) fn set(&mut self, prefix: IpNet, hops: BTreeSet<IpAddr>) {
        // An IPv4 address may come as an IPv6 one that stands for it.
        let hops: BTreeSet<IpAddr> = hops.iter().map(IpAddr::to_canonical).collect();
        let was_adopted = self.adopted.remove(&prefix);
        let before =
            if hops.is_empty() { self.wanted.remove(&prefix) } else { self.wanted.insert(prefix, hops.clone()) };
        self.refused.remove(&prefix);
        let before = before.unwrap_or_default();
        for gone in before.difference(&hops) {
            if let Some(next_hop) = self.next_hops.get_mut(gone) {
                next_hop.prefixes.remove(&prefix);
                if next_hop.prefixes.is_empty() {
                    self.next_hops.remove(gone);
                }
            }
        }
        for new in hops.difference(&before) {
            self.next_hops.entry(*new).or_default().prefixes.insert(prefix);
        }
        // What lies within it matters when it comes and when it goes, and not when it only changes.
        if before.is_empty() != hops.is_empty() || was_adopted {
            self.touch(prefix);
        } else {
            self.dirty.insert(prefix);
        }
    }

    /// The next hops of which nobody has said how they are reached.
    pub(super) fn unknown_next_hops(&self) -> Vec<IpAddr> {
        self.next_hops.iter().filter(|(_, hop)| hop.reach.is_none()).map(|(address, _)| *address).collect()
    }

    /// The next hops that are wanted within a prefix.
    pub(super) fn next_hops_in(&self, prefix: IpNet) -> Vec<IpAddr> {
        self.next_hops.range(prefix.network()..=last(prefix)).map(|(address, _)| *address).collect()
    }

    pub(super) fn next_hops(&self) -> Vec<IpAddr> {
        self.next_hops.keys().copied().collect()
    }

    pub(super) fn reach(&mut self, address: IpAddr, reach: Reach) {
        let Some(next_hop) = self.next_hops.get_mut(&address) else { return };
        if next_hop.reach.as_ref() != Some(&reach) {
            tracing::debug!(%address, ?reach, "next hop");
            next_hop.reach = Some(reach);
            self.dirty.extend(&next_hop.prefixes);
        }
    }

    /// Everything that the main table holds of others but default routes.
    pub(super) fn replace_foreign(&mut self, foreign: BTreeMap<IpNet, Foreign>) {
        let both = self.foreign.iter().chain(&foreign);
        let changed = both.filter(|(prefix, route)| {
            self.foreign.get(*prefix) != Some(*route) || foreign.get(*prefix) != Some(*route)
        });
        self.dirty.extend(changed.map(|(prefix, _)| *prefix));
        self.foreign = foreign;
    }

    pub(super) fn add_foreign(&mut self, prefix: IpNet, route: Foreign) {
        self.foreign.insert(prefix, route);
        self.dirty.insert(prefix);
    }

    pub(super) fn foreign(&self) -> &BTreeMap<IpNet, Foreign> {
        &self.foreign
    }

    /// What the kernel has: everything that differs from what was thought is looked at again.
    pub(super) fn observe(&mut self, found: BTreeMap<IpNet, Entry>) {
        let before = &self.kernel.entries;
        let changed: BTreeSet<IpNet> = before
            .iter()
            .chain(&found)
            .filter(|(prefix, entry)| before.get(*prefix) != Some(*entry) || found.get(*prefix) != Some(*entry))
            .map(|(prefix, _)| *prefix)
            .collect();
        self.adopted.retain(|prefix| found.contains_key(prefix));
        self.kernel = Kernel::of(found);
        for prefix in changed {
            self.touch(prefix);
        }
    }

    /// What the kernel refused is to be tried again.
    pub(super) fn retry(&mut self) {
        self.dirty.extend(self.refused.keys());
    }

    pub(super) fn done(&mut self, change: Change) {
        self.refused.remove(&change.prefix);
        self.kernel.put(change.prefix, change.entry);
    }

    pub(super) fn failed(&mut self, prefix: IpNet, reason: String) {
        if self.wanted.contains_key(&prefix) {
            self.missing.insert(prefix, reason.clone());
        }
        self.refused.insert(prefix, reason);
    }

    /// What is to be done, in this order: while a prefix of ours is there, so is what keeps it off the routes of others.
    pub(super) fn changes(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for prefix in std::mem::take(&mut self.dirty) {
            let (entry, reason) = self.desired(prefix);
            match reason {
                Some(reason) => self.missing.insert(prefix, reason),
                None => self.missing.remove(&prefix),
            };
            if self.kernel.entries.get(&prefix) == entry.as_ref() {
                self.refused.remove(&prefix);
            } else {
                changes.push(Change { prefix, entry });
            }
        }
        changes.sort_by_key(|Change { prefix, entry }| match (entry, self.kernel.entries.get(prefix)) {
            (Some(Entry::Throw), _) => 0,
            (Some(Entry::Ways(_)), _) => 1,
            (None, Some(Entry::Throw)) => 3,
            (None, _) => 2,
        });
        changes
    }

    /// How many prefixes the kernel has of us.
    pub(super) fn installed(&self) -> usize {
        self.kernel.ways
    }

    pub(super) fn adopted(&self) -> usize {
        self.adopted.len()
    }

    /// The interfaces that routes lead out of: those of IPv4, or those of IPv6.
    pub(super) fn links(&self, is_ipv6: bool) -> impl Iterator<Item = u32> {
        self.kernel.links.keys().filter(move |(_, of_ipv6)| *of_ipv6 == is_ipv6).map(|(link, _)| *link)
    }

    pub(super) fn missing(&self) -> &BTreeMap<IpNet, String> {
        &self.missing
    }

    pub(super) fn has_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// The next hops that only the default route leads to and that are used for want of better.
    pub(super) fn by_default(&self) -> impl Iterator<Item = IpAddr> {
        self.next_hops
            .iter()
            .filter(|(_, hop)| matches!(hop.reach, Some(Reach::Default(_))))
            .map(|(address, _)| *address)
    }

    /// The prefix, and what lies within it of others.
    fn touch(&mut self, prefix: IpNet) {
        self.dirty.insert(prefix);
        self.dirty.extend(within(&self.foreign, prefix));
    }

    fn desired(&self, prefix: IpNet) -> (Option<Entry>, Option<String>) {
        let foreign = self.foreign.get(&prefix);
        let throw = || foreign.filter(|_| self.is_covered(prefix)).map(|_| Entry::Throw);
        let Some(next_hops) = self.wanted.get(&prefix) else {
            let adopted = self.adopted.contains(&prefix).then(|| self.kernel.entries.get(&prefix).cloned());
            return (adopted.flatten().or_else(throw), None);
        };
        if prefix.prefix_len() == 0 {
            return (None, Some("a default route is never put in".to_owned()));
        }
        if let Some(foreign) = foreign {
            let reason = format!("the main table has a route for it already, of protocol {}", foreign.protocol);
            return (throw(), Some(reason));
        }
        match self.ways(prefix, next_hops) {
            Ok(ways) => (Some(Entry::Ways(ways)), None),
            Err(reason) => (None, Some(reason)),
        }
    }

    /// All next hops that a route leads to; where there is none of these, those that the default route leads to.
    fn ways(&self, prefix: IpNet, next_hops: &BTreeSet<IpAddr>) -> Result<BTreeSet<Hop>, String> {
        let (mut routed, mut by_default, mut reasons) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        for address in next_hops {
            if prefix.addr().is_ipv6() && address.is_ipv4() {
                reasons.push(format!("{address} is IPv4, over which the kernel routes no IPv6"));
                continue;
            }
            match self.next_hops.get(address).and_then(|hop| hop.reach.as_ref()) {
                Some(Reach::Route(hops)) => routed.extend(hops),
                Some(Reach::Default(hops)) => by_default.extend(hops),
                Some(Reach::No(reason)) => reasons.push(format!("{address}: {reason}")),
                None => reasons.push(format!("{address}: not looked up yet")),
            }
        }
        let mut ways = if routed.is_empty() { by_default } else { routed };
        // The default route of IPv4 may lead over IPv6, never the other way.
        ways.retain(|hop: &Hop| prefix.addr().is_ipv4() || hop.via.is_ipv6());
        if ways.is_empty() { Err(format!("no next hop can be used: {}", reasons.join("; "))) } else { Ok(ways) }
    }

    /// Whether it lies within a prefix of ours, of which everything is none.
    fn is_covered(&self, prefix: IpNet) -> bool {
        let mut wider = prefix;
        while let Some(next) = wider.supernet().filter(|next| next.prefix_len() > 0) {
            wider = next;
            if self.wanted.contains_key(&wider) || self.adopted.contains(&wider) {
                return true;
            }
        }
        false
    }
}

impl Kernel {
    fn of(entries: BTreeMap<IpNet, Entry>) -> Self {
        let mut kernel = Self::default();
        for (prefix, entry) in entries {
            kernel.put(prefix, Some(entry));
        }
        kernel
    }

    fn put(&mut self, prefix: IpNet, entry: Option<Entry>) {
        let is_ipv6 = prefix.addr().is_ipv6();
        if let Some(Entry::Ways(hops)) = &entry {
            self.ways += 1;
            for hop in hops {
                *self.links.entry((hop.link, is_ipv6)).or_default() += 1;
            }
        }
        let before = match entry {
            Some(entry) => self.entries.insert(prefix, entry),
            None => self.entries.remove(&prefix),
        };
        let Some(Entry::Ways(hops)) = before else { return };
        self.ways -= 1;
        for key in hops.iter().map(|hop| (hop.link, is_ipv6)) {
            if let Some(count) = self.links.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.links.remove(&key);
                }
            }
        }
    }
}

/// What of `map` lies within `prefix` and is not it. Prefixes are in the order of their first addresses, and of those that have the same
/// one the wider comes first: so they stand in one piece.
fn within<T>(map: &BTreeMap<IpNet, T>, prefix: IpNet) -> impl Iterator<Item = IpNet> {
    use std::ops::Bound::{Excluded, Included};
    let end = match last(prefix) {
        IpAddr::V4(address) => IpNet::from(Ipv4Net::from(address)),
        IpAddr::V6(address) => IpNet::from(Ipv6Net::from(address)),
    };
    // A prefix of one address has nothing within it, and no range begins behind its own end.
    let range = (prefix < end).then(|| map.range((Excluded(prefix), Included(end))));
    range.into_iter().flatten().map(|(prefix, _)| *prefix)
}

fn last(prefix: IpNet) -> IpAddr {
    match prefix {
        IpNet::V4(net) => IpAddr::V4(Ipv4Addr::from_bits(net.network().to_bits() | net.hostmask().to_bits())),
        IpNet::V6(net) => IpAddr::V6(Ipv6Addr::from_bits(net.network().to_bits() | net.hostmask().to_bits())),
    }
}

#[cfg(test)]
mod tests;
