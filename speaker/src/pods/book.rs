//! The book of a node: which interface has which addresses. Pure: what it is told goes in, and what is to be written down comes out.
//!
//! An ADD goes through three steps, because a write to disk and, for a pool that several nodes share, a claim stand between the
//! choice of an address and its use: [`Book::reserve`] chooses, so that nobody else gets the same, then [`Book::enter`] or
//! [`Book::give_up`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use roadstead_api::checked::{AddressRange, AddressSet, Labels, PodPool};
use roadstead_cni::socket::{AddRequest, AssignedAddress, Assignment, Attachment, NetworkIdentity, Refusal, Route};

use super::blocks::OwnBlock;
use super::choice::{self, Candidate, Line, Unfit};
use super::kept::{PodsClaim, Released};
use super::record::{ClaimVersion, Held, Owner, Record};
use super::room::{Room, Surroundings, single};
use super::wish::{FIRST_INTERFACE, Wish, default_route_interface};

/// See the module's essay.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(super) node: String,
    pub(super) node_labels: Labels,
    pub(super) pools: BTreeMap<String, Room>,
    /// Pools that another goes before; in words.
    pub(super) overlaps: BTreeMap<String, String>,
    /// What pods may have from pools that are not in force.
    pub(super) contested: AddressSet,
    pub(super) own_blocks: BTreeMap<IpNet, OwnBlock>,
    pub(super) foreign_blocks: BTreeSet<IpNet>,
    /// The same as addresses.
    pub(super) others_blocks: AddressSet,
    /// Single addresses that others have claimed.
    pub(super) others_addresses: BTreeSet<IpAddr>,
    /// Why the last that wanted an address of a pool got none, where the pool had no more.
    exhausted: BTreeMap<String, String>,
    records: BTreeMap<Owner, Record>,
    /// What waits here for the next pod of a name, by the owner that it had.
    pub(super) kept: BTreeMap<Owner, Record>,
    /// Claims of pods' addresses that wait in the store, or may come to.
    pub(super) pods_claims: BTreeMap<IpAddr, PodsClaim>,
    attachments: HashMap<Attachment, Owner>,
    /// Owners that are being served.
    pub(super) reserved: BTreeMap<Owner, BTreeSet<IpAddr>>,
    /// Addresses of nodes and of others' claims: never ours to give.
    pub(super) foreign: BTreeSet<IpAddr>,
    /// Addresses given back that rest, and until when.
    pub(super) resting: BTreeMap<IpAddr, Instant>,
    taken: AddressSet,
}

/// The pod of an interface, as the store knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) uid: String,
    pub(crate) labels: Labels,
    pub(crate) annotations: Labels,
    pub(crate) namespace: String,
    pub(crate) namespace_labels: Labels,
    pub(crate) namespace_annotations: Labels,
    /// Whether a StatefulSet made it: then another of its name comes after it.
    pub(crate) is_of_stateful_set: bool,
}

/// What an ADD comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reservation {
    /// It was served before.
    Served(Assignment),
    /// It is to be entered, once these addresses are claimed from pools that nodes share.
    New(Record, Vec<(IpAddr, String)>),
    /// Another block of this pool has to be claimed first.
    NeedsBlock(String),
    /// A pool that would serve it was made or changed just now, and the controller has yet to look at it; so it would be refused.
    NotYet(Refusal),
}

/// Why nothing was chosen.
enum Unserved {
    Refused(Refusal),
    NeedsBlock(String),
    NotYet(Refusal),
}

impl From<Refusal> for Unserved {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Book {
    /// The book of a node, with what its journal holds.
    pub(crate) fn new(node: &str, records: Vec<Record>) -> Self {
        let mut book = Self { node: node.to_owned(), ..Self::default() };
        let (kept, records): (Vec<Record>, Vec<Record>) =
            records.into_iter().partition(|record| record.kept_since.is_some());
        for record in records {
            book.insert(record);
        }
        for mut record in kept {
            // Its heir had come, and that was not written down any more.
            record.held.retain(|held| !book.taken.contains(held.address));
            record.held.iter().for_each(|held| book.take(held.address));
            book.kept.insert(record.owner.clone(), record);
        }
        book
    }

