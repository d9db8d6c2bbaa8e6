//! A rehearsal: what the plan would do with these objects, with nothing written anywhere.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use jiff::Timestamp;
use roadstead_api::checked::ServiceKey;
use roadstead_api::kinds::ConditionStatus;
use roadstead_api::store::{Object, Severity};

use crate::edge;
use crate::plan::{Claim, Classes, Event, Now, Plan, StatusOutcome, StoredClaim, Version, Write, WriteResult};

/// What would come of a set of objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rehearsal {
    /// The addresses that Services would get, or have.
    pub assigned: BTreeMap<ServiceKey, Vec<IpAddr>>,
    /// What stands in the way of the rest, one line each: pools that are not in force, Services without an address.
    pub faults: Vec<String>,
}

/// Runs the plan on these objects alone, as if every write were done at once.
pub fn rehearse(objects: &[Object]) -> Rehearsal {
    let now = Now { instant: Instant::now(), wall: Timestamp::now() };
    let mut plan = Plan::new(Classes::default());
    for object in objects {
        let event = match object {
            Object::AddressPool(raw) => edge::pool(raw),
            Object::PodPool(raw) => edge::pod_pool(raw),
            Object::Service(raw) => with_uid(edge::service(raw)),
            Object::Node(raw) => edge::node(raw),
            Object::Namespace(raw) => {
                Event::NamespaceApplied(raw.metadata.name.clone().unwrap_or_default(), edge::labels(&raw.metadata))
            }
            Object::AddressClaim(_)
            | Object::BgpPeer(_)
            | Object::Advertisement(_)
            | Object::ClusterLink(_)
            | Object::ClusterNetwork(_)
            | Object::EdgeHost(_)
            | Object::RouteServer(_)
            | Object::NodeReport(_)
            | Object::EndpointSlice(_)
            | Object::Pod(_)
            | Object::Secret(_)
            | Object::ServiceCidr(_) => continue,
        };
        plan.handle_event(now, event);
    }
    plan.handle_event(now, Event::Synced);
    let mut rehearsal = Rehearsal::default();
    // Ends: each write brings the plan nearer to what it wants, and nobody else writes.
    loop {
        let write = plan.poll_write().or_else(|| plan.poll_report(now));
        let Some(write) = write else { return rehearsal };
        if let Some(result) = rehearsal.note(write) {
            plan.handle_result(now, result);
        }
    }
}

impl Rehearsal {
    /// Does as if the write were done.
    fn note(&mut self, write: Write) -> Option<WriteResult> {
        match write {
            Write::CreateClaim(claim) | Write::ReplaceClaim(claim, _) => Some(stored(claim)),
            Write::DeleteClaim(net, _) => Some(WriteResult::Claim(net, None)),
            Write::ServiceStatus { key, version, addresses } => {
                self.assigned.insert(key.clone(), addresses);
                Some(WriteResult::ServiceStatus(key, version.uid, StatusOutcome::Done))
            }
            Write::PoolStatus(name, report) => {
                if report.ready.verdict.status == ConditionStatus::False {
                    self.faults.push(format!("AddressPool {name}: {}", report.ready.verdict.message));
                }
                Some(WriteResult::PoolStatus(name, true))
            }
            Write::PodPoolStatus(name, report) => {
                if report.ready.verdict.status == ConditionStatus::False {
                    self.faults.push(format!("PodPool {name}: {}", report.ready.verdict.message));
                }
                Some(WriteResult::PodPoolStatus(name, true))
            }
            Write::Notice(notice) => {
                if notice.severity == Severity::Warning {
                    self.faults.push(format!("{}: {}", notice.object, notice.message));
                }
                None
            }
        }
    }
}

/// Objects that no store has taken in have no UID, and the plan tells Services apart by it.
fn with_uid(event: Event) -> Event {
    match event {
        Event::ServiceApplied(mut state) if state.version.uid.is_empty() => {
            state.version.uid = state.key.to_string();
            Event::ServiceApplied(state)
        }
        event => event,
    }
}

fn stored(claim: Claim) -> WriteResult {
    let version = Version { uid: claim.net.to_string(), resource_version: "1".to_owned() };
    WriteResult::Claim(claim.net, Some(StoredClaim { claim, version }))
}

#[cfg(test)]
mod tests {
    use roadstead_api::kinds::AddressPool;
    use roadstead_api::kubernetes::Service;

    use super::*;

    fn pool(name: &str, range: &str) -> Object {
        let spec = format!(r#"{{"addresses":["{range}"]}}"#);
        AddressPool::new(name, serde_json::from_str(&spec).unwrap()).into()
    }

    fn service(name: &str, annotations: &str) -> Object {
        let json = format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"shop","annotations":{{{annotations}}}}},
                "spec":{{"type":"LoadBalancer","ports":[{{"port":80}}]}}}}"#
        );
        serde_json::from_str::<Service>(&json).unwrap().into()
    }

    #[test]
    fn says_what_would_be_assigned_and_what_stands_in_the_way() {
        let objects = [
            pool("a", "203.0.113.0/30"),
            pool("b", "203.0.113.2-203.0.113.9"),
            service("any", ""),
            service("outside", r#""roadstead.dev/addresses":"192.0.2.9""#),
        ];
        let rehearsal = rehearse(&objects);
        let assigned: Vec<String> = rehearsal.assigned.iter().map(|(key, to)| format!("{key} {to:?}")).collect();
        assert_eq!(assigned, ["shop/any [203.0.113.0]"]);
        let [first, second] = rehearsal.faults.as_slice() else { panic!("{:#?}", rehearsal.faults) };
        assert!([first, second].iter().any(|fault| fault.contains("overlaps AddressPool a")), "{first} {second}");
        assert!(
            [first, second]
                .iter()
                .any(|fault| fault.contains("Service shop/outside: requested 192.0.2.9 is in no pool")),
            "{first} {second}"
        );
    }
}
