//! Routes into UPDATEs.
//!
//! One UPDATE carries one thing (RFC 7606 section 5.1 asks senders for that): withdrawals or announcements, of one family.
//! IPv4 goes into the classic fields, IPv6 and what has an IPv6 next hop (RFC 8950) into MP_REACH_NLRI and MP_UNREACH_NLRI. The attributes of a group of prefixes
//! are encoded first and their length decides how many prefixes fit behind them; that is done once for all peers with the same
//! settings ([`EncodedAttributes`]).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use ipnet::IpNet;
use rustbgpd_wire::attribute::encode_path_attributes;
use rustbgpd_wire::nlri::encode_nlri;
use rustbgpd_wire::{
    AsPath, AsPathSegment, EncodeError, Ipv4Prefix, Ipv6ExtendedCommunity, Ipv6Prefix, LargeCommunity, MpReachNlri,
    MpUnreachNlri, NlriEntry, Origin, PathAttribute, Prefix, Safi, UpdateMessage,
};
use thiserror::Error;

use crate::next_hop::{NextHop, SessionNextHops};
use crate::{Asn, ExtendedCommunity, Family, RouteAttributes};

/// What, besides the routes, decides over the bytes that one peer gets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Export {
    pub(crate) local_asn: Asn,
    pub(crate) internal: bool,
    /// Whether both sides have four-octet AS numbers (RFC 6793).
    pub(crate) four_octet_asn: bool,
    pub(crate) next_hops: SessionNextHops,
    /// ONLY_TO_CUSTOMER, where our role asks for it (RFC 9234 section 5).
    pub(crate) only_to_customer: Option<Asn>,
    /// The largest message that may be sent: 4096 octets, or 65535 (RFC 8654).
    pub(crate) max_message: u16,
}

impl Export {
    /// The route's own next hop, or else the session's.
    pub(crate) fn next_hop(&self, family: Family, attributes: &RouteAttributes) -> Option<NextHop> {
        attributes.next_hops.of(family).map(NextHop::global).or_else(|| self.next_hops.of(family))
    }

    /// RFC 4271 section 5.1.2: nothing of ours towards our own AS, our own number before the rest towards others.
    pub(crate) fn as_path(&self, attributes: &RouteAttributes) -> crate::AsPath {
        let own = if self.internal { 0 } else { 1 + usize::from(attributes.prepend) };
        let path = std::iter::repeat_n(self.local_asn, own).chain(attributes.as_path.0.iter().copied());
        crate::AsPath(path.collect())
    }

    /// Those that are asked for, and the bandwidth as one of them.
    pub(crate) fn extended_communities(&self, attributes: &RouteAttributes) -> Vec<ExtendedCommunity> {
        let bandwidth = attributes.link_bandwidth;
        let bandwidth = bandwidth.map(|bandwidth| ExtendedCommunity::link_bandwidth(self.local_asn, bandwidth));
        let mut communities: Vec<_> = attributes.extended_communities.iter().copied().chain(bandwidth).collect();
        communities.sort_unstable();
        communities.dedup();
        communities
    }
}

/// A route whose attributes leave no room for its prefix.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum TooLarge {
    #[error("the attributes take {attributes} octets, and a message of {max_message} has no room for a prefix then")]
    Attributes { attributes: usize, max_message: u16 },
    #[error("there is no next hop for {0}")]
    NoNextHop(Family),
    #[error("the attributes cannot be encoded: {0}")]
    Codec(String),
}

/// The attributes of the embedder's routes as octets, for whoever has the same settings. Never much more than [`KEPT`] octets: then
/// those come anew that are needed again.
#[derive(Debug, Default)]
pub(crate) struct EncodedAttributes {
    /// By where the attributes stand in memory, of which there is one copy (`rib::Interner`); it stands beside them, so that no other
    /// ones come to that place.
    known: BTreeMap<(usize, Family, Export), (Arc<RouteAttributes>, Bytes)>,
    octets: usize,
}

const KEPT: usize = 64 * 1024;

impl EncodedAttributes {
    fn of(
        &mut self,
        family: Family,
        attributes: &Arc<RouteAttributes>,
        export: &Export,
        encode: impl FnOnce() -> Result<Bytes, TooLarge>,
    ) -> Result<Bytes, TooLarge> {
        let key = (Arc::as_ptr(attributes) as usize, family, export.clone());
        if let Some((_, octets)) = self.known.get(&key) {
            return Ok(octets.clone());
        }
        let octets = encode()?;
        if self.octets >= KEPT {
            *self = Self::default();
        }
        self.octets += octets.len();
        self.known.insert(key, (Arc::clone(attributes), octets.clone()));
        Ok(octets)
    }
}

