//! What a recording consists of: one entry for each call of the engine.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bfd::BfdFailure;
use crate::{
    Asn, ConnectionId, Endpoints, NextHopRoute, PeerAsn, PeerConfig, RouteAttributes, RouteChange, SelectionDeferral,
    Shutdown,
};

/// One call, with its time in nanoseconds since the recording began. The methods of the same names say what they mean.
///
/// The order is that of the format: a new kind goes to the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// The configuration as JSON, without its password.
    SetPeer {
        at: u64,
        key: String,
        config: String,
    },
    RemovePeer {
        at: u64,
        key: String,
    },
    /// Attributes as JSON, each set once; the changes name them by position.
    UpdateRoutes {
        at: u64,
        key: String,
        attributes: Vec<String>,
        changes: Vec<Change>,
    },
    InitialSetComplete {
        at: u64,
        key: String,
    },
    Shutdown {
        at: u64,
        shutdown: Shutdown,
    },
    HandleDialled {
        at: u64,
        connection: ConnectionId,
        endpoints: Endpoints,
    },
    /// With a digest of the answer.
    HandleAccepted {
        at: u64,
        endpoints: Endpoints,
        answer: u32,
    },
    HandleBytes {
        at: u64,
        connection: ConnectionId,
        bytes: Bytes,
    },
    HandleClosed {
        at: u64,
        connection: ConnectionId,
        reason: Option<String>,
    },
    /// With the number of octets that were shown, and a digest of them.
    PendingWrite {
        at: u64,
        connection: ConnectionId,
        length: u64,
        shown: u32,
    },
    HandleWritten {
        at: u64,
        connection: ConnectionId,
        taken: Taken,
    },
    HandleTimeout {
        at: u64,
    },
    /// With a digest of the output; `None` when there was none.
    PollOutput {
        output: Option<u32>,
    },
    /// Nothing follows.
    End(RecordingEnd),
    /// The template as JSON, without its password.
    SetDynamicPeers {
        at: u64,
        key: String,
        prefix: IpNet,
        max_sessions: u64,
        template: String,
    },
    RemoveDynamicPeers {
        at: u64,
        key: String,
    },
    HandleBfdDown {
        at: u64,
        key: String,
        failure: BfdFailure,
    },
    /// With a digest of the answer.
    HandleAcceptedOnLink {
        at: u64,
        link: String,
        endpoints: Endpoints,
        answer: u32,
    },
    HandleNextHopRoutes {
        at: u64,
        changes: Vec<NextHopRoute>,
    },
    DeferSelection {
        at: u64,
        deferral: SelectionDeferral,
    },
}

/// A [`RouteChange`]; attributes by their position among those of the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    Announce(IpNet, u32),
    Withdraw(IpNet),
}

/// How much of what was shown to it a socket took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Taken {
    /// Everything: in a replay too, however much that is then.
    All,
    Octets(u64),
}

/// Why a recording ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecordingEnd {
    /// The engine was shut down.
    Complete,
    /// The file has reached its limit.
    LimitReached,
    /// The file took less than there was to write.
    FellBehind,
}

impl fmt::Display for RecordingEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Complete => "the engine was shut down",
            Self::LimitReached => "the file has reached its limit",
            Self::FellBehind => "the disk could not keep up",
        })
    }
}

