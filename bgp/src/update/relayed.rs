//! Routes of other peers into UPDATEs: octets that the codec has made once, and prefixes behind them.
//!
//! A route server may send each route to hundreds of peers, so what is done per message here is to copy: the attributes
//! are kept as octets and only lengths and prefixes are written. Where peers get other octets than those, because they
//! have two-octet AS numbers or because the route is reflected, the codec makes them once for all that have the same settings
//! ([`Rewritten`]).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Deref;

use bytes::{BufMut, Bytes, BytesMut};
use ipnet::IpNet;
use rustbgpd_wire::PathAttribute;
use rustbgpd_wire::attribute::{decode_path_attributes, encode_path_attributes};
use rustbgpd_wire::constants::attr_type;

use super::aigp::Aigp;
use crate::next_hop::{ExtendedNextHops, NextHop, SessionNextHops};
use crate::rib::Route;
use crate::{Asn, Family};

/// What, besides the routes, decides over what one peer gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RelaySession {
    /// By family.
    pub(crate) families: [bool; 2],
    /// By family: how many paths to a prefix are told. More than one: prefixes go with identifiers (RFC 7911).
    pub(crate) paths: [u8; 2],
    /// Whether the peer has four-octet AS numbers (RFC 6793).
    pub(crate) four_octet_asn: bool,
    pub(crate) max_message: u16,
    pub(crate) extended_next_hops: ExtendedNextHops,
    /// Ours, where routes are reflected (RFC 4456).
    pub(crate) cluster: Option<Ipv4Addr>,
    /// Told instead of those that routes came with, where we are to be the way to them.
    pub(crate) own_next_hops: Option<SessionNextHops>,
    /// ONLY_TO_CUSTOMER for routes that have none, where our role asks for it (RFC 9234 section 5).
    pub(crate) only_to_customer: Option<Asn>,
    /// Our role towards the peer lets it have no route that is marked (RFC 9234 section 5).
    pub(crate) withholds_marked: bool,
    /// Accumulated metrics are told (RFC 7311 section 3.3).
    pub(crate) aigp: bool,
}

const HEADER: usize = 19;
/// MP_REACH_NLRI with everything but prefixes, at its largest: attribute header, AFI, SAFI, next hop, reserved octet.
const MP_REACH: usize = 4 + 2 + 1 + 1 + 16 + 1;
/// The longest prefix with an identifier.
const LONGEST_NLRI: usize = 4 + 1 + 16;
/// The longest growth of CLUSTER_LIST: a header and one identifier.
const REFLECTION: usize = 4 + 4;
/// NEXT_HOP of a route that came without, and ONLY_TO_CUSTOMER: three octets of header and four each.
const ADDED: usize = 7 + 7;

impl RelaySession {
    /// Whether more than one path to a prefix may be told.
    pub(crate) fn takes_several(&self) -> bool {
        self.paths.iter().any(|&paths| paths > 1)
    }

    /// Whether the peer takes this route to a prefix of this family: an UPDATE must have room for it, and the next hop be
    /// one that the peer understands.
    pub(crate) fn fits(&self, family: Family, route: &Route) -> bool {
        let Some(next_hop) = self.next_hop(family, route) else { return false };
        if Family::of_address(&next_hop) != family && self.extended_next_hops == ExtendedNextHops::No {
            return false;
        }
        if self.withholds_marked && route.attributes.only_to_customer.is_some() {
            return false;
        }
        // With two-octet AS numbers AS4_PATH repeats the path and AS4_AGGREGATOR the aggregator.
        let transition = if self.four_octet_asn { 0 } else { 16 + route.octets.len() };
        let reflection = if self.cluster.is_some() { REFLECTION } else { 0 };
        let attributes = route.octets.len() + transition + reflection + if self.rewrites(route) { ADDED } else { 0 };
        HEADER + 4 + attributes + MP_REACH + LONGEST_NLRI <= usize::from(self.max_message)
    }

