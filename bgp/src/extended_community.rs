//! Extended communities (RFC 4360, and RFC 5701 for those that name an IPv6 address), their text forms, and the bandwidth
//! of a link as one of them (RFC 10005).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::Asn;
use crate::error::ParseError;

/// An extended community: its type, its sub-type, and a value. What is not known here is kept as it is.
///
/// | text | is |
/// |---|---|
/// | `rt:65000:1`, `rt:4200000000:1`, `rt:192.0.2.1:1`, `rt:[2001:db8::1]:1` | route target |
/// | `soo:65000:1` and so on, also written `ro:` | route origin, or site of origin |
/// | `0x0002fde800000001`, and 40 digits for one with an IPv6 address | any |
/// | `lb:65000:125000000`, `non-transitive-lb:...` | link bandwidth in octets per second; printed and not read |
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub enum ExtendedCommunity {
    /// RFC 4360 section 2.
    Short([u8; 8]),
    /// RFC 5701 section 2, in an attribute of its own.
    Ipv6([u8; 20]),
}

/// What a route tells of the links behind it, so that routers can spread traffic by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct LinkBandwidth {
    pub bits_per_second: u64,
    pub transitivity: Transitivity,
}

/// Whether it may go on to another AS. Receivers of RFC 10005 take both; older routers know one of them only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub enum Transitivity {
    #[default]
    Transitive,
    NonTransitive,
}

const TWO_OCTET_AS: u8 = 0x00;
const IPV4_ADDRESS: u8 = 0x01;
const FOUR_OCTET_AS: u8 = 0x02;
/// RFC 4360 section 2: this bit of the type.
const NON_TRANSITIVE: u8 = 0x40;
const ROUTE_TARGET: u8 = 0x02;
const ROUTE_ORIGIN: u8 = 0x03;
const LINK_BANDWIDTH: u8 = 0x04;

impl ExtendedCommunity {
    /// RFC 10005 section 2. `asn` is that of the router that attaches it; one of four octets does not fit.
    pub(crate) fn link_bandwidth(asn: Asn, bandwidth: LinkBandwidth) -> Self {
        let kind = match bandwidth.transitivity {
            Transitivity::Transitive => TWO_OCTET_AS,
            Transitivity::NonTransitive => TWO_OCTET_AS | NON_TRANSITIVE,
        };
        let [a, b] = asn.two_octets().to_be_bytes();
        // Octets, and not bits. Three significant digits in a thousand times as many are lost to nobody.
        let [v, w, x, y] = (bandwidth.bits_per_second as f32 / 8.0).to_be_bytes();
        Self::Short([kind, LINK_BANDWIDTH, a, b, v, w, x, y])
    }

    fn specific(sub_type: u8, administrator: &str, number: u32) -> Option<Self> {
        let short = u16::try_from(number).map(u16::to_be_bytes);
        if let Ok(asn) = administrator.parse::<u32>() {
            return match u16::try_from(asn) {
                Ok(asn) => {
                    let ([a, b], [w, x, y, z]) = (asn.to_be_bytes(), number.to_be_bytes());
                    Some(Self::Short([TWO_OCTET_AS, sub_type, a, b, w, x, y, z]))
                }
                // RFC 5668.
                Err(_) => {
                    let ([a, b, c, d], [y, z]) = (asn.to_be_bytes(), short.ok()?);
                    Some(Self::Short([FOUR_OCTET_AS, sub_type, a, b, c, d, y, z]))
                }
            };
        }
        if let Ok(address) = administrator.parse::<Ipv4Addr>() {
            let ([a, b, c, d], [y, z]) = (address.octets(), short.ok()?);
            return Some(Self::Short([IPV4_ADDRESS, sub_type, a, b, c, d, y, z]));
        }
        let address: Ipv6Addr = administrator.strip_prefix('[')?.strip_suffix(']')?.parse().ok()?;
        let mut octets = [0; 20];
        octets[1] = sub_type;
        octets[2..18].copy_from_slice(&address.octets());
        octets[18..].copy_from_slice(&short.ok()?);
        Some(Self::Ipv6(octets))
    }
}

impl fmt::Display for ExtendedCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |sub_type: u8| match sub_type {
            ROUTE_TARGET => Some("rt"),
            ROUTE_ORIGIN => Some("soo"),
            _ => None,
        };
        match *self {
            Self::Short([kind @ (TWO_OCTET_AS | 0x40), LINK_BANDWIDTH, a, b, v, w, x, y]) => {
                let prefix = if kind & NON_TRANSITIVE == 0 { "" } else { "non-transitive-" };
                let (asn, octets) = (u16::from_be_bytes([a, b]), f32::from_be_bytes([v, w, x, y]));
                write!(f, "{prefix}lb:{asn}:{octets}")
            }
            Self::Short([kind, sub_type, a, b, c, d, y, z]) => {
                let long = u32::from_be_bytes([a, b, c, d]);
                let (short, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([y, z]));
                match (kind, name(sub_type)) {
                    (TWO_OCTET_AS, Some(name)) => {
                        write!(f, "{name}:{short}:{}", u32::from_be_bytes([c, d, y, z]))
                    }
                    (IPV4_ADDRESS, Some(name)) => write!(f, "{name}:{}:{low}", Ipv4Addr::from(long)),
                    // A number that fits into two octets would be read as one of those.
                    (FOUR_OCTET_AS, Some(name)) if long > u16::MAX.into() => write!(f, "{name}:{long}:{low}"),
                    _ => hexadecimal(f, &[kind, sub_type, a, b, c, d, y, z]),
                }
            }
            Self::Ipv6(octets) => match (octets[0], name(octets[1]), <[u8; 16]>::try_from(&octets[2..18])) {
                (0, Some(name), Ok(address)) => {
                    let low = u16::from_be_bytes([octets[18], octets[19]]);
                    write!(f, "{name}:[{}]:{low}", Ipv6Addr::from(address))
                }
                _ => hexadecimal(f, &octets),
            },
        }
    }
}

