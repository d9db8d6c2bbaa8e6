//! The accumulated IGP metric (RFC 7311): how far a route has come inside a network of several autonomous systems.
//!
//! The codec takes the attribute for one that it need not know, and leaves it out; so its octets are found, and put behind
//! the others, here.

use bytes::Bytes;
use rustbgpd_wire::constants::attr_flags;

use super::quote::attributes;

/// RFC 7311 section 3: the attribute, and the one kind of TLV that says something.
const TYPE_CODE: u8 = 26;
const METRIC: u8 = 1;
const METRIC_LENGTH: u16 = 11;

/// The attribute's value, and the metric in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Aigp {
    value: Bytes,
    metric: u64,
    /// Where in the value the metric stands.
    at: usize,
}

impl Aigp {
    /// That of an UPDATE's attributes. `None`: there is none, or it is to be discarded (RFC 7311 section 3.2, RFC 7606
    /// section 7.16).
    pub(super) fn find(block: &[u8]) -> Option<Self> {
        let attribute = attributes(block).find(|attribute| attribute.type_code == TYPE_CODE)?;
        let flags = block[attribute.range.start];
        if flags & (attr_flags::OPTIONAL | attr_flags::TRANSITIVE) != attr_flags::OPTIONAL {
            return None;
        }
        Self::read(Bytes::copy_from_slice(&block[attribute.value]))
    }

    /// With nothing else in it.
    #[cfg(test)]
    pub(crate) fn of(metric: u64) -> Self {
        Self { value: [&[1, 0, 11][..], &metric.to_be_bytes()].concat().into(), metric, at: 3 }
    }

    fn read(value: Bytes) -> Option<Self> {
        let mut found = None;
        let mut at = 0;
        while at < value.len() {
            let [kind, high, low] = *value.get(at..at + 3)?.first_chunk()?;
            let length = u16::from_be_bytes([high, low]);
            // The length is that of the whole TLV.
            let tlv = value.get(at..at + usize::from(length)).filter(|tlv| tlv.len() >= 3)?;
            // Of several the first counts; the others, and other kinds, stay as they are.
            if kind == METRIC && found.is_none() {
                if length != METRIC_LENGTH {
                    return None;
                }
                let metric = u64::from_be_bytes(*tlv[3..].first_chunk()?);
                found = Some((metric, at + 3)).filter(|_| metric != u64::MAX);
                found?;
            }
            at += usize::from(length);
        }
        found.map(|(metric, at)| Self { value, metric, at })
    }

    pub(super) const fn metric(&self) -> u64 {
        self.metric
    }

    /// As whoever names itself as next hop tells it: with the way from there (RFC 7311 section 3.4.3).
    pub(super) fn farther(self, cost: u32) -> Self {
        // The largest number would be malformed.
        let metric = self.metric.saturating_add(cost.into()).min(u64::MAX - 1);
        let mut value = self.value.to_vec();
        value[self.at..self.at + 8].copy_from_slice(&metric.to_be_bytes());
        Self { value: value.into(), metric, at: self.at }
    }

    pub(super) fn encode(&self, octets: &mut Vec<u8>) {
        // It came in a message, so it is no longer than that.
        let length = u16::try_from(self.value.len()).unwrap_or(u16::MAX);
        octets.extend([attr_flags::OPTIONAL | attr_flags::EXTENDED_LENGTH, TYPE_CODE]);
        octets.extend(length.to_be_bytes());
        octets.extend_from_slice(&self.value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: String = text.split_whitespace().collect();
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn the_first_metric_counts_and_what_is_malformed_is_left_out() {
        let origin = "400101 00";
        let cases = [
            ("plain", "801a0b 01000b 0000000000000007", Some(7)),
            ("extended length", "901a000b 01000b 0000000000000007", Some(7)),
            ("behind another kind", "801a0f 090004 ff 01000b 0000000000000007", Some(7)),
            ("two", "801a16 01000b 0000000000000007 01000b 0000000000000008", Some(7)),
            ("none", "801a04 090004 ff", None),
            ("empty", "801a00", None),
            ("transitive", "c01a0b 01000b 0000000000000007", None),
            ("well-known", "001a0b 01000b 0000000000000007", None),
            ("too short", "801a0a 01000a 00000000000007", None),
            ("a length beyond the end", "801a0b 01000c 0000000000000007", None),
            ("a length of nothing", "801a0b 010000 0000000000000007", None),
            ("garbage behind it", "801a0c 01000b 0000000000000007 01", None),
            ("the largest", "801a0b 01000b ffffffffffffffff", None),
            ("cut", "801a0b 01000b 00000000000000", None),
        ];
        for (name, attribute, expected) in cases {
            let found = Aigp::find(&hex(&format!("{origin} {attribute}")));
            assert_eq!(found.as_ref().map(Aigp::metric), expected, "{name}");
            if let Some(found) = found {
                let mut octets = Vec::new();
                found.encode(&mut octets);
                assert_eq!(Aigp::find(&octets), Some(found.clone()), "{name}");
                let mut octets = Vec::new();
                found.farther(5).encode(&mut octets);
                assert_eq!(Aigp::find(&octets).map(|farther| farther.metric()), Some(12), "{name}");
            }
        }
        let far = Aigp::find(&hex("801a0b 01000b fffffffffffffff0")).unwrap();
        assert_eq!(far.farther(100).metric(), u64::MAX - 1);
    }
}
