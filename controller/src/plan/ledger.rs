//! Every claimed address: who is to have it, and what the store says about that.
//!
//! For each address there are two accounts: the claim as the plan wants it, and the claim as the store last was known to have it.
//! Whenever they differ one write is due, and never is more than one under way. That is all there is to it: a lost answer, a claim
//! that somebody else made, changed or deleted, and a change of mind while a write was under way all end in another comparison.
//!
//! An address is confirmed for an owner when the store has it so and nothing is under way. Only then may it be told to anybody. What
//! only a watch told may be of yesterday, so before it is told the store is asked once more: the claim is replaced by itself, counted
//! up by one. That fails if it is not so any longer, and if it succeeds, then a deletion that another controller has under way fails.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use roadstead_api::kinds::OwnerKind;

use super::claim::{Claim, Owner, StoredClaim, Uid};
use super::message::Write;

/// Every claimed address.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    held: BTreeMap<IpAddr, Held>,
    /// Addresses by the key under which they are shared.
    shared: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Addresses whose two accounts may differ.
    due: VecDeque<IpAddr>,
    /// Claims that an answer said are gone, and that events may still tell of: one for each address, until its end is told too.
    gone: BTreeMap<IpAddr, Uid>,
}

/// A claimed address.
#[derive(Debug)]
pub(super) struct Held {
    /// The pool that it came from.
    pub(super) pool: String,
    /// Who is to have it.
    pub(super) owners: BTreeMap<Uid, Owner>,
    /// The node that uses it, where one does.
    pub(super) node: Option<String>,
    /// Since when it rests.
    pub(super) released: Option<Timestamp>,
    stored: Option<StoredClaim>,
    under_way: Option<Sent>,
    /// Owners that gave it up while a write was under way which may still name them.
    parted: BTreeSet<Uid>,
    /// When the write under way was asked for, and when the last one that was answered.
    asked: Moment,
    verified: Moment,
    /// Whether the store is to be asked although the accounts agree.
    verify: bool,
    due: bool,
}

/// A place in the order of all that the plan heard.
pub(super) type Moment = u64;

/// What a write under way makes of a claim; `None`: it is deleted.
type Sent = Option<Claim>;

impl Held {
    /// The claim as it is wanted; `None`: none.
    fn wanted(&self, address: IpAddr) -> Option<Claim> {
        if self.owners.is_empty() && self.released.is_none() {
            return None;
        }
        let (pool, owners, node) = (self.pool.clone(), self.owners.clone(), self.node.clone());
        let assured = self.stored.as_ref().map_or(0, |stored| stored.claim.assured.saturating_add(self.verify.into()));
        Some(Claim { net: IpNet::from(address), pool, owners, node, released: self.released, assured })
    }

    fn is_over(&self) -> bool {
        self.owners.is_empty() && self.released.is_none() && self.stored.is_none() && self.under_way.is_none()
    }

    /// Whether the address may be told as this owner's.
    fn is_confirmed(&self, uid: &str) -> bool {
        let stored = self.stored.as_ref().is_some_and(|stored| stored.claim.owners.contains_key(uid));
        stored && self.under_way.is_none() && self.owners.contains_key(uid)
    }
}

/// What an observation of a claim means for its owners.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Observation {
    /// Owners that the store has and the plan did not know of.
    pub(super) found: Vec<Uid>,
    /// Owners that the plan wants and the store does not have, beside others that it has.
    pub(super) unconfirmed: Vec<Uid>,
}