fn hexadecimal(f: &mut fmt::Formatter<'_>, octets: &[u8]) -> fmt::Result {
    f.write_str("0x")?;
    octets.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
}

impl FromStr for ExtendedCommunity {
    type Err = ParseError;

    fn from_str(given: &str) -> Result<Self, ParseError> {
        parse(given).ok_or_else(|| {
            ParseError::new(
                "extended community",
                given,
                "rt: or soo: with an AS number or an address and a number, as \"rt:65000:1\", \"soo:192.0.2.1:1\" or \
                 \"rt:[2001:db8::1]:1\", or all octets as \"0x0002fde800000001\"",
            )
        })
    }
}

fn parse(given: &str) -> Option<ExtendedCommunity> {
    if let Some(digits) = given.strip_prefix("0x") {
        let digits: Vec<u8> = digits
            .chars()
            .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect::<Option<_>>()?;
        let octets: Vec<u8> =
            digits.chunks(2).map(|pair| pair.iter().fold(0, |octet, digit| octet << 4 | digit)).collect();
        return match digits.len() {
            16 => octets.try_into().ok().map(ExtendedCommunity::Short),
            40 => octets.try_into().ok().map(ExtendedCommunity::Ipv6),
            _ => None,
        };
    }
    let (kind, rest) = given.split_once(':')?;
    let sub_type = match kind {
        "rt" => ROUTE_TARGET,
        "soo" | "ro" => ROUTE_ORIGIN,
        _ => return None,
    };
    let (administrator, number) = rest.rsplit_once(':')?;
    let digits = |text: &str| text.bytes().all(|octet| octet.is_ascii_digit());
    let plain = digits(administrator) || administrator.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    if !plain || !digits(number) {
        return None;
    }
    ExtendedCommunity::specific(sub_type, administrator, number.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_octets_are_the_same_thing() {
        let cases = [
            ("rt:65000:1", "0x0002fde800000001"),
            ("rt:0:4294967295", "0x00020000ffffffff"),
            ("soo:65000:1", "0x0003fde800000001"),
            ("rt:4200000000:7", "0x0202fa56ea000007"),
            ("soo:192.0.2.1:65535", "0x0103c0000201ffff"),
            ("rt:[2001:db8::1]:7", "0x000220010db80000000000000000000000010007"),
            ("soo:[2001:db8::1]:7", "0x000320010db80000000000000000000000010007"),
            // A colour (RFC 9012), which has no name here; non-transitive; and four octets for a number that needs two.
            ("0x030b000000000064", "0x030b000000000064"),
            ("0x4002fde800000001", "0x4002fde800000001"),
            ("0x02020000fde80001", "0x02020000fde80001"),
            ("0x400220010db80000000000000000000000010007", "0x400220010db80000000000000000000000010007"),
        ];
        for (text, octets) in cases {
            let community: ExtendedCommunity = octets.parse().unwrap();
            assert_eq!(text.parse(), Ok(community), "{text}");
            assert_eq!(community.to_string(), text);
        }
        assert_eq!("ro:65000:1".parse::<ExtendedCommunity>(), "soo:65000:1".parse());
        let wrong = [
            "",
            "rt",
            "rt:1",
            "rt:65000:4294967296",
            "rt:4200000000:65536",
            "rt:192.0.2.1:65536",
            "rt:4294967296:1",
            "rt:2001:db8::1:1",
            "rt:[192.0.2.1]:1",
            "rt:[2001:db8::1]:65536",
            "RT:1:1",
            "rt:+1:1",
            "rt:1:+1",
            "rt:1:2:3",
            "color:100",
            "lb:65000:125000000",
            "0x",
            "0x00",
            "0x0002fde80000000",
            "0x0002fde8000000zz",
        ];
        for text in wrong {
            assert!(text.parse::<ExtendedCommunity>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn bandwidth_is_octets_per_second_as_a_float() {
        let cases = [
            (
                64500,
                1_000_000_000,
                Transitivity::Transitive,
                [0x00, 4, 0xfb, 0xf4, 0x4c, 0xee, 0x6b, 0x28],
                "lb:64500:125000000",
            ),
            (64500, 0, Transitivity::NonTransitive, [0x40, 4, 0xfb, 0xf4, 0, 0, 0, 0], "non-transitive-lb:64500:0"),
            // RFC 10005 section 2: AS_TRANS for what needs four octets.
            (4_200_000_000, 8, Transitivity::Transitive, [0x00, 4, 0x5b, 0xa0, 0x3f, 0x80, 0, 0], "lb:23456:1"),
        ];
        for (asn, bits_per_second, transitivity, octets, text) in cases {
            let community =
                ExtendedCommunity::link_bandwidth(Asn(asn), LinkBandwidth { bits_per_second, transitivity });
            assert_eq!(community, ExtendedCommunity::Short(octets));
            assert_eq!(community.to_string(), text);
        }
    }
}