impl Entry {
    /// When, in nanoseconds since the recording began. Polls take no time.
    pub const fn at(&self) -> Option<u64> {
        match self {
            Self::SetPeer { at, .. }
            | Self::RemovePeer { at, .. }
            | Self::SetDynamicPeers { at, .. }
            | Self::RemoveDynamicPeers { at, .. }
            | Self::UpdateRoutes { at, .. }
            | Self::InitialSetComplete { at, .. }
            | Self::Shutdown { at, .. }
            | Self::HandleDialled { at, .. }
            | Self::HandleAccepted { at, .. }
            | Self::HandleAcceptedOnLink { at, .. }
            | Self::HandleBytes { at, .. }
            | Self::HandleClosed { at, .. }
            | Self::PendingWrite { at, .. }
            | Self::HandleWritten { at, .. }
            | Self::HandleBfdDown { at, .. }
            | Self::HandleNextHopRoutes { at, .. }
            | Self::DeferSelection { at, .. }
            | Self::HandleTimeout { at } => Some(*at),
            Self::PollOutput { .. } | Self::End(_) => None,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let encoded = postcard::to_stdvec(self);
        debug_assert!(encoded.is_ok(), "entries are made of what the encoding has");
        encoded.unwrap_or_default()
    }
}

/// Every set of attributes once, as JSON, and the changes that name them.
pub(super) fn encode_changes(changes: &[RouteChange]) -> (Vec<String>, Vec<Change>) {
    let mut sets: Vec<&Arc<RouteAttributes>> = Vec::new();
    let mut positions = std::collections::BTreeMap::new();
    let encoded = changes.iter().map(|change| match change {
        RouteChange::Withdraw(prefix) => Change::Withdraw(*prefix),
        RouteChange::Announce(prefix, attributes) => {
            let position = *positions.entry(attributes).or_insert_with(|| {
                sets.push(attributes);
                sets.len() - 1
            });
            Change::Announce(*prefix, u32::try_from(position).unwrap_or(u32::MAX))
        }
    });
    let encoded = encoded.collect();
    (sets.into_iter().map(|set| json(&**set)).collect(), encoded)
}

pub(super) fn decode_changes(attributes: &[String], changes: &[Change]) -> serde_json::Result<Vec<RouteChange>> {
    let sets: Vec<Arc<RouteAttributes>> =
        attributes.iter().map(|text| serde_json::from_str(text).map(Arc::new)).collect::<Result<_, _>>()?;
    let decoded = changes.iter().filter_map(|change| match *change {
        Change::Withdraw(prefix) => Some(RouteChange::Withdraw(prefix)),
        Change::Announce(prefix, position) => {
            sets.get(position as usize).map(|set| RouteChange::Announce(prefix, Arc::clone(set)))
        }
    });
    Ok(decoded.collect())
}

pub(super) fn encode_config(config: &PeerConfig) -> String {
    json(config)
}

/// What the text does not say is as in [`PeerConfig::new`].
pub(super) fn decode_config(text: &str) -> serde_json::Result<PeerConfig> {
    let anywhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 179);
    let defaults = PeerConfig::new(Asn(1), PeerAsn::External, Ipv4Addr::LOCALHOST, anywhere);
    let mut value = serde_json::to_value(defaults)?;
    overlay(&mut value, serde_json::from_str(text)?);
    serde_json::from_value(value)
}

fn overlay(base: &mut Value, top: Value) {
    match (base, top) {
        (Value::Object(base), Value::Object(top)) => {
            for (name, value) in top {
                match base.get_mut(&name) {
                    Some(known) => overlay(known, value),
                    None => drop(base.insert(name, value)),
                }
            }
        }
        (base, top) => *base = top,
    }
}

fn json(value: &impl Serialize) -> String {
    let text = serde_json::to_string(value);
    debug_assert!(text.is_ok(), "no map of it has keys that are no strings");
    text.unwrap_or_default()
}

/// A password leaves nothing in a recording but that there was one.
pub(crate) mod hidden {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::Password;

