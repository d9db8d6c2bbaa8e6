//! From a `BGPPeer` to the session that this node has with it, or the reason why it has none.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use roadstead_api::checked::{self, Peer, SecretKey, TransportMode};
use roadstead_api::kinds;
use roadstead_api::kubernetes::Secret;
use roadstead_bgp as bgp;
use roadstead_bgp::bfd::{BfdConfig, Hops};
use roadstead_bgp::{
    AigpSession, AoAlgorithm, Asn, Connect, Excess, GracefulRestart, ImportPolicy, MaxPrefixes, NextHops, Password,
    PeerConfig, Purpose, Signature,
};

use crate::links::NoSession;
use crate::node::LocalNode;

/// Why a peer that selects this node has no session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody says which ASN is ours.
    #[error("no ASN of ours: give spec.localASN, or spec.asn in the ClusterNetwork default")]
    NoLocalAsn,
    /// The password's Secret is missing. Without it the session would be unsigned, so it stays down.
    #[error("Secret {namespace}/{name} does not exist: the session stays down until it does")]
    NoSecret {
        /// Where it is looked for.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The Secret holds no password.
    #[error("Secret {namespace}/{name} has no text under the key \"password\": the session stays down until it has")]
    NoPassword {
        /// Where it is.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The peer is to dial us, and its call cannot be taken.
    #[error("cannot listen for the peer on {address}: {reason}")]
    CannotListen {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        reason: String,
    },
    /// The engine cannot run the session beside the others.
    #[error("{reason}")]
    Engine {
        /// What it says.
        reason: String,
    },
    /// It is a link's, and the link does not permit it.
    #[error(transparent)]
    Link(#[from] NoSession),
    /// No engine could run the session.
    #[error(transparent)]
    Config(#[from] bgp::ConfigError),
}

/// All that a session depends on besides its peer.
pub struct Surroundings<'a> {
    /// This node.
    pub node: &'a LocalNode,
    /// The ClusterNetwork's ASN.
    pub cluster_asn: Option<u32>,
    /// Where passwords are looked for.
    pub secret_namespace: &'a str,
    /// The Secrets there.
    pub secrets: &'a BTreeMap<String, Arc<Secret>>,
    /// Where sessions really lead.
    pub redirect: Option<&'a Redirect>,
    /// How long the node's kernel had run when this process started.
    pub uptime: Duration,
}

/// Leads every session to another place than its `BGPPeer` says, for a rehearsal of real manifests where their routers are not.
#[derive(Clone)]
pub struct Redirect {
    /// Where the sessions of this node start.
    pub source: IpAddr,
    /// What this node tells as next hops where neither its Node nor the `BGPPeer` gives one.
    pub next_hops: NextHops,
    /// The stand-in of each peer's router, by the peer's name.
    pub router: Arc<dyn Fn(&str) -> SocketAddr + Send + Sync>,
}

impl Surroundings<'_> {
    /// Whether this node speaks to the peer at all.
    pub fn selects(&self, peer: &Peer) -> bool {
        peer.node_selector.as_ref().is_none_or(|selector| selector.matches(&self.node.labels))
    }

    /// The session with a peer.
    pub fn session(&self, peer: &Peer) -> Result<PeerConfig, Refusal> {
        let local_asn = peer.local_asn.or(self.cluster_asn).map(Asn).ok_or(Refusal::NoLocalAsn)?;
        let peer_asn = match peer.peer_asn {
            checked::PeerAsn::Exactly(asn) => bgp::PeerAsn::Exactly(Asn(asn)),
            checked::PeerAsn::Internal => bgp::PeerAsn::Internal,
            checked::PeerAsn::External => bgp::PeerAsn::External,
        };
        let router_id = peer.router_id.unwrap_or_else(|| self.node.router_id());
        let mut config = PeerConfig::new(local_asn, peer_asn, router_id, peer.remote);
        config.hold_time = peer.hold_time;
        config.keepalive = peer.keepalive;
        config.connect_retry = peer.connect_retry;
        config.families = peer.families.iter().copied().map(family).collect();
        config.next_hops = NextHops { ipv4: peer.next_hop_ipv4, ipv6: peer.next_hop_ipv6 };
        config.fallback_next_hops = NextHops { ipv4: self.node.ipv4, ipv6: self.node.ipv6 };
        config.import = import(&peer.import);
        config.aigp = match peer.import.aigp {
            None => AigpSession::Internal,
            Some(kinds::AigpSession::Enabled) => AigpSession::Enabled,
            Some(kinds::AigpSession::Disabled) => AigpSession::Disabled,
        };
        config.graceful_restart = peer.graceful_restart.map(|time| self.graceful_restart(&config, time));
        config.bfd = peer.bfd.map(bfd);
        config.role = peer.role.map(role);
        config.connect = match peer.mode {
            TransportMode::Dial => Connect::Dial,
            TransportMode::Both => Connect::Both,
            TransportMode::Passive => Connect::Passive,
        };
        config.transport.source = peer.source_address;
        config.transport.source_interface = peer.source_interface.clone();
        config.transport.ttl = ttl(peer.ttl);
        config.transport.password = peer.password.as_ref().map(|key| self.password(key)).transpose()?;
        config.transport.signature = signature(peer.authentication);
        if let Some(redirect) = self.redirect {
            self.redirect(&mut config, &peer.name, redirect);
        }
        config.check()?;
        Ok(config)
    }

    /// Without N: a dead node's routes must not outlive the hold time.
    ///
    /// RFC 4724 section 3, F: forwarding went on. The node's kernel forwards, as kube-proxy has set it up, whether this process
    /// runs or not, until it reboots. A router that still keeps routes of ours has lost us within the restart time, and had heard
    /// us until the hold time before that; so a kernel that has run for longer has not rebooted meanwhile. Without a hold time
    /// nobody knows when that was.
    pub(crate) fn graceful_restart(&self, session: &PeerConfig, restart_time: Duration) -> GracefulRestart {
        let preserved = !session.hold_time.is_zero() && self.uptime > restart_time + session.hold_time;
        let forwarding_preserved = if preserved { session.families.clone() } else { BTreeSet::new() };
        GracefulRestart { forwarding_preserved, ..GracefulRestart::new(restart_time) }
    }

    /// The password that a Secret holds.
    pub(crate) fn password(&self, key: &SecretKey) -> Result<Password, Refusal> {
        let (namespace, name) = (self.secret_namespace.to_owned(), key.name.clone());
        let Some(secret) = self.secrets.get(&key.name) else { return Err(Refusal::NoSecret { namespace, name }) };
        let password = secret.value(SecretKey::KEY).and_then(|bytes| std::str::from_utf8(bytes).ok());
        match password {
            Some(password) if !password.is_empty() => Ok(Password::new(password)),
            _ => Err(Refusal::NoPassword { namespace, name }),
        }
    }

    /// Keeps what the routes say and changes where the bytes go: next hops become the node's own addresses, as they would be.
    fn redirect(&self, config: &mut PeerConfig, peer: &str, redirect: &Redirect) {
        config.next_hops.ipv4 = config.next_hops.ipv4.or(self.node.ipv4).or(redirect.next_hops.ipv4);
        config.next_hops.ipv6 = config.next_hops.ipv6.or(self.node.ipv6).or(redirect.next_hops.ipv6);
        config.bfd = None;
        config.connect = Connect::Dial;
        config.connect_retry = Duration::from_millis(250);
        config.transport.remote = (redirect.router)(peer);
        config.transport.source = Some(redirect.source);
        config.transport.source_interface = None;
        config.transport.ttl = bgp::Ttl::Default;
    }
}

/// How far away the other end may be, as the engine takes it.
pub(crate) fn ttl(ttl: checked::Ttl) -> bgp::Ttl {
    match ttl {
        checked::Ttl::Default => bgp::Ttl::Default,
        checked::Ttl::Multihop(ttl) => bgp::Ttl::Multihop(ttl),
        checked::Ttl::Security { hops } => bgp::Ttl::Security { hops },
    }
}

fn family(family: checked::Family) -> bgp::Family {
    match family {
        checked::Family::Ipv4Unicast => bgp::Family::Ipv4Unicast,
        checked::Family::Ipv6Unicast => bgp::Family::Ipv6Unicast,
    }
}

fn role(role: kinds::Role) -> bgp::Role {
    match role {
        kinds::Role::Provider => bgp::Role::Provider,
        kinds::Role::RouteServer => bgp::Role::RouteServer,
        kinds::Role::RouteServerClient => bgp::Role::RouteServerClient,
        kinds::Role::Customer => bgp::Role::Customer,
        kinds::Role::Peer => bgp::Role::Peer,
    }
}

/// How the engine is to sign.
pub fn signature(authentication: checked::Authentication) -> Signature {
    match authentication {
        checked::Authentication::Md5 => Signature::Md5,
        checked::Authentication::TcpAo { algorithm, send_id, receive_id } => Signature::TcpAo {
            algorithm: match algorithm {
                kinds::AuthenticationAlgorithm::HMACSHA1 => AoAlgorithm::HmacSha1,
                kinds::AuthenticationAlgorithm::AESCMAC => AoAlgorithm::AesCmac,
            },
            send_id,
            receive_id,
        },
    }
}

/// BFD as the engine is to speak it.
pub fn bfd(bfd: checked::Bfd) -> BfdConfig {
    BfdConfig {
        transmit_interval: bfd.transmit_interval,
        receive_interval: bfd.receive_interval,
        multiplier: bfd.multiplier,
        hops: bfd.minimum_ttl.map_or(Hops::Single, |minimum_ttl| Hops::Multi { minimum_ttl }),
    }
}

/// A limit as the engine takes it.
pub fn max_prefixes(checked::MaxPrefixes { limit, warn_at, excess }: checked::MaxPrefixes) -> MaxPrefixes {
    let excess = match excess {
        checked::Excess::Close { restart } => Excess::Close { restart },
        checked::Excess::Drop => Excess::Drop,
    };
    MaxPrefixes { limit, warn_at, excess }
}

fn import(import: &checked::Import) -> ImportPolicy {
    let rule =
        |rule: &checked::PrefixRule| bgp::PrefixRule { prefix: rule.prefix, ge: Some(rule.ge), le: Some(rule.le) };
    let accept = import.accept.iter().map(rule).collect();
    let max_prefixes = import.max_prefixes.map(max_prefixes);
    let ImportPolicy { mut refuse, .. } = ImportPolicy::default();
    refuse.extend(import.refuse.iter().map(|purpose| match purpose {
        kinds::Purpose::Private => Purpose::Private,
        kinds::Purpose::Documentation => Purpose::Documentation,
    }));
    ImportPolicy { accept, max_prefixes, refuse, allow_own_asn: import.allow_own_asn }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roadstead_api::kinds::BgpPeer;

    fn peer(spec: &str) -> Peer {
        Peer::check(&BgpPeer::new("tor-a", serde_json::from_str(spec).unwrap())).unwrap()
    }

    fn secret(json: &str) -> BTreeMap<String, Arc<Secret>> {
        BTreeMap::from([("tor-a".to_owned(), Arc::new(serde_json::from_str(json).unwrap()))])
    }

    #[track_caller]
    fn check(spec: &str, secrets: &BTreeMap<String, Arc<Secret>>, expected: Result<(), &str>) {
        let node = LocalNode::implied("n");
        let surroundings = Surroundings {
            node: &node,
            cluster_asn: None,
            secret_namespace: "roadstead-system",
            secrets,
            redirect: None,
            uptime: Duration::ZERO,
        };
        match (surroundings.session(&peer(spec)), expected) {
            (Ok(_), Ok(())) => {}
            (Err(refusal), Err(part)) => assert!(refusal.to_string().contains(part), "{refusal}"),
            (other, _) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_role_reaches_the_engine_under_its_own_name() {
        let node = LocalNode::implied("n");
        let secrets = BTreeMap::new();
        let surroundings = Surroundings {
            node: &node,
            cluster_asn: Some(64500),
            secret_namespace: "",
            secrets: &secrets,
            redirect: None,
            uptime: Duration::ZERO,
        };
        for name in ["Provider", "RouteServer", "RouteServerClient", "Customer", "Peer"] {
            let spec = format!(r#"{{"address":"192.0.2.1","peerASN":64512,"role":"{name}"}}"#);
            let role = surroundings.session(&peer(&spec)).unwrap().role;
            assert_eq!(role.map(bgp::Role::name), Some(name));
        }
        // Whose ASN is the cluster's is known only here.
        let internal = peer(r#"{"address":"192.0.2.1","peerASN":64500,"role":"Customer"}"#);
        let refusal = surroundings.session(&internal).unwrap_err().to_string();
        assert!(refusal.contains("role Customer is not allowed on an internal session"), "{refusal}");
    }

    #[test]
    fn forwarding_went_on_where_the_kernel_has_run_for_long_enough() {
        let node = LocalNode::implied("n");
        let secrets = BTreeMap::new();
        let check = |timers: &str, uptime: u64, expected: usize| {
            let surroundings = Surroundings {
                node: &node,
                cluster_asn: Some(64500),
                secret_namespace: "",
                secrets: &secrets,
                redirect: None,
                uptime: Duration::from_secs(uptime),
            };
            let spec = format!(
                r#"{{"address":"192.0.2.1","peerASN":64512,"gracefulRestart":{{"restartTimeSeconds":60}},"timers":{timers}}}"#
            );
            let restart = surroundings.session(&peer(&spec)).unwrap().graceful_restart.unwrap();
            assert_eq!(restart.forwarding_preserved.len(), expected, "{timers}, up for {uptime} s");
        };
        check(r#"{"holdSeconds":30}"#, 0, 0);
        check(r#"{"holdSeconds":30}"#, 90, 0);
        check(r#"{"holdSeconds":30}"#, 91, 2);
        // The router may not have noticed for ever so long.
        check(r#"{"holdSeconds":0}"#, 1_000_000, 0);
    }

    #[test]
    fn a_session_that_cannot_be_as_asked_stays_down_and_says_why() {
        let none = BTreeMap::new();
        check(r#"{"address":"192.0.2.1","peerASN":64512,"localASN":64500}"#, &none, Ok(()));
        check(r#"{"address":"192.0.2.1","peerASN":64512}"#, &none, Err("spec.asn in the ClusterNetwork default"));
        let signed = r#"{"address":"192.0.2.1","peerASN":64512,"localASN":64500,"passwordSecret":{"name":"tor-a"}}"#;
        check(signed, &none, Err("Secret roadstead-system/tor-a does not exist"));
        check(signed, &secret(r#"{"data":{"key":"eA=="}}"#), Err("has no text under the key \"password\""));
        check(signed, &secret(r#"{"stringData":{"password":"s3cret"}}"#), Ok(()));
        check(signed, &secret(r#"{"data":{"password":"czNjcmV0"}}"#), Ok(()));
    }
}