    pub(crate) fn begin_withdrawal(&self, family: Family, output: &mut BytesMut) -> Withdrawal {
        let start = begin(output);
        let attribute = match family {
            // In the field of their own, whose length comes first.
            Family::Ipv4Unicast => {
                output.put_u16(0);
                None
            }
            Family::Ipv6Unicast => {
                output.put_slice(&[0, 0, 0, 0, 0x90, 15, 0, 0]);
                output.put_u16(family.afi() as u16);
                output.put_u8(1);
                Some(output.len() - 5)
            }
        };
        let path_ids = self.paths[family as usize] > 1;
        // Behind classic withdrawals the length of the attributes follows.
        let behind = if attribute.is_none() { 2 } else { 0 };
        let limit = start + usize::from(self.max_message) - behind;
        Withdrawal { start, attribute, prefixes: PrefixWriter::new(path_ids, output.len(), limit) }
    }

    /// `rewritten`: of the peers with these settings, if there are several. `None`: the codec does not write what it has read.
    pub(crate) fn begin_announcement<'a>(
        &self,
        family: Family,
        route: &'a Route,
        rewritten: Option<&mut Rewritten>,
        output: &mut BytesMut,
    ) -> Option<Announcement<'a>> {
        let next_hop = self.next_hop(family, route)?;
        let attributes = match rewritten {
            _ if self.passes_unchanged(route) => Attributes::AsTheyCame(&route.octets),
            Some(known) => {
                Attributes::Rewritten(known.attributes(family, route.serial, || self.rewrite(next_hop, route))?)
            }
            None => Attributes::Rewritten(self.rewrite(next_hop, route)?),
        };
        let start = begin(output);
        output.put_u16(0);
        let in_reach = next_hop.is_ipv6();
        if in_reach {
            output.put_slice(&[0, 0, 0x90, 14, 0, 0]);
            output.put_u16(family.afi() as u16);
            output.put_u8(1);
            match next_hop {
                IpAddr::V4(next_hop) => {
                    output.put_u8(4);
                    output.put_slice(&next_hop.octets());
                }
                IpAddr::V6(next_hop) => {
                    output.put_u8(16);
                    output.put_slice(&next_hop.octets());
                }
            }
            output.put_u8(0);
        } else {
            output.put_u16(attributes.len() as u16);
            output.put_slice(&attributes);
        }
        let behind = if in_reach { attributes.len() } else { 0 };
        let limit = start + usize::from(self.max_message) - behind;
        let path_ids = self.paths[family as usize] > 1;
        let prefixes = PrefixWriter::new(path_ids, output.len(), limit);
        Some(Announcement { start, attributes, in_reach, prefixes })
    }

    /// What the peer is to have as next hop. `None`: we have none to give.
    fn next_hop(&self, family: Family, route: &Route) -> Option<IpAddr> {
        let Some(own) = &self.own_next_hops else { return Some(route.next_hop) };
        own.of(family).map(|next_hop| match next_hop {
            NextHop::V4(address) => address.into(),
            NextHop::V6 { address, .. } => address.into(),
        })
    }

    /// Whether the peer gets other attributes than those that the route came with, besides what every reflected one gets.
    fn rewrites(&self, route: &Route) -> bool {
        self.own_next_hops.is_some()
            || (self.only_to_customer.is_some() && route.attributes.only_to_customer.is_none())
            || (!self.aigp && route.attributes.aigp.is_some())
    }

    fn passes_unchanged(&self, route: &Route) -> bool {
        self.four_octet_asn && self.cluster.is_none() && !self.rewrites(route)
    }

    fn rewrite(&self, next_hop: IpAddr, route: &Route) -> Option<Bytes> {
        let mut list = decode_path_attributes(&route.octets, true, &[]).ok()?;
        if let Some(cluster) = self.cluster {
            reflect(&mut list, cluster);
        }
        if self.own_next_hops.is_some() {
            replace_next_hop(&mut list, next_hop);
        }
        if let Some(asn) = self.only_to_customer.filter(|_| route.attributes.only_to_customer.is_none()) {
            list.push(PathAttribute::OnlyToCustomer(asn.0));
        }
        let mut octets = Vec::with_capacity(route.octets.len() + REFLECTION + ADDED);
        encode_path_attributes(&list, &mut octets, self.four_octet_asn, false).ok()?;
        // The codec leaves it out.
        if self.aigp
            && route.attributes.aigp.is_some()
            && let Some(aigp) = Aigp::find(&route.octets)
        {
            match self.own_next_hops {
                Some(_) => aigp.farther(route.cost()).encode(&mut octets),
                // RFC 7311 section 3.4.3: whoever changes no next hop changes no metric.
                None => aigp.encode(&mut octets),
            }
        }
        Some(octets.into())
    }
}

