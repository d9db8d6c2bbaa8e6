//! Bringing the ledger and a Service's status in line with what the Service is to have.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use jiff::Timestamp;
use roadstead_api::checked::ServiceKey;
use roadstead_api::store::{Notice, Severity};

use super::choice::{self, Choice};
use super::message::{Now, StatusOutcome, Write};
use super::pools::Family;
use super::refusal::Refusals;
use super::services::{Service, StatusWrite, WishKey};
use super::timers::Timer;
use super::{FORMER_GRACE, Plan, REFUSED_RETRY};
use crate::verdict::{findings, shorten};

/// The reason of a notice that tells which addresses a Service got.
const ASSIGNED: &str = "AddressAssigned";
/// The reason of a notice that tells why a Service has not what it asks for.
pub(super) const NOT_ASSIGNED: &str = "AddressNotAssigned";
/// What a Kubernetes event may say: its API refuses a longer note.
const NOTICE_LIMIT: usize = 1000;

/// Whether a Service is the plan's to serve.
enum Standing {
    /// It is of another type or class.
    NotOurs,
    /// Its status was written by somebody else.
    Foreign,
    /// What it asks for cannot be told, and never could.
    Unknown,
    /// It is to be served.
    Served,
}

/// The time without fractions, as it can be stored.
pub(super) fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

impl Plan {
    /// Decides about one Service and draws all consequences.
    pub(super) fn settle(&mut self, now: Now, key: &ServiceKey) {
        let Some(service) = self.state.services.get(key) else { return };
        let standing = self.standing(service);
        let choice = match (&standing, &service.wish) {
            (Standing::NotOurs | Standing::Foreign, _) => Choice::default(),
            (Standing::Served, Some(wish)) => choice::choose(&self.state, service, wish),
            (Standing::Unknown | Standing::Served, _) => {
                Choice { picks: self.state.untouched(service), ..Choice::default() }
            }
        };
        // The addresses of Services that others serve are not handed out a second time.
        let others = match standing {
            Standing::NotOurs | Standing::Foreign => service.status.difference(&service.holds).copied().collect(),
            Standing::Unknown | Standing::Served => BTreeSet::new(),
        };
        if !others.is_empty() || self.reservations.contains_key(&key.object()) {
            self.reserve(key.object(), others);
        }
        self.explain(key, &standing, &choice);
        self.assign(key, choice);
        self.release_former(now, key);
        self.queue_status(key);
    }

    fn standing(&self, service: &Service) -> Standing {
        let foreign = |address: &IpAddr| !service.holds.contains(address) && self.state.pools.of(*address).is_none();
        if !service.ours {
            Standing::NotOurs
        } else if service.foreign_ingress || service.status.iter().any(foreign) {
            Standing::Foreign
        } else if service.wish.is_none() {
            Standing::Unknown
        } else {
            Standing::Served
        }
    }

    /// Enters what was chosen into the ledger.
    fn assign(&mut self, key: &ServiceKey, choice: Choice) {
        let Choice { picks, satisfied, waits, .. } = choice;
        self.state.services.set_waits(key, waits);
        let Some(service) = self.state.services.get_mut(key) else { return };
        service.assigned = picks.keys().copied().collect();
        service.satisfied = service.wish.as_ref().filter(|_| satisfied).map(WishKey::from);
        let (uid, owner, known) = (service.version.uid.clone(), service.owner(), service.wish.is_some());
        let mut touched = Vec::new();
        for (address, pool) in picks {
            if service.holds.insert(address) || known {
                self.state.ledger.set_owner(address, &pool, &uid, owner.clone());
                self.state.pools.take(address);
                touched.push(address);
            }
        }
        for address in touched {
            self.touch_reports(address);
        }
    }