    pub(crate) fn serialize<S: Serializer>(password: &Option<Password>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bool(password.is_some())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Password>, D::Error> {
        Ok(bool::deserialize(from)?.then(|| Password::new("not recorded")))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::bfd::{BfdConfig, Hops};
    use crate::{
        AigpSession, AoAlgorithm, Connect, Excess, ExtendedMessages, Family, GracefulRestart, ImportPolicy,
        LinkBandwidth, MaxPrefixes, NextHops, Password, PrefixRule, Purpose, RelayedNextHop, Role, RoleStrictness,
        Signature, Transitivity, Transport, Ttl,
    };

    /// Nothing in it is as in [`PeerConfig::new`].
    fn config() -> PeerConfig {
        let rule = PrefixRule { prefix: "2001:db8::/32".parse().unwrap(), ge: Some(48), le: Some(64) };
        let remote = "[2001:db8::1]:1179".parse().unwrap();
        let new = PeerConfig::new(Asn(4_200_000_000), PeerAsn::Exactly(Asn(64512)), Ipv4Addr::new(10, 0, 0, 1), remote);
        PeerConfig {
            hold_time: Duration::from_secs(30),
            keepalive: Some(Duration::from_millis(1500)),
            connect_retry: Duration::from_millis(700),
            send_hold: Some(Duration::from_secs(60)),
            families: BTreeSet::from([Family::Ipv6Unicast]),
            next_hops: NextHops { ipv4: Some(Ipv4Addr::new(192, 0, 2, 7)), ipv6: None },
            fallback_next_hops: NextHops { ipv4: None, ipv6: Some("2001:db8::7".parse().unwrap()) },
            import: ImportPolicy {
                accept: vec![rule],
                max_prefixes: Some(MaxPrefixes { limit: 10, warn_at: 50, excess: Excess::Drop }),
                refuse: BTreeSet::from([Purpose::Private]),
                allow_own_asn: 2,
            },
            extended_messages: ExtendedMessages::Withheld,
            role: Some(Role::Customer),
            role_strictness: RoleStrictness::Strict,
            relayed_next_hop: RelayedNextHop::Own,
            aigp: AigpSession::Disabled,
            graceful_restart: Some(GracefulRestart {
                restart_time: Duration::from_secs(120),
                notification: true,
                forwarding_preserved: BTreeSet::from([Family::Ipv4Unicast]),
            }),
            bfd: Some(BfdConfig {
                transmit_interval: Duration::from_millis(50),
                multiplier: 5,
                hops: Hops::Multi { minimum_ttl: 200 },
                ..BfdConfig::new()
            }),
            connect: Connect::Both,
            transport: Transport {
                source: Some("2001:db8::2".parse().unwrap()),
                source_interface: Some("eth0".to_owned()),
                signature: Signature::TcpAo { algorithm: AoAlgorithm::AesCmac, send_id: 1, receive_id: 255 },
                ttl: Ttl::Security { hops: 3 },
                ..new.transport.clone()
            },
            ..new
        }
    }

    #[test]
    fn a_configuration_comes_back_as_it_was() {
        assert_eq!(decode_config(&encode_config(&config())).unwrap(), config());
    }

    #[test]
    fn a_password_is_not_recorded() {
        let mut secretive = config();
        secretive.transport.password = Some(Password::new("s3cret"));
        let text = encode_config(&secretive);
        assert!(!text.contains("s3cret"), "{text}");
        let read = decode_config(&text).unwrap();
        assert!(read.transport.password.is_some_and(|password| password.reveal() != "s3cret"));
    }

    #[test]
    fn a_file_of_another_version_has_more_or_fewer_fields() {
        let mut value: Value = serde_json::from_str(&encode_config(&config())).unwrap();
        let fields = value.as_object_mut().unwrap();
        for missing in ["role", "hold_time", "families", "import"] {
            assert!(fields.remove(missing).is_some(), "{missing} is a field");
        }
        fields["transport"].as_object_mut().unwrap().remove("ttl");
        fields.insert("invented_later".to_owned(), Value::Bool(true));
        let read = decode_config(&value.to_string()).unwrap();
        let new = PeerConfig::new(Asn(1), PeerAsn::External, Ipv4Addr::LOCALHOST, config().transport.remote);
        assert_eq!((read.role, read.hold_time, &read.families), (None, new.hold_time, &new.families));
        assert_eq!((&read.import, read.transport.ttl), (&new.import, Ttl::Default));
        assert_eq!((read.connect, read.graceful_restart), (config().connect, config().graceful_restart));
    }

    #[test]
    fn changes_share_their_attributes() {
        let bandwidth = LinkBandwidth { bits_per_second: 1, transitivity: Transitivity::NonTransitive };
        let set = |med| {
            Arc::new(RouteAttributes {
                med: Some(med),
                extended_communities: vec!["rt:[2001:db8::1]:7".parse().unwrap(), "rt:1:1".parse().unwrap()],
                link_bandwidth: Some(bandwidth),
                ..RouteAttributes::default()
            })
        };
        let prefix = |text: &str| text.parse::<IpNet>().unwrap();
        let changes = vec![
            RouteChange::Announce(prefix("192.0.2.0/24"), set(1)),
            RouteChange::Withdraw(prefix("198.51.100.0/24")),
            RouteChange::Announce(prefix("2001:db8::/32"), set(2)),
            RouteChange::Announce(prefix("203.0.113.1/32"), set(1)),
        ];
        let (attributes, encoded) = encode_changes(&changes);
        assert_eq!(attributes.len(), 2);
        assert_eq!(decode_changes(&attributes, &encoded).unwrap(), changes);
    }
}
