//! `bgpkit-parser`, which knows what came after 2020: IPv6 next hops of IPv4 routes, ONLY_TO_CUSTOMER, IPv6 extended communities.

use bgpkit_parser::models::{
    AsPath, AsPathSegment, AsnLength, AttributeValue, BgpMessage, Community, ExtendedCommunity, NetworkPrefix, Origin,
};
use bgpkit_parser::parser::bgp::parse_bgp_message;
use bytes::Bytes;

use super::SeenUpdate;

/// The message; written again by that decoder, it is the same to the last octet.
pub(crate) fn read(bytes: &[u8], four_octet_asn: bool) -> BgpMessage {
    let asn_length = || if four_octet_asn { AsnLength::Bits32 } else { AsnLength::Bits16 };
    let mut rest = Bytes::copy_from_slice(bytes);
    let message = parse_bgp_message(&mut rest, false, &asn_length()).expect("the younger decoder reads it");
    assert!(rest.is_empty(), "the younger decoder leaves {} octets", rest.len());
    let again = message.encode(asn_length()).expect("the younger decoder writes it");
    assert_eq!(again, bytes, "the younger decoder takes it for {message:?}");
    message
}

pub(crate) fn read_update(bytes: &[u8], four_octet_asn: bool) -> SeenUpdate {
    let BgpMessage::Update(update) = read(bytes, four_octet_asn) else {
        panic!("the younger decoder took an UPDATE for something else");
    };
    // It asks for an AS_PATH and more in messages that announce nothing, and for LOCAL_PREF from nobody.
    let announces = !update.announced_prefixes.is_empty() || update.attributes.get_reachable_nlri().is_some();
    assert!(
        !announces || !update.attributes.has_validation_warnings(),
        "{:?}",
        update.attributes.validation_warnings()
    );
    let prefixes = |list: &[NetworkPrefix]| -> Vec<String> { list.iter().map(|net| net.prefix.to_string()).collect() };
    let mut seen = SeenUpdate {
        withdrawn: prefixes(&update.withdrawn_prefixes),
        announced: prefixes(&update.announced_prefixes),
        ..SeenUpdate::default()
    };
    for attribute in &update.attributes {
        match attribute {
            AttributeValue::Origin(origin) => assert_eq!(*origin, Origin::IGP),
            AttributeValue::AsPath(path) => seen.as_path = Some(asns(path)),
            AttributeValue::As4Path(path) => seen.as4_path = Some(asns(path)),
            AttributeValue::NextHop(next_hop) => seen.next_hop = Some(next_hop.to_string()),
            AttributeValue::LocalPreference(preference) => seen.local_preference = Some(*preference),
            AttributeValue::MultiExitDiscriminator(med) => seen.med = Some(*med),
            AttributeValue::Communities(list) => seen.communities = list.iter().map(community).collect(),
            AttributeValue::LargeCommunities(list) => {
                let parts = list.iter().map(|large| (large.global_admin, large.local_data[0], large.local_data[1]));
                seen.large_communities = parts.collect();
            }
            AttributeValue::ExtendedCommunities(list) => {
                seen.extended_communities = list.iter().map(extended_community).collect();
            }
            AttributeValue::OnlyToCustomer(asn) => seen.only_to_customer = Some((*asn).into()),
            AttributeValue::MpReachNlri(reach) => {
                seen.announced.extend(prefixes(&reach.prefixes));
                seen.next_hop = Some(reach.next_hop_addr().to_string());
            }
            AttributeValue::MpUnreachNlri(unreach) => seen.withdrawn.extend(prefixes(&unreach.prefixes)),
            // Written again as they came.
            AttributeValue::Ipv6AddressSpecificExtendedCommunities(_)
            | AttributeValue::OriginatorId(_)
            | AttributeValue::Clusters(_) => {}
            other => panic!("the younger decoder saw {other:?}"),
        }
    }
    seen
}

fn asns(path: &AsPath) -> Vec<u32> {
    let asns = |segment: &AsPathSegment| match segment {
        AsPathSegment::AsSequence(asns) => asns.iter().map(|asn| (*asn).into()).collect::<Vec<u32>>(),
        other => panic!("we emit no {other:?}"),
    };
    path.segments.iter().flat_map(asns).collect()
}

fn community(community: &Community) -> u32 {
    match community {
        Community::NoExport => 0xffff_ff01,
        Community::NoAdvertise => 0xffff_ff02,
        Community::NoExportSubConfed => 0xffff_ff03,
        Community::Custom(asn, value) => u32::from(*asn) << 16 | u32::from(*value),
    }
}

fn extended_community(community: &ExtendedCommunity) -> u64 {
    let number = |kind: u8, subtype: u8, value: [u8; 6]| {
        let [a, b, c, d, e, f] = value;
        u64::from_be_bytes([kind, subtype, a, b, c, d, e, f])
    };
    match community {
        ExtendedCommunity::TransitiveTwoOctetAs(two) => {
            let [.., high, low] = u32::from(two.global_admin).to_be_bytes();
            let [a, b, c, d] = two.local_admin;
            number(0, two.subtype, [high, low, a, b, c, d])
        }
        ExtendedCommunity::LinkBandwidth(bandwidth) => {
            let [.., high, low] = u32::from(bandwidth.global_admin).to_be_bytes();
            let [a, b, c, d] = bandwidth.bandwidth.to_be_bytes();
            number(if bandwidth.transitive { 0x00 } else { 0x40 }, 4, [high, low, a, b, c, d])
        }
        other => panic!("the younger decoder saw {other:?}"),
    }
}