    pub(crate) fn set_node_labels(&mut self, labels: Labels) {
        self.node_labels = labels;
    }

    pub(crate) fn set_pool(&mut self, name: &str, pool: Option<PodPool>) {
        let Some(pool) = pool else { return drop(self.pools.remove(name)) };
        if !pool.sticky {
            self.forget_claims_of(name);
        }
        let mut next = self.pools.remove(name).map(Room::into_places);
        let mut room = Room::new(pool, &self.surroundings());
        if let Some(next) = next.take() {
            room.go_on_at(next);
        }
        self.pools.insert(name.to_owned(), room);
    }

    /// Which pools are not in force, and why, and what no pool hands out because pods may have it from one of these.
    pub(crate) fn set_verdicts(&mut self, overlaps: BTreeMap<String, String>, contested: AddressSet) {
        self.overlaps = overlaps;
        if self.contested != contested {
            self.contested = contested;
            let names: Vec<String> = self.pools.keys().cloned().collect();
            for name in names {
                self.renew(&name);
            }
        }
    }

    /// Looks at a pool anew.
    pub(super) fn renew(&mut self, name: &str) {
        let Some(mut room) = self.pools.remove(name) else { return };
        room.renew(&self.surroundings());
        self.pools.insert(name.to_owned(), room);
    }

    /// Looks anew at pools whose single addresses may be in this block.
    pub(super) fn renew_in(&mut self, block: IpNet) {
        let block = AddressRange::from(block);
        let touches = |room: &Room| !room.has_blocks() && AddressRange::from(room.pool.subnet).overlaps(&block);
        let touched = self.pools.iter().filter(|(_, room)| touches(room)).map(|(name, _)| name.clone());
        let touched: Vec<String> = touched.collect();
        for name in touched {
            self.renew(&name);
        }
    }

    fn surroundings(&self) -> Surroundings<'_> {
        Surroundings {
            node: &self.node,
            own_blocks: &self.own_blocks,
            denied: [&self.others_blocks, &self.contested],
            taken: &self.taken,
        }
    }

    /// Whether somebody else has claimed an address.
    pub(crate) fn set_others_claim(&mut self, address: IpAddr, is_others: bool) {
        if is_others {
            self.others_addresses.insert(address);
        } else {
            self.others_addresses.remove(&address);
        }
    }

    /// Whether an address is a node's, or claimed by somebody who is not on this node.
    pub(crate) fn set_foreign(&mut self, address: IpAddr, is_foreign: bool) {
        if is_foreign {
            self.foreign.insert(address);
            self.take(address);
        } else if self.foreign.remove(&address) {
            self.free(address);
        }
    }

    pub(crate) fn records(&self) -> impl ExactSizeIterator<Item = &Record> {
        self.records.values()
    }

    /// All that the journal has to tell: who has addresses, and for whom some wait.
    pub(crate) fn journal(&self) -> impl Iterator<Item = &Record> + Clone {
        self.records.values().chain(self.kept.values())
    }

    /// Whether an owner has addresses, or what it had waits.
    pub(crate) fn has(&self, owner: &Owner) -> bool {
        self.records.contains_key(owner) || self.kept.contains_key(owner)
    }

    /// Whether a container's interface has addresses.
    pub(crate) fn has_attachment(&self, attachment: &Attachment) -> bool {
        self.attachments.contains_key(attachment)
    }

    /// Whether a pod of this UID has this address, or is being served with it.
    pub(crate) fn has_address_of(&self, uid: &str, address: IpAddr) -> bool {
        // A pod's interfaces stand side by side. It is asked for each claim that the store tells of.
        let first = Owner { uid: uid.to_owned(), interface: String::new() };
        let mut records = self.records.range(&first..).take_while(|(owner, _)| owner.uid == uid);
        let mut reserved = self.reserved.range(&first..).take_while(|(owner, _)| owner.uid == uid);
        records.any(|(_, record)| record.held.iter().any(|held| held.address == address))
            || reserved.any(|(_, addresses)| addresses.contains(&address))
    }

    /// How many addresses of each pool are in use or kept here without a claim, which would be counted as well.
    pub(crate) fn unclaimed(&self) -> BTreeMap<String, i64> {
        let mut count = BTreeMap::new();
        for held in self.journal().flat_map(|record| &record.held).filter(|held| held.claim.is_none()) {
            *count.entry(held.pool.clone()).or_default() += 1;
        }
        count
    }

