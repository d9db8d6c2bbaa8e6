//! Names of claims.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

/// The name of the `AddressClaim` of an address or a block: one canonical form for each, so that two owners of the same address
/// cannot both create their claim.
///
/// IPv4 as it is (`203.0.113.77`); IPv6 as eight zero-padded groups joined by `-`, because DNS-1123 allows no colon; a block with
/// its length behind (`10.64.0.0-26`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimName(String);

impl ClaimName {
    /// The name as the API server has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What a claim of this name is for; `None` for a name of nobody's making.
    pub fn net(name: &str) -> Option<IpNet> {
        if let Some(address) = Self::address(name) {
            return Some(IpNet::from(address));
        }
        let (address, length) = name.rsplit_once('-')?;
        let net = IpNet::new(Self::address(address)?, length.parse().ok()?).ok()?;
        (Self::from(net).as_str() == name).then_some(net)
    }

    /// The single address that a claim of this name is for; `None` for a block, or for a name of nobody's making.
    pub fn address(name: &str) -> Option<IpAddr> {
        let address = match name.parse::<Ipv4Addr>() {
            Ok(v4) => IpAddr::V4(v4),
            Err(_) => IpAddr::V6(name.replace('-', ":").parse().ok()?),
        };
        (Self::from(address).as_str() == name).then_some(address)
    }
}

impl From<IpAddr> for ClaimName {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self(v4.to_string()),
            IpAddr::V6(v6) => Self(v6.segments().map(|group| format!("{group:04x}")).join("-")),
        }
    }
}

impl From<IpNet> for ClaimName {
    fn from(net: IpNet) -> Self {
        let Self(address) = Self::from(net.network());
        if net.prefix_len() == net.max_prefix_len() {
            Self(address)
        } else {
            Self(format!("{address}-{}", net.prefix_len()))
        }
    }
}

impl fmt::Display for ClaimName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An address as the prefix of its own length (/32 or /128).
pub fn host_prefix(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_canonical() {
        let name = |text: &str| ClaimName::from(text.parse::<IpNet>().unwrap()).to_string();
        assert_eq!(name("203.0.113.77/32"), "203.0.113.77");
        assert_eq!(name("10.64.0.0/26"), "10.64.0.0-26");
        assert_eq!(name("2001:db8:100::77/128"), "2001-0db8-0100-0000-0000-0000-0000-0077");
        assert_eq!(name("2001:db8::/64"), "2001-0db8-0000-0000-0000-0000-0000-0000-64");
    }

    #[test]
    fn names_of_addresses_can_be_read_back() {
        for address in ["203.0.113.77", "2001:db8:100::77", "::"] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(ClaimName::address(ClaimName::from(address).as_str()), Some(address));
        }
        for net in ["203.0.113.7/32", "10.64.0.0/26", "2001:db8::7/128", "2001:db8:1::/64", "::/0"] {
            let net: IpNet = net.parse().unwrap();
            assert_eq!(ClaimName::net(ClaimName::from(net).as_str()), Some(net));
        }
        for name in ["", "public", "203.0.113.7-33", "203.0.113.7-26", "10.64.0.0-026", "10.64.0.0-8-9", "2001-db8"] {
            assert_eq!(ClaimName::net(name), None, "{name}");
        }
        for name in ["10.64.0.0-26", "2001-db8--1", "2001-0db8-0000-0000-0000-0000-0000-0000-64", "", "x"] {
            assert_eq!(ClaimName::address(name), None, "{name}");
        }
    }
}
