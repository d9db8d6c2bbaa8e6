//! Services of type LoadBalancer.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use super::{Findings, Invalid, ObjectRef};
use crate::kubernetes::Service;

/// A Service's namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ServiceKey {
    /// The reference for messages.
    pub fn object(&self) -> ObjectRef {
        ObjectRef::namespaced("Service", &self.namespace, &self.name)
    }
}

impl From<&Service> for ServiceKey {
    fn from(raw: &Service) -> Self {
        let (namespace, name) = (raw.metadata.namespace.clone(), raw.metadata.name.clone());
        Self { namespace: namespace.unwrap_or_default(), name: name.unwrap_or_default() }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What a Service of type LoadBalancer wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadBalancer {
    /// Its namespace and name.
    pub key: ServiceKey,
    /// Its UID.
    pub uid: String,
    /// Its `resourceVersion`, for writing its status.
    pub resource_version: String,
    /// When it was made, as sortable text.
    pub created: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// `spec.loadBalancerClass`.
    pub class: Option<String>,
    /// Which families it wants.
    pub families: FamilyPolicy,
    /// The addresses that it asks for: at most one of each family; empty: any.
    pub requested: Vec<IpAddr>,
    /// The pool that it asks for.
    pub pool: Option<String>,
    /// It may share its address with Services of the same key.
    pub share_key: Option<String>,
    /// Its ports.
    pub ports: BTreeSet<Port>,
    /// Its pod selector, which must be the same for those that share under policy Local.
    pub selector: BTreeMap<String, String>,
    /// Whether only nodes with endpoints serve it.
    pub traffic_policy: TrafficPolicy,
    /// The addresses in its status.
    pub status: Vec<IpAddr>,
}

/// Which families a Service wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FamilyPolicy {
    /// One IPv4 address.
    Ipv4,
    /// One IPv6 address.
    Ipv6,
    /// One of each, or nothing.
    Both,
    /// One of each, or of the one that can be had; `primary_ipv4` is preferred then.
    PreferBoth {
        /// Whether IPv4 is the Service's first family.
        primary_ipv4: bool,
    },
}

/// `externalTrafficPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// Every node serves.
    #[default]
    Cluster,
    /// Only nodes with endpoints serve.
    Local,
}

/// A protocol and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// The protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP, which is the default.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

impl LoadBalancer {
    /// Checks a Service; `None`: it is not of type LoadBalancer.
    pub fn check(raw: &Service) -> Result<Option<Self>, Vec<Invalid>> {
        if raw.spec.type_.as_deref() != Some("LoadBalancer") {
            return Ok(None);
        }
        let key = ServiceKey::from(raw);
        let mut findings = Findings::new(key.object());
        let families = families(raw, &mut findings);
        let requested = requested(raw, &mut findings);
        let ports = raw.spec.ports.iter().enumerate().filter_map(|(index, port)| {
            let number = u16::try_from(port.port).ok().filter(|number| *number > 0);
            let protocol = match port.protocol.as_deref() {
                None | Some("TCP") => Some(Protocol::Tcp),
                Some("UDP") => Some(Protocol::Udp),
                Some("SCTP") => Some(Protocol::Sctp),
                Some(_) => None,
            };
            if number.is_none() {
                findings.refuse(format!("spec.ports[{index}].port"), port.port, "must be from 1 to 65535");
            }
            if protocol.is_none() {
                let given = port.protocol.clone().unwrap_or_default();
                findings.refuse(format!("spec.ports[{index}].protocol"), given, "must be TCP, UDP or SCTP");
            }
            Some(Port { protocol: protocol?, port: number? })
        });
        let ports = ports.collect();
        let traffic_policy = match raw.spec.external_traffic_policy.as_deref() {
            None | Some("Cluster") => TrafficPolicy::Cluster,
            Some("Local") => TrafficPolicy::Local,
            Some(other) => {
                findings.refuse("spec.externalTrafficPolicy", other, "must be Cluster or Local");
                TrafficPolicy::Cluster
            }
        };
        let service = Self {
            uid: raw.metadata.uid.clone().unwrap_or_default(),
            resource_version: raw.metadata.resource_version.clone().unwrap_or_default(),
            created: raw.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string()).unwrap_or_default(),
            labels: raw.metadata.labels.clone().unwrap_or_default(),
            class: raw.spec.load_balancer_class.clone(),
            families,
            requested,
            pool: annotation(raw, POOL).map(|(_, value)| value.to_owned()),
            share_key: annotation(raw, SHARE_KEY).map(|(_, value)| value.to_owned()),
            ports,
            selector: raw.spec.selector.clone(),
            traffic_policy,
            status: status_addresses(raw),
            key,
        };
        findings.conclude(Some(service)).map(Some)
    }
}

/// The addresses in a Service's status that are addresses.
pub fn status_addresses(raw: &Service) -> Vec<IpAddr> {
    raw.status.load_balancer.ingress.iter().filter_map(|ingress| ingress.ip.as_deref()?.parse().ok()).collect()
}