    /// When the next address has rested.
    pub(crate) fn wake(&mut self, now: Instant) {
        let rested: Vec<IpAddr> =
            self.resting.iter().filter(|(_, until)| **until <= now).map(|(address, _)| *address).collect();
        for address in rested {
            self.resting.remove(&address);
            self.free(address);
        }
    }

    /// Chooses the addresses of an interface, and keeps them from others until [`Book::enter`] or [`Book::give_up`].
    pub(crate) fn reserve(
        &mut self,
        now: Instant,
        request: &AddRequest,
        pod: Option<&Pod>,
    ) -> Result<Reservation, Refusal> {
        self.wake(now);
        let uid = pod.map_or(&request.attachment.container_id, |pod| &pod.uid).clone();
        let owner = Owner { uid, interface: request.attachment.interface.clone() };
        if self.reserved.contains_key(&owner) {
            let message = format!("{} is being served by another call", describe(request));
            return Err(Refusal { code: Refusal::TRY_LATER, message, details: String::new() });
        }
        if let Some(known) = self.records.get(&owner) {
            if known.attachment == request.attachment {
                return Ok(Reservation::Served(known.assignment.clone()));
            }
            // Another sandbox of the same pod: it keeps what is still legal here.
            if known.held.iter().all(|held| self.is_legal(held)) {
                let mut moved = known.clone();
                moved.attachment = request.attachment.clone();
                moved.netns.clone_from(&request.netns);
                self.reserved.insert(owner, BTreeSet::new());
                return Ok(Reservation::New(moved, Vec::new()));
            }
        }
        let chosen = match self.choose(request, pod) {
            Ok(chosen) => chosen,
            Err(Unserved::Refused(refusal)) => return Err(refusal),
            Err(Unserved::NeedsBlock(pool)) => return Ok(Reservation::NeedsBlock(pool)),
            Err(Unserved::NotYet(refusal)) => return Ok(Reservation::NotYet(refusal)),
        };
        let mut held = Vec::new();
        let mut to_claim = Vec::new();
        for (pool, address) in &chosen {
            self.take(*address);
            held.push(Held { address: *address, pool: pool.clone(), claim: None });
            let Some(room) = self.pools.get_mut(pool) else { continue };
            room.go_on_behind(*address);
            if !room.is_own {
                to_claim.push((*address, pool.clone()));
            }
        }
        self.reserved.insert(owner.clone(), chosen.iter().map(|(_, address)| *address).collect());
        let has_default_route =
            pod.map_or(FIRST_INTERFACE, |pod| default_route_interface(&pod.annotations)) == owner.interface;
        let assignment = self.assignment(&chosen, has_default_route);
        let record = Record {
            owner,
            attachment: request.attachment.clone(),
            pod: request.pod.clone(),
            network: request.network.name.clone(),
            netns: request.netns.clone(),
            held,
            assignment,
            is_of_stateful_set: pod.is_some_and(|pod| pod.is_of_stateful_set),
            kept_since: None,
        };
        Ok(Reservation::New(record, to_claim))
    }

    /// The addresses of a reservation are the interface's. Those that it had before, if others, are returned.
    pub(crate) fn enter(&mut self, now: Instant, record: Record) -> Vec<Held> {
        self.reserved.remove(&record.owner);
        let before = self.records.get(&record.owner).cloned();
        if let Some(before) = &before {
            self.attachments.remove(&before.attachment);
        }
        let held: BTreeSet<IpAddr> = record.held.iter().map(|held| held.address).collect();
        self.insert(record);
        let left = before.map(|before| before.held).unwrap_or_default();
        let left: Vec<Held> = left.into_iter().filter(|old| !held.contains(&old.address)).collect();
        self.rest(now, &left);
        left
    }

    /// The reservation of an owner comes to nothing.
    pub(crate) fn give_up(&mut self, owner: &Owner) {
        for address in self.reserved.remove(owner).unwrap_or_default() {
            self.free(address);
        }
    }