impl Ledger {
    pub(super) fn get(&self, address: IpAddr) -> Option<&Held> {
        self.held.get(&address)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (IpAddr, &Held)> {
        self.held.iter().map(|(address, held)| (*address, held))
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.held.keys().copied()
    }

    /// Addresses shared under a key, lowest first.
    pub(super) fn shared(&self, key: &str) -> impl Iterator<Item = IpAddr> {
        self.shared.get(key).into_iter().flatten().copied()
    }

    pub(super) fn is_confirmed(&self, address: IpAddr, uid: &str) -> bool {
        self.held.get(&address).is_some_and(|held| held.is_confirmed(uid))
    }

    /// Whether the store is still to say, after this moment, whose the address is.
    pub(super) fn is_stale(&self, address: IpAddr, since: Moment) -> bool {
        let is_stale = |held: &Held| held.under_way.is_some() || !held.owners.is_empty() && held.verified < since;
        self.held.get(&address).is_some_and(is_stale)
    }

    /// Whether the store has nothing under the name of this claim.
    pub(super) fn is_absent(&self, address: IpAddr) -> bool {
        self.held.get(&address).is_some_and(|held| held.stored.is_none() && held.under_way.is_none())
    }

    /// Asks the store once more what it has.
    pub(super) fn verify(&mut self, address: IpAddr) {
        if let Some(held) = self.held.get_mut(&address) {
            held.verify = true;
        }
        self.touch(address);
    }

    /// Gives an address to an owner, or notes what changed about that owner.
    pub(super) fn set_owner(&mut self, address: IpAddr, pool: &str, uid: &str, owner: Owner) {
        if let Some(key) = &owner.share_key {
            self.shared.entry(key.clone()).or_default().insert(address);
        }
        let held = self.entry(address, pool);
        held.released = None;
        held.parted.remove(uid);
        if held.owners.get(uid) != Some(&owner) {
            let before = held.owners.insert(uid.to_owned(), owner);
            self.touch(address);
            self.unshare(address, before);
        }
    }

    /// Takes an address from an owner that was too late for it.
    pub(super) fn deny(&mut self, address: IpAddr, uid: &str) {
        self.remove_owner(address, uid, None);
        if let Some(held) = self.held.get_mut(&address) {
            held.parted.remove(uid);
        }
    }

    /// Takes an address from an owner. The last one leaves it to rest from `rest` on, where that is given.
    pub(super) fn remove_owner(&mut self, address: IpAddr, uid: &str, rest: Option<Timestamp>) {
        let Some(held) = self.held.get_mut(&address) else { return };
        let Some(before) = held.owners.remove(uid) else { return };
        if held.under_way.is_some() {
            held.parted.insert(uid.to_owned());
        }
        // An address that was never told to anybody need not rest.
        if held.owners.is_empty() && held.stored.is_some() {
            held.released = rest;
        }
        self.touch(address);
        self.unshare(address, Some(before));
    }

    /// Ends the rest of an address.
    pub(super) fn end_rest(&mut self, address: IpAddr) {
        if let Some(held) = self.held.get_mut(&address)
            && held.owners.is_empty()
            && held.released.take().is_some()
        {
            self.touch(address);
        }
    }

    /// Books an address to another pool.
    pub(super) fn move_to_pool(&mut self, address: IpAddr, pool: &str) {
        if let Some(held) = self.held.get_mut(&address)
            && held.pool != pool
        {
            pool.clone_into(&mut held.pool);
            self.touch(address);
        }
    }

    /// Takes note of a claim that an event told.
    pub(super) fn observe(&mut self, address: IpAddr, seen: StoredClaim) -> Observation {
        if self.gone.get(&address) == Some(&seen.version.uid) {
            return Observation::default();
        }
        let held = self.entry(address, &seen.claim.pool);
        if held.stored.as_ref().is_some_and(|stored| !seen.version.is_newer_than(&stored.version)) {
            return Observation::default();
        }
        if matches!(&held.under_way, Some(Some(sent)) if *sent == seen.claim) {
            // The echo of our own write was faster than its answer.
            let parted = held.parted.clone();
            return self.adopt(address, seen, &parted);
        }
        self.adopt(address, seen, &BTreeSet::new())
    }

    /// Takes note that a claim of this UID is gone.
    pub(super) fn observe_deleted(&mut self, address: IpAddr, uid: &str) {
        if self.gone.get(&address).is_some_and(|gone| gone == uid) {
            self.gone.remove(&address);
        }
        if let Some(held) = self.held.get_mut(&address)
            && held.stored.as_ref().is_some_and(|stored| stored.version.uid == uid)
        {
            held.stored = None;
            self.touch(address);
        }
    }

    /// Takes note of what the store has after a write.
    pub(super) fn finish(&mut self, address: IpAddr, found: Option<StoredClaim>) -> Observation {
        self.touch(address);
        let Some(held) = self.held.get_mut(&address) else { return Observation::default() };
        let (sent, parted) = (held.under_way.take(), std::mem::take(&mut held.parted));
        (held.verified, held.verify) = (held.asked, false);
        match found {
            Some(found) => {
                // An event may have told a later state already.
                if held.stored.as_ref().is_some_and(|stored| stored.version.is_newer_than(&found.version)) {
                    return Observation::default();
                }
                let is_ours = matches!(&sent, Some(Some(sent)) if *sent == found.claim);
                let parted = if is_ours { parted } else { BTreeSet::new() };
                self.adopt(address, found, &parted)
            }
            None => {
                if let Some(stored) = held.stored.take() {
                    self.gone.insert(address, stored.version.uid);
                }
                Observation::default()
            }
        }
    }

    /// Takes note that a write will not be done; it is due again when somebody asks.
    pub(super) fn refuse(&mut self, address: IpAddr) {
        if let Some(held) = self.held.get_mut(&address) {
            held.under_way = None;
            held.parted.clear();
        }
    }

    /// Asks for the accounts of an address to be compared.
    pub(super) fn touch(&mut self, address: IpAddr) {
        if let Some(held) = self.held.get_mut(&address)
            && !held.due
        {
            held.due = true;
            self.due.push_back(address);
        }
    }

    /// The next write that is due.
    pub(super) fn poll_write(&mut self, now: Moment) -> Option<Write> {
        while let Some(address) = self.due.pop_front() {
            let Some(held) = self.held.get_mut(&address) else { continue };
            held.due = false;
            if held.under_way.is_some() {
                // The result will ask again.
                continue;
            }
            let wanted = held.wanted(address);
            let write = match (&wanted, &held.stored) {
                (None, None) => continue,
                (Some(wanted), None) => Write::CreateClaim(wanted.clone()),
                (Some(wanted), Some(stored)) if *wanted == stored.claim => continue,
                (Some(wanted), Some(stored)) => Write::ReplaceClaim(wanted.clone(), stored.version.clone()),
                (None, Some(stored)) => Write::DeleteClaim(IpNet::from(address), stored.version.clone()),
            };
            held.under_way = Some(wanted);
            held.asked = now;
            return Some(write);
        }
        None
    }

    /// Forgets an address that nobody wants and the store does not have; true where it was forgotten.
    pub(super) fn collect(&mut self, address: IpAddr) -> bool {
        let over = self.held.get(&address).is_some_and(Held::is_over);
        if over {
            self.held.remove(&address);
        }
        over
    }

    fn entry(&mut self, address: IpAddr, pool: &str) -> &mut Held {
        self.held.entry(address).or_insert_with(|| Held {
            pool: pool.to_owned(),
            owners: BTreeMap::new(),
            node: None,
            released: None,
            stored: None,
            under_way: None,
            parted: BTreeSet::new(),
            asked: 0,
            verified: 0,
            verify: false,
            due: false,
        })
    }

    /// Makes `seen` the store's account, and owners that only it has wanted ones, but for those that
    /// `parted`: whether they still are is for others to say.
    fn adopt(&mut self, address: IpAddr, seen: StoredClaim, parted: &BTreeSet<Uid>) -> Observation {
        let Some(held) = self.held.get_mut(&address) else { return Observation::default() };
        // Others than Services are not ours to judge: they are what the store says.
        held.owners.retain(|uid, owner| is_service(owner) || seen.claim.owners.contains_key(uid));
        let mut observation = Observation::default();
        for uid in held.owners.keys().filter(|uid| !seen.claim.owners.contains_key(*uid)) {
            observation.unconfirmed.push(uid.clone());
        }
        if seen.claim.owners.is_empty() {
            observation.unconfirmed.clear();
        }
        if held.owners.is_empty() {
            held.pool.clone_from(&seen.claim.pool);
            held.released = seen.claim.released;
        }
        for (uid, owner) in &seen.claim.owners {
            if !is_service(owner) {
                held.pool.clone_from(&seen.claim.pool);
                held.owners.insert(uid.clone(), owner.clone());
            } else if !held.owners.contains_key(uid) && !parted.contains(uid) {
                held.owners.insert(uid.clone(), owner.clone());
                observation.found.push(uid.clone());
            }
        }
        if !held.owners.is_empty() {
            held.released = None;
        }
        held.node.clone_from(&seen.claim.node);
        held.stored = Some(seen);
        let keys: Vec<String> = held.owners.values().filter_map(|owner| owner.share_key.clone()).collect();
        for key in keys {
            self.shared.entry(key).or_default().insert(address);
        }
        self.touch(address);
        observation
    }

    /// Drops the address from the index under the key of a former owner, unless another owner has the same.
    fn unshare(&mut self, address: IpAddr, before: Option<Owner>) {
        let Some(key) = before.and_then(|owner| owner.share_key) else { return };
        let same = |owner: &Owner| owner.share_key.as_ref() == Some(&key);
        if self.held.get(&address).is_some_and(|held| held.owners.values().any(same)) {
            return;
        }
        if let Some(addresses) = self.shared.get_mut(&key) {
            addresses.remove(&address);
            if addresses.is_empty() {
                self.shared.remove(&key);
            }
        }
    }
}

/// Whether an owner is a Service: others are not the plan's to judge.
pub(super) fn is_service(owner: &Owner) -> bool {
    owner.kind == OwnerKind::Service
}
