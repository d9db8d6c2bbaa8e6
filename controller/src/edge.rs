//! The edge: objects of the API on one side, the plan's own types on the other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use kube::core::ObjectMeta;
use roadstead_api::checked::{
    self, ClaimName, EdgePrefix, Invalid, LoadBalancer, ObjectRef, Pool, Port, Protocol, ServiceKey, status_addresses,
};
use roadstead_api::kinds::{
    AddressClaim, AddressClaimSpec, AddressCount, AddressPool, AddressPoolStatus, AddressText, CidrText, ClaimOwner,
    ClaimPort, EdgeHost, LeftOutAddress, NodeReport, ObjectName, PodPool, PodPoolStatus,
};
use roadstead_api::kubernetes::{Node, Service};

use crate::plan::{
    Claim, Count, EdgeWish, Event, NodePods, Owner, PodPoolReport, PoolReport, ServiceState, StoredClaim, Version, Wish,
};
use crate::verdict::{Ready, seconds, shorten};

/// The annotation of a claim that counts how often a controller made sure of it; see [`Claim::assured`].
const ASSURED: &str = "roadstead.dev/assured";

/// A pool.
pub(crate) fn pool(raw: &AddressPool) -> Event {
    let report = raw.status.as_ref().and_then(|status| {
        let ready = Ready::find(&status.conditions)?;
        Some(PoolReport { ipv4: count(status.ipv4.as_ref()), ipv6: count(status.ipv6.as_ref()), ready })
    });
    let name = raw.metadata.name.clone().unwrap_or_default();
    Event::PoolApplied { name, checked: Pool::check(raw), generation: raw.metadata.generation, report }
}

/// An edge host; `None`: what is wrong with it leaves everything as it is.
pub(crate) fn edge_host(raw: &EdgeHost) -> Option<Event> {
    let host = checked::EdgeHost::check(raw).ok()?;
    let wish = match host.prefix {
        EdgePrefix::Given(_) => None,
        EdgePrefix::FromPool { pool, length } => Some(EdgeWish { name: host.name, pool, length }),
    };
    Some(Event::EdgeHostApplied(raw.metadata.uid.clone()?, wish))
}

/// A pool for pods.
pub(crate) fn pod_pool(raw: &PodPool) -> Event {
    let report = raw.status.as_ref().and_then(|status| {
        let left_out = status.left_out.iter().map(|left| Some((left.address.0.parse().ok()?, left.reason.clone())));
        Some(PodPoolReport {
            is_ipv4: status.version.as_ref().map(|version| version == "4"),
            total: status.total.as_ref().and_then(|total| total.parse().ok()),
            allocated: status.allocated.as_ref()?.parse().ok()?,
            left_out: left_out.collect::<Option<_>>()?,
            ready: Ready::find(&status.conditions)?,
        })
    });
    let name = raw.metadata.name.clone().unwrap_or_default();
    Event::PodPoolApplied { name, checked: checked::PodPool::check(raw), generation: raw.metadata.generation, report }
}

/// What a node says of pods' addresses.
pub(crate) fn pods(raw: &NodeReport) -> Event {
    let pods = raw.status.as_ref().and_then(|status| status.pods.as_ref());
    let pools = || pods.iter().flat_map(|pods| &pods.pools);
    let blocks = pods.iter().flat_map(|pods| &pods.blocks).filter(|block| block.announced);
    let pods = NodePods {
        allocated: pools().map(|pool| (pool.name.clone(), u64::try_from(pool.allocated).unwrap_or_default())).collect(),
        exhausted: pools().filter_map(|pool| Some((pool.name.clone(), pool.exhausted.clone()?))).collect(),
        announced: blocks.filter_map(|block| block.cidr.0.parse().ok()).collect(),
        heard: pods.iter().flat_map(|pods| &pods.heard).filter_map(|cidr| cidr.0.parse().ok()).collect(),
    };
    Event::PodsReported(raw.metadata.name.clone().unwrap_or_default(), pods)
}

