//! Next hops: which address of ours goes with the routes of each family, and which one is meant by those that come.
//!
//! | session over | IPv4 routes | IPv6 routes |
//! |---|---|---|
//! | IPv4 | configured, the session's own, fallback | configured, the interface's, fallback |
//! | IPv6 | configured, the session's own if RFC 8950 is agreed on, the interface's, fallback | configured, the session's own, fallback |
//! | IPv6 link-local | the same | configured, the session's own |
//!
//! Where none of these is there the family is withheld. Of a session between link-local addresses the own one is a global
//! address of the interface with the link-local one beside it (RFC 2545 section 3), or the link-local one alone in 16
//! octets, which is what routers on unnumbered links take. In what comes from them four encodings of it occur in the
//! field, and all are understood: see [`received`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{Endpoints, Family, PeerConfig};

/// What is written as next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NextHop {
    V4(Ipv4Addr),
    V6 { address: Ipv6Addr, link_local: Option<Ipv6Addr> },
}

impl NextHop {
    /// An address that is not of a link.
    pub(crate) const fn global(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6 { address, link_local: None },
        }
    }
}

/// One for each family, as far as there is one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionNextHops {
    pub(crate) ipv4: Option<NextHop>,
    pub(crate) ipv6: Option<NextHop>,
}

impl SessionNextHops {
    /// `extended`: whether the peer takes IPv6 next hops for IPv4 routes (RFC 8950).
    pub(crate) fn choose(config: &PeerConfig, endpoints: &Endpoints, extended: ExtendedNextHops) -> Self {
        let (configured, interface, fallback) = (config.next_hops, endpoints.interface, config.fallback_next_hops);
        let v4 = |address: Option<Ipv4Addr>| address.map(NextHop::V4);
        let v6 = |address: Option<Ipv6Addr>| address.map(|address| NextHop::V6 { address, link_local: None });
        let (own_v4, own_v6) = match endpoints.local.ip().to_canonical() {
            IpAddr::V4(address) => (v4(Some(address)), None),
            IpAddr::V6(address) if address.is_unicast_link_local() => match interface.ipv6 {
                Some(global) => (None, Some(NextHop::V6 { address: global, link_local: Some(address) })),
                None => (None, v6(Some(address))),
            },
            IpAddr::V6(address) => (None, v6(Some(address))),
        };
        let over_v6 = own_v6.filter(|_| extended == ExtendedNextHops::Agreed);
        let ipv4 = [v4(configured.ipv4), own_v4, over_v6, v4(interface.ipv4), v4(fallback.ipv4)];
        let ipv6 = [v6(configured.ipv6), own_v6, v6(interface.ipv6), v6(fallback.ipv6)];
        Self { ipv4: ipv4.into_iter().flatten().next(), ipv6: ipv6.into_iter().flatten().next() }
    }

    pub(crate) fn of(&self, family: Family) -> Option<NextHop> {
        match family {
            Family::Ipv4Unicast => self.ipv4,
            Family::Ipv6Unicast => self.ipv6,
        }
    }
}

/// Whether both sides take IPv6 next hops for IPv4 routes (RFC 8950).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum ExtendedNextHops {
    #[default]
    No,
    Agreed,
}

