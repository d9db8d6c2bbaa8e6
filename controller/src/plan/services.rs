//! Services as the plan has them, and those that wait.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use roadstead_api::checked::{FamilyPolicy, Invalid, LoadBalancer, ServiceKey};
use roadstead_api::kinds::OwnerKind;

use super::claim::{Owner, Uid, Version};
use super::ledger::Moment;
use super::message::{ServiceState, Wish};
use super::pools::Family;

/// The class that is ours by name.
pub const CLASS: &str = "roadstead.dev/bgp";

/// Which Services of type LoadBalancer are ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Classes {
    /// Whether Services without a class are left to others.
    pub only_class: bool,
    /// Classes served besides [`CLASS`].
    pub others: BTreeSet<String>,
}

impl Classes {
    /// Whether Services of this class are ours.
    pub fn takes(&self, class: Option<&str>) -> bool {
        match class {
            None => !self.only_class,
            Some(class) => class == CLASS || self.others.contains(class),
        }
    }
}

/// A Service.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) key: ServiceKey,
    pub(super) version: Version,
    pub(super) created: String,
    /// Whether type and class make it ours.
    pub(super) ours: bool,
    /// What it asks for, as it last could be told.
    pub(super) wish: Option<LoadBalancer>,
    /// What is wrong with what it asks for now.
    pub(super) invalid: Vec<Invalid>,
    /// The addresses in its status, as far as known: what the last event told, or what was written since.
    pub(super) status: BTreeSet<IpAddr>,
    /// The addresses in its status as the last event told.
    seen: BTreeSet<IpAddr>,
    pub(super) foreign_ingress: bool,
    /// The addresses that it is to have.
    pub(super) assigned: BTreeSet<IpAddr>,
    /// The addresses that it owns in the ledger: those, and former ones until they are out of its status.
    pub(super) holds: BTreeSet<IpAddr>,
    /// Those of them that it is not to have, and since when.
    pub(super) former: BTreeMap<IpAddr, Instant>,
    /// What it held when the status was sent that was written by us just now.
    pub(super) outdone: BTreeSet<IpAddr>,
    /// When its version was heard of.
    pub(super) heard: Moment,
    /// The wish that `assigned` was chosen for.
    pub(super) satisfied: Option<WishKey>,
    pub(super) status_write: StatusWrite,
    /// Whether it stands in the queue of status writes.
    pub(super) due: bool,
    /// What it waits for.
    pub(super) waits: BTreeSet<WaitFor>,
    /// What people were last told of it.
    pub(super) told: Option<(&'static str, String)>,
}

/// Where the writing of a Service's status stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StatusWrite {
    /// Nothing is under way.
    Idle,
    /// Being written.
    UnderWay {
        /// What is written.
        addresses: BTreeSet<IpAddr>,
        /// The `resourceVersion` that it is written upon.
        upon: String,
        /// What the Service held then.
        held: BTreeSet<IpAddr>,
    },
    /// The version that we know is used up: an event will tell the next.
    AwaitEvent,
}

/// The part of a wish whose change moves a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WishKey {
    families: FamilyPolicy,
    requested: Vec<IpAddr>,
    pool: Option<String>,
    share_key: Option<String>,
}

impl From<&LoadBalancer> for WishKey {
    fn from(wish: &LoadBalancer) -> Self {
        Self {
            families: wish.families,
            requested: wish.requested.clone(),
            pool: wish.pool.clone(),
            share_key: wish.share_key.clone(),
        }
    }
}

/// What may let a waiting Service have an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum WaitFor {
    /// This address comes free, or one of its owners leaves.
    Address(IpAddr),
    /// An address of this pool and family comes free.
    Pool(String, Family),
    /// An owner leaves an address that is shared under this key.
    Share(String),
}

/// Services are served in this order: oldest first, then by name.
pub(super) type Age = (String, ServiceKey);

impl Service {
    pub(super) fn new(key: ServiceKey, version: Version) -> Self {
        Self {
            key,
            version,
            created: String::new(),
            ours: false,
            wish: None,
            invalid: Vec::new(),
            status: BTreeSet::new(),
            seen: BTreeSet::new(),
            foreign_ingress: false,
            assigned: BTreeSet::new(),
            holds: BTreeSet::new(),
            outdone: BTreeSet::new(),
            former: BTreeMap::new(),
            heard: 0,
            satisfied: None,
            status_write: StatusWrite::Idle,
            due: false,
            waits: BTreeSet::new(),
            told: None,
        }
    }

