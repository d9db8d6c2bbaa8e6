//! Families that are none of this session's: what is wrong inside them is not our business.
//!
//! The codec cannot read the prefixes of a family that it does not know, and a family that it does know may hold prefixes
//! that it cannot read. On a session that carries the family this is a reset: nobody knows which routes were meant. On one
//! that does not, no route was meant that could be ours, and the others need not suffer.

use std::collections::BTreeSet;

use bytes::Bytes;
use rustbgpd_wire::constants::attr_type;
use rustbgpd_wire::{Afi, Safi, UpdateMessage};

use super::quote::attributes;
use crate::Family;

/// The message without every MP_REACH_NLRI and MP_UNREACH_NLRI of a family that was not negotiated (RFC 4760 section 6).
/// `None`: there is none.
pub(super) fn without_foreign_families(message: &UpdateMessage, families: &BTreeSet<Family>) -> Option<UpdateMessage> {
    let block = &message.path_attributes;
    let mut kept = Vec::with_capacity(block.len());
    let mut end = 0;
    for attribute in attributes(block) {
        end = attribute.range.end;
        if !is_foreign(attribute.type_code, &block[attribute.value], families) {
            kept.extend_from_slice(&block[attribute.range]);
        }
    }
    // What cannot be told apart any more stays, to be complained of.
    kept.extend_from_slice(block.get(end..).unwrap_or_default());
    (kept.len() < block.len()).then(|| UpdateMessage { path_attributes: Bytes::from(kept), ..message.clone() })
}

fn is_foreign(type_code: u8, value: &[u8], families: &BTreeSet<Family>) -> bool {
    let (attr_type::MP_REACH_NLRI | attr_type::MP_UNREACH_NLRI, [high, low, safi, ..]) = (type_code, value) else {
        return false;
    };
    let family = match (Afi::from_u16(u16::from_be_bytes([*high, *low])), Safi::from_u8(*safi)) {
        (Some(afi), Some(safi)) => Family::from_wire(afi, safi),
        _ => None,
    };
    family.is_none_or(|family| !families.contains(&family))
}