/// Each annotation by the names under which it is honoured, ours first: the first that is there counts.
type AnnotationNames = [&'static str; 3];
const POOL: AnnotationNames =
    ["roadstead.dev/address-pool", "metallb.io/address-pool", "metallb.universe.tf/address-pool"];
const ADDRESSES: AnnotationNames =
    ["roadstead.dev/addresses", "metallb.io/loadBalancerIPs", "metallb.universe.tf/loadBalancerIPs"];
const SHARE_KEY: AnnotationNames =
    ["roadstead.dev/share-key", "metallb.io/allow-shared-ip", "metallb.universe.tf/allow-shared-ip"];

fn annotation(raw: &Service, names: AnnotationNames) -> Option<(&'static str, &str)> {
    let annotations = raw.metadata.annotations.as_ref()?;
    names.into_iter().find_map(|name| {
        let value = annotations.get(name)?.trim();
        (!value.is_empty()).then_some((name, value))
    })
}

fn families(raw: &Service, findings: &mut Findings) -> FamilyPolicy {
    let listed: Vec<bool> = raw.spec.ip_families.iter().map(|family| family != "IPv6").collect();
    let from_cluster_ip =
        || raw.spec.cluster_ip.as_deref().and_then(|ip| ip.parse::<IpAddr>().ok()).map(|ip| ip.is_ipv4());
    let primary_ipv4 = listed.first().copied().or_else(from_cluster_ip).unwrap_or(true);
    match raw.spec.ip_family_policy.as_deref() {
        None | Some("SingleStack") if primary_ipv4 => FamilyPolicy::Ipv4,
        None | Some("SingleStack") => FamilyPolicy::Ipv6,
        Some("RequireDualStack") => FamilyPolicy::Both,
        // On a single-stack cluster the API server gives such a Service one family, and that is then all it can serve.
        Some("PreferDualStack") if listed.len() == 1 && primary_ipv4 => FamilyPolicy::Ipv4,
        Some("PreferDualStack") if listed.len() == 1 => FamilyPolicy::Ipv6,
        Some("PreferDualStack") => FamilyPolicy::PreferBoth { primary_ipv4 },
        Some(other) => {
            findings.refuse("spec.ipFamilyPolicy", other, "must be SingleStack, PreferDualStack or RequireDualStack");
            FamilyPolicy::Ipv4
        }
    }
}

fn requested(raw: &Service, findings: &mut Findings) -> Vec<IpAddr> {
    let from_annotation = annotation(raw, ADDRESSES);
    let from_spec = raw.spec.load_balancer_ip.as_deref().filter(|text| !text.is_empty());
    let (field, text) = match (from_annotation, from_spec) {
        (Some((name, text)), _) => (format!("metadata.annotations[{name}]"), text),
        (None, Some(text)) => ("spec.loadBalancerIP".to_owned(), text),
        (None, None) => return Vec::new(),
    };
    let mut addresses: Vec<IpAddr> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let parsed = part.parse::<IpAddr>().map_err(|_| "must be addresses joined by commas");
        let Some(address) = findings.take(field.clone(), part, parsed) else { continue };
        if addresses.iter().any(|other| other.is_ipv4() == address.is_ipv4()) {
            findings.refuse(field.clone(), text, "must be at most one address of each family");
            continue;
        }
        addresses.push(address);
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(json: &str) -> Service {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn ours_goes_before_the_names_of_metallb() {
        let raw = service(
            r#"{"metadata":{"name":"a","namespace":"n","annotations":{"metallb.io/address-pool":"theirs",
                "roadstead.dev/address-pool":"ours","metallb.universe.tf/allow-shared-ip":"k",
                "metallb.io/loadBalancerIPs":"203.0.113.88"}},"spec":{"type":"LoadBalancer"}}"#,
        );
        let checked = LoadBalancer::check(&raw).unwrap().unwrap();
        assert_eq!(checked.pool.as_deref(), Some("ours"));
        assert_eq!(checked.share_key.as_deref(), Some("k"));
        assert_eq!(checked.requested, ["203.0.113.88".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn other_types_are_none_of_ours() {
        assert_eq!(LoadBalancer::check(&service(r#"{"spec":{"type":"ClusterIP"}}"#)), Ok(None));
        assert_eq!(LoadBalancer::check(&service(r#"{"spec":{}}"#)), Ok(None));
    }

    #[track_caller]
    fn check_requested(value: &str, expected: Result<usize, &str>) {
        let raw = service(&format!(
            r#"{{"metadata":{{"name":"a","namespace":"n","annotations":{{"roadstead.dev/addresses":"{value}"}}}},"spec":{{"type":"LoadBalancer"}}}}"#
        ));
        match (LoadBalancer::check(&raw), expected) {
            (Ok(Some(checked)), Ok(count)) => assert_eq!(checked.requested.len(), count, "{value}"),
            (Err(found), Err(part)) => assert!(found[0].to_string().contains(part), "{}", found[0]),
            (other, _) => panic!("{value}: {other:?}"),
        }
    }

    #[test]
    fn requested_addresses() {
        check_requested("203.0.113.77,2001:db8:100::77", Ok(2));
        check_requested(" 203.0.113.77 , ", Ok(1));
        check_requested("203.0.113.77,203.0.113.78", Err("at most one address of each family"));
        check_requested("nonsense", Err("Service n/a: metadata.annotations[roadstead.dev/addresses]: \"nonsense\""));
    }

    #[test]
    fn families_follow_policy_and_cluster_ip() {
        let families = |spec: &str| {
            let raw = format!(r#"{{"spec":{{"type":"LoadBalancer"{spec}}}}}"#);
            LoadBalancer::check(&service(&raw)).unwrap().unwrap().families
        };
        assert_eq!(families(""), FamilyPolicy::Ipv4);
        assert_eq!(families(r#","ipFamilies":["IPv6"]"#), FamilyPolicy::Ipv6);
        assert_eq!(families(r#","clusterIP":"fd00::1""#), FamilyPolicy::Ipv6);
        assert_eq!(families(r#","ipFamilyPolicy":"RequireDualStack""#), FamilyPolicy::Both);
        assert_eq!(
            families(r#","ipFamilyPolicy":"PreferDualStack","ipFamilies":["IPv6","IPv4"]"#),
            FamilyPolicy::PreferBoth { primary_ipv4: false }
        );
        assert_eq!(families(r#","ipFamilyPolicy":"PreferDualStack","ipFamilies":["IPv6"]"#), FamilyPolicy::Ipv6);
    }
}
