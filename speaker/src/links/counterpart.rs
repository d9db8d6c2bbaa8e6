//! Who a session of a link is with, and the name that the session has for it.

use std::fmt;
use std::net::IpAddr;

use roadstead_bgp::PeerKey;

/// Who a session is with that no `BGPPeer` asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counterpart {
    /// A gateway of another cluster.
    Link {
        /// The ClusterLink's name.
        link: String,
        /// The gateway's address.
        endpoint: IpAddr,
    },
    /// A node of this cluster.
    Node(String),
    /// A host outside.
    Edge(String),
}

impl Counterpart {
    /// The session's name. Names of objects have no slash, so it is none of a `BGPPeer`.
    pub fn key(&self) -> PeerKey {
        let name = match self {
            Self::Link { link, endpoint } => format!("link/{link}/{endpoint}"),
            Self::Node(node) => format!("node/{node}"),
            Self::Edge(host) => format!("edge/{host}"),
        };
        PeerKey::from(name.as_str())
    }

    /// Whose session it is; `None`: a `BGPPeer`'s.
    pub fn of(key: &PeerKey) -> Option<Self> {
        let (kind, name) = key.as_str().split_once('/')?;
        match kind {
            "link" => {
                let (link, endpoint) = name.split_once('/')?;
                Some(Self::Link { link: link.to_owned(), endpoint: endpoint.parse().ok()? })
            }
            "node" => Some(Self::Node(name.to_owned())),
            "edge" => Some(Self::Edge(name.to_owned())),
            _ => None,
        }
    }
}

impl fmt::Display for Counterpart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link { link, endpoint } => write!(f, "ClusterLink {link}, endpoint {endpoint}"),
            Self::Node(node) => write!(f, "Node {node}"),
            Self::Edge(host) => write!(f, "EdgeHost {host}"),
        }
    }
}

/// The object that a session is for, in words.
pub fn described(key: &PeerKey) -> String {
    Counterpart::of(key).map_or_else(|| format!("BGPPeer {key}"), |counterpart| counterpart.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_back_to_its_counterpart() {
        let all = [
            Counterpart::Link { link: "south".to_owned(), endpoint: "2001:db8::1".parse().unwrap() },
            Counterpart::Node("w1".to_owned()),
            Counterpart::Edge("stand-17".to_owned()),
        ];
        for counterpart in all {
            assert_eq!(Counterpart::of(&counterpart.key()), Some(counterpart));
        }
        assert_eq!(Counterpart::of(&PeerKey::from("tor-a")), None);
        assert_eq!(described(&PeerKey::from("tor-a")), "BGPPeer tor-a");
    }
}
