//! Who holds a range of addresses, as a sentence names it.

use std::fmt;
use std::sync::Arc;

use crate::kinds::RouteClass;

/// Somebody who holds a range: prints as `PodPool tenants`, or `PodPool tenants of cluster south`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder {
    /// The cluster; `None` is the one that speaks.
    pub cluster: Option<Arc<str>>,
    /// What of that cluster.
    pub holding: Holding,
}

/// By what a range is held: a field or an object, so that whoever reads it knows where to look.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holding {
    /// A field of the `ClusterNetwork`, as `spec.podCIDRs`.
    Declared(&'static str),
    /// An `AddressPool` by its name.
    AddressPool(String),
    /// A `PodPool` by its name.
    PodPool(String),
    /// A block of pods' addresses, by the Node that has claimed it.
    Block(String),
    /// A podCIDR, by its Node.
    PodCidr(String),
    /// An address of a Node itself.
    NodeAddress(String),
    /// A subnet that a Node is on.
    Connected {
        /// The Node.
        node: String,
        /// The interface there.
        interface: String,
    },
    /// A `ServiceCIDR` by its name.
    ServiceCidr(String),
    /// The range of ClusterIPs that the API server names, where there are no `ServiceCIDR` objects.
    ServiceRange,
    /// A ClusterIP or load balancer address that stands in a Service.
    ServiceAddress {
        /// The Service's namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// What a `ClusterLink` accepts of its remote cluster.
    Accepted {
        /// The link's name.
        link: String,
        /// The class of `spec.acceptCIDRs`.
        class: RouteClass,
    },
    /// The prefix of an `EdgeHost`, by the host's name.
    EdgeHost(String),
}

impl Holding {
    /// As a holder of the cluster that speaks.
    pub fn ours(self) -> Holder {
        Holder { cluster: None, holding: self }
    }

    /// As a holder of a cluster that is named.
    pub fn of(self, cluster: &Arc<str>) -> Holder {
        Holder { cluster: Some(Arc::clone(cluster)), holding: self }
    }
}

impl fmt::Display for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Declared(field) => write!(f, "ClusterNetwork default, {field}"),
            Self::AddressPool(name) => write!(f, "AddressPool {name}"),
            Self::PodPool(name) => write!(f, "PodPool {name}"),
            Self::Block(node) => write!(f, "block of Node {node}"),
            Self::PodCidr(node) => write!(f, "podCIDR of Node {node}"),
            Self::NodeAddress(node) => write!(f, "address of Node {node}"),
            Self::Connected { node, interface } => write!(f, "connected route on Node {node}, {interface}"),
            Self::ServiceCidr(name) => write!(f, "ServiceCIDR {name}"),
            Self::ServiceRange => f.write_str("range of ClusterIPs of the API server"),
            Self::ServiceAddress { namespace, name } => write!(f, "address of Service {namespace}/{name}"),
            Self::Accepted { link, class } => write!(f, "ClusterLink {link}, spec.acceptCIDRs.{}", field(*class)),
            Self::EdgeHost(name) => write!(f, "EdgeHost {name}"),
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.holding.fmt(f)?;
        match &self.cluster {
            Some(cluster) => write!(f, " of cluster {cluster}"),
            None => Ok(()),
        }
    }
}

/// The field of `spec.acceptCIDRs` that has a class.
fn field(class: RouteClass) -> &'static str {
    match class {
        RouteClass::Pods => "pods",
        RouteClass::Services => "services",
        RouteClass::LoadBalancers => "loadBalancers",
    }
}
