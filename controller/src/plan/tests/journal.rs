//! What happens in the simulation, one short line each.

use super::world::Request;
use crate::plan::*;

fn claim(claim: &Claim) -> String {
    let owners = claim.owners.iter().map(|(uid, owner)| match &owner.share_key {
        Some(key) => format!("{uid} sharing {key} {:?}", owner.ports.iter().map(|port| port.port).collect::<Vec<_>>()),
        None => uid.clone(),
    });
    format!("{} of {:?}", claim.net.addr(), owners.collect::<Vec<_>>())
}

fn stored(stored: &StoredClaim) -> String {
    format!("claim@{} {}", stored.version.resource_version, claim(&stored.claim))
}

pub(super) fn told(event: &Event) -> String {
    match event {
        Event::ClaimApplied(claim) => stored(claim),
        Event::ServiceApplied(state) => {
            format!("{}@{} {:?}", state.version.uid, state.version.resource_version, state.status)
        }
        Event::PoolApplied { name, .. } => name.clone(),
        other => format!("{other:?}"),
    }
}

pub(super) fn asked(request: &Request) -> String {
    match request {
        Request::Create(new) => format!("create {}", claim(new)),
        Request::Replace(new, version) => format!("replace @{} {}", version.resource_version, claim(new)),
        Request::Delete(net, version) => format!("delete @{} {}", version.resource_version, net.addr()),
        Request::Read(net) => format!("read {}", net.addr()),
        Request::Status(_, version, addresses) => {
            format!("status {}@{} {addresses:?}", version.uid, version.resource_version)
        }
    }
}

pub(super) fn answered(result: &WriteResult) -> String {
    match result {
        WriteResult::Claim(_, Some(found)) => stored(found),
        WriteResult::Claim(net, None) => format!("no claim {}", net.addr()),
        WriteResult::ServiceStatus(_, uid, outcome) => format!("status {uid} {outcome:?}"),
        other => format!("{other:?}"),
    }
}
