//! Which octets of a malformed UPDATE an operator gets to see.

use bytes::Bytes;
use rustbgpd_wire::UpdateMessage;
use rustbgpd_wire::nlri::decode_nlri;

use crate::refusal::quotation;

/// RFC 4271 section 4.3: the length of this attribute has two octets.
const EXTENDED_LENGTH: u8 = 0x10;

/// From the first attribute of this type on. Without a type, or where no such attribute can be found (its header is cut),
/// from the first of all: what is wrong may be that one is missing.
pub(super) fn attribute(message: &UpdateMessage, type_code: Option<u8>) -> Bytes {
    let block = &message.path_attributes;
    let from = type_code.and_then(|type_code| position(block, type_code)).unwrap_or_default();
    quotation(block.get(from..).unwrap_or_default())
}

/// Of prefixes that cannot be read.
pub(super) fn prefixes(message: &UpdateMessage) -> Bytes {
    let withdrawn = &message.withdrawn_routes;
    quotation(if decode_nlri(withdrawn).is_err() { withdrawn } else { &message.nlri })
}

/// Where the first attribute of this type begins, as far as lengths lead there.
fn position(block: &[u8], wanted: u8) -> Option<usize> {
    let mut at = 0;
    loop {
        let (header, length) = match *block.get(at..)? {
            [_, type_code, ..] if type_code == wanted => return Some(at),
            [flags, _, high, low, ..] if flags & EXTENDED_LENGTH != 0 => (4, u16::from_be_bytes([high, low])),
            [_, _, length, ..] => (3, u16::from(length)),
            _ => return None,
        };
        at += header + usize::from(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quotation_begins_at_the_attribute_to_blame() {
        let origin = [0x40, 1, 1, 0];
        let long = [&[0x50, 2, 0, 2][..], &[9, 9]].concat();
        let med = [0x80, 4, 3, 0, 0, 0];
        let block = [&origin[..], &long, &med].concat();
        let cases: [(&str, &[u8], Option<u8>, &[u8]); 7] = [
            ("the first", &block, Some(1), &block),
            ("behind one", &block, Some(2), &block[4..]),
            ("behind an extended length", &block, Some(4), &med),
            ("not there", &block, Some(8), &block),
            ("none to blame", &block, None, &block),
            ("cut inside", &block[..7], Some(4), &block[..7]),
            ("nothing", &[], Some(4), &[]),
        ];
        for (name, block, type_code, expected) in cases {
            let message = UpdateMessage {
                withdrawn_routes: Bytes::new(),
                path_attributes: Bytes::copy_from_slice(block),
                nlri: Bytes::new(),
            };
            assert_eq!(attribute(&message, type_code), expected, "{name}");
        }
    }
}
