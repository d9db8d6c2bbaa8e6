//! The attributes of a received route: what of them is kept, what they mean, and the octets by which they are passed on.
//!
//! What is passed on is what RFC 4271 section 5 says of attributes that a speaker does not change: known ones as they
//! came, unknown ones with the Partial bit if they are transitive, and none that were for us alone.

use std::net::{IpAddr, Ipv4Addr};

use rustbgpd_wire::attribute::encode_path_attributes;
use rustbgpd_wire::constants::attr_flags;
use rustbgpd_wire::{Origin, PathAttribute};

use super::aigp::Aigp;
use crate::attributes::{self, PathAttributes};
use crate::{AsPath, Asn, Community, ExtendedCommunity, LargeCommunity};

/// The attributes of one UPDATE but for the routes in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReceivedAttributes {
    /// NEXT_HOP is among them if it came.
    list: Vec<PathAttribute>,
    aigp: Option<Aigp>,
}

impl ReceivedAttributes {
    pub(crate) fn new(received: Vec<PathAttribute>, internal: bool, aigp: Option<Aigp>) -> Self {
        let kept = |attribute: PathAttribute| match attribute {
            PathAttribute::MpReachNlri(_) | PathAttribute::MpUnreachNlri(_) => None,
            // RFC 7606 sections 7.5, 7.9 and 7.10: an external peer has no say in these.
            PathAttribute::LocalPref(_) | PathAttribute::OriginatorId(_) | PathAttribute::ClusterList(_)
                if !internal =>
            {
                None
            }
            PathAttribute::Unknown(mut raw) => {
                // RFC 4271 section 9: quietly ignored if not transitive, else passed on with the Partial bit.
                raw.flags |= attr_flags::PARTIAL;
                (raw.flags & attr_flags::TRANSITIVE != 0).then_some(PathAttribute::Unknown(raw))
            }
            known => Some(known),
        };
        Self { list: received.into_iter().filter_map(kept).collect(), aigp }
    }

    pub(crate) fn only_to_customer(&self) -> Option<Asn> {
        self.list.iter().find_map(PathAttribute::only_to_customer).map(Asn)
    }

    /// Adds the mark, if it is not there (RFC 9234 section 5).
    pub(crate) fn mark_only_to_customer(&mut self, asn: Asn) {
        if self.only_to_customer().is_none() {
            self.list.push(PathAttribute::OnlyToCustomer(asn.0));
        }
    }

    /// Adds who told it first, if that is not said (RFC 4456 section 8).
    pub(crate) fn name_originator(&mut self, router_id: Ipv4Addr) {
        if !self.list.iter().any(|attribute| matches!(attribute, PathAttribute::OriginatorId(_))) {
            self.list.push(PathAttribute::OriginatorId(router_id));
        }
    }

    /// Appends the octets by which a route with this next hop is passed on: with NEXT_HOP if that is an IPv4 address, else
    /// MP_REACH_NLRI will bring it.
    pub(crate) fn encode(&self, next_hop: IpAddr, octets: &mut Vec<u8>) {
        let encoded = match next_hop {
            IpAddr::V4(_) => encode_path_attributes(&self.list, octets, true, false),
            IpAddr::V6(_) => {
                let others = self.list.iter().filter(|attribute| !matches!(attribute, PathAttribute::NextHop(_)));
                encode_path_attributes(&others.cloned().collect::<Vec<_>>(), octets, true, false)
            }
        };
        debug_assert_eq!(encoded, Ok(()), "what was decoded can be encoded");
        self.aigp.iter().for_each(|aigp| aigp.encode(octets));
    }

    pub(crate) fn meaning(&self) -> PathAttributes {
        let aigp = self.aigp.as_ref().map(Aigp::metric);
        let mut meaning = PathAttributes { aigp, ..PathAttributes::default() };
        for attribute in &self.list {
            match attribute {
                PathAttribute::Origin(origin) => {
                    meaning.origin = match origin {
                        Origin::Igp => attributes::Origin::Igp,
                        Origin::Egp => attributes::Origin::Egp,
                        Origin::Incomplete => attributes::Origin::Incomplete,
                    }
                }
                PathAttribute::AsPath(path) => meaning.as_path = AsPath(path.asns().map(Asn).collect()),
                PathAttribute::Med(med) => meaning.med = Some(*med),
                PathAttribute::LocalPref(preference) => meaning.local_preference = Some(*preference),
                PathAttribute::OriginatorId(id) => meaning.originator_id = Some(*id),
                PathAttribute::ClusterList(clusters) => meaning.cluster_list.clone_from(clusters),
                other => {
                    if let Some(communities) = other.communities() {
                        meaning.communities = communities.iter().copied().map(Community).collect();
                    } else if let Some(communities) = other.large_communities() {
                        let ours = |c: &rustbgpd_wire::LargeCommunity| LargeCommunity {
                            global: c.global_admin,
                            local1: c.local_data1,
                            local2: c.local_data2,
                        };
                        meaning.large_communities = communities.iter().map(ours).collect();
                    } else if let Some(communities) = other.extended_communities() {
                        let ours = communities.iter().map(|c| ExtendedCommunity::Short(c.as_u64().to_be_bytes()));
                        meaning.extended_communities.extend(ours);
                    } else if let Some(communities) = other.ipv6_extended_communities() {
                        let ours = communities.iter().map(|c| ExtendedCommunity::Ipv6(*c.as_bytes()));
                        meaning.extended_communities.extend(ours);
                    } else if let Some(asn) = other.only_to_customer() {
                        meaning.only_to_customer = Some(Asn(asn));
                    }
                }
            }
        }
        meaning
    }
}
