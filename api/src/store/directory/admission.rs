//! What an API server adds to an object that it takes in: UID, creation time, generation, `resourceVersion`.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::kinds::{AddressClaim, NodeReport};
use crate::store::{Object, ObjectKey};

/// The object of a manifest as it is in force: with the identity and the status of its earlier version, or a new identity.
pub(super) fn admit(mut object: Object, earlier: Option<&Object>) -> Object {
    if let Some(earlier) = earlier {
        keep_status(&mut object, earlier);
    }
    let (before, ours) =
        (earlier.map(Object::metadata), ObjectKey::from(&object).kind.api_version().contains("roadstead"));
    let changed = earlier.is_some_and(|earlier| !same_spec(&object, earlier));
    let metadata = object.metadata_mut();
    metadata.uid = before.and_then(|before| before.uid.clone()).or_else(|| Some(new_uid()));
    metadata.creation_timestamp = before.and_then(|before| before.creation_timestamp.clone()).or_else(|| Some(now()));
    metadata.resource_version = before.and_then(|before| before.resource_version.clone());
    if ours {
        let generation = before.and_then(|before| before.generation).unwrap_or(1);
        metadata.generation = Some(generation + i64::from(changed));
    }
    object
}

/// A status is its writer's, and stays when the manifest changes.
fn keep_status(object: &mut Object, earlier: &Object) {
    match (object, earlier) {
        (Object::AddressPool(now), Object::AddressPool(earlier)) => {
            Arc::make_mut(now).status.clone_from(&earlier.status);
        }
        (Object::BgpPeer(now), Object::BgpPeer(earlier)) => Arc::make_mut(now).status.clone_from(&earlier.status),
        (Object::Advertisement(now), Object::Advertisement(earlier)) => {
            Arc::make_mut(now).status.clone_from(&earlier.status);
        }
        (Object::PodPool(now), Object::PodPool(earlier)) => Arc::make_mut(now).status.clone_from(&earlier.status),
        (Object::ClusterLink(now), Object::ClusterLink(earlier)) => {
            Arc::make_mut(now).status.clone_from(&earlier.status);
        }
        (Object::ClusterNetwork(now), Object::ClusterNetwork(earlier)) => {
            Arc::make_mut(now).status.clone_from(&earlier.status);
        }
        (Object::EdgeHost(now), Object::EdgeHost(earlier)) => Arc::make_mut(now).status.clone_from(&earlier.status),
        (Object::Service(now), Object::Service(earlier)) => Arc::make_mut(now).status.clone_from(&earlier.status),
        _ => {}
    }
}

fn same_spec(now: &Object, earlier: &Object) -> bool {
    match (now, earlier) {
        (Object::AddressPool(now), Object::AddressPool(earlier)) => now.spec == earlier.spec,
        (Object::BgpPeer(now), Object::BgpPeer(earlier)) => now.spec == earlier.spec,
        (Object::Advertisement(now), Object::Advertisement(earlier)) => now.spec == earlier.spec,
        (Object::ClusterNetwork(now), Object::ClusterNetwork(earlier)) => now.spec == earlier.spec,
        (Object::RouteServer(now), Object::RouteServer(earlier)) => now.spec == earlier.spec,
        (Object::PodPool(now), Object::PodPool(earlier)) => now.spec == earlier.spec,
        (Object::ClusterLink(now), Object::ClusterLink(earlier)) => now.spec == earlier.spec,
        (Object::EdgeHost(now), Object::EdgeHost(earlier)) => now.spec == earlier.spec,
        _ => true,
    }
}

/// A claim as it is made.
pub(super) fn admit_claim(claim: &AddressClaim) -> AddressClaim {
    let mut claim = claim.clone();
    claim.metadata.uid = Some(new_uid());
    claim.metadata.creation_timestamp = Some(now());
    claim.metadata.generation = Some(1);
    claim
}

/// A report with the identity of the earlier one, or a new one.
pub(super) fn admit_report(report: &NodeReport, earlier: Option<&NodeReport>) -> NodeReport {
    let mut report = report.clone();
    let before = earlier.map(|earlier| &earlier.metadata);
    let metadata = &mut report.metadata;
    metadata.uid = before.and_then(|before| before.uid.clone()).or_else(|| Some(new_uid()));
    metadata.creation_timestamp = before.and_then(|before| before.creation_timestamp.clone()).or_else(|| Some(now()));
    metadata.resource_version = before.and_then(|before| before.resource_version.clone());
    report
}

/// Whole seconds, as the API server has them.
fn now() -> Time {
    let now = Timestamp::now();
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// A random UUID (RFC 9562 section 5.4).
fn new_uid() -> String {
    // `RandomState` is keyed from the system's randomness and differently each time: unique, which is all that a UID must be.
    let half = || u128::from(RandomState::new().hash_one(Timestamp::now()));
    let bits = (half() << 64 | half()) & !(0xf << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn uids_are_version_4_and_differ() {
        let uids: BTreeSet<String> = (0..1000).map(|_| new_uid()).collect();
        assert_eq!(uids.len(), 1000);
        for uid in uids {
            assert!(uid.len() == 36 && uid.as_bytes()[14] == b'4' && b"89ab".contains(&uid.as_bytes()[19]), "{uid}");
        }
    }
}
