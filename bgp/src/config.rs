//! What a session is made of, as the embedder gives it.
//!
//! Every field is public, because most values of most fields are valid; [`PeerConfig::check`] is where the rest is
//! refused, and [`Speaker::set_peer`](crate::Speaker::set_peer) calls it before it takes a configuration over.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::bfd::{BfdConfig, Hops};
use crate::error::ConfigError;
use crate::{
    AddPath, AigpSession, Asn, AsnRanges, Family, GracefulRestart, ImportPolicy, Relay, RelayedNextHop, Role,
    RoleStrictness,
};

/// The name of a session. Sessions are keyed by name and not by address, so that an address can be changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(Arc<str>);

impl PeerKey {
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for PeerKey {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

/// One session: who we are on it, whom we expect, and how we get there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct PeerConfig {
    pub local_asn: Asn,
    pub peer_asn: PeerAsn,
    /// Our BGP identifier (RFC 6286): any number but zero, written as an address.
    pub router_id: Ipv4Addr,
    /// Offered to the peer; the lower of both offers counts. Zero, or 3 s to 65535 s; whole seconds.
    pub hold_time: Duration,
    /// Time between KEEPALIVEs. `None`, and anything longer, means a third of the negotiated hold time.
    pub keepalive: Option<Duration>,
    /// Time between attempts to connect. Repeated errors of the session itself make it grow.
    pub connect_retry: Duration,
    /// How long data for the peer may wait with no byte accepted (RFC 9687). `None`: 8 minutes or twice the hold time,
    /// whichever is longer.
    pub send_hold: Option<Duration>,
    pub families: BTreeSet<Family>,
    /// The next hops that we announce. `None`: the session's own address for its own family, and for IPv4 over IPv6 where
    /// [`extended_next_hop`](Self::extended_next_hop) is agreed on; else an address of the interface that the session is
    /// over.
    pub next_hops: NextHops,
    /// Taken where neither yields one. Without any the family is [withheld](crate::PeerStatus::withheld).
    pub fallback_next_hops: NextHops,
    pub import: ImportPolicy,
    pub extended_messages: ExtendedMessages,
    pub extended_next_hop: ExtendedNextHop,
    /// Ours, towards this peer; external sessions only. `None`: nothing is said of roles, and nothing marked or refused for
    /// them.
    pub role: Option<Role>,
    pub role_strictness: RoleStrictness,
    /// `None`: not offered, and a lost session takes its routes with it, on both sides.
    pub graceful_restart: Option<GracefulRestart>,
    pub relay: Relay,
    /// Of a reflector's peer.
    pub relayed_next_hop: RelayedNextHop,
    pub aigp: AigpSession,
    pub add_path: AddPath,
    /// A BFD session beside this one: when it fails, this one ends at once. It is not waited for, and `None` is not told to the
    /// peer as a failure. Of a peer from a range and of an unnumbered one only the session tells the address: with these BFD begins
    /// when the session is up, and ends with it.
    pub bfd: Option<BfdConfig>,
    pub connect: Connect,
    pub transport: Transport,
}

/// Which AS the peer must be in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub enum PeerAsn {
    /// In this one: iBGP if it is ours, eBGP if not.
    Exactly(Asn),
    /// In ours (iBGP), whichever that is.
    Internal,
    /// In any but ours (eBGP).
    External,
    /// In one of these: iBGP if it is ours, eBGP if not.
    Within(AsnRanges),
}

impl fmt::Display for PeerAsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(asn) => asn.fmt(f),
            Self::Internal => f.write_str("internal"),
            Self::External => f.write_str("external"),
            Self::Within(ranges) => ranges.fmt(f),
        }
    }
}

/// Who opens the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub enum Connect {
    /// We do; a connection from the peer is refused.
    Dial,
    /// The peer does.
    Passive,
    /// Whoever comes first; a collision is resolved by RFC 4271 section 6.8.
    Both,
}

impl Connect {
    pub const fn dials(self) -> bool {
        matches!(self, Self::Dial | Self::Both)
    }

