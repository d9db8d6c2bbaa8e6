//! The bytes of BGP, as far as a load generator and a counter need them: IPv4 unicast without Add-Path, messages of up to
//! 4096 octets, four-octet AS numbers.
//!
//! A prefix is one number here, its *node*: where it lies in the binary trie of all prefixes, counted level by level. That
//! makes a set of prefixes an array of bits, and counting them as fast as reading them. Loads stop at /24, so that
//! there are 2^25 nodes and the whole array is 4 MiB.

use std::net::Ipv4Addr;

/// RFC 4271 section 4.1: marker, length, type.
pub(crate) const HEADER: usize = 19;
const LONGEST: usize = 4096;

pub(crate) const OPEN: u8 = 1;
pub(crate) const UPDATE: u8 = 2;
pub(crate) const NOTIFICATION: u8 = 3;
pub(crate) const KEEPALIVE: u8 = 4;

/// The longest prefix of any load.
pub(crate) const LONGEST_PREFIX: u8 = 24;
/// How many nodes there are.
pub(crate) const NODES: u32 = 1 << (LONGEST_PREFIX + 1);

/// Seconds. Long enough for an engine that is busy with a million routes and answers nothing meanwhile.
const HOLD_TIME: u16 = 180;

/// A prefix's place in the trie: 1 is the default route, 2 and 3 are its halves.
pub(crate) fn node(address: u32, length: u8) -> u32 {
    // 64 bits, because shifting 32 bits by 32 is not defined. The result is below 2^(length + 1).
    (1 << length) | (u64::from(address) >> (32 - u32::from(length))) as u32
}

/// The prefix at this place, as it stands in an UPDATE.
fn push_prefix(bytes: &mut Vec<u8>, node: u32) {
    let length = node.ilog2();
    let address = (u64::from(node ^ (1 << length)) << (32 - length)) as u32;
    // At most 24: the logarithm of a node.
    bytes.push(length as u8);
    bytes.extend(&address.to_be_bytes()[..length.div_ceil(8) as usize]);
}

/// The prefixes of a withdrawn-routes or NLRI field, as nodes. Ends where the bytes make no sense.
pub(crate) struct Prefixes<'a>(pub(crate) &'a [u8]);

impl Iterator for Prefixes<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let (&length, rest) = self.0.split_first()?;
        let octets = usize::from(length.div_ceil(8));
        if length > LONGEST_PREFIX || rest.len() < octets {
            return None;
        }
        let mut address = [0; 4];
        address[..octets].copy_from_slice(&rest[..octets]);
        self.0 = &rest[octets..];
        Some(node(u32::from_be_bytes(address), length))
    }
}

/// Withdrawn routes and NLRI of an UPDATE's body.
pub(crate) fn update(body: &[u8]) -> Option<(Prefixes<'_>, Prefixes<'_>)> {
    let (withdrawn, rest) = counted(body)?;
    let (_attributes, announced) = counted(rest)?;
    Some((Prefixes(withdrawn), Prefixes(announced)))
}

fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// Hands every whole message (type, whole bytes) to `each`, and says how many octets they took.
pub(crate) fn messages<'a>(bytes: &'a [u8], mut each: impl FnMut(u8, &'a [u8])) -> usize {
    let mut taken = 0;
    while let Some(&[high, low, kind]) = bytes.get(taken + 16..taken + HEADER) {
        let length = usize::from(u16::from_be_bytes([high, low])).max(HEADER);
        let Some(message) = bytes.get(taken..taken + length) else { break };
        each(kind, message);
        taken += length;
    }
    taken
}

pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xff; 16];
    // Bodies are made here, and shorter than a message may be.
    bytes.extend(u16::try_from(HEADER + body.len()).unwrap_or(u16::MAX).to_be_bytes());
    bytes.push(kind);
    bytes.extend(body);
    bytes
}

/// An OPEN for IPv4 unicast (RFC 4760) with four-octet ASN (RFC 6793).
pub(crate) fn open(asn: u16, router_id: Ipv4Addr) -> Vec<u8> {
    let mut body = vec![4];
    body.extend(asn.to_be_bytes());
    body.extend(HOLD_TIME.to_be_bytes());
    body.extend(router_id.octets());
    body.extend([14, 2, 12, 1, 4, 0, 1, 0, 1, 65, 4, 0, 0]);
    body.extend(asn.to_be_bytes());
    message(OPEN, &body)
}

/// What the prefixes of one UPDATE have in common.
pub(crate) struct Attributes {
    pub(crate) as_path: Vec<u32>,
    pub(crate) next_hop: Ipv4Addr,
    pub(crate) med: Option<u32>,
    pub(crate) communities: Vec<u32>,
    pub(crate) large_communities: Vec<[u32; 3]>,
}

