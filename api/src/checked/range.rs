//! Ranges of addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// Addresses from `first` to `last`, both included and of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

/// Why a text is no range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Neither form.
    #[error("must be a CIDR like 192.0.2.0/24, an address, or a range first-last like 192.0.2.10-192.0.2.50")]
    Syntax,
    /// A CIDR with bits behind its length.
    #[error("host bits must be zero: write {0}")]
    HostBits(IpNet),
    /// IPv4 on one side, IPv6 on the other.
    #[error("both ends of a range must be of one family")]
    MixedFamilies,
    /// The ends are swapped.
    #[error("the first address of a range must not be above the last: write {last}-{first}")]
    Reversed {
        /// The first as given.
        first: IpAddr,
        /// The last as given.
        last: IpAddr,
    },
}

impl AddressRange {
    /// A range, unless the ends are of two families or swapped.
    pub fn new(first: IpAddr, last: IpAddr) -> Result<Self, RangeError> {
        if first.is_ipv4() != last.is_ipv4() {
            return Err(RangeError::MixedFamilies);
        }
        if first > last {
            return Err(RangeError::Reversed { first, last });
        }
        Ok(Self { first, last })
    }

    /// The lowest address.
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// The highest address.
    pub fn last(&self) -> IpAddr {
        self.last
    }

    /// Whether the range is of IPv4 addresses.
    pub fn is_ipv4(&self) -> bool {
        self.first.is_ipv4()
    }

    /// Whether the address is in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.is_ipv4() && self.first <= address && address <= self.last
    }

    /// Whether the two have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.is_ipv4() == other.is_ipv4() && self.first <= other.last && other.first <= self.last
    }

    /// The ends as numbers, for arithmetic within one family.
    pub fn bounds(&self) -> (u128, u128) {
        (Self::number(self.first), Self::number(self.last))
    }

    /// An address as a number.
    pub fn number(address: IpAddr) -> u128 {
        match address {
            IpAddr::V4(v4) => u128::from(u32::from(v4)),
            IpAddr::V6(v6) => u128::from(v6),
        }
    }

    /// The IPv4 address of a number made by [`AddressRange::number`].
    pub fn ipv4(number: u128) -> IpAddr {
        // Truncation is harmless: numbers of IPv4 addresses are below 2^32.
        IpAddr::V4(Ipv4Addr::from(number as u32))
    }

    /// The IPv6 address of a number.
    pub fn ipv6(number: u128) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from(number))
    }
}

impl From<IpNet> for AddressRange {
    fn from(net: IpNet) -> Self {
        match net {
            IpNet::V4(net) => Self { first: net.network().into(), last: net.broadcast().into() },
            IpNet::V6(net) => Self { first: net.network().into(), last: net.broadcast().into() },
        }
    }
}

impl FromStr for AddressRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        if let Some((first, last)) = text.split_once('-') {
            let first = first.trim().parse().map_err(|_| RangeError::Syntax)?;
            let last = last.trim().parse().map_err(|_| RangeError::Syntax)?;
            return Self::new(first, last);
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self { first: address, last: address });
        }
        parse_cidr(text).map(Self::from)
    }
}

/// A CIDR without host bits.
pub(super) fn parse_cidr(text: &str) -> Result<IpNet, RangeError> {
    let net: IpNet = text.parse().map_err(|_| RangeError::Syntax)?;
    if net.trunc() != net {
        return Err(RangeError::HostBits(net.trunc()));
    }
    Ok(net)
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { self.first.fmt(f) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, RangeError>) {
        assert_eq!(text.parse::<AddressRange>().map(|range| range.to_string()), expected.map(str::to_owned), "{text}");
    }

    #[test]
    fn parses() {
        check("192.0.2.0/30", Ok("192.0.2.0-192.0.2.3"));
        check("192.0.2.7/32", Ok("192.0.2.7"));
        check("192.0.2.7", Ok("192.0.2.7"));
        check("192.0.2.7-192.0.2.9", Ok("192.0.2.7-192.0.2.9"));
        check("192.0.2.7 - 192.0.2.9", Ok("192.0.2.7-192.0.2.9"));
        check("0.0.0.0/0", Ok("0.0.0.0-255.255.255.255"));
        check("2001:db8::/127", Ok("2001:db8::-2001:db8::1"));
        check("2001:db8::5-2001:db8::9", Ok("2001:db8::5-2001:db8::9"));
    }

    #[test]
    fn refuses() {
        check("", Err(RangeError::Syntax));
        check("192.0.2.0/33", Err(RangeError::Syntax));
        check("192.0.2.300", Err(RangeError::Syntax));
        check("192.0.2.1-", Err(RangeError::Syntax));
        check("192.0.2.1-192.0.2.2-192.0.2.3", Err(RangeError::Syntax));
        check("192.0.2.1/24", Err(RangeError::HostBits("192.0.2.0/24".parse().unwrap())));
        check("192.0.2.1-2001:db8::1", Err(RangeError::MixedFamilies));
        let (first, last) = ("192.0.2.9".parse().unwrap(), "192.0.2.1".parse().unwrap());
        check("192.0.2.9-192.0.2.1", Err(RangeError::Reversed { first, last }));
    }
}