    pub const fn listens(self) -> bool {
        matches!(self, Self::Passive | Self::Both)
    }
}

/// Messages of up to 65535 octets instead of 4096 (RFC 8654). Each side says what it takes: this is what we take, and the
/// peer's OPEN says what it is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub enum ExtendedMessages {
    #[default]
    Offered,
    /// For a peer whose long messages are not to be trusted. It gets none either, because routers expect both or nothing.
    Withheld,
}

/// IPv4 routes with an IPv6 next hop (RFC 8950), so that they can be told and followed without IPv4 addresses in between.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub enum ExtendedNextHop {
    /// On sessions over IPv6; where the peer offers it too, our IPv4 routes have the session's own address as next hop unless
    /// one is configured.
    #[default]
    Offered,
    Withheld,
}

/// One address for each family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct NextHops {
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
}

impl NextHops {
    /// For routes of this family.
    pub(crate) fn of(self, family: Family) -> Option<IpAddr> {
        match family {
            Family::Ipv4Unicast => self.ipv4.map(IpAddr::V4),
            Family::Ipv6Unicast => self.ipv6.map(IpAddr::V6),
        }
    }
}

/// The TCP connection under a session.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct Transport {
    /// Where to dial. Of a connection that comes in, the address must match and the port is the peer's to choose.
    ///
    /// `::` with a `source_interface` is an unnumbered session: the router is whoever is on that link, its link-local address
    /// is learnt from its router advertisements, and of a connection that comes in the link must match.
    pub remote: SocketAddr,
    /// Our address for it; else the kernel chooses.
    pub source: Option<IpAddr>,
    /// Bind the dialled connection to this interface. With a link-local `remote` a connection that comes in must come over it
    /// too: on another link the same address is another router.
    pub source_interface: Option<String>,
    /// The key that both sides sign with, if they do.
    #[cfg_attr(feature = "record", serde(with = "crate::record::hidden"))]
    pub password: Option<Password>,
    /// How they do; without a password of no consequence.
    pub signature: Signature,
    pub ttl: Ttl,
}

impl Transport {
    /// The interface that an unnumbered session is over.
    pub fn unnumbered(&self) -> Option<&str> {
        self.source_interface.as_deref().filter(|_| self.remote.ip().is_unspecified())
    }

    /// The router in words: its address, or the interface that it is behind.
    pub fn router(&self) -> String {
        self.unnumbered().map_or_else(|| self.remote.ip().to_string(), str::to_owned)
    }

    /// Whether a connection from this address is meant, that comes over this link; of the link only a link-local one says
    /// anything.
    pub(crate) fn expects(&self, remote: IpAddr, link: Option<&str>) -> bool {
        let link_local = matches!(remote, IpAddr::V6(address) if address.is_unicast_link_local());
        let same_link = self.source_interface.is_none() || self.source_interface.as_deref() == link;
        if self.unnumbered().is_some() {
            link_local && same_link
        } else {
            self.remote.ip().to_canonical() == remote && (!link_local || same_link)
        }
    }
}

/// How far away the peer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub enum Ttl {
    /// Directly connected for eBGP (TTL 1), anywhere for iBGP (TTL 255).
    Default,
    /// This TTL on what we send.
    Multihop(u8),
    /// GTSM (RFC 5082): send with 255, and accept nothing that has crossed more than `hops` - 1 routers.
    Security { hops: u8 },
}

/// How the segments of a connection are signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub enum Signature {
    /// TCP MD5 (RFC 2385).
    #[default]
    Md5,
    /// TCP-AO (RFC 5925). Linux has it from 6.7 on, where it was built in.
    TcpAo {
        algorithm: AoAlgorithm,
        /// The KeyID in what we send: the router's receive ID.
        send_id: u8,
        /// The KeyID in what the router sends.
        receive_id: u8,
    },
}

impl Signature {
    /// For messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "TCP MD5",
            Self::TcpAo { .. } => "TCP-AO",
        }
    }
}