    /// Records that hold addresses which, since an edit, other nodes may hand out too, and without a claim.
    pub(crate) fn unclaimed_of_shared_pools(&self) -> Vec<(Record, Vec<(IpAddr, String)>)> {
        let is_open = |held: &&Held| held.claim.is_none() && !self.is_kept_from_others(held);
        // What lies in another's block cannot be kept.
        let is_open = |held: &&Held| is_open(held) && !self.others_blocks.contains(held.address);
        let unclaimed = |record: &Record| -> Vec<(IpAddr, String)> {
            record.held.iter().filter(is_open).map(|held| (held.address, held.pool.clone())).collect()
        };
        let all = self.records.values().map(|record| (record.clone(), unclaimed(record)));
        all.filter(|(_, addresses)| !addresses.is_empty()).collect()
    }

    /// The address of an owner is claimed now. Returns the record as it is to be written down; none where it is gone meanwhile.
    pub(crate) fn set_claim(&mut self, owner: &Owner, address: IpAddr, claim: ClaimVersion) -> Option<Record> {
        let record = self.records.get_mut(owner)?;
        record.held.iter_mut().find(|held| held.address == address)?.claim = Some(claim);
        Some(record.clone())
    }

    /// Takes the addresses of a container's interface back; `wall` is the Unix time. A container that has none, or whose pod has another
    /// sandbox by now, is nobody's loss.
    pub(crate) fn release(&mut self, now: Instant, wall: i64, attachment: &Attachment) -> Option<Released> {
        let owner = self.attachments.remove(attachment)?;
        let record = self.records.remove(&owner)?;
        let (released, free) = self.keep(&record, wall);
        self.rest(now, &free);
        Some(released)
    }

    /// Whether the interface has its addresses, and the runtime has no others for it.
    pub(crate) fn check(&self, attachment: &Attachment, addresses: &[IpAddr]) -> Result<(), Refusal> {
        let lost = |message: String| Refusal { code: Refusal::LOST, message, details: String::new() };
        let Some(record) = self.attachments.get(attachment).and_then(|owner| self.records.get(owner)) else {
            let Attachment { container_id, interface } = attachment;
            return Err(lost(format!("interface {interface} of container {container_id} has no addresses here")));
        };
        let missing = record.held.iter().find(|held| !addresses.is_empty() && !addresses.contains(&held.address));
        missing
            .map_or(Ok(()), |held| Err(lost(format!("{} is reserved here, and is not on the interface", held.address))))
    }

    /// Whether an interface of this network, of a pod that names no pool, would get an address.
    pub(crate) fn status(&self, network: &NetworkIdentity) -> Result<(), Refusal> {
        let nothing = Labels::new();
        let wish = Wish::of(FIRST_INTERFACE, &nothing, &nothing, &network.pools).unwrap_or(Wish::Defaults);
        let has_room =
            |room: &Room| room.next_free().is_some() || room.has_blocks() && self.next_block(&room.pool.name).is_some();
        let serves = |room: &&Room| {
            let pool = &room.pool;
            !pool.disabled
                && !self.overlaps.contains_key(&pool.name)
                && pool.takes_node(&self.node, &self.node_labels)
                && pool.takes_network(network.definition.as_deref(), &network.name)
        };
        let named: Vec<&Room> = match &wish {
            // Any pod may name a pool for itself.
            Wish::Defaults => self.pools.values().filter(serves).collect(),
            Wish::Named { patterns, .. } => {
                let is_named = |room: &&Room| patterns.iter().any(|pattern| pattern.matches(&room.pool.name));
                self.pools.values().filter(is_named).filter(serves).collect()
            }
        };
        if named.iter().any(|pool| has_room(pool)) {
            return Ok(());
        }
        let message = if named.is_empty() {
            format!("no pool serves network {} on node {}", network.name, self.node)
        } else {
            let names: Vec<&str> = named.iter().map(|room| room.pool.name.as_str()).collect();
            format!("no address is free on node {} for network {}: {} full", self.node, network.name, names.join(", "))
        };
        Err(Refusal { code: Refusal::NOT_AVAILABLE, message, details: String::new() })
    }

    /// The interfaces of a network that the runtime knows no more.
    pub(crate) fn not_among(&self, network: &str, valid: &BTreeSet<Attachment>) -> Vec<Attachment> {
        let of_network = self.records.values().filter(|record| record.network == network);
        of_network.map(|record| &record.attachment).filter(|attachment| !valid.contains(attachment)).cloned().collect()
    }

