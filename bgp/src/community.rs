//! Standard (RFC 1997) and large (RFC 8092) communities, and their text forms.

use std::fmt;
use std::str::FromStr;

use crate::error::ParseError;

/// A standard community: by convention an AS number in the high half, a meaning of that AS's choosing in the low one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct Community(pub u32);

impl Community {
    /// Routers lower the preference of the route: it is about to go (RFC 8326).
    pub const GRACEFUL_SHUTDOWN: Self = Self(0xffff_0000);
    /// Traffic to the prefix is to be dropped (RFC 7999).
    pub const BLACKHOLE: Self = Self(0xffff_029a);
    /// Not to be told outside of the receiver's AS or confederation (RFC 1997).
    pub const NO_EXPORT: Self = Self(0xffff_ff01);
    /// Not to be told to anybody (RFC 1997).
    pub const NO_ADVERTISE: Self = Self(0xffff_ff02);
    /// Not to be told outside of the receiver's member AS (RFC 1997).
    pub const NO_EXPORT_SUBCONFED: Self = Self(0xffff_ff03);

    const WELL_KNOWN: [(Self, &'static str); 5] = [
        (Self::GRACEFUL_SHUTDOWN, "graceful-shutdown"),
        (Self::BLACKHOLE, "blackhole"),
        (Self::NO_EXPORT, "no-export"),
        (Self::NO_ADVERTISE, "no-advertise"),
        (Self::NO_EXPORT_SUBCONFED, "no-export-subconfed"),
    ];
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::WELL_KNOWN.iter().find(|(community, _)| community == self) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "{}:{}", self.0 >> 16, self.0 & 0xffff),
        }
    }
}

impl FromStr for Community {
    type Err = ParseError;

    fn from_str(given: &str) -> Result<Self, ParseError> {
        if let Some((community, _)) = Self::WELL_KNOWN.iter().find(|(_, name)| *name == given) {
            return Ok(*community);
        }
        let error = || {
            ParseError::new(
                "community",
                given,
                "two numbers up to 65535 as \"64500:100\", no-export, no-advertise, no-export-subconfed, \
                 graceful-shutdown or blackhole",
            )
        };
        let (high, low) = given.split_once(':').ok_or_else(error)?;
        let high: u16 = high.parse().map_err(|_| error())?;
        let low: u16 = low.parse().map_err(|_| error())?;
        Ok(Self(u32::from(high) << 16 | u32::from(low)))
    }
}

/// A large community: a global administrator (an AS number) and two values of that AS's choosing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct LargeCommunity {
    pub global: u32,
    pub local1: u32,
    pub local2: u32,
}

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // RFC 8092 section 4: three decimal numbers, no leading zeros, joined by colons.
        write!(f, "{}:{}:{}", self.global, self.local1, self.local2)
    }
}

impl FromStr for LargeCommunity {
    type Err = ParseError;

    fn from_str(given: &str) -> Result<Self, ParseError> {
        let error = || ParseError::new("large community", given, "three numbers up to 4294967295 as \"64500:1:7\"");
        let mut parts = given.split(':').map(str::parse);
        let mut next = || parts.next().and_then(Result::ok).ok_or_else(error);
        let community = Self { global: next()?, local1: next()?, local2: next()? };
        match parts.next() {
            None => Ok(community),
            Some(_) => Err(error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn communities_read_and_print_the_same_text() {
        let cases = [
            ("64500:100", Some(0xfbf4_0064)),
            ("0:0", Some(0)),
            ("no-export", Some(0xffff_ff01)),
            ("no-advertise", Some(0xffff_ff02)),
            ("no-export-subconfed", Some(0xffff_ff03)),
            ("graceful-shutdown", Some(0xffff_0000)),
            ("blackhole", Some(0xffff_029a)),
            ("65536:1", None),
            ("64500", None),
            ("64500:1:7", None),
            ("No-Export", None),
        ];
        for (text, expected) in cases {
            let parsed = text.parse::<Community>().ok();
            assert_eq!(parsed, expected.map(Community), "{text:?}");
            assert_eq!(parsed.map(|community| community.to_string()), expected.map(|_| text.to_owned()));
        }
        // The number of a well-known community is that community, however it was written.
        assert_eq!("65535:65281".parse(), Ok(Community::NO_EXPORT));
    }

    #[test]
    fn large_communities_read_and_print_the_same_text() {
        for text in ["64500:1:7", "0:0:0", "4294967295:4294967295:4294967295"] {
            assert_eq!(text.parse::<LargeCommunity>().unwrap().to_string(), text);
        }
        for text in ["", "1:2", "1:2:3:4", "4294967296:0:0", "a:b:c", "1::2"] {
            assert!(text.parse::<LargeCommunity>().is_err(), "{text:?}");
        }
    }
}