/// The next hop that the peer means, from the one or two addresses in MP_REACH_NLRI: the global one, or the link-local one
/// where there is no other. On a session between link-local addresses the link-local one counts, because nothing else is
/// known to be on that link.
///
/// ```text
///  global                      RFC 2545           link-local alone         draft-ietf-idr-linklocal-capability
///  global, link-local          RFC 2545           link-local twice         Arista, Cumulus of old
///                                                 `::`, link-local         FRR before 8, Junos
/// ```
pub(crate) fn received(next_hop: IpAddr, link_local: Option<Ipv6Addr>, local_address: IpAddr) -> IpAddr {
    let is_link_local = |address: &Ipv6Addr| address.is_unicast_link_local();
    let over_link_local = matches!(local_address, IpAddr::V6(local) if is_link_local(&local));
    match link_local.filter(is_link_local) {
        Some(link_local) if over_link_local || next_hop.is_unspecified() => IpAddr::V6(link_local),
        _ => next_hop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Asn, NextHops, PeerAsn};

    fn v4(text: &str) -> Option<Ipv4Addr> {
        (!text.is_empty()).then(|| text.parse().unwrap())
    }

    fn v6(text: &str) -> Option<Ipv6Addr> {
        (!text.is_empty()).then(|| text.parse().unwrap())
    }

    fn words(next_hop: Option<NextHop>) -> String {
        match next_hop {
            None => "withheld".to_owned(),
            Some(NextHop::V4(address)) => address.to_string(),
            Some(NextHop::V6 { address, link_local: None }) => address.to_string(),
            Some(NextHop::V6 { address, link_local: Some(link_local) }) => format!("{address} {link_local}"),
        }
    }

    #[test]
    fn the_table_row_by_row() {
        use ExtendedNextHops::{Agreed, No};
        let nothing = [("", ""); 3];
        let configured =
            [("198.51.100.1", "2001:db8:c::1"), ("192.0.2.2", "2001:db8:2::2"), ("192.0.2.3", "2001:db8:3::3")];
        let of_interface = [("", ""), ("192.0.2.2", "2001:db8:2::2"), ("192.0.2.3", "2001:db8:3::3")];
        let fallback = [("", ""), ("", ""), ("192.0.2.3", "2001:db8:3::3")];
        // Our end; RFC 8950; configured, interface and fallback of both families; what goes with IPv4 and with IPv6.
        let cases = [
            ("10.0.0.1", No, nothing, "10.0.0.1", "withheld"),
            ("10.0.0.1", No, fallback, "10.0.0.1", "2001:db8:3::3"),
            ("10.0.0.1", No, of_interface, "10.0.0.1", "2001:db8:2::2"),
            ("10.0.0.1", No, configured, "198.51.100.1", "2001:db8:c::1"),
            ("2001:db8::1", No, nothing, "withheld", "2001:db8::1"),
            ("2001:db8::1", No, fallback, "192.0.2.3", "2001:db8::1"),
            ("2001:db8::1", No, of_interface, "192.0.2.2", "2001:db8::1"),
            ("2001:db8::1", Agreed, nothing, "2001:db8::1", "2001:db8::1"),
            ("2001:db8::1", Agreed, of_interface, "2001:db8::1", "2001:db8::1"),
            ("2001:db8::1", Agreed, configured, "198.51.100.1", "2001:db8:c::1"),
            ("fe80::1", No, nothing, "withheld", "fe80::1"),
            ("fe80::1", Agreed, nothing, "fe80::1", "fe80::1"),
            ("fe80::1", Agreed, of_interface, "2001:db8:2::2 fe80::1", "2001:db8:2::2 fe80::1"),
            ("fe80::1", Agreed, fallback, "fe80::1", "fe80::1"),
            ("fe80::1", Agreed, configured, "198.51.100.1", "2001:db8:c::1"),
        ];
        for (local, extended, [configured, interface, fallback], ipv4, ipv6) in cases {
            let of = |(ipv4, ipv6)| NextHops { ipv4: v4(ipv4), ipv6: v6(ipv6) };
            let local: IpAddr = local.parse().unwrap();
            let remote = (local, 179).into();
            let mut config = PeerConfig::new(Asn(64500), PeerAsn::External, Ipv4Addr::new(10, 0, 0, 1), remote);
            (config.next_hops, config.fallback_next_hops) = (of(configured), of(fallback));
            let endpoints = Endpoints { local: (local, 40000).into(), remote, interface: of(interface) };
            let chosen = SessionNextHops::choose(&config, &endpoints, extended);
            let name = format!("{local} {extended:?} {configured:?} {interface:?} {fallback:?}");
            assert_eq!((words(chosen.ipv4).as_str(), words(chosen.ipv6).as_str()), (ipv4, ipv6), "{name}");
        }
    }

    /// Row B7 of the list of RFCs: what is seen in the field.
    #[test]
    fn every_encoding_of_a_link_local_next_hop_is_understood() {
        // What the message has; what is meant on a session between global addresses, and between link-local ones.
        let cases = [
            ("2001:db8::9", "", "2001:db8::9", "2001:db8::9"),
            ("fe80::9", "", "fe80::9", "fe80::9"),
            ("fe80::9", "fe80::9", "fe80::9", "fe80::9"),
            ("::", "fe80::9", "fe80::9", "fe80::9"),
            ("2001:db8::9", "fe80::9", "2001:db8::9", "fe80::9"),
            // The second address is not what it should be: ignored.
            ("2001:db8::9", "2001:db8::8", "2001:db8::9", "2001:db8::9"),
            ("::", "2001:db8::8", "::", "::"),
            ("::", "", "::", "::"),
        ];
        for (next_hop, link_local, over_global, over_link_local) in cases {
            for (local, expected) in [("2001:db8::1", over_global), ("fe80::1", over_link_local)] {
                let meant = received(next_hop.parse().unwrap(), v6(link_local), local.parse().unwrap());
                assert_eq!(meant.to_string(), expected, "{next_hop} {link_local} over {local}");
            }
        }
    }
}
