//! What is taken of the routes that other clusters and edge hosts announce.
//!
//! A route is judged by itself, so that one that is refused cuts nobody off. The local use wins, whenever it began, and an edge host
//! is this cluster's; of two links, or two edge hosts, that may announce an address, the one that was declared first has it. So no
//! address is ever two clusters'.

use std::cmp::Ordering;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Held, Holder, Holding, Territory};
use crate::kinds::RouteClass;

/// Everything that a route from outside is held against: what this cluster uses, and what its neighbours may announce.
#[derive(Clone, Debug, Default)]
pub struct Border {
    own: Territory,
    neighbours: Territory<Acceptance>,
}

/// Who may announce routes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Neighbour {
    /// The remote cluster of a `ClusterLink`.
    Link(String),
    /// An `EdgeHost`.
    Edge(String),
}

/// A prefix that a neighbour may announce, with all that lies in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Acceptance {
    /// When the neighbour's object was made, as sortable text (RFC 3339, UTC): of two links, or two edge hosts, that accept the same
    /// address the older has it, and of two of one age that with the lesser name.
    pub created: String,
    /// Whose routes these are.
    pub from: Neighbour,
    /// The class of a link's `acceptCIDRs`; an edge host's prefix has none.
    pub class: Option<RouteClass>,
    /// The pool of this cluster that an edge host's prefix was allocated from: the only one of ours that it may lie in, with what is
    /// declared to hold that pool.
    pub carved_from: Option<Holding>,
}

impl Acceptance {
    /// As a sentence names it.
    pub fn holder(&self) -> Holder {
        match (&self.from, self.class) {
            (Neighbour::Link(link), Some(class)) => Holding::Accepted { link: link.clone(), class }.ours(),
            (Neighbour::Link(link), None) => Holding::Accepted { link: link.clone(), class: RouteClass::Pods }.ours(),
            (Neighbour::Edge(host), _) => Holding::EdgeHost(host.clone()).ours(),
        }
    }

    /// Less: of what both accept this one has it. Edge hosts are this cluster's own, and so before links; else the older has it.
    pub fn seniority(&self, other: &Self) -> Ordering {
        let rank = |acceptance: &Self| matches!(acceptance.from, Neighbour::Link(_));
        (rank(self), &self.created, &self.from).cmp(&(rank(other), &other.created, &other.from))
    }

    fn may_lie_in(&self, ours: &Holding) -> bool {
        let is_carved =
            self.carved_from.as_ref().is_some_and(|pool| pool == ours || matches!(ours, Holding::Declared(_)));
        // What edge hosts have is in use here, by them; which of two has it is a question of age.
        is_carved || matches!((&self.from, ours), (Neighbour::Edge(_), Holding::EdgeHost(_)))
    }
}

/// Why a prefix is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The prefix that may be announced and that this one lies in; where there are several, the longest.
    pub within: IpNet,
    /// Its class; none for an edge host.
    pub class: Option<RouteClass>,
}

/// Why a prefix is refused; prints as a sentence that names both sides.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 0.0.0.0/0 or ::/0.
    #[error("{0} is the default route, which is never taken from {1}")]
    DefaultRoute(IpNet, Neighbour),
    /// Addresses that no route leads to, such as loopback, link-local or multicast.
    #[error("{prefix} from {from} overlaps {block}, {what}, which is nobody's to announce")]
    Martian {
        /// What was announced.
        prefix: IpNet,
        /// By whom.
        from: Neighbour,
        /// The block of special addresses (RFC 6890).
        block: IpNet,
        /// What these are for.
        what: &'static str,
    },
    /// This cluster uses some of it.
    #[error("{prefix} from {from} overlaps {held}, {holder}, which is in use here")]
    Ours {
        /// What was announced.
        prefix: IpNet,
        /// By whom.
        from: Neighbour,
        /// What it overlaps.
        held: IpNet,
        /// Whose that is.
        holder: Holder,
    },
    /// It is another neighbour's.
    #[error("{prefix} from {from} overlaps {held}, {holder}, which is another's")]
    Anothers {
        /// What was announced.
        prefix: IpNet,
        /// By whom.
        from: Neighbour,
        /// What it overlaps.
        held: IpNet,
        /// Whose that is.
        holder: Holder,
    },
    /// It covers what is accepted, and more.
    #[error("{prefix} from {from} is too short: {accepted}, {holder}, and what lies in it is accepted")]
    TooShort {
        /// What was announced.
        prefix: IpNet,
        /// By whom.
        from: Neighbour,
        /// The first accepted prefix in it.
        accepted: IpNet,
        /// Where that is said.
        holder: Holder,
    },
    /// Packets would go to somebody else.
    #[error("{prefix} from {from} has the next hop {next_hop}, {whose}")]
    NextHop {
        /// What was announced.
        prefix: IpNet,
        /// By whom.
        from: Neighbour,
        /// Where packets would go.
        next_hop: IpAddr,
        /// What is wrong with that, in words.
        whose: String,
    },
    /// It has nothing to do with what is accepted.
    #[error("{prefix} is outside all that is accepted from {from}")]
    NotAccepted {
        /// What was announced.
        prefix: IpNet,
        /// By whom.
        from: Neighbour,
    },
}

impl Refusal {
    /// The reason in CamelCase, for counters and conditions.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::DefaultRoute(..) => "DefaultRoute",
            Self::Martian { .. } => "Martian",
            Self::Ours { .. } => "OverlapsOurs",
            Self::Anothers { .. } => "OverlapsAnothers",
            Self::TooShort { .. } => "TooShort",
            Self::NextHop { .. } => "NextHop",
            Self::NotAccepted { .. } => "NotAccepted",
        }
    }
}