    /// Gives back what the Service is no longer to have, once nobody can be about to tell it. That is at once when we have just written
    /// another address into its status: writes upon a former version fail, and who sees this one stays with what it tells. Else it is
    /// after a while.
    fn release_former(&mut self, now: Now, key: &ServiceKey) {
        let Some(service) = self.state.services.get(key) else { return };
        let is_ours = matches!(self.standing(service), Standing::Served | Standing::Unknown);
        let uid = service.version.uid.clone();
        let tells_another = |address: &IpAddr| {
            service
                .status
                .iter()
                .any(|told| Family::of(*told) == Family::of(*address) && service.assigned.contains(told))
        };
        let is_settled = |address: &IpAddr| service.outdone.contains(address) && (tells_another(address) || !is_ours);
        let is_former = |address: &&IpAddr| !service.assigned.contains(address) && !service.is_told(**address);
        let since = |address| service.former.get(address).copied().unwrap_or(now.instant);
        let former: BTreeMap<IpAddr, Instant> =
            service.holds.iter().filter(is_former).map(|address| (*address, since(address))).collect();
        let (ripe, waiting): (BTreeMap<_, _>, BTreeMap<_, _>) = former
            .into_iter()
            .partition(|(address, since)| is_settled(address) || now.instant >= *since + FORMER_GRACE);
        if let Some(first) = waiting.values().min() {
            self.timers.set(Timer::Former(key.clone()), *first + FORMER_GRACE);
        }
        let Some(service) = self.state.services.get_mut(key) else { return };
        service.outdone.clear();
        service.former = waiting;
        service.holds.retain(|address| !ripe.contains_key(address));
        for address in ripe.into_keys() {
            self.give_back(now, address, &uid);
        }
    }

    fn queue_status(&mut self, key: &ServiceKey) {
        let wanted = self.state.services.get(key).and_then(|service| self.wanted_status(service));
        let Some(service) = self.state.services.get_mut(key) else { return };
        let differs = wanted.is_some_and(|wanted| wanted != service.status);
        if differs && service.status_write == StatusWrite::Idle && !service.due {
            service.due = true;
            self.status_due.push_back(key.clone());
        }
    }

    /// What the status of a Service ought to be; `None`: as it is.
    fn wanted_status(&self, service: &Service) -> Option<BTreeSet<IpAddr>> {
        let without = |gone: &BTreeSet<IpAddr>| service.status.difference(gone).copied().collect();
        match self.standing(service) {
            Standing::NotOurs | Standing::Foreign if service.holds.is_empty() => None,
            Standing::NotOurs | Standing::Foreign => Some(without(&service.holds)),
            Standing::Unknown => None,
            Standing::Served => {
                let uid = &service.version.uid;
                let confirmed = |address: &IpAddr| self.state.ledger.is_confirmed(*address, uid);
                if service.assigned.iter().all(confirmed) {
                    return Some(service.assigned.clone());
                }
                // Not all is ours yet. Until then nothing is added; but what another owns is not told any longer.
                Some(service.status.intersection(&service.holds).copied().collect())
            }
        }
    }

    pub(super) fn poll_status_write(&mut self) -> Option<Write> {
        while let Some(key) = self.status_due.pop_front() {
            let wanted = self.state.services.get(&key).and_then(|service| self.wanted_status(service));
            let Some(service) = self.state.services.get_mut(&key) else { continue };
            service.due = false;
            let Some(addresses) = wanted.filter(|wanted| *wanted != service.status) else { continue };
            if service.status_write != StatusWrite::Idle {
                continue;
            }
            // What is to be told, and what is told already but seems to be another's.
            let disowned = service.status.difference(&addresses).filter(|address| !service.holds.contains(address));
            let questionable = addresses.difference(&service.status).chain(disowned);
            let is_stale = |address: &&IpAddr| self.state.ledger.is_stale(**address, service.heard);
            let stale: Vec<IpAddr> = questionable.filter(is_stale).copied().collect();
            if !stale.is_empty() {
                for address in stale {
                    self.state.ledger.verify(address);
                    self.questions.entry(address).or_default().insert(key.clone());
                }
                continue;
            }
            let upon = service.version.resource_version.clone();
            service.status_write =
                StatusWrite::UnderWay { addresses: addresses.clone(), upon, held: service.holds.clone() };
            let (version, addresses) = (service.version.clone(), addresses.into_iter().collect());
            return Some(Write::ServiceStatus { key, version, addresses });
        }
        None
    }

