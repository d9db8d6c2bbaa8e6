//! Addresses that wait for the next pod of a name: those of StatefulSets' pods, from pools with `sticky: true`. Pure, a part of the book.
//!
//! An address that is this node's alone (pinned to it, or of one of its blocks) waits in the book and the journal, and for a pod of this
//! node: no other may use it. One of a pool that nodes share waits in the store. Its claim is marked `kept`, and whichever node the pod
//! starts on takes the claim over, upon the very version that it read; so of two that want it one gets it.
//!
//! Whoever kept an address lets it go: when no pod of that name is to come, when it came and has another, or after [`LONGEST`].

use std::collections::BTreeSet;
use std::net::IpAddr;

use roadstead_api::checked::ClaimName;
use roadstead_api::kinds::{AddressClaim, OwnerKind};
use roadstead_cni::socket::AddRequest;

use super::book::{Book, Pod};
use super::record::{ClaimVersion, Held, Owner, Record, claims};

/// How long an address waits, in seconds, whatever is heard of its pod.
pub(super) const LONGEST: i64 = 3600;

/// For whom an address waits: this interface of the next pod of this name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Heir {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) interface: String,
}

impl Heir {
    fn of_request(request: &AddRequest) -> Option<Self> {
        let pod = request.pod.as_ref()?;
        let interface = request.attachment.interface.clone();
        Some(Self { namespace: pod.namespace.clone(), pod: pod.name.clone(), interface })
    }

    fn of_record(record: &Record) -> Option<Self> {
        let pod = record.pod.as_ref()?;
        let interface = record.owner.interface.clone();
        Some(Self { namespace: pod.namespace.clone(), pod: pod.name.clone(), interface })
    }

    /// For whom a claim is, be it kept already or not.
    pub(crate) fn of_claim(claim: &AddressClaim) -> Option<Self> {
        let [owner] = &claim.spec.owners[..] else { return None };
        let interface = owner.interface.clone().filter(|_| owner.kind == OwnerKind::Pod)?;
        Some(Self { namespace: owner.namespace.clone()?.0, pod: owner.name.0.clone(), interface })
    }

    /// The StatefulSet that makes the pod: its pods are called by its name and their number.
    pub(super) fn stateful_set(&self) -> &str {
        self.pod.rsplit_once('-').map_or("", |(set, _)| set)
    }
}

/// A claim of a pod's address, from a pool with `sticky: true`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodsClaim {
    pub(crate) heir: Heir,
    pub(crate) pool: String,
    /// The node that made it, or keeps it.
    pub(crate) node: String,
    pub(crate) version: ClaimVersion,
    /// Since when it waits, in seconds of Unix time; `None`: the pod that it is for has it.
    pub(crate) since: Option<i64>,
}

impl PodsClaim {
    /// A claim as it is in the store, if it may ever wait for somebody.
    pub(super) fn read(claim: &AddressClaim) -> Option<(IpAddr, Self)> {
        let address = claim.metadata.name.as_deref().and_then(ClaimName::address)?;
        let time = |kept: &String| kept.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_second);
        let claim = Self {
            heir: Heir::of_claim(claim)?,
            pool: claim.spec.pool.0.clone(),
            node: claim.spec.node_name.clone()?.0,
            version: ClaimVersion::of(claim),
            since: claim.spec.kept.as_ref().map(time),
        };
        Some((address, claim))
    }
}

/// What is given back of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Released {
    pub(crate) owner: Owner,
    /// What waits in the book from now on, to be written down.
    pub(crate) kept: Option<Record>,
    /// The claims of addresses that are free.
    pub(crate) free: Vec<(IpAddr, ClaimVersion)>,
    /// The claims of addresses that wait.
    pub(crate) waiting: Vec<(IpAddr, ClaimVersion)>,
}

/// An address that this node keeps for somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) heir: Heir,
    pub(crate) since: i64,
    pub(crate) place: Place,
    /// Whether nobody can have it any more here, or the pod has come back with another.
    pub(crate) is_void: bool,
}

/// Where an address waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the book, under the owner that it had.
    Book(Owner),
    /// In the store.
    Store(IpAddr, ClaimVersion),
}

impl Book {
    /// What the store says of a claim of a pod's address; `None`: there is none.
    pub(crate) fn set_pods_claim(&mut self, address: IpAddr, claim: Option<PodsClaim>) {
        let may_wait = |claim: &PodsClaim| {
            // Of a pool that is not known yet nobody can say.
            claim.since.is_some() || self.pools.get(&claim.pool).is_none_or(|room| room.pool.sticky)
        };
        match claim.filter(may_wait) {
            Some(claim) => drop(self.pods_claims.insert(address, claim)),
            None => drop(self.pods_claims.remove(&address)),
        }
    }

    /// Forgets the claims that a pool which is not sticky cannot let wait.
    pub(super) fn forget_claims_of(&mut self, pool: &str) {
        self.pods_claims.retain(|_, claim| claim.since.is_some() || claim.pool != pool);
    }

    /// What is kept of an interface's addresses that come back; the others are free.
    pub(super) fn keep(&mut self, record: &Record, wall: i64) -> (Released, Vec<Held>) {
        let is_sticky = |held: &&Held| {
            let is_legal = |room: &super::room::Room| room.pool.sticky && room.contains(held.address);
            record.is_of_stateful_set && self.pools.get(&held.pool).is_some_and(is_legal)
        };
        let (waiting, left): (Vec<Held>, Vec<Held>) =
            record.held.iter().cloned().partition(|held| is_sticky(&held) && record.pod.is_some());
        let (claimed, own): (Vec<Held>, Vec<Held>) = waiting.into_iter().partition(|held| held.claim.is_some());
        let kept = (!own.is_empty()).then(|| Record { held: own, kept_since: Some(wall), ..record.clone() });
        if let Some(kept) = &kept {
            self.kept.insert(kept.owner.clone(), kept.clone());
        }
        let owner = record.owner.clone();
        (Released { owner, kept, free: claims(&left), waiting: claims(&claimed) }, left)
    }