impl Border {
    /// What this cluster uses.
    pub fn own(&self) -> &Territory {
        &self.own
    }

    /// What this cluster uses, to be kept as it changes.
    pub fn own_mut(&mut self) -> &mut Territory {
        &mut self.own
    }

    /// What neighbours may announce.
    pub fn neighbours(&self) -> &Territory<Acceptance> {
        &self.neighbours
    }

    /// What neighbours may announce, to be kept as links and edge hosts change.
    pub fn neighbours_mut(&mut self) -> &mut Territory<Acceptance> {
        &mut self.neighbours
    }

    /// Whether a prefix is taken from a neighbour. Of several reasons against it the first tells: one that names another holder is
    /// worth more to a reader than "not accepted".
    pub fn judge(&self, from: &Neighbour, prefix: IpNet) -> Result<Accepted, Box<Refusal>> {
        let prefix = prefix.trunc();
        let acceptance = self.neighbours.covering(prefix).find(|found| found.holder.from == *from);
        match (self.objection(from, prefix, acceptance), acceptance) {
            (Some(objection), _) => Err(Box::new(objection)),
            (None, Some(accepted)) => Ok(Accepted { within: accepted.prefix, class: accepted.holder.class }),
            (None, None) => Err(Box::new(self.not_accepted(from, prefix))),
        }
    }

    /// Whether packets may go where a neighbour says: to no node of ours, which would send them back.
    pub fn judge_next_hop(&self, from: &Neighbour, prefix: IpNet, next_hop: IpAddr) -> Result<(), Box<Refusal>> {
        let host = IpNet::from(next_hop);
        let mut holders = self.own.covering(host).filter(|held| held.prefix == host).map(|held| held.holder);
        let node = holders.find(|holder| matches!(holder.holding, Holding::NodeAddress(_)));
        node.map_or(Ok(()), |holder| {
            let (from, whose) = (from.clone(), format!("{holder}, which is here"));
            Err(Box::new(Refusal::NextHop { prefix, from, next_hop, whose }))
        })
    }

    /// What speaks against a prefix, be it accepted or not.
    fn objection(&self, from: &Neighbour, prefix: IpNet, acceptance: Option<Held<'_, Acceptance>>) -> Option<Refusal> {
        if prefix.prefix_len() == 0 {
            return Some(Refusal::DefaultRoute(prefix, from.clone()));
        }
        if let Some((block, what)) = martian(prefix) {
            return Some(Refusal::Martian { prefix, from: from.clone(), block, what });
        }
        if let Some(held) = self.ours_in_the_way(prefix, acceptance) {
            let (held, holder) = (held.prefix, held.holder.clone());
            return Some(Refusal::Ours { prefix, from: from.clone(), held, holder });
        }
        let is_senior = |other: &Acceptance| {
            other.from != *from && acceptance.is_none_or(|accepted| other.seniority(accepted.holder) == Ordering::Less)
        };
        let held = self.neighbours.overlaps(prefix).find(|found| is_senior(found.holder))?;
        let (held, holder) = (held.prefix, held.holder.holder());
        Some(Refusal::Anothers { prefix, from: from.clone(), held, holder })
    }

    fn not_accepted(&self, from: &Neighbour, prefix: IpNet) -> Refusal {
        let from = from.clone();
        match self.neighbours.overlaps(prefix).find(|found| found.holder.from == from) {
            Some(found) => Refusal::TooShort { prefix, from, accepted: found.prefix, holder: found.holder.holder() },
            None => Refusal::NotAccepted { prefix, from },
        }
    }

    fn ours_in_the_way(&self, prefix: IpNet, acceptance: Option<Held<'_, Acceptance>>) -> Option<Held<'_>> {
        match acceptance.filter(|accepted| matches!(accepted.holder.from, Neighbour::Edge(_))) {
            None => self.own.first_overlap(prefix),
            Some(accepted) => {
                self.own.overlaps(prefix).find(|found| !accepted.holder.may_lie_in(&found.holder.holding))
            }
        }
    }
}

impl fmt::Display for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(name) => write!(f, "ClusterLink {name}"),
            Self::Edge(name) => write!(f, "EdgeHost {name}"),
        }
    }
}

/// The block of addresses that are never forwarded (RFC 6890 and the registries that it began) which a prefix overlaps.
pub fn martian(prefix: IpNet) -> Option<(IpNet, &'static str)> {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use ipnet::{Ipv4Net, Ipv6Net};
    const IPV4: [(Ipv4Net, &str); 5] = [
        (Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 8), "\"this network\" (RFC 791)"),
        (Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8), "loopback (RFC 1122)"),
        (Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16), "link-local (RFC 3927)"),
        (Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4), "multicast (RFC 5771)"),
        (Ipv4Net::new_assert(Ipv4Addr::new(240, 0, 0, 0), 4), "reserved (RFC 1112)"),
    ];
    const IPV6: [(Ipv6Net, &str); 4] = [
        // The unspecified address, loopback, IPv4-compatible and IPv4-mapped addresses.
        (Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 80), "addresses with a meaning of their own (RFC 4291)"),
        (Ipv6Net::new_assert(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64), "the discard prefix (RFC 6666)"),
        (Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10), "link-local (RFC 4291)"),
        (Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8), "multicast (RFC 4291)"),
    ];
    match prefix {
        IpNet::V4(prefix) => {
            let found = IPV4.iter().find(|(block, _)| block.contains(&prefix) || prefix.contains(block));
            found.map(|(block, what)| (IpNet::V4(*block), *what))
        }
        IpNet::V6(prefix) => {
            let found = IPV6.iter().find(|(block, _)| block.contains(&prefix) || prefix.contains(block));
            found.map(|(block, what)| (IpNet::V6(*block), *what))
        }
    }
}