/// Attributes as peers with the same settings get them, where they are not told as they came. For as long as there may be more than
/// one that they are told to, and never much more than [`REWRITTEN`] octets: then those come anew that are needed again.
#[derive(Debug, Default)]
pub(crate) struct Rewritten {
    /// By the serial number of the route and the family of the prefixes, which decides over the next hop.
    made: BTreeMap<(u32, Family), Bytes>,
    octets: usize,
}

const REWRITTEN: usize = 256 * 1024;

impl Rewritten {
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.made.len()
    }

    fn attributes(&mut self, family: Family, serial: u32, make: impl FnOnce() -> Option<Bytes>) -> Option<Bytes> {
        if let Some(known) = self.made.get(&(serial, family)) {
            return Some(known.clone());
        }
        let made = make()?;
        if self.octets >= REWRITTEN {
            *self = Self::default();
        }
        self.octets += made.len();
        self.made.insert((serial, family), made.clone());
        Some(made)
    }
}

#[derive(Debug)]
enum Attributes<'a> {
    AsTheyCame(&'a [u8]),
    Rewritten(Bytes),
}

impl Deref for Attributes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::AsTheyCame(octets) => octets,
            Self::Rewritten(octets) => octets,
        }
    }
}

/// An IPv6 next hop stands in MP_REACH_NLRI.
fn replace_next_hop(list: &mut Vec<PathAttribute>, next_hop: IpAddr) {
    list.retain(|attribute| !matches!(attribute, PathAttribute::NextHop(_)));
    if let IpAddr::V4(next_hop) = next_hop {
        let behind = list.iter().position(|attribute| attribute.type_code() > attr_type::NEXT_HOP);
        list.insert(behind.unwrap_or(list.len()), PathAttribute::NextHop(next_hop));
    }
}

/// RFC 4456 section 8: through which clusters it came. Who told it first was added when it came.
fn reflect(list: &mut Vec<PathAttribute>, cluster: Ipv4Addr) {
    let known = list.iter_mut().find_map(|attribute| match attribute {
        PathAttribute::ClusterList(clusters) => Some(clusters),
        _ => None,
    });
    match known {
        Some(clusters) => clusters.insert(0, cluster),
        None => list.push(PathAttribute::ClusterList(vec![cluster])),
    }
}

/// An UPDATE with withdrawals, being written.
#[derive(Debug)]
pub(crate) struct Withdrawal {
    start: usize,
    /// Where the length of MP_UNREACH_NLRI stands, if there is one.
    attribute: Option<usize>,
    prefixes: PrefixWriter,
}

impl Withdrawal {
    /// `false`: there is no room for it.
    pub(crate) fn push(&mut self, output: &mut BytesMut, prefix: &IpNet, path_id: u32) -> bool {
        self.prefixes.push(output, prefix, path_id)
    }

    pub(crate) fn finish(mut self, output: &mut BytesMut) {
        self.prefixes.flush(output);
        match self.attribute {
            None => {
                put_length(output, self.start + HEADER, output.len() - self.start - HEADER - 2);
                output.put_u16(0);
            }
            Some(position) => {
                put_length(output, position, output.len() - position - 2);
                put_length(output, position - 4, output.len() - position + 2);
            }
        }
        finish(output, self.start);
    }
}

