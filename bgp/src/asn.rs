//! Autonomous system numbers.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::error::ParseError;

/// An autonomous system number, four octets wide (RFC 6793).
///
/// Any value can be held, because a peer may send any value; [`Asn::is_usable`] says which of them a speaker may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct Asn(pub u32);

impl Asn {
    /// Stands for "does not fit into two octets" towards speakers that know only those (RFC 6793 section 9).
    pub const TRANS: Self = Self(23456);

    /// Whether a speaker may have this number: 0 is reserved by RFC 7607, 23456 by RFC 6793, and the last ones of the
    /// two- and of the four-octet space by RFC 7300.
    pub const fn is_usable(self) -> bool {
        !matches!(self.0, 0 | 23456 | 65535 | u32::MAX)
    }

    /// The number as the two-octet fields of OPEN and AS_PATH carry it (RFC 6793 section 4.2.2).
    pub(crate) fn two_octets(self) -> u16 {
        u16::try_from(self.0).unwrap_or(23456)
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which numbers are allowed: ranges, both ends included, as given.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct AsnRanges(pub Vec<RangeInclusive<Asn>>);

impl AsnRanges {
    pub fn contains(&self, asn: Asn) -> bool {
        self.0.iter().any(|range| range.contains(&asn))
    }

    /// Whether this number is in it and no other.
    pub fn is_only(&self, asn: Asn) -> bool {
        !self.0.is_empty() && self.0.iter().all(|range| (*range.start(), *range.end()) == (asn, asn))
    }
}

impl fmt::Display for AsnRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |range: &RangeInclusive<Asn>| match (range.start(), range.end()) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        };
        f.write_str(&self.0.iter().map(name).collect::<Vec<_>>().join(", "))
    }
}

impl FromStr for Asn {
    type Err = ParseError;

    /// Reads asplain (`4200000001`) and asdot+ (`64086.59905`), both of RFC 5396, with or without `AS` in front.
    fn from_str(given: &str) -> Result<Self, ParseError> {
        let error =
            || ParseError::new("AS number", given, "0 to 4294967295, or two numbers up to 65535 as \"high.low\"");
        let digits = given.strip_prefix("AS").unwrap_or(given);
        let number = match digits.split_once('.') {
            None => digits.parse().map_err(|_| error())?,
            Some((high, low)) => {
                let high: u16 = high.parse().map_err(|_| error())?;
                let low: u16 = low.parse().map_err(|_| error())?;
                u32::from(high) << 16 | u32::from(low)
            }
        };
        Ok(Self(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_both_notations_and_refuses_the_rest() {
        let cases = [
            ("64512", Some(64512)),
            ("AS64512", Some(64512)),
            ("4200000000", Some(4_200_000_000)),
            ("64086.59904", Some(4_200_000_000)),
            ("1.0", Some(65536)),
            ("", None),
            ("-1", None),
            ("4294967296", None),
            ("65536.1", None),
            ("1.2.3", None),
        ];
        for (given, expected) in cases {
            assert_eq!(given.parse::<Asn>().ok(), expected.map(Asn), "{given:?}");
        }
    }

    #[test]
    fn reserved_numbers_are_not_usable() {
        for (asn, usable) in [(0, false), (1, true), (23456, false), (65534, true), (65535, false), (u32::MAX, false)] {
            assert_eq!(Asn(asn).is_usable(), usable, "AS {asn}");
        }
    }
}