    /// The addresses that wait for an interface, with their pools.
    pub(super) fn kept_for(&self, request: &AddRequest, pod: Option<&Pod>) -> Vec<(String, IpAddr)> {
        let heir = Heir::of_request(request).filter(|_| pod.is_some_and(|pod| pod.is_of_stateful_set));
        let Some(heir) = heir else { return Vec::new() };
        let in_book = self.kept.values().filter(|record| Heir::of_record(record).as_ref() == Some(&heir));
        let in_book = in_book.flat_map(|record| &record.held).map(|held| (held.pool.clone(), held.address));
        let claims = self.pods_claims.iter().filter(|(_, claim)| claim.heir == heir && claim.since.is_some());
        let claims = claims.map(|(address, claim)| (claim.pool.clone(), *address));
        in_book.chain(claims).filter(|(_, address)| !self.is_somebodys(*address)).collect()
    }

    /// Whether this interface's address may be about to be kept: its claim is one for a pod of this name still.
    pub(crate) fn is_awaited(&self, request: &AddRequest, pod: Option<&Pod>) -> bool {
        let heir = Heir::of_request(request).filter(|_| pod.is_some_and(|pod| pod.is_of_stateful_set));
        let waits = |(address, claim): (&IpAddr, &PodsClaim)| {
            let is_legal = |room: &super::room::Room| room.pool.sticky && room.contains(*address);
            heir.as_ref() == Some(&claim.heir)
                && claim.since.is_none()
                && self.pools.get(&claim.pool).is_some_and(is_legal)
                && !self.is_somebodys(*address)
        };
        heir.is_some() && self.pods_claims.iter().any(waits)
    }

    /// Whether the claim of an address waits for whoever this record is of.
    pub(crate) fn is_kept_in_store(&self, record: &Record, address: IpAddr) -> bool {
        let claim = self.pods_claims.get(&address).filter(|claim| claim.since.is_some());
        claim.is_some_and(|claim| Heir::of_record(record).as_ref() == Some(&claim.heir))
    }

    /// An address waits for nobody: it was not to be had.
    pub(crate) fn forget_kept(&mut self, address: IpAddr) {
        self.pods_claims.remove(&address);
        for record in self.kept.values_mut() {
            record.held.retain(|held| held.address != address);
        }
        self.kept.retain(|_, record| !record.held.is_empty());
    }

    /// The pod has come: nothing waits for this interface of it any more. The owners are to be struck out of the journal.
    pub(crate) fn heir_has_come(&mut self, record: &Record) -> Vec<Owner> {
        let heir = Heir::of_record(record);
        let of_heir = self.kept.values().filter(|kept| heir.is_some() && Heir::of_record(kept) == heir);
        let owners: Vec<Owner> = of_heir.map(|kept| kept.owner.clone()).collect();
        for owner in &owners {
            self.let_go(owner);
        }
        owners
    }

    /// What waits under an owner is free.
    pub(crate) fn let_go(&mut self, owner: &Owner) {
        let Some(record) = self.kept.remove(owner) else { return };
        for held in &record.held {
            self.free(held.address);
        }
    }

    /// Everything that this node keeps, in the order of those for whom it does.
    pub(crate) fn waiting(&self) -> Vec<Waiting> {
        let present: BTreeSet<Heir> = self.records().filter_map(Heir::of_record).collect();
        let is_void = |heir: &Heir, held: &[(&String, IpAddr)]| {
            let is_legal = |(pool, address): &(&String, IpAddr)| {
                self.pools.get(*pool).is_some_and(|room| room.pool.sticky && room.contains(*address))
            };
            present.contains(heir) || !held.iter().all(is_legal)
        };
        let in_book = self.kept.values().filter_map(|record| {
            let heir = Heir::of_record(record)?;
            let held: Vec<_> = record.held.iter().map(|held| (&held.pool, held.address)).collect();
            let is_own = held.iter().all(|(pool, _)| self.pools.get(*pool).is_some_and(|room| room.is_own));
            let is_void = is_void(&heir, &held) || !is_own;
            let since = record.kept_since.unwrap_or_default();
            Some(Waiting { heir, since, place: Place::Book(record.owner.clone()), is_void })
        });
        let own = self.pods_claims.iter().filter(|(_, claim)| claim.node == self.node);
        let in_store = own.filter_map(|(address, claim)| {
            let (heir, since) = (claim.heir.clone(), claim.since?);
            let is_void = is_void(&heir, &[(&claim.pool, *address)]);
            Some(Waiting { heir, since, place: Place::Store(*address, claim.version.clone()), is_void })
        });
        let mut all: Vec<Waiting> = in_book.chain(in_store).collect();
        all.sort_by(|one, other| one.heir.cmp(&other.heir));
        all
    }

    /// Whether an interface has this address, or is being served with it.
    fn is_somebodys(&self, address: IpAddr) -> bool {
        let mut held = self.records().flat_map(|record| &record.held);
        held.any(|held| held.address == address) || self.reserved.values().any(|addresses| addresses.contains(&address))
    }
}

#[cfg(test)]
mod tests;
