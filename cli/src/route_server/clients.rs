//! What an entry of `clients` means to the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use roadstead_api::checked::{self, RouteServer, RouteServerClient, TransportMode};
use roadstead_api::kinds::RouteServerRole;
use roadstead_bgp::{
    AddPath, AddPathReceive, Asn, AsnRanges, Connect, DynamicPeers, Family, GracefulRestart, ImportPolicy, MaxPrefixes,
    Password, PeerAsn, PeerConfig, PeerKey, PrefixRule, Relay, RelayedNextHop, Role, Ttl,
};
use roadstead_speaker::session;

/// Where a client is dialled.
const BGP_PORT: u16 = 179;

/// An entry as the engine takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// Everybody inside a prefix, when they dial.
    Range(Box<DynamicPeers>),
    /// One machine, which is dialled too.
    Machine(Box<PeerConfig>),
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(range) => {
                write!(
                    f,
                    "up to {} sessions from {}, ASN {}",
                    range.max_sessions, range.prefix, range.template.peer_asn
                )
            }
            Self::Machine(config) => write!(f, "a session with {}, ASN {}", config.transport.remote, config.peer_asn),
        }
    }
}

/// Why nobody can be let in by an entry that is in order.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("cannot read its password file {}: {source}", path.display())]
    PasswordFile { path: PathBuf, source: std::io::Error },
    #[error("its password file {} is empty", path.display())]
    NoPassword { path: PathBuf },
    #[error(transparent)]
    Config(#[from] roadstead_bgp::ConfigError),
}

/// Every entry by the name that its sessions are called after. Relative password files are below `directory`.
pub(super) fn of(server: &RouteServer, directory: &Path) -> BTreeMap<PeerKey, Result<Client, Refusal>> {
    server.clients.iter().map(|entry| (PeerKey::from(entry.name.as_str()), client(server, entry, directory))).collect()
}

fn client(server: &RouteServer, entry: &RouteServerClient, directory: &Path) -> Result<Client, Refusal> {
    let ranges = entry.asns.iter().map(|range| Asn(*range.start())..=Asn(*range.end()));
    let peer_asn = match server.reflector {
        Some(_) => PeerAsn::Internal,
        None => PeerAsn::Within(AsnRanges(ranges.collect())),
    };
    let remote = SocketAddr::new(entry.prefix.addr(), BGP_PORT);
    let mut config = PeerConfig::new(Asn(server.asn), peer_asn, server.router_id, remote);
    config.relay = match server.reflector {
        Some(cluster) if entry.non_client => Relay::ReflectorPeer { cluster },
        Some(cluster) => Relay::ReflectorClient { cluster },
        None => Relay::RouteServerClient,
    };
    if entry.next_hop_self {
        config.relayed_next_hop = RelayedNextHop::Own;
    }
    config.import = everything(entry.max_prefixes.map(session::max_prefixes));
    let receive = if entry.several_paths { AddPathReceive::Several } else { AddPathReceive::One };
    config.add_path = AddPath { send: entry.max_paths, receive };
    config.families = entry.families.iter().copied().map(family).collect();
    config.role = entry.role.map(|RouteServerRole::RouteServer| Role::RouteServer);
    config.graceful_restart = server.graceful_restart.map(|restart| GracefulRestart {
        // RFC 4724 section 3, F: no packet goes through this process, so forwarding goes on whatever becomes of it. Packets that go
        // through this machine are another matter: it may have been started anew, too.
        forwarding_preserved: if entry.next_hop_self { BTreeSet::new() } else { config.families.clone() },
        ..GracefulRestart::new(restart.restart_time)
    });
    config.hold_time = entry.hold_time;
    config.keepalive = entry.keepalive;
    config.connect_retry = entry.connect_retry;
    config.transport.password = entry.password_file.as_ref().map(|path| password(&directory.join(path))).transpose()?;
    config.transport.ttl = match entry.ttl {
        checked::Ttl::Default => Ttl::Default,
        checked::Ttl::Multihop(ttl) => Ttl::Multihop(ttl),
        checked::Ttl::Security { hops } => Ttl::Security { hops },
    };
    config.transport.signature = session::signature(entry.authentication);
    config.bfd = entry.bfd.map(session::bfd);
    config.connect = match entry.mode {
        TransportMode::Dial => Connect::Dial,
        TransportMode::Both => Connect::Both,
        TransportMode::Passive => Connect::Passive,
    };
    if config.connect.dials() {
        config.check()?;
        return Ok(Client::Machine(Box::new(config)));
    }
    let range = DynamicPeers { prefix: entry.prefix, max_sessions: entry.max_sessions, template: config };
    range.check()?;
    Ok(Client::Range(Box::new(range)))
}

