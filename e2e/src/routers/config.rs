//! What a router is told, in words that all of them understand. What one of them cannot do, its module refuses to write
//! down; what nobody asked for is left to the router's own defaults.

use std::net::{IpAddr, Ipv6Addr};

use anyhow::{Context, Result};

/// A router: itself and its neighbours.
#[derive(Clone, Debug)]
pub struct RouterConfig {
    pub asn: u32,
    /// An IPv4 address, in every family: it is only a number (RFC 4271 section 4.2).
    pub router_id: &'static str,
    pub neighbors: Vec<Neighbor>,
    /// Prefixes that it announces to every neighbour. What it has learned it passes on, when there are any, to those only that
    /// are [`Neighbor::told_all`].
    pub routes: &'static [&'static str],
}

impl RouterConfig {
    /// An address of the router itself that is of the route's family.
    pub(super) fn next_hop_of(&self, route: &str) -> Option<IpAddr> {
        let own = self.neighbors.iter().filter_map(|neighbor| neighbor.local_address);
        own.into_iter().find(|address| address.is_ipv6() == route.contains(':'))
    }
}

/// One neighbour of a router.
#[derive(Clone, Debug)]
pub struct Neighbor {
    /// `::` of one that is only known by its interface; FRR and GoBGP ask nothing more of any that has an interface.
    pub address: IpAddr,
    /// The interface that it is behind, with a link-local address or unnumbered.
    pub interface: Option<&'static str>,
    pub asn: u32,
    /// The router's own end; else what its kernel chooses.
    pub local_address: Option<IpAddr>,
    pub connect: Connect,
    /// TCP MD5 (RFC 2385).
    pub password: Option<&'static str>,
    /// GTSM for a neighbour on the same link (RFC 5082).
    pub ttl_security: bool,
    pub asn_octets: AsnOctets,
    /// Messages of up to 65535 octets (RFC 8654).
    pub extended_messages: bool,
    /// IPv4 routes may have IPv6 next hops (RFC 8950). GoBGP offers that whether told to or not.
    pub extended_next_hop: bool,
    /// The router's own role (RFC 9234).
    pub role: Option<Role>,
    /// Several paths to one prefix, in both directions (RFC 7911).
    pub add_path: bool,
    /// It is told what others have told, too.
    pub told_all: bool,
    /// A route server, whose ASN is not in the paths that it tells (RFC 7947).
    pub route_server: bool,
    /// It closes the session when it has learned more in one family.
    pub max_prefixes: Option<u32>,
    pub graceful_restart: GracefulRestart,
    /// BFD beside the session; GoBGP has none, and the others here are not told.
    pub bfd: Option<Bfd>,
    /// Proposed hold time in seconds; a third of it is between keepalives.
    pub hold_time: u16,
}

/// Who opens the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connect {
    /// The router, and it takes calls too.
    Active,
    /// The neighbour.
    Passive,
}

/// How a router writes AS numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsnOctets {
    /// As RFC 6793 has it, with the capability.
    Four,
    /// As before it, without.
    Two,
}

/// A role of RFC 9234 that the scenarios need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Provider,
    Customer,
    Peer,
    RouteServerClient,
}

impl Role {
    /// As FRR and OpenBGPD write it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Customer => "customer",
            Self::Peer => "peer",
            Self::RouteServerClient => "rs-client",
        }
    }
}

/// What a router says of graceful restart (RFC 4724).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GracefulRestart {
    /// Whatever it says when it is told nothing: most keep a restarting neighbour's routes.
    Default,
    /// That it restarts so itself, and wants its routes kept for so many seconds.
    Restarting(u16),
}

/// BFD as a router is told to speak it, the same in both directions.
#[derive(Clone, Copy, Debug)]
pub struct Bfd {
    pub milliseconds: u32,
    pub multiplier: u8,
    pub hops: Hops,
}

/// How far away a neighbour is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hops {
    /// On the same link.
    Single,
    /// Behind a router: eBGP multihop, and BFD on its other port.
    Multi,
}

/// What a router is to do with its BFD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Up,
    Shutdown,
}

impl Neighbor {
    /// With nothing but what every session needs.
    pub fn new(address: &str, asn: u32) -> Result<Self> {
        let address = address.parse().with_context(|| format!("{address} is no IP address"))?;
        Ok(Self::plain(address, asn))
    }

    /// Unnumbered.
    pub fn behind(interface: &'static str, asn: u32) -> Self {
        Self { interface: Some(interface), ..Self::plain(Ipv6Addr::UNSPECIFIED.into(), asn) }
    }

    fn plain(address: IpAddr, asn: u32) -> Self {
        Self {
            address,
            interface: None,
            asn,
            local_address: None,
            connect: Connect::Active,
            password: None,
            ttl_security: false,
            asn_octets: AsnOctets::Four,
            extended_messages: false,
            extended_next_hop: false,
            role: None,
            add_path: false,
            told_all: false,
            route_server: false,
            max_prefixes: None,
            graceful_restart: GracefulRestart::Default,
            bfd: None,
            hold_time: 9,
        }
    }

    /// With a TCP MD5 password.
    pub fn with_password(self, password: &'static str) -> Self {
        Self { password: Some(password), ..self }
    }

    /// With BFD.
    pub fn with_bfd(self, bfd: Bfd) -> Self {
        Self { bfd: Some(bfd), ..self }
    }

    /// With IPv6 next hops for IPv4 routes.
    pub fn with_extended_next_hop(self) -> Self {
        Self { extended_next_hop: true, ..self }
    }
}
