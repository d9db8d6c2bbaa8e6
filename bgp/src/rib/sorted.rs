//! Keys of the sorted tables of our own routes, which are compared some dozens of times for each change.

use std::cmp::Ordering;
use std::sync::Arc;

use ipnet::IpNet;

use crate::RouteAttributes;

/// A prefix in the order that prefixes have: what lies in another follows it. Compared as the number that its octets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SortedPrefix(pub(super) IpNet);

impl Ord for SortedPrefix {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (IpNet::V4(one), IpNet::V4(other)) => {
                let number = |net: &ipnet::Ipv4Net| u64::from(net.addr().to_bits()) << 8 | u64::from(net.prefix_len());
                number(one).cmp(&number(other))
            }
            (IpNet::V6(one), IpNet::V6(other)) => {
                (one.addr().to_bits(), one.prefix_len()).cmp(&(other.addr().to_bits(), other.prefix_len()))
            }
            (IpNet::V4(_), IpNet::V6(_)) => Ordering::Less,
            (IpNet::V6(_), IpNet::V4(_)) => Ordering::Greater,
        }
    }
}

impl PartialOrd for SortedPrefix {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A set of attributes of which there is one copy (`interner`), so that the same one is known without looking into it.
#[derive(Debug, Clone)]
pub(super) struct SortedAttributes(pub(super) Arc<RouteAttributes>);

impl Ord for SortedAttributes {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}

impl PartialOrd for SortedAttributes {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for SortedAttributes {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for SortedAttributes {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_have_the_order_that_they_have_elsewhere() {
        let texts = ["0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/24", "10.0.1.0/24", "192.0.2.0/24", "255.255.255.255/32"];
        let v6 = ["::/0", "2001:db8::/32", "2001:db8::/48", "2001:db8:0:1::/64", "fe80::/10"];
        let prefixes: Vec<IpNet> = texts.iter().chain(&v6).map(|text| text.parse().unwrap()).collect();
        for one in &prefixes {
            for other in &prefixes {
                assert_eq!(SortedPrefix(*one).cmp(&SortedPrefix(*other)), one.cmp(other), "{one} and {other}");
            }
        }
    }
}