impl Attributes {
    fn encode(&self) -> Vec<u8> {
        // ORIGIN: IGP.
        let mut bytes = vec![0x40, 1, 1, 0];
        // One AS_SEQUENCE; no load has a path of more than 30 hops.
        bytes.extend([0x40, 2, self.as_path.len() as u8 * 4 + 2, 2, self.as_path.len() as u8]);
        bytes.extend(self.as_path.iter().flat_map(|asn| asn.to_be_bytes()));
        bytes.extend([0x40, 3, 4]);
        bytes.extend(self.next_hop.octets());
        if let Some(med) = self.med {
            bytes.extend([0x80, 4, 4]);
            bytes.extend(med.to_be_bytes());
        }
        if !self.communities.is_empty() {
            bytes.extend([0xc0, 8, self.communities.len() as u8 * 4]);
            bytes.extend(self.communities.iter().flat_map(|community| community.to_be_bytes()));
        }
        if !self.large_communities.is_empty() {
            bytes.extend([0xc0, 32, self.large_communities.len() as u8 * 12]);
            bytes.extend(self.large_communities.iter().flatten().flat_map(|part| part.to_be_bytes()));
        }
        bytes
    }
}

/// Appends UPDATEs that announce `nodes`, as many in each as fit.
pub(crate) fn push_announcements(stream: &mut Vec<u8>, attributes: &Attributes, nodes: &[u32]) {
    let attributes = attributes.encode();
    push_packed(stream, nodes, HEADER + 4 + attributes.len(), |nlri| {
        let mut body = vec![0, 0];
        body.extend((attributes.len() as u16).to_be_bytes());
        body.extend(&attributes);
        body.extend(nlri);
        body
    });
}

/// Appends UPDATEs that withdraw `nodes`, as many in each as fit.
pub(crate) fn push_withdrawals(stream: &mut Vec<u8>, nodes: &[u32]) {
    push_packed(stream, nodes, HEADER + 4, |nlri| {
        let mut body = (nlri.len() as u16).to_be_bytes().to_vec();
        body.extend(nlri);
        body.extend([0, 0]);
        body
    });
}

fn push_packed(stream: &mut Vec<u8>, nodes: &[u32], overhead: usize, body: impl Fn(&[u8]) -> Vec<u8>) {
    let mut nlri = Vec::new();
    for (index, &node) in nodes.iter().enumerate() {
        push_prefix(&mut nlri, node);
        if overhead + nlri.len() + 4 > LONGEST || index + 1 == nodes.len() {
            stream.extend(message(UPDATE, &body(&nlri)));
            nlri.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_place_in_the_trie() {
        for (address, length, place, bytes) in [
            ("0.0.0.0", 0, 1, &[0][..]),
            ("0.0.0.0", 1, 2, &[1, 0]),
            ("128.0.0.0", 1, 3, &[1, 128]),
            ("10.0.0.0", 8, 256 + 10, &[8, 10]),
            ("192.0.2.0", 24, (1 << 24) + 0xc0_0002, &[24, 192, 0, 2]),
            ("192.0.2.0", 23, (1 << 23) + 0x60_0001, &[23, 192, 0, 2]),
            ("255.255.255.0", 24, NODES - 1, &[24, 255, 255, 255]),
        ] {
            let address = u32::from(address.parse::<Ipv4Addr>().unwrap());
            assert_eq!(node(address, length), place);
            let mut pushed = Vec::new();
            push_prefix(&mut pushed, place);
            assert_eq!(pushed, bytes);
            assert_eq!(Prefixes(bytes).collect::<Vec<_>>(), [place]);
        }
    }

    #[test]
    fn what_is_packed_is_read_again() {
        let attributes = Attributes {
            as_path: vec![64601, 100_000],
            next_hop: Ipv4Addr::new(10, 77, 1, 1),
            med: Some(7),
            communities: vec![1],
            large_communities: vec![[1, 2, 3]],
        };
        let nodes: Vec<u32> = (0..5000).map(|index| (1 << 24) + 0x14_0000 + index).collect();
        let mut stream = Vec::new();
        push_announcements(&mut stream, &attributes, &nodes);
        push_withdrawals(&mut stream, &nodes);
        // A message that is not there as a whole.
        stream.extend(&message(KEEPALIVE, &[])[..18]);
        let (mut announced, mut withdrawn) = (Vec::new(), Vec::new());
        let taken = messages(&stream, |kind, message| {
            assert!(kind == UPDATE && message.len() <= LONGEST);
            let (gone, come) = update(&message[HEADER..]).unwrap();
            withdrawn.extend(gone);
            announced.extend(come);
        });
        assert_eq!(stream.len() - taken, 18);
        assert_eq!(announced, nodes);
        assert_eq!(withdrawn, nodes);
    }

    #[test]
    fn what_is_cut_is_no_update() {
        for body in [&[][..], &[0], &[0, 9, 1], &[0, 0, 0, 3, 1]] {
            assert!(update(body).is_none(), "{body:?}");
        }
        assert_eq!(Prefixes(&[24, 10, 0]).count(), 0);
        assert_eq!(Prefixes(&[32, 10, 0, 0, 1]).count(), 0);
    }
}