/// What a TCP-AO key signs with: those that RFC 5926 section 2 requires, with 96 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub enum AoAlgorithm {
    /// HMAC-SHA-1-96.
    HmacSha1,
    /// AES-128-CMAC-96.
    AesCmac,
}

impl fmt::Display for AoAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HmacSha1 => "HMAC-SHA-1-96",
            Self::AesCmac => "AES-128-CMAC-96",
        })
    }
}

/// The key of a signed connection. Its `Debug` form shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Arc<str>);

impl Password {
    /// The longest key that the kernel takes (`TCP_MD5SIG_MAXKEYLEN`, `TCP_AO_MAXKEYLEN`).
    pub const MAX_LENGTH: usize = 80;

    pub fn new(secret: impl Into<Arc<str>>) -> Self {
        Self(secret.into())
    }

    /// The key itself, for the socket option.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(hidden)")
    }
}

impl PeerConfig {
    /// A session with the defaults that the documentation names: dialled, 90 s hold, both families, import nothing.
    pub fn new(local_asn: Asn, peer_asn: PeerAsn, router_id: Ipv4Addr, remote: SocketAddr) -> Self {
        Self {
            local_asn,
            peer_asn,
            router_id,
            hold_time: Duration::from_secs(90),
            keepalive: None,
            connect_retry: Duration::from_secs(5),
            send_hold: None,
            families: Family::ALL.into(),
            next_hops: NextHops::default(),
            fallback_next_hops: NextHops::default(),
            import: ImportPolicy::default(),
            extended_messages: ExtendedMessages::Offered,
            extended_next_hop: ExtendedNextHop::Offered,
            role: None,
            role_strictness: RoleStrictness::Lenient,
            graceful_restart: None,
            relay: Relay::Nothing,
            relayed_next_hop: RelayedNextHop::Unchanged,
            aigp: AigpSession::Internal,
            add_path: AddPath::default(),
            bfd: None,
            connect: Connect::Dial,
            transport: Transport {
                remote,
                source: None,
                source_interface: None,
                password: None,
                signature: Signature::Md5,
                ttl: Ttl::Default,
            },
        }
    }

    /// Whether the peer can only be in our own AS. Of ranges with our own number among others the OPEN decides; until then
    /// the peer is taken for an external one.
    pub fn is_internal(&self) -> bool {
        match &self.peer_asn {
            PeerAsn::Exactly(asn) => *asn == self.local_asn,
            PeerAsn::Internal => true,
            PeerAsn::External => false,
            PeerAsn::Within(ranges) => ranges.is_only(self.local_asn),
        }
    }

    /// Whether our OPEN says that we take IPv6 next hops for IPv4 routes.
    pub(crate) fn offers_extended_next_hop(&self) -> bool {
        let wanted = match self.extended_next_hop {
            ExtendedNextHop::Offered => self.families.contains(&Family::Ipv4Unicast),
            ExtendedNextHop::Withheld => false,
        };
        wanted && self.transport.remote.ip().to_canonical().is_ipv6()
    }

    fn may_be_internal(&self) -> bool {
        match &self.peer_asn {
            PeerAsn::Within(ranges) => ranges.contains(self.local_asn),
            PeerAsn::Exactly(_) | PeerAsn::Internal | PeerAsn::External => self.is_internal(),
        }
    }

    /// The TTL that our packets leave with.
    pub fn outgoing_ttl(&self) -> u8 {
        match self.transport.ttl {
            Ttl::Default if self.is_internal() => 255,
            Ttl::Default => 1,
            Ttl::Multihop(ttl) => ttl,
            Ttl::Security { .. } => 255,
        }
    }