    /// Takes over what an event says.
    pub(super) fn update(&mut self, state: ServiceState, classes: &Classes, now: Moment) {
        self.heard = now;
        self.outdone.clear();
        if self.status_write == StatusWrite::AwaitEvent && state.version != self.version {
            self.status_write = StatusWrite::Idle;
        }
        self.seen = state.status.into_iter().collect();
        if !matches!(self.status_write, StatusWrite::UnderWay { .. }) {
            self.status.clone_from(&self.seen);
        }
        self.version = state.version;
        self.created = state.created;
        self.foreign_ingress = state.foreign_ingress;
        self.invalid.clear();
        match state.wish {
            Wish::Nothing => {
                self.ours = false;
                self.wish = None;
            }
            Wish::Invalid { class, findings } => {
                self.ours = classes.takes(class.as_deref());
                self.invalid = findings;
            }
            Wish::LoadBalancer(wish) => {
                self.ours = classes.takes(wish.class.as_deref());
                self.wish = Some(wish);
            }
        }
    }

    /// Takes note of how writing the status ended; the addresses, where they were written.
    pub(super) fn finish_status_write(&mut self, done: bool) -> Option<BTreeSet<IpAddr>> {
        let StatusWrite::UnderWay { addresses, upon, held } =
            std::mem::replace(&mut self.status_write, StatusWrite::Idle)
        else {
            return None;
        };
        if done {
            self.outdone = held;
        }
        let used_up = self.version.resource_version == upon;
        if used_up {
            self.status_write = StatusWrite::AwaitEvent;
        }
        // An event that came meanwhile is later than a write that succeeded.
        if done && used_up {
            self.status.clone_from(&addresses);
        } else {
            self.status.clone_from(&self.seen);
        }
        done.then_some(addresses)
    }

    /// Whether the address stands in the status, or is being written there.
    pub(super) fn is_told(&self, address: IpAddr) -> bool {
        let under_way = match &self.status_write {
            StatusWrite::UnderWay { addresses, .. } => addresses.contains(&address),
            StatusWrite::Idle | StatusWrite::AwaitEvent => false,
        };
        under_way || self.status.contains(&address)
    }

    pub(super) fn age(&self) -> Age {
        (self.created.clone(), self.key.clone())
    }

    /// This Service as an owner of a claim; its ports matter only where it may share.
    pub(super) fn owner(&self) -> Owner {
        let share_key = self.wish.as_ref().and_then(|wish| wish.share_key.clone());
        let ports = match (&share_key, &self.wish) {
            (Some(_), Some(wish)) => wish.ports.clone(),
            _ => BTreeSet::new(),
        };
        let namespace = Some(self.key.namespace.clone());
        Owner { kind: OwnerKind::Service, namespace, name: self.key.name.clone(), share_key, ports }
    }
}

/// Services by name and by UID, and those that wait.
#[derive(Debug, Default)]
pub(super) struct Services {
    by_key: BTreeMap<ServiceKey, Service>,
    by_uid: BTreeMap<Uid, ServiceKey>,
    waiting: BTreeMap<WaitFor, BTreeSet<Age>>,
}

impl Services {
    pub(super) fn get(&self, key: &ServiceKey) -> Option<&Service> {
        self.by_key.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &ServiceKey) -> Option<&mut Service> {
        self.by_key.get_mut(key)
    }

    pub(super) fn by_uid(&self, uid: &str) -> Option<&Service> {
        self.by_key.get(self.by_uid.get(uid)?)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Service> {
        self.by_key.values()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Service> {
        self.by_key.values_mut()
    }

    pub(super) fn insert(&mut self, service: Service) -> &mut Service {
        self.by_uid.insert(service.version.uid.clone(), service.key.clone());
        let key = service.key.clone();
        self.by_key.entry(key).insert_entry(service).into_mut()
    }

    pub(super) fn remove(&mut self, key: &ServiceKey) -> Option<Service> {
        self.set_waits(key, BTreeSet::new());
        let service = self.by_key.remove(key)?;
        self.by_uid.remove(&service.version.uid);
        Some(service)
    }

    /// Notes what a Service waits for.
    pub(super) fn set_waits(&mut self, key: &ServiceKey, waits: BTreeSet<WaitFor>) {
        let Some(service) = self.by_key.get_mut(key) else { return };
        if service.waits == waits {
            return;
        }
        let age = service.age();
        for former in service.waits.difference(&waits) {
            if let Some(ages) = self.waiting.get_mut(former) {
                ages.remove(&age);
                if ages.is_empty() {
                    self.waiting.remove(former);
                }
            }
        }
        for new in waits.difference(&service.waits) {
            self.waiting.entry(new.clone()).or_default().insert(age.clone());
        }
        service.waits = waits;
    }

    /// The first that waits for this after `previous`.
    pub(super) fn next_waiting(&self, wait: &WaitFor, previous: Option<&Age>) -> Option<Age> {
        use std::ops::Bound::{Excluded, Unbounded};
        let after = previous.map_or(Unbounded, Excluded);
        self.waiting.get(wait)?.range((after, Unbounded)).next().cloned()
    }

    /// How many are ours and have not all that they ask for.
    pub(super) fn pending(&self) -> usize {
        self.by_key.values().filter(|service| service.ours && service.assigned.is_empty()).count()
    }
}