/// An UPDATE with announcements, being written.
#[derive(Debug)]
pub(crate) struct Announcement<'a> {
    start: usize,
    attributes: Attributes<'a>,
    /// The prefixes stand in MP_REACH_NLRI, and the other attributes behind it (RFC 7606 section 5.1).
    in_reach: bool,
    prefixes: PrefixWriter,
}

impl Announcement<'_> {
    /// `false`: there is no room for it.
    pub(crate) fn push(&mut self, output: &mut BytesMut, prefix: &IpNet, path_id: u32) -> bool {
        self.prefixes.push(output, prefix, path_id)
    }

    pub(crate) fn finish(mut self, output: &mut BytesMut) {
        self.prefixes.flush(output);
        if self.in_reach {
            let reach = self.start + HEADER + 2 + 2 + 2;
            put_length(output, reach, output.len() - reach - 2);
            output.put_slice(&self.attributes);
            put_length(output, self.start + HEADER + 2, output.len() - self.start - HEADER - 4);
        }
        finish(output, self.start);
    }
}

/// The header of an UPDATE (RFC 4271 section 4.1), its length still to be written; returns where it begins.
fn begin(output: &mut BytesMut) -> usize {
    let start = output.len();
    output.put_slice(&[0xff; 16]);
    output.put_slice(&[0, 0, 2]);
    start
}

fn finish(output: &mut BytesMut, start: usize) {
    put_length(output, start + 16, output.len() - start);
}

fn put_length(output: &mut BytesMut, position: usize, length: usize) {
    // No message is longer than 65535 octets: what goes into it was counted first.
    let length = u16::try_from(length).unwrap_or(u16::MAX);
    output[position..position + 2].copy_from_slice(&length.to_be_bytes());
}

/// Writes prefixes one after the other (RFC 4271 section 4.3; RFC 7911 section 3).
///
/// Done for every prefix and every peer, so they go into a piece of fixed size first: whole addresses are copied, whose length the
/// compiler knows, and the next one begins where the prefix ends.
#[derive(Debug)]
struct PrefixWriter {
    path_ids: bool,
    /// So many octets may still be written.
    room: usize,
    piece: [u8; PIECE],
    filled: usize,
}

const PIECE: usize = 128;

impl PrefixWriter {
    /// `position` is where the first one goes, and `limit` where the last one has to end.
    fn new(path_ids: bool, position: usize, limit: usize) -> Self {
        Self { path_ids, room: limit.saturating_sub(position), piece: [0; PIECE], filled: 0 }
    }

    /// `false`: there is no room for it.
    #[inline]
    fn push(&mut self, output: &mut BytesMut, prefix: &IpNet, path_id: u32) -> bool {
        match prefix {
            IpNet::V4(net) => self.put(output, net.addr().octets(), net.prefix_len(), path_id),
            IpNet::V6(net) => self.put(output, net.addr().octets(), net.prefix_len(), path_id),
        }
    }

    fn put<const N: usize>(&mut self, output: &mut BytesMut, address: [u8; N], length: u8, path_id: u32) -> bool {
        let identifier = if self.path_ids { 4 } else { 0 };
        let octets = identifier + 1 + usize::from(length.div_ceil(8));
        if octets > self.room {
            return false;
        }
        if self.filled > PIECE - LONGEST_NLRI {
            self.flush(output);
        }
        if self.path_ids {
            self.piece[self.filled..self.filled + 4].copy_from_slice(&path_id.to_be_bytes());
        }
        let place = &mut self.piece[self.filled + identifier..];
        if let Some((first, behind)) = place.split_first_mut() {
            *first = length;
            // The host bits of a prefix in the table are zero.
            behind[..N].copy_from_slice(&address);
        }
        self.filled += octets;
        self.room -= octets;
        true
    }

    fn flush(&mut self, output: &mut BytesMut) {
        output.extend_from_slice(&self.piece[..self.filled]);
        self.filled = 0;
    }
}

#[cfg(test)]
mod tests;