/// Header, length of the withdrawn routes and length of the attributes.
const UPDATE_OVERHEAD: usize = 19 + 2 + 2;
/// MP_REACH_NLRI without NLRI: flags, type, two octets of length; AFI, SAFI, length of the next hop, an IPv6 one, reserved.
const MP_REACH_OVERHEAD: usize = 4 + 2 + 1 + 1 + 16 + 1;
/// MP_UNREACH_NLRI without NLRI: flags, type, two octets of length; AFI, SAFI.
const MP_UNREACH_OVERHEAD: usize = 4 + 2 + 1;

/// RFC 4271 section 4.3: the length of a segment is one octet.
const MAX_SEGMENT: usize = 255;

/// One UPDATE that withdraws as many of the prefixes as fit, and how many that are.
pub(crate) fn encode_withdrawals<'a>(
    family: Family,
    prefixes: impl Iterator<Item = &'a IpNet>,
    export: &Export,
) -> (Bytes, usize) {
    let room = usize::from(export.max_message) - UPDATE_OVERHEAD;
    match family {
        Family::Ipv4Unicast => {
            let (nlri, count) = classic_nlri(prefixes, room);
            (update(nlri, Vec::new(), Vec::new(), export), count)
        }
        Family::Ipv6Unicast => {
            let withdrawn = mp_nlri(prefixes, room - MP_UNREACH_OVERHEAD);
            let count = withdrawn.len();
            (update(Vec::new(), mp_unreach(family, withdrawn), Vec::new(), export), count)
        }
    }
}

/// One UPDATE that announces as many of the prefixes as fit, and how many that are: at least one.
pub(crate) fn encode_announcements<'a>(
    family: Family,
    attributes: &Arc<RouteAttributes>,
    prefixes: impl Iterator<Item = &'a IpNet>,
    export: &Export,
    encoded: &mut EncodedAttributes,
) -> Result<(Bytes, usize), TooLarge> {
    let next_hop = export.next_hop(family, attributes).ok_or(TooLarge::NoNextHop(family))?;
    let block = encoded.of(family, attributes, export, || {
        let (list, mut block) = (path_attributes(attributes, next_hop, export), Vec::new());
        encode_path_attributes(&list, &mut block, export.four_octet_asn, false)
            .map_err(|error| TooLarge::Codec(error.to_string()))?;
        Ok(block.into())
    })?;

    let full = || TooLarge::Attributes { attributes: block.len(), max_message: export.max_message };
    let room = usize::from(export.max_message).checked_sub(UPDATE_OVERHEAD + block.len()).ok_or_else(full)?;
    match next_hop {
        NextHop::V4(_) => {
            let (nlri, count) = classic_nlri(prefixes, room);
            if count == 0 {
                return Err(full());
            }
            Ok((update(Vec::new(), block, nlri, export), count))
        }
        NextHop::V6 { address, link_local } => {
            let overhead = MP_REACH_OVERHEAD + link_local.map_or(0, |_| 16);
            let announced = mp_nlri(prefixes, room.checked_sub(overhead).ok_or_else(full)?);
            let count = announced.len();
            if count == 0 {
                return Err(full());
            }
            // RFC 7606 section 5.1: MP_REACH_NLRI comes first, so that a receiver finds the prefixes whatever follows.
            let mut with_reach = mp_reach(family, address, link_local, announced);
            with_reach.extend_from_slice(&block);
            Ok((update(Vec::new(), with_reach, Vec::new(), export), count))
        }
    }
}

/// RFC 4724 section 2: an UPDATE that says nothing, for IPv4; an empty MP_UNREACH_NLRI for the others.
pub(crate) fn encode_end_of_rib(family: Family, export: &Export) -> Bytes {
    let attributes = match family {
        Family::Ipv4Unicast => Vec::new(),
        Family::Ipv6Unicast => mp_unreach(family, Vec::new()),
    };
    update(Vec::new(), attributes, Vec::new(), export)
}