/// The entry itself is the policy that RFC 8212 asks for: who may be a client may tell every prefix that a router takes.
fn everything(max_prefixes: Option<MaxPrefixes>) -> ImportPolicy {
    let all = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
    let rule = |prefix: IpNet| PrefixRule { prefix, ge: Some(0), le: Some(prefix.max_prefix_len()) };
    ImportPolicy { accept: all.map(rule).into(), max_prefixes, ..ImportPolicy::default() }
}

fn family(family: checked::Family) -> Family {
    match family {
        checked::Family::Ipv4Unicast => Family::Ipv4Unicast,
        checked::Family::Ipv6Unicast => Family::Ipv6Unicast,
    }
}

fn password(path: &Path) -> Result<Password, Refusal> {
    let path = path.to_owned();
    match fs::read_to_string(&path) {
        Err(source) => Err(Refusal::PasswordFile { path, source }),
        Ok(text) => match text.trim_end_matches(['\r', '\n']) {
            "" => Err(Refusal::NoPassword { path }),
            password => Ok(Password::new(password)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roadstead_api::kinds;
    use roadstead_bgp::bfd::{BfdConfig, Hops};

    fn server(spec: &str) -> RouteServer {
        let raw = kinds::RouteServer::new("default", serde_json::from_str(spec).unwrap());
        RouteServer::check(&raw).unwrap()
    }

    /// The one entry of a route server in AS 64999.
    fn entry(more: &str) -> Result<Client, Refusal> {
        let server = server(&format!(
            r#"{{"asn":64999,"routerID":"10.77.0.1","listen":["10.77.0.1:179"],
                "clients":[{{"name":"a","prefix":"10.77.0.9/32","asnRanges":[{{"from":64600,"to":64999}}]{more}}}]}}"#
        ));
        of(&server, Path::new("/nowhere")).remove(&"a".into()).unwrap()
    }

    #[test]
    fn an_entry_is_a_range_of_clients_that_may_tell_everything() {
        let Client::Range(range) = entry(r#","maxPrefixes":7,"maxSessions":3,"maxPaths":4"#).unwrap() else {
            panic!("not a range")
        };
        assert_eq!(
            (range.max_sessions, range.template.import.max_prefixes.map(|max| max.limit), range.template.add_path.send),
            (3, Some(7), 4)
        );
        assert_eq!(range.template.relay, Relay::RouteServerClient);
        assert_eq!(range.template.peer_asn.to_string(), "64600-64998");
        let accepts =
            |prefix: &str| range.template.import.accept.iter().any(|rule| rule.matches(&prefix.parse().unwrap()));
        assert!(accepts("0.0.0.0/0") && accepts("203.0.113.7/32") && accepts("2001:db8::/32") && accepts("::/0"));
    }

    #[test]
    fn one_machine_can_be_dialled() {
        let Client::Machine(config) = entry(r#","passive":false"#).unwrap() else { panic!("not a machine") };
        assert_eq!((config.connect, config.transport.remote.to_string().as_str()), (Connect::Both, "10.77.0.9:179"));
    }

    #[test]
    fn a_reflector_has_clients_in_its_own_asn() {
        let server = server(
            r#"{"asn":64999,"routerID":"10.77.0.1","listen":["10.77.0.1:179"],"reflector":true,"clusterID":"10.0.0.9",
                "clients":[{"name":"a","prefix":"10.77.0.0/16"}]}"#,
        );
        let Ok(Client::Range(range)) = of(&server, Path::new("")).remove(&"a".into()).unwrap() else {
            panic!("not a range")
        };
        assert_eq!(range.template.relay, Relay::ReflectorClient { cluster: "10.0.0.9".parse().unwrap() });
        assert!(range.template.is_internal());
        assert_eq!((range.template.relayed_next_hop, range.template.role), (RelayedNextHop::Unchanged, None));
    }

    #[test]
    fn a_reflector_may_be_in_the_way_of_packets() {
        let reflector = server(
            r#"{"asn":64999,"routerID":"10.77.0.1","listen":["10.77.0.1:179"],"reflector":true,
                "gracefulRestart":{},"clients":[{"name":"a","prefix":"10.77.0.0/16","nextHopSelf":true}]}"#,
        );
        let Ok(Client::Range(range)) = of(&reflector, Path::new("")).remove(&"a".into()).unwrap() else {
            panic!("not a range")
        };
        assert_eq!(range.template.relayed_next_hop, RelayedNextHop::Own);
        assert_eq!(range.template.graceful_restart.unwrap().forwarding_preserved, [].into());
    }

    #[test]
    fn bfd_is_for_each_session() {
        let Client::Range(range) = entry(r#","bfd":{"detectMultiplier":5}"#).unwrap() else { panic!("not a range") };
        assert_eq!(range.template.bfd, Some(BfdConfig { multiplier: 5, ..BfdConfig::new() }));
        let Client::Range(range) = entry(r#","ebgpMultihop":{"ttl":4},"bfd":{}"#).unwrap() else {
            panic!("not a range")
        };
        assert_eq!(range.template.bfd.map(|bfd| bfd.hops), Some(Hops::Multi { minimum_ttl: 1 }));
    }

    #[test]
    fn what_an_entry_asks_for_reaches_the_engine() {
        let Client::Range(range) =
            entry(r#","role":"RouteServer","severalPaths":true,"maxPrefixes":9,"warnAtPercent":50,"onExcess":"Drop""#)
                .unwrap()
        else {
            panic!("not a range")
        };
        let template = range.template;
        assert_eq!((template.role, template.add_path.receive), (Some(Role::RouteServer), AddPathReceive::Several));
        let limit = MaxPrefixes { limit: 9, warn_at: 50, excess: roadstead_bgp::Excess::Drop };
        assert_eq!((template.import.max_prefixes, template.graceful_restart), (Some(limit), None));
    }

    #[test]
    fn a_peer_of_a_reflector_may_be_no_client_and_all_may_restart() {
        let server = server(
            r#"{"asn":64999,"routerID":"10.77.0.1","listen":["10.77.0.1:179"],"reflector":true,"gracefulRestart":{},
                "clients":[{"name":"a","prefix":"10.77.0.0/16","nonClient":true,"families":["IPv4Unicast"]}]}"#,
        );
        let Ok(Client::Range(range)) = of(&server, Path::new("")).remove(&"a".into()).unwrap() else {
            panic!("not a range")
        };
        assert_eq!(range.template.relay, Relay::ReflectorPeer { cluster: "10.77.0.1".parse().unwrap() });
        let restart = range.template.graceful_restart.unwrap();
        assert_eq!((restart.restart_time.as_secs(), restart.notification), (120, false));
        assert_eq!(restart.forwarding_preserved, [Family::Ipv4Unicast].into());
    }

    #[test]
    fn without_its_password_nobody_is_let_in() {
        let refusal = entry(r#","passwordFile":"secret""#).unwrap_err().to_string();
        assert!(refusal.starts_with("cannot read its password file /nowhere/secret: "), "{refusal}");
        let refusal = entry(r#","passwordFile":"/dev/null""#).unwrap_err().to_string();
        assert_eq!(refusal, "its password file /dev/null is empty");
    }
}
