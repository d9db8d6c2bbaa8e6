//! Which octets of a malformed UPDATE an operator gets to see.

use std::ops::Range;

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
    let mut end = 0;
    for attribute in attributes(block) {
        if attribute.type_code == wanted {
            return Some(attribute.range.start);
        }
        end = attribute.range.end;
    }
    // One that is cut can be to blame too.
    (*block.get(end + 1)? == wanted).then_some(end)
}

/// One attribute of a block, as far as lengths tell.
pub(super) struct Attribute {
    pub(super) type_code: u8,
    /// With its flags, type and length.
    pub(super) range: Range<usize>,
    pub(super) value: Range<usize>,
}

/// The attributes that are whole, up to the first that is not.
pub(super) fn attributes(block: &[u8]) -> impl Iterator<Item = Attribute> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (type_code, header, length) = match *block.get(at..)? {
            [flags, type_code, high, low, ..] if flags & EXTENDED_LENGTH != 0 => {
                (type_code, 4, u16::from_be_bytes([high, low]))
            }
            [flags, type_code, length, ..] if flags & EXTENDED_LENGTH == 0 => (type_code, 3, u16::from(length)),
            _ => return None,
        };
        let value = at + header..at + header + usize::from(length);
        block.get(value.clone())?;
        let range = at..value.end;
        at = value.end;
        Some(Attribute { type_code, range, value })
    })
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
