//! The nodes of this cluster, as far as links have to do with them.

use std::net::IpAddr;

use ipnet::IpNet;
use roadstead_api::checked::Labels;
use roadstead_api::kubernetes::Node;

use super::Links;

/// A node of this cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) labels: Labels,
    /// Its InternalIPs, in its order.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) pod_cidrs: Vec<IpNet>,
}

impl Member {
    pub(super) fn new(raw: &Node) -> Self {
        Self {
            labels: raw.metadata.labels.clone().unwrap_or_default(),
            addresses: raw.internal_addresses().collect(),
            pod_cidrs: raw.spec.pod_cidrs.iter().filter_map(|text| text.parse().ok()).collect(),
        }
    }

    /// Its first address of a family.
    pub(super) fn address(&self, ipv4: bool) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| address.is_ipv4() == ipv4)
    }
}

impl Links {
    /// Whether a node has sessions with other clusters or with hosts outside.
    pub(super) fn is_gateway(&self, node: &str) -> bool {
        let Some(member) = self.members.get(node) else { return false };
        let of_links = self.links.values().map(|link| &link.gateway_selector);
        let of_hosts = self.hosts.values().map(|host| &host.host.gateway_selector);
        of_links
            .chain(of_hosts)
            .any(|selector| selector.as_ref().is_none_or(|selector| selector.matches(&member.labels)))
    }
}
