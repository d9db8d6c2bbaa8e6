//! This node, as its Node object describes it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use roadstead_api::checked::Labels;
use roadstead_api::kubernetes::Node;

use crate::intent::NodeView;

/// What the speaker reads of its own Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalNode {
    /// Its name.
    pub name: String,
    /// Its UID; empty for a node that no object describes.
    pub uid: String,
    /// Its labels.
    pub labels: Labels,
    /// Its first IPv4 InternalIP.
    pub ipv4: Option<Ipv4Addr>,
    /// Its first IPv6 InternalIP.
    pub ipv6: Option<Ipv6Addr>,
    /// Whether anything is announced from it.
    pub may_announce: bool,
}

impl LocalNode {
    /// A node that no object describes: it has its name and nothing else.
    pub fn implied(name: &str) -> Self {
        let labels = Labels::from([("kubernetes.io/hostname".to_owned(), name.to_owned())]);
        Self { name: name.to_owned(), labels, may_announce: true, ..Self::default() }
    }

    /// The node's own address of each family, and whether it may announce: not when it is excluded from load balancers, nor when
    /// its network is unavailable. NotReady does not count: the data plane outlives the kubelet.
    pub fn new(raw: &Node) -> Self {
        let labels = raw.metadata.labels.clone().unwrap_or_default();
        let unavailable =
            |c: &&roadstead_api::kubernetes::NodeCondition| c.type_ == "NetworkUnavailable" && c.status == "True";
        let may_announce =
            !labels.contains_key(Node::EXCLUDE_LABEL) && !raw.status.conditions.iter().any(|c| unavailable(&c));
        let of_family = |ipv4: bool| raw.internal_addresses().find(|address| address.is_ipv4() == ipv4);
        Self {
            name: raw.metadata.name.clone().unwrap_or_default(),
            uid: raw.metadata.uid.clone().unwrap_or_default(),
            labels,
            ipv4: of_family(true).and_then(|a| if let IpAddr::V4(v4) = a { Some(v4) } else { None }),
            ipv6: of_family(false).and_then(|a| if let IpAddr::V6(v6) = a { Some(v6) } else { None }),
            may_announce,
        }
    }

    /// What announcements depend on.
    pub fn view(&self) -> NodeView {
        NodeView { labels: self.labels.clone(), may_announce: self.may_announce }
    }

    /// The BGP identifier: the node's IPv4 address, else derived from its name. It has to be unique among the router's neighbours
    /// and may be any number but zero (RFC 6286).
    pub fn router_id(&self) -> Ipv4Addr {
        self.ipv4.unwrap_or_else(|| {
            // FNV-1a, written out because the identifier must be the same in every version of this program.
            let hash = self
                .name
                .bytes()
                .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
            Ipv4Addr::from(hash.max(1))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(json: &str) -> LocalNode {
        LocalNode::new(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn reads_addresses_and_whether_it_may_announce() {
        let plain = node(
            r#"{"metadata":{"name":"n"},"status":{"addresses":[{"type":"Hostname","address":"n"},
                {"type":"InternalIP","address":"10.0.0.1"},{"type":"InternalIP","address":"fd00::1"}],
                "conditions":[{"type":"Ready","status":"False"}]}}"#,
        );
        assert_eq!(plain.ipv4, Some(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(plain.ipv6, Some("fd00::1".parse().unwrap()));
        assert!(plain.may_announce, "NotReady does not count");
        assert_eq!(plain.router_id(), Ipv4Addr::new(10, 0, 0, 1));
        let label = r#"{"metadata":{"labels":{"node.kubernetes.io/exclude-from-external-load-balancers":""}}}"#;
        assert!(!node(label).may_announce);
        assert!(!node(r#"{"status":{"conditions":[{"type":"NetworkUnavailable","status":"True"}]}}"#).may_announce);
    }

    #[test]
    fn nodes_without_ipv4_have_different_identifiers() {
        let (a, b) = (LocalNode::implied("node-a"), LocalNode::implied("node-b"));
        assert_ne!(a.router_id(), b.router_id());
        assert_ne!(a.router_id(), Ipv4Addr::UNSPECIFIED);
    }
}
