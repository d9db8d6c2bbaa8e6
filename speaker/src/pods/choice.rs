//! Which pools serve an interface, in which order, and of every other why it does not.

use std::collections::BTreeMap;
use std::fmt;

use roadstead_api::checked::Labels;
use roadstead_cni::socket::NetworkIdentity;

use super::room::Room;
use super::wish::Wish;

/// Why a pool does not serve an interface.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    /// It is named, and is not there.
    #[error("there is no such pool")]
    Missing,
    /// It says so.
    #[error("disabled")]
    Disabled,
    /// Another pool goes before it.
    #[error("not in force: {0}")]
    NotInForce(String),
    /// It was made or changed just now.
    #[error("the controller has yet to look at it as it is now")]
    NotJudged,
    /// It is for other nodes.
    #[error("not for node {0}")]
    Node(String),
    /// It has no address for this node.
    #[error("has no address for node {0}")]
    NoAddressHere(String),
    /// It is for other networks.
    #[error("not for network {network}, but for {pool}")]
    Network {
        /// The interface's.
        network: String,
        /// The pool's.
        pool: String,
    },
    /// It is for other namespaces.
    #[error("not for namespace {0}")]
    Namespace(String),
    /// It is for other pods.
    #[error("its podSelector does not take the pod")]
    Pod,
    /// All its addresses are taken.
    #[error("all of its addresses for this node are taken")]
    Full,
    /// It does not have what was asked for.
    #[error("{0} is not among its addresses for this node")]
    NotAmong(std::net::IpAddr),
    /// What was asked for belongs to another.
    #[error("{0} is taken")]
    Taken(std::net::IpAddr),
}

/// A pool and why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line(pub(super) String, pub(super) Unfit);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pool {}: {}", self.0, self.1)
    }
}

/// For whom pools are looked at. No namespace: for a container that is no pod's.
pub(super) struct Candidate<'a> {
    pub(super) node: &'a str,
    pub(super) node_labels: &'a Labels,
    pub(super) network: &'a NetworkIdentity,
    pub(super) namespace: Option<(&'a str, &'a Labels)>,
    pub(super) pod_labels: &'a Labels,
}

/// The pools that fit, in the order in which they are to be tried, and those that do not.
pub(super) fn choose<'a>(
    pools: &'a BTreeMap<String, Room>,
    overlaps: &BTreeMap<String, String>,
    wish: &Wish,
    candidate: &Candidate<'_>,
) -> (Vec<&'a Room>, Vec<Line>) {
    let (mut fit, mut lines) = (Vec::new(), Vec::new());
    for named in named(pools, wish) {
        let room = match named {
            Ok(room) => room,
            Err(name) => {
                lines.push(Line(name.to_owned(), Unfit::Missing));
                continue;
            }
        };
        match unfit(room, overlaps, candidate) {
            None => fit.push(room),
            Some(unfit) => lines.push(Line(room.pool.name.clone(), unfit)),
        }
    }
    (fit, lines)
}

/// The pools that are meant, each once; a name without any stands for itself.
fn named<'a, 'w>(pools: &'a BTreeMap<String, Room>, wish: &'w Wish) -> Vec<Result<&'a Room, &'w str>> {
    let mut meant: Vec<Result<&Room, &str>> = Vec::new();
    let is_meant = |meant: &[Result<&Room, &str>], room: &Room| {
        meant.iter().any(|other| other.is_ok_and(|other| other.pool.name == room.pool.name))
    };
    match wish {
        Wish::Defaults => {
            meant.extend(pools.values().filter(|room| room.pool.default).map(Ok));
            // Those without a priority last; equal ones by name, which is the map's order.
            let rank = |room: &Room| (room.pool.priority.is_none(), room.pool.priority);
            meant.sort_by_key(|room| room.map_or((true, None), rank));
        }
        Wish::Named { patterns, .. } => {
            for pattern in patterns {
                let found = pools.values().filter(|room| pattern.matches(&room.pool.name));
                let found: Vec<_> = found.filter(|room| !is_meant(&meant, room)).map(Ok).collect();
                let is_name = !pattern.as_str().contains(['*', '?', '[']);
                if is_name && !pools.contains_key(pattern.as_str()) {
                    meant.push(Err(pattern.as_str()));
                }
                meant.extend(found);
            }
        }
    }
    meant
}

fn unfit(room: &Room, overlaps: &BTreeMap<String, String>, candidate: &Candidate<'_>) -> Option<Unfit> {
    let Candidate { node, node_labels, network, namespace, pod_labels } = candidate;
    let pool = &room.pool;
    if pool.disabled {
        return Some(Unfit::Disabled);
    }
    if let Some(overlap) = overlaps.get(&pool.name) {
        return Some(Unfit::NotInForce(overlap.clone()));
    }
    if !pool.takes_node(node, node_labels) {
        return Some(Unfit::Node((*node).to_owned()));
    }
    if !pool.takes_network(network.definition.as_deref(), &network.name) {
        let of_pool: Vec<&str> = pool.networks.iter().map(String::as_str).collect();
        let of_interface = network.definition.as_ref().unwrap_or(&network.name).clone();
        return Some(Unfit::Network { network: of_interface, pool: of_pool.join(", ") });
    }
    let no_labels = Labels::new();
    let (namespace, labels) = namespace.unwrap_or(("", &no_labels));
    if !pool.takes_namespace(namespace, labels) {
        return Some(Unfit::Namespace(namespace.to_owned()));
    }
    if !pool.takes_pod(pod_labels) {
        return Some(Unfit::Pod);
    }
    if !pool.is_judged {
        return Some(Unfit::NotJudged);
    }
    (room.is_empty() && !room.has_blocks()).then(|| Unfit::NoAddressHere((*node).to_owned()))
}
