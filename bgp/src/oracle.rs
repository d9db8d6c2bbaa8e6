//! Other opinions on the bytes that we emit: `bgp-rs` and `bgpkit-parser`, decoders that share no code with the codec in use. In
//! tests only.

pub(crate) mod younger;

use std::net::IpAddr;

use bgp_rs::{Capabilities, Message, NLRIEncoding, Open, PathAttribute, Reader, Segment};

/// What another decoder saw in an UPDATE.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SeenUpdate {
    pub(crate) withdrawn: Vec<String>,
    pub(crate) announced: Vec<String>,
    pub(crate) next_hop: Option<String>,
    pub(crate) as_path: Option<Vec<u32>>,
    pub(crate) as4_path: Option<Vec<u32>>,
    pub(crate) local_preference: Option<u32>,
    pub(crate) med: Option<u32>,
    pub(crate) communities: Vec<u32>,
    pub(crate) large_communities: Vec<(u32, u32, u32)>,
    pub(crate) extended_communities: Vec<u64>,
    /// Which only the younger one knows.
    pub(crate) only_to_customer: Option<u32>,
}

pub(crate) fn read(bytes: &[u8], four_octet_asn: bool) -> Message {
    let capabilities = Capabilities { FOUR_OCTET_ASN_SUPPORT: four_octet_asn, ..Capabilities::default() };
    let mut reader = Reader { stream: bytes, capabilities };
    let (header, message) = reader.read().expect("the other decoder reads it");
    assert_eq!(usize::from(header.length), bytes.len());
    assert!(reader.stream.is_empty(), "the other decoder leaves {} octets", reader.stream.len());
    younger::read(bytes, four_octet_asn);
    message
}

pub(crate) fn read_open(bytes: &[u8]) -> Open {
    match read(bytes, true) {
        Message::Open(open) => open,
        other => panic!("the other decoder took an OPEN for {other:?}"),
    }
}

/// Both see the same.
pub(crate) fn read_update(bytes: &[u8], four_octet_asn: bool) -> SeenUpdate {
    let seen = read_update_as_the_older(bytes, four_octet_asn);
    assert_eq!(younger::read_update(bytes, four_octet_asn), seen);
    seen
}

fn read_update_as_the_older(bytes: &[u8], four_octet_asn: bool) -> SeenUpdate {
    let Message::Update(update) = read(bytes, four_octet_asn) else {
        panic!("the other decoder took an UPDATE for something else");
    };
    let prefixes = |list: &[NLRIEncoding]| -> Vec<String> {
        let name = |nlri: &NLRIEncoding| match nlri {
            NLRIEncoding::IP(prefix) => prefix.to_string(),
            other => panic!("the other decoder took a prefix for {other:?}"),
        };
        list.iter().map(name).collect()
    };
    let mut seen = SeenUpdate {
        withdrawn: prefixes(&update.withdrawn_routes),
        announced: prefixes(&update.announced_routes),
        ..SeenUpdate::default()
    };
    let path = |segments: &[Segment]| -> Vec<u32> {
        let asns = |segment: &Segment| match segment {
            Segment::AS_SEQUENCE(asns) => asns.clone(),
            Segment::AS_SET(_) => panic!("we emit no AS_SET"),
        };
        segments.iter().flat_map(asns).collect()
    };
    for attribute in &update.attributes {
        match attribute {
            PathAttribute::ORIGIN(origin) => assert_eq!(format!("{origin:?}"), "IGP"),
            PathAttribute::AS_PATH(as_path) => seen.as_path = Some(path(&as_path.segments)),
            PathAttribute::AS4_PATH(as_path) => seen.as4_path = Some(path(&as_path.segments)),
            PathAttribute::NEXT_HOP(next_hop) => seen.next_hop = Some(next_hop.to_string()),
            PathAttribute::LOCAL_PREF(preference) => seen.local_preference = Some(*preference),
            PathAttribute::MULTI_EXIT_DISC(med) => seen.med = Some(*med),
            PathAttribute::COMMUNITY(communities) => seen.communities.clone_from(communities),
            PathAttribute::LARGE_COMMUNITY(communities) => seen.large_communities.clone_from(communities),
            PathAttribute::EXTENDED_COMMUNITIES(communities) => seen.extended_communities.clone_from(communities),
            PathAttribute::MP_REACH_NLRI(reach) => {
                seen.announced.extend(prefixes(&reach.announced_routes));
                let octets: [u8; 16] = reach.next_hop.as_slice().try_into().expect("16 octets of next hop");
                seen.next_hop = Some(IpAddr::from(octets).to_string());
            }
            PathAttribute::MP_UNREACH_NLRI(unreach) => seen.withdrawn.extend(prefixes(&unreach.withdrawn_routes)),
            PathAttribute::CLUSTER_LIST(_) => {}
            other => panic!("the other decoder saw {other:?}"),
        }
    }
    seen
}
