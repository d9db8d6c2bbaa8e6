//! Names and addresses of the veth pairs: found again from what every call says, so that nothing has to be remembered.

use crate::socket::Attachment;

/// How all of them begin.
const PREFIX: &str = "rs";

/// The name of an interface's veth pair, at both of its ends: 15 characters, which is all that the kernel takes.
pub(super) fn link_name(network: &str, attachment: &Attachment) -> String {
    format!("{}{:08x}", of_network(network), hash(&parts(attachment)) as u32)
}

/// How the names of a network's veth pairs begin.
pub(super) fn of_network(network: &str) -> String {
    format!("{PREFIX}{:05x}", hash(&[network]) & 0xf_ffff)
}

/// The hardware addresses of the ends at the node and in the pod.
pub(super) fn macs(network: &str, attachment: &Attachment) -> [[u8; 6]; 2] {
    ["node", "pod"].map(|end| {
        let [one, two, three, four, five, six, ..] =
            hash(&[&[network, end], &parts(attachment)[..]].concat()).to_be_bytes();
        // Of one machine, and given out by nobody (the second lowest bit).
        [one & 0xfc | 0x02, two, three, four, five, six]
    })
}

fn parts(attachment: &Attachment) -> [&str; 2] {
    [&attachment.container_id, &attachment.interface]
}

/// FNV-1a: names must stay the same from one version of this program to the next, which the standard library does not promise of its
/// hashes.
fn hash(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_what_they_are() {
        let of = |network: &str, container_id: &str, interface: &str| {
            let attachment = Attachment { container_id: container_id.to_owned(), interface: interface.to_owned() };
            (link_name(network, &attachment), macs(network, &attachment))
        };
        let (name, [node, pod]) = of("ens5", "c1", "eth0");
        assert_eq!(name, "rsab2be19677b26");
        assert!(name.starts_with(&of_network("ens5")) && name.len() == 15);
        assert!(node != pod && node[0] & 3 == 2 && pod[0] & 3 == 2, "{node:x?} {pod:x?}");
        for other in
            [of("ens6", "c1", "eth0"), of("ens5", "c2", "eth0"), of("ens5", "c1", "net1"), of("ens5", "c", "1eth0")]
        {
            assert!(other.0 != name && other.1 != [node, pod], "{other:?}");
        }
    }
}