fn path_attributes(attributes: &RouteAttributes, next_hop: NextHop, export: &Export) -> Vec<PathAttribute> {
    let path: Vec<u32> = export.as_path(attributes).0.into_iter().map(|asn| asn.0).collect();
    let segments = path.chunks(MAX_SEGMENT).map(|segment| AsPathSegment::AsSequence(segment.to_vec())).collect();
    let mut list = vec![PathAttribute::Origin(Origin::Igp), PathAttribute::AsPath(AsPath { segments })];
    if let NextHop::V4(next_hop) = next_hop {
        list.push(PathAttribute::NextHop(next_hop));
    }
    list.extend(attributes.med.map(PathAttribute::Med));
    if export.internal {
        list.push(PathAttribute::LocalPref(attributes.local_preference.unwrap_or(100)));
    }
    if !attributes.communities.is_empty() {
        let mut communities: Vec<u32> = attributes.communities.iter().map(|community| community.0).collect();
        communities.sort_unstable();
        communities.dedup();
        list.push(PathAttribute::Communities(communities));
    }
    let (mut short, mut ipv6) = (Vec::new(), Vec::new());
    for community in export.extended_communities(attributes) {
        match community {
            ExtendedCommunity::Short(octets) => {
                short.push(rustbgpd_wire::ExtendedCommunity::new(u64::from_be_bytes(octets)));
            }
            ExtendedCommunity::Ipv6(octets) => ipv6.push(Ipv6ExtendedCommunity::new(octets)),
        }
    }
    list.extend(Some(short).filter(|list| !list.is_empty()).map(PathAttribute::ExtendedCommunities));
    list.extend(Some(ipv6).filter(|list| !list.is_empty()).map(PathAttribute::Ipv6ExtendedCommunities));
    if !attributes.large_communities.is_empty() {
        // RFC 8092 section 5: no duplicates.
        let mut communities: Vec<_> = attributes.large_communities.clone();
        communities.sort_unstable();
        communities.dedup();
        let wire = communities.iter().map(|c| LargeCommunity::new(c.global, c.local1, c.local2));
        list.push(PathAttribute::LargeCommunities(wire.collect()));
    }
    list.extend(export.only_to_customer.map(|asn| PathAttribute::OnlyToCustomer(asn.0)));
    list
}

/// Octets that a prefix takes (RFC 4271 section 4.3).
fn nlri_length(prefix: &IpNet) -> usize {
    1 + usize::from(prefix.prefix_len().div_ceil(8))
}

fn classic_nlri<'a>(prefixes: impl Iterator<Item = &'a IpNet>, room: usize) -> (Vec<u8>, usize) {
    let mut nlri = Vec::new();
    let mut count = 0;
    for prefix in prefixes {
        if nlri.len() + nlri_length(prefix) > room {
            break;
        }
        if let IpNet::V4(net) = prefix {
            encode_nlri(&[Ipv4Prefix::new(net.network(), net.prefix_len())], &mut nlri);
        }
        count += 1;
    }
    (nlri, count)
}

fn mp_nlri<'a>(prefixes: impl Iterator<Item = &'a IpNet>, room: usize) -> Vec<NlriEntry> {
    let mut length = 0;
    prefixes
        .take_while(|prefix| {
            length += nlri_length(prefix);
            length <= room
        })
        .map(|prefix| NlriEntry {
            path_id: 0,
            prefix: match prefix {
                IpNet::V4(net) => Prefix::V4(Ipv4Prefix::new(net.network(), net.prefix_len())),
                IpNet::V6(net) => Prefix::V6(Ipv6Prefix::new(net.network(), net.prefix_len())),
            },
        })
        .collect()
}

fn mp_reach(family: Family, address: Ipv6Addr, link_local: Option<Ipv6Addr>, announced: Vec<NlriEntry>) -> Vec<u8> {
    encode_one(PathAttribute::MpReachNlri(Box::new(MpReachNlri {
        afi: family.afi(),
        safi: Safi::Unicast,
        next_hop: IpAddr::V6(address),
        link_local_next_hop: link_local,
        announced,
        flowspec_announced: Vec::new(),
        evpn_announced: Vec::new(),
        bgpls_announced: Vec::new(),
        vpn_announced: Vec::new(),
        labeled_announced: Vec::new(),
        rtc_announced: Vec::new(),
    })))
}

fn mp_unreach(family: Family, withdrawn: Vec<NlriEntry>) -> Vec<u8> {
    encode_one(PathAttribute::MpUnreachNlri(Box::new(MpUnreachNlri {
        afi: family.afi(),
        safi: Safi::Unicast,
        withdrawn,
        flowspec_withdrawn: Vec::new(),
        evpn_withdrawn: Vec::new(),
        bgpls_withdrawn: Vec::new(),
        vpn_withdrawn: Vec::new(),
        labeled_withdrawn: Vec::new(),
        rtc_withdrawn: Vec::new(),
    })))
}

fn encode_one(attribute: PathAttribute) -> Vec<u8> {
    let mut buffer = Vec::new();
    let encoded = encode_path_attributes(&[attribute], &mut buffer, true, false);
    debug_assert_eq!(encoded, Ok(()), "unicast NLRI have no value that cannot be encoded");
    buffer
}

fn update(withdrawn_routes: Vec<u8>, path_attributes: impl Into<Bytes>, nlri: Vec<u8>, export: &Export) -> Bytes {
    let message = UpdateMessage {
        withdrawn_routes: withdrawn_routes.into(),
        path_attributes: path_attributes.into(),
        nlri: nlri.into(),
    };
    let mut buffer = BytesMut::with_capacity(message.encoded_len());
    let encoded: Result<(), EncodeError> = message.encode_with_limit(&mut buffer, export.max_message);
    debug_assert_eq!(encoded, Ok(()), "the room was counted before it was filled");
    buffer.freeze()
}

#[cfg(test)]
mod tests;
