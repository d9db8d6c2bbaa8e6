//! Path attributes: what we attach to a route that we originate, and what we keep of a route that we learned.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use crate::{Asn, Community, ExtendedCommunity, LargeCommunity, LinkBandwidth, NextHops};

/// What an embedder attaches to a route that it wants announced. ORIGIN is always IGP.
///
/// Ordered and compared by value, so that equal sets are one set however they were made; the engine interns them.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize), serde(default))]
pub struct RouteAttributes {
    pub communities: Vec<Community>,
    pub large_communities: Vec<LargeCommunity>,
    /// Told to external peers whether transitive or not: what is ours to say has crossed no border yet.
    pub extended_communities: Vec<ExtendedCommunity>,
    /// Sent as one more extended community, in the name of our AS (RFC 10005).
    pub link_bandwidth: Option<LinkBandwidth>,
    /// Sent to internal peers only (RFC 4271 section 5.1.5); there the default is 100.
    pub local_preference: Option<u32>,
    /// MULTI_EXIT_DISC: the lower, the better, between entrances into the same AS.
    pub med: Option<u32>,
    /// How many times our own AS number is put in front of the one that an external peer gets anyway.
    pub prepend: u8,
    /// The ways behind us that the route has come, neighbour first: of a route that was learned on another session. Our own number
    /// goes before it to external peers.
    pub as_path: AsPath,
    /// Told instead of the session's own: where packets are to go that need not come by here.
    pub next_hops: NextHops,
}

/// ORIGIN (RFC 4271 section 5.1.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    Igp,
    Egp,
    #[default]
    Incomplete,
}

/// The attributes of a learned route, shared by every prefix that came with them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PathAttributes {
    pub(crate) origin: Origin,
    pub(crate) as_path: AsPath,
    pub(crate) med: Option<u32>,
    /// From internal peers only; an external peer's is discarded (RFC 7606 section 7.5).
    pub(crate) local_preference: Option<u32>,
    pub(crate) communities: Vec<Community>,
    pub(crate) large_communities: Vec<LargeCommunity>,
    pub(crate) extended_communities: Vec<ExtendedCommunity>,
    pub(crate) only_to_customer: Option<Asn>,
    /// The accumulated metric (RFC 7311), where it is heard.
    pub(crate) aigp: Option<u64>,
    /// Of a reflected route (RFC 4456): the speaker that told it first, and the clusters that it came through.
    pub(crate) originator_id: Option<Ipv4Addr>,
    pub(crate) cluster_list: Vec<Ipv4Addr>,
}

/// An AS_PATH, neighbour first. AS_SETs do not occur: RFC 9774 has them treated as a withdrawal.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct AsPath(pub Vec<Asn>);

impl AsPath {
    /// How many times an AS number occurs.
    pub fn count(&self, asn: Asn) -> usize {
        self.0.iter().filter(|&&other| other == asn).count()
    }
}

impl fmt::Display for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, asn) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{asn}")?;
        }
        Ok(())
    }
}

/// One way to a prefix, as one peer told it and our import policy accepted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LearnedPath {
    pub peer: crate::PeerKey,
    /// The peer's name for this path, where it tells several to a prefix (RFC 7911); else zero.
    pub path_id: u32,
    /// The session is gone, and the peer is expected back and to announce this again (RFC 4724).
    pub stale: bool,
    pub next_hop: IpAddr,
    pub origin: Origin,
    pub as_path: AsPath,
    pub med: Option<u32>,
    pub local_preference: Option<u32>,
    pub communities: Vec<Community>,
    pub large_communities: Vec<LargeCommunity>,
    pub extended_communities: Vec<ExtendedCommunity>,
    /// Who has marked the route to go down to customers only (RFC 9234); ourselves in the peer's name, where our role says so.
    pub only_to_customer: Option<Asn>,
    /// How far the route has come inside a network of several autonomous systems (RFC 7311).
    pub aigp: Option<u64>,
}