/// A Service.
pub(crate) fn service(raw: &Service) -> Event {
    let wish = match LoadBalancer::check(raw) {
        Ok(None) => Wish::Nothing,
        Ok(Some(wish)) => Wish::LoadBalancer(wish),
        Err(findings) => Wish::Invalid { class: raw.spec.load_balancer_class.clone(), findings },
    };
    let ingress = &raw.status.load_balancer.ingress;
    let is_address = |text: &String| text.parse::<IpAddr>().is_ok();
    Event::ServiceApplied(ServiceState {
        key: ServiceKey::from(raw),
        version: version(&raw.metadata),
        created: raw.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string()).unwrap_or_default(),
        wish,
        status: status_addresses(raw),
        foreign_ingress: ingress.iter().any(|ingress| !ingress.ip.as_ref().is_some_and(is_address)),
    })
}

/// A node: its addresses are its own.
pub(crate) fn node(raw: &Node) -> Event {
    let name = raw.metadata.name.clone().unwrap_or_default();
    let addresses = raw.status.addresses.iter().filter_map(|address| address.address.parse().ok());
    Event::Reserved(ObjectRef::cluster("Node", name), addresses.collect())
}

/// A claim, unless it is not under the name of what it claims: then it protects nothing.
pub(crate) fn claim(raw: &AddressClaim) -> Result<StoredClaim, Box<Invalid>> {
    let name = raw.metadata.name.clone().unwrap_or_default();
    let invalid = |allowed: &str| {
        Box::new(Invalid {
            object: ObjectRef::cluster("AddressClaim", &name),
            field: "spec.cidr".to_owned(),
            value: raw.spec.cidr.0.clone(),
            allowed: allowed.to_owned(),
        })
    };
    let net: IpNet = raw.spec.cidr.0.parse().map_err(|_| invalid("must be an address with its length, or a block"))?;
    if ClaimName::from(net).as_str() != name {
        return Err(invalid("must be what the claim's name says"));
    }
    let owners = raw.spec.owners.iter().map(|owner| (owner.uid.clone(), self::owner(owner))).collect();
    let released = raw.spec.released.as_ref().and_then(|time| time.parse().ok());
    let assured = raw.metadata.annotations.as_ref().and_then(|all| all.get(ASSURED)?.parse().ok()).unwrap_or_default();
    let node = raw.spec.node_name.as_ref().map(|name| name.0.clone());
    let claim = Claim { net, pool: raw.spec.pool.0.clone(), owners, node, released, assured };
    Ok(StoredClaim { claim, version: version(&raw.metadata) })
}

/// A claim as the API has it; of a version, where it replaces one.
pub(crate) fn raw_claim(claim: &Claim, version: Option<&Version>) -> AddressClaim {
    let owners = claim.owners.iter().map(|(uid, owner)| ClaimOwner {
        kind: owner.kind,
        namespace: owner.namespace.as_deref().map(ObjectName::from),
        name: ObjectName(owner.name.clone()),
        uid: uid.clone(),
        interface: None,
        share_key: owner.share_key.clone(),
        ports: owner.ports.iter().map(raw_port).collect(),
    });
    let spec = AddressClaimSpec {
        cidr: CidrText(claim.net.to_string()),
        pool: ObjectName(claim.pool.clone()),
        owners: owners.collect(),
        node_name: claim.node.as_deref().map(ObjectName::from),
        released: claim.released.map(seconds),
        // Nothing that a controller replaces is kept: it writes claims of Services and of blocks, and such as nobody has.
        kept: None,
    };
    let mut raw = AddressClaim::new(ClaimName::from(claim.net).as_str(), spec);
    if claim.assured > 0 {
        raw.metadata.annotations = Some(BTreeMap::from([(ASSURED.to_owned(), claim.assured.to_string())]));
    }
    raw.metadata.uid = version.map(|version| version.uid.clone());
    raw.metadata.resource_version = version.map(|version| version.resource_version.clone());
    raw
}

/// A pool's status as the API has it.
pub(crate) fn raw_pool_status(report: &PoolReport) -> AddressPoolStatus {
    let count = |count: Count| AddressCount {
        total: count.total.to_string(),
        allocated: count.allocated.to_string(),
        available: count.available.to_string(),
    };
    AddressPoolStatus {
        ipv4: report.ipv4.map(count),
        ipv6: report.ipv6.map(count),
        conditions: vec![report.ready.condition()],
    }
}