    pub(super) fn status_written(&mut self, now: Now, key: &ServiceKey, uid: &str, outcome: StatusOutcome) {
        let Some(service) = self.state.services.get_mut(key).filter(|service| service.version.uid == uid) else {
            return;
        };
        let written = service.finish_status_write(outcome == StatusOutcome::Done);
        self.unsettled.insert(service.age());
        match outcome {
            StatusOutcome::Done => {
                let assigned = written.filter(|written| !written.is_empty() && *written == service.assigned);
                if let Some(addresses) = assigned {
                    let from: Vec<String> = addresses.iter().map(|address| self.provenance(*address)).collect();
                    self.tell(key, ASSIGNED, from.join(", "));
                }
            }
            // The event that tells the version we do not know comes by itself; the timer is for a store that fails to tell it.
            StatusOutcome::Conflict | StatusOutcome::Gone => {
                self.timers.set(Timer::Status(key.clone()), now.instant + REFUSED_RETRY);
            }
            StatusOutcome::Refused(reason) => {
                service.status_write = StatusWrite::AwaitEvent;
                self.timers.set(Timer::Status(key.clone()), now.instant + REFUSED_RETRY);
                self.tell(key, NOT_ASSIGNED, format!("the status cannot be written: {reason}"));
            }
        }
    }

    fn provenance(&self, address: IpAddr) -> String {
        let pool = self.state.ledger.get(address).map_or("?", |held| &held.pool);
        format!("{address} from pool {pool}")
    }

    /// Lets people know what stands in a Service's way.
    fn explain(&mut self, key: &ServiceKey, standing: &Standing, choice: &Choice) {
        let Some(service) = self.state.services.get(key) else { return };
        let message = match standing {
            Standing::NotOurs => None,
            // A Service without a class that somebody else serves is an everyday thing; one that names our class is not.
            Standing::Foreign => service.wish.as_ref().and_then(|wish| wish.class.as_ref()).map(|_| {
                "its status holds what is in no pool and no claim: left as it is; clear the status to get an address".to_owned()
            }),
            Standing::Unknown | Standing::Served if !service.invalid.is_empty() => Some(findings(&service.invalid)),
            Standing::Unknown => None,
            Standing::Served if choice.satisfied => None,
            Standing::Served => Some(Refusals(&choice.refusals).to_string()),
        };
        match message {
            Some(message) => {
                let kept: Vec<String> = choice.picks.keys().map(ToString::to_string).collect();
                let keeps = if kept.is_empty() { String::new() } else { format!("; it keeps {}", kept.join(", ")) };
                let message = shorten(message, NOTICE_LIMIT - keeps.len());
                self.tell(key, NOT_ASSIGNED, message + &keeps);
            }
            None => {
                if let Some(service) = self.state.services.get_mut(key)
                    && service.told.as_ref().is_some_and(|(reason, _)| *reason == NOT_ASSIGNED)
                {
                    service.told = None;
                }
            }
        }
    }

    /// Lets people know, unless it is what they were last told.
    pub(super) fn tell(&mut self, key: &ServiceKey, reason: &'static str, message: String) {
        let Some(service) = self.state.services.get_mut(key) else { return };
        let told = Some((reason, shorten(message, NOTICE_LIMIT)));
        if service.told != told {
            service.told = told;
            self.notice_due.push_back(key.clone());
        }
    }

    pub(super) fn poll_notice(&mut self) -> Option<Write> {
        while let Some(key) = self.notice_due.pop_front() {
            let Some(service) = self.state.services.get_mut(&key) else { continue };
            let Some((reason, message)) = service.told.clone() else { continue };
            let severity = if reason == ASSIGNED { Severity::Normal } else { Severity::Warning };
            let (object, uid) = (key.object(), service.version.uid.clone());
            return Some(Write::Notice(Notice { object, uid, severity, reason, message }));
        }
        None
    }
}