    fn choose(&mut self, request: &AddRequest, pod: Option<&Pod>) -> Result<Vec<(String, IpAddr)>, Unserved> {
        let nothing = Pod::default();
        let known = pod.unwrap_or(&nothing);
        let interface = &request.attachment.interface;
        let wish = Wish::of(interface, &known.annotations, &known.namespace_annotations, &request.network.pools)
            .map_err(|bad| Refusal { code: Refusal::NO_POOL, message: bad.to_string(), details: String::new() })?;
        let candidate = Candidate {
            node: &self.node,
            node_labels: &self.node_labels,
            network: &request.network,
            namespace: pod.map(|pod| (pod.namespace.as_str(), &pod.namespace_labels)),
            pod_labels: &known.labels,
        };
        let kept = self.kept_for(request, pod);
        let (fit, mut lines) = choice::choose(&self.pools, &self.overlaps, &wish, &candidate);
        let refuse = |code: u32, what: &str, lines: &[Line]| {
            let details = lines.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            let by = match &wish {
                Wish::Named { by, .. } => format!("pools named by {by}"),
                Wish::Defaults => "pools with default: true".to_owned(),
            };
            let reasons = if lines.is_empty() { "there are none".to_owned() } else { details.replace('\n', "; ") };
            let message = format!("{}: {what}; {by}: {reasons}", describe(request));
            Refusal { code, message, details }
        };
        if lines.iter().any(|Line(_, unfit)| *unfit == Unfit::NotJudged) {
            return Err(Unserved::NotYet(refuse(Refusal::TRY_LATER, "a pool is not ready", &lines)));
        }
        if fit.is_empty() {
            return Err(refuse(Refusal::NO_POOL, "no pool serves it", &lines).into());
        }
        if !request.requested.is_empty() {
            return match self.grant(&request.requested, &fit, &kept, &mut lines) {
                Some(granted) => Ok(granted),
                None => Err(refuse(Refusal::ADDRESS, "not all of the requested addresses can be had", &lines).into()),
            };
        }
        let mut chosen = Vec::new();
        for is_ipv4 in [true, false] {
            let of_family: Vec<&&Room> = fit.iter().filter(|room| room.pool.is_ipv4() == is_ipv4).collect();
            let mut found = None;
            let has = |room: &&&&Room, (pool, address): &(String, IpAddr)| {
                *pool == room.pool.name && room.pool.sticky && room.contains(*address)
            };
            let back = of_family.iter().find_map(|room| kept.iter().find(|kept| has(&room, kept)));
            if let Some(back) = back {
                chosen.push(back.clone());
                continue;
            }
            for room in &of_family {
                let name = &room.pool.name;
                if let Some(address) = room.next_free() {
                    found = Some((name.clone(), address));
                } else if room.has_blocks() && self.next_block(name).is_some() {
                    return Err(Unserved::NeedsBlock(name.clone()));
                }
                if found.is_some() {
                    break;
                }
            }
            match found {
                Some(found) => chosen.push(found),
                None if of_family.is_empty() => {}
                None => {
                    lines.extend(of_family.iter().map(|room| Line(room.pool.name.clone(), Unfit::Full)));
                    let family = if is_ipv4 { "no IPv4 address is free" } else { "no IPv6 address is free" };
                    let refusal = refuse(Refusal::EXHAUSTED, family, &lines);
                    let full = of_family.iter().map(|room| (room.pool.name.clone(), refusal.message.clone()));
                    self.exhausted.extend(full);
                    return Err(refusal.into());
                }
            }
        }
        Ok(chosen)
    }

    /// The pool of each requested address, if all can be had.
    fn grant(
        &self,
        requested: &[IpAddr],
        fit: &[&Room],
        kept: &[(String, IpAddr)],
        lines: &mut Vec<Line>,
    ) -> Option<Vec<(String, IpAddr)>> {
        let mut granted = Vec::new();
        for address in requested {
            let is_back = kept.iter().any(|(_, kept)| kept == address);
            match fit.iter().find(|room| room.contains(*address)) {
                Some(room) if self.taken.contains(*address) && !is_back => {
                    lines.push(Line(room.pool.name.clone(), Unfit::Taken(*address)));
                }
                Some(room) => granted.push((room.pool.name.clone(), *address)),
                None => lines.extend(fit.iter().map(|room| Line(room.pool.name.clone(), Unfit::NotAmong(*address)))),
            }
        }
        (granted.len() == requested.len()).then_some(granted)
    }