/// The status of a pool for pods as the API has it.
pub(crate) fn raw_pod_pool_status(report: &PodPoolReport) -> PodPoolStatus {
    let left_out = |(address, reason): &(IpAddr, String)| LeftOutAddress {
        address: AddressText(address.to_string()),
        reason: shorten(reason.clone(), 256),
    };
    PodPoolStatus {
        version: report.is_ipv4.map(|is_ipv4| if is_ipv4 { "4" } else { "6" }.to_owned()),
        total: report.total.map(|total| total.to_string()),
        allocated: Some(report.allocated.to_string()),
        left_out: report.left_out.iter().map(left_out).collect(),
        conditions: vec![report.ready.condition()],
    }
}

/// The labels of an object.
pub(crate) fn labels(metadata: &ObjectMeta) -> BTreeMap<String, String> {
    metadata.labels.clone().unwrap_or_default()
}

fn version(metadata: &ObjectMeta) -> Version {
    let (uid, resource_version) = (metadata.uid.clone(), metadata.resource_version.clone());
    Version { uid: uid.unwrap_or_default(), resource_version: resource_version.unwrap_or_default() }
}

fn count(raw: Option<&AddressCount>) -> Option<Count> {
    let raw = raw?;
    let (total, allocated, available) = (raw.total.parse(), raw.allocated.parse(), raw.available.parse());
    Some(Count { total: total.ok()?, allocated: allocated.ok()?, available: available.ok()? })
}

fn owner(raw: &ClaimOwner) -> Owner {
    let ports: BTreeSet<Port> = raw.ports.iter().filter_map(port).collect();
    let namespace = raw.namespace.as_ref().map(|namespace| namespace.0.clone());
    Owner { kind: raw.kind, namespace, name: raw.name.0.clone(), share_key: raw.share_key.clone(), ports }
}

fn port(raw: &ClaimPort) -> Option<Port> {
    let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let protocol = protocols.into_iter().find(|protocol| protocol.as_str() == raw.protocol)?;
    Some(Port { protocol, port: u16::try_from(raw.port).ok()? })
}

fn raw_port(port: &Port) -> ClaimPort {
    ClaimPort { protocol: port.protocol.as_str().to_owned(), port: port.port.into() }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn a_claim_survives_the_way_out_and_in() {
        let port = Port { protocol: Protocol::Udp, port: 53 };
        let owner = Owner {
            kind: roadstead_api::kinds::OwnerKind::Service,
            namespace: Some("n".to_owned()),
            name: "dns".to_owned(),
            share_key: Some("k".to_owned()),
            ports: BTreeSet::from([port]),
        };
        let version = Version { uid: "c".to_owned(), resource_version: "7".to_owned() };
        let released: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        for (owners, released) in [(BTreeMap::from([("u".to_owned(), owner)]), None), (BTreeMap::new(), Some(released))]
        {
            let claim = Claim {
                net: "2001:db8::7/128".parse().unwrap(),
                pool: "p".to_owned(),
                owners,
                node: Some("n".to_owned()),
                released,
                assured: 2,
            };
            let stored = StoredClaim { claim: claim.clone(), version: version.clone() };
            assert_eq!(super::claim(&raw_claim(&claim, Some(&version))), Ok(stored));
        }
    }

    #[test]
    fn a_claim_under_another_name_is_none() {
        let claim = Claim {
            net: "203.0.113.7/32".parse().unwrap(),
            pool: "p".to_owned(),
            owners: BTreeMap::new(),
            node: None,
            released: None,
            assured: 0,
        };
        let mut raw = raw_claim(&claim, None);
        raw.metadata.name = Some("203.0.113.8".to_owned());
        let text = super::claim(&raw).unwrap_err().to_string();
        assert_eq!(text, "AddressClaim 203.0.113.8: spec.cidr: \"203.0.113.7/32\": must be what the claim's name says");
    }
}