    /// Refuses what no session could run with.
    pub fn check(&self) -> Result<(), ConfigError> {
        if !self.local_asn.is_usable() {
            return Err(ConfigError::UnusableAsn { field: "localASN", given: self.local_asn });
        }
        match &self.peer_asn {
            PeerAsn::Exactly(asn) if !asn.is_usable() => {
                return Err(ConfigError::UnusableAsn { field: "peerASN", given: *asn });
            }
            PeerAsn::Within(ranges) if ranges.0.is_empty() || ranges.0.iter().any(RangeInclusive::is_empty) => {
                return Err(ConfigError::AsnRanges { given: ranges.clone() });
            }
            PeerAsn::Exactly(_) | PeerAsn::Internal | PeerAsn::External | PeerAsn::Within(_) => {}
        }
        if self.router_id.is_unspecified() {
            return Err(ConfigError::ZeroRouterId);
        }
        // RFC 4271 section 4.2: zero, or at least three seconds.
        let hold = self.hold_time;
        if hold.subsec_nanos() != 0 || matches!(hold.as_secs(), 1 | 2 | 65536..) {
            return Err(ConfigError::HoldTime { given: hold });
        }
        if self.connect_retry < Duration::from_millis(100) {
            return Err(ConfigError::ConnectRetry { given: self.connect_retry });
        }
        // RFC 4724 section 3: twelve bits; zero would ask the peer to keep routes for no time.
        if let Some(GracefulRestart { restart_time: given, .. }) = self.graceful_restart
            && (given.subsec_nanos() != 0 || given.is_zero() || given > GracefulRestart::LONGEST)
        {
            return Err(ConfigError::RestartTime { given });
        }
        // RFC 9234 section 4: roles are between autonomous systems.
        if let Some(given) = self.role
            && self.may_be_internal()
        {
            return Err(ConfigError::InternalRole { given });
        }
        match self.relay {
            Relay::RouteServerClient if self.may_be_internal() => {
                return Err(ConfigError::InternalClient { given: self.peer_asn.clone() });
            }
            Relay::ReflectorClient { .. } | Relay::ReflectorPeer { .. } if !self.is_internal() => {
                return Err(ConfigError::ExternalReflection { given: self.peer_asn.clone() });
            }
            // The node's own routes are told without path identifiers.
            Relay::Nothing if self.add_path.send > 1 => {
                return Err(ConfigError::SeveralPaths { given: self.add_path.send });
            }
            _ => {}
        }
        if self.relayed_next_hop == RelayedNextHop::Own && self.relay.cluster().is_none() {
            return Err(ConfigError::OwnNextHop);
        }
        if self.families.is_empty() {
            return Err(ConfigError::NoFamilies);
        }
        if let Some(password) = &self.transport.password
            && !(1..=Password::MAX_LENGTH).contains(&password.reveal().len())
        {
            return Err(ConfigError::PasswordLength { given: password.reveal().len() });
        }
        if matches!(self.transport.ttl, Ttl::Multihop(0) | Ttl::Security { hops: 0 }) {
            return Err(ConfigError::ZeroHops);
        }
        if self.transport.remote.ip().is_unspecified()
            && (self.transport.source_interface.is_none() || self.transport.remote.is_ipv4())
        {
            return Err(ConfigError::NoRouter { remote: self.transport.remote.ip() });
        }
        if let (Some(interface), Some(BfdConfig { hops: Hops::Multi { .. }, .. })) =
            (self.transport.unnumbered(), self.bfd)
        {
            return Err(ConfigError::UnnumberedHops { interface: interface.to_owned() });
        }
        if let Some(source) = self.transport.source
            && source.is_ipv4() != self.transport.remote.is_ipv4()
        {
            return Err(ConfigError::SourceFamily { source_address: source, remote: self.transport.remote.ip() });
        }
        if let Some(bfd) = &self.bfd {
            bfd.check()?;
        }
        for rule in &self.import.accept {
            let (shortest, longest) = rule.lengths();
            if !(rule.prefix.prefix_len() <= shortest && shortest <= longest && longest <= rule.prefix.max_prefix_len())
            {
                return Err(ConfigError::PrefixRule { given: *rule });
            }
        }
        self.import.max_prefixes.map_or(Ok(()), |max| max.check())
    }