    fn assignment(&self, chosen: &[(String, IpAddr)], has_default_route: bool) -> Assignment {
        let mut assignment = Assignment::default();
        for (pool, address) in chosen {
            let Some(Room { pool, .. }) = self.pools.get(pool) else { continue };
            // The length is the subnet's, which is one of its family.
            let address = IpNet::new(*address, pool.subnet.prefix_len()).unwrap_or_else(|_| IpNet::from(*address));
            assignment.addresses.push(AssignedAddress { address, gateway: pool.gateway });
            if let Some(gateway) = pool.gateway.filter(|_| has_default_route) {
                // The default network of each family is the one of length 0.
                let destination = if pool.is_ipv4() { Ipv4Net::default().into() } else { Ipv6Net::default().into() };
                assignment.routes.push(Route { destination, gateway: Some(gateway) });
            }
            let of_pool = pool.routes.iter();
            assignment.routes.extend(
                of_pool.map(|route| Route { destination: route.destination, gateway: route.gateway.or(pool.gateway) }),
            );
        }
        assignment
    }

    fn is_legal(&self, held: &Held) -> bool {
        let is_usable = self.pools.get(&held.pool).is_some_and(|room| room.contains(held.address));
        !self.overlaps.contains_key(&held.pool) && is_usable
    }

    /// Whether no other node may hand out an address that is held without a claim of its own.
    fn is_kept_from_others(&self, held: &Held) -> bool {
        let is_in_block = self.own_blocks.keys().any(|net| net.contains(&held.address));
        // Until all pools are known none of them is missing.
        let is_own = self.pools.get(&held.pool).is_some_and(|room| room.is_own && room.contains(held.address));
        is_in_block || is_own && !self.overlaps.contains_key(&held.pool)
    }

    /// Why pods got no address of pools that still have none.
    pub(crate) fn exhausted(&self) -> BTreeMap<String, String> {
        let is_full = |name: &String| {
            self.pools.get(name).is_some_and(|room| room.next_free().is_none() && self.next_block(name).is_none())
        };
        let full = self.exhausted.iter().filter(|(name, _)| is_full(name));
        full.map(|(name, why)| (name.clone(), why.clone())).collect()
    }

    fn take(&mut self, address: IpAddr) {
        self.taken.insert(single(address));
        self.pools.values_mut().for_each(|room| room.take(address));
    }

    fn insert(&mut self, record: Record) {
        for held in &record.held {
            self.resting.remove(&held.address);
            self.take(held.address);
        }
        self.attachments.insert(record.attachment.clone(), record.owner.clone());
        self.records.insert(record.owner.clone(), record);
    }

    fn rest(&mut self, now: Instant, left: &[Held]) {
        for held in left {
            let delay = self.pools.get(&held.pool).map_or(Duration::ZERO, |room| room.pool.reuse_delay);
            if !delay.is_zero() {
                self.resting.insert(held.address, now + delay);
            }
            self.free(held.address);
        }
    }

    /// Lets an address be found again, unless somebody else has it still.
    pub(super) fn free(&mut self, address: IpAddr) {
        let is_reserved = self.reserved.values().any(|addresses| addresses.contains(&address));
        let is_held = self.journal().flat_map(|record| &record.held).any(|held| held.address == address);
        if !is_reserved && !is_held && !self.foreign.contains(&address) && !self.resting.contains_key(&address) {
            self.taken.remove(single(address));
            self.pools.values_mut().for_each(|room| room.give_back(address));
        }
    }
}

fn describe(request: &AddRequest) -> String {
    let Attachment { container_id, interface } = &request.attachment;
    match &request.pod {
        Some(pod) => format!("interface {interface} of pod {}/{}", pod.namespace, pod.name),
        None => format!("interface {interface} of container {container_id}"),
    }
}

#[cfg(test)]
mod tests;