    /// Whether a session that runs by `self` has to be taken down to run by `other`.
    pub(crate) fn needs_restart(&self, other: &Self) -> bool {
        // Compared as a whole with the live fields made equal: a field added later restarts the session until somebody
        // has thought about it.
        let mut live = Self {
            bfd: other.bfd,
            connect_retry: other.connect_retry,
            next_hops: other.next_hops,
            fallback_next_hops: other.fallback_next_hops,
            import: other.import.clone(),
            ..self.clone()
        };
        if self.relayed_next_hop == RelayedNextHop::Own {
            // What was told with the former ones is not told again within a session.
            (live.next_hops, live.fallback_next_hops) = (self.next_hops, self.fallback_next_hops);
        }
        if let (Some(live), Some(other)) = (&mut live.graceful_restart, &other.graceful_restart) {
            live.forwarding_preserved.clone_from(&other.forwarding_preserved);
        }
        live != *other
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PrefixRule;

    fn config() -> PeerConfig {
        let remote = "192.0.2.1:179".parse().unwrap();
        PeerConfig::new(Asn(64500), PeerAsn::Exactly(Asn(64512)), Ipv4Addr::new(10, 0, 0, 1), remote)
    }

    #[test]
    fn a_configuration_that_cannot_work_is_refused_in_words() {
        let rule = |prefix: &str, ge, le| vec![PrefixRule { prefix: prefix.parse().unwrap(), ge, le }];
        fn restart(seconds: f64) -> Option<GracefulRestart> {
            Some(GracefulRestart::new(Duration::from_secs_f64(seconds)))
        }
        let cases: [(&str, fn(&mut PeerConfig), &str); 16] = [
            ("as 0", |c| c.local_asn = Asn(0), "localASN 0 is reserved"),
            ("as trans", |c| c.peer_asn = PeerAsn::Exactly(Asn(23456)), "peerASN 23456 is reserved"),
            ("router id", |c| c.router_id = Ipv4Addr::UNSPECIFIED, "router ID 0.0.0.0"),
            ("hold 1", |c| c.hold_time = Duration::from_secs(1), "hold time 1s"),
            ("hold 2.5", |c| c.hold_time = Duration::from_millis(2500), "hold time 2.5s"),
            ("restart 0", |c| c.graceful_restart = restart(0.0), "restart time 0ns"),
            ("restart 1.5", |c| c.graceful_restart = restart(1.5), "restart time 1.5s"),
            ("restart 4096", |c| c.graceful_restart = restart(4096.0), "restart time 4096s"),
            ("role", |c| (c.role, c.peer_asn) = (Some(Role::Customer), PeerAsn::Internal), "role Customer"),
            ("families", |c| c.families.clear(), "no address family"),
            ("password", |c| c.transport.password = Some(Password::new("x".repeat(81))), "81 octets"),
            ("hops", |c| c.transport.ttl = Ttl::Security { hops: 0 }, "1 to 255"),
            ("client", |c| (c.relay, c.peer_asn) = (Relay::RouteServerClient, PeerAsn::Internal), "may be ours"),
            ("reflection", |c| c.relay = Relay::ReflectorPeer { cluster: Ipv4Addr::LOCALHOST }, "64512 is not ours"),
            ("several paths", |c| c.add_path.send = 2, "2 paths"),
            ("source", |c| c.transport.source = Some("::1".parse().unwrap()), "::1"),
        ];
        for (name, spoil, expected) in cases {
            let mut config = config();
            assert_eq!(config.check(), Ok(()), "{name}");
            spoil(&mut config);
            let message = config.check().expect_err(name).to_string();
            assert!(message.contains(expected), "{name}: {message}");
        }
        for (prefix, ge, le) in
            [("10.0.0.0/8", Some(4), None), ("10.0.0.0/8", Some(24), Some(16)), ("::/0", None, Some(129))]
        {
            let mut config = config();
            config.import.accept = rule(prefix, ge, le);
            assert!(config.check().is_err(), "{prefix} {ge:?} {le:?}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let mut config = config();
        config.transport.password = Some(Password::new("s3cret"));
        assert!(!format!("{config:?}").contains("s3cret"));
    }
}
