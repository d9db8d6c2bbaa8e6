//! The stand-ins for the routers that the manifests' `BGPPeer`s name: our own engine, listening on loopback and accepting every route.
//!
//! One router for each `BGPPeer`, because each may have an ASN and a password of its own, and all nodes speak to it from the same
//! addresses. A router's address follows from the peer's name, so that nodes and routers need not tell each other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use anyhow::Context;
use ipnet::IpNet;
use roadstead_bgp::driver::{Driver, DriverConfig, EventReceiver, Handle};
use roadstead_bgp::{
    Asn, Connect, ImportPolicy, LearnedPath, NextHops, PeerAsn, PeerConfig, PeerKey, PrefixRule, Shutdown, Transport,
    Ttl,
};
use tokio::sync::mpsc;

/// What all routers learned: by peer, then by prefix, from which node.
pub(crate) type Learned = BTreeMap<String, BTreeMap<IpNet, Vec<LearnedPath>>>;

/// A node's session as the node has it: node, peer, configuration.
pub(crate) type NodeSession = (String, PeerKey, PeerConfig);

/// The routers of the lab.
pub(crate) struct Routers {
    addresses: Addresses,
    routers: BTreeMap<String, Router>,
    changes: (mpsc::Sender<()>, mpsc::Receiver<()>),
}

struct Router {
    engine: Handle,
    /// What it was configured for, by node.
    sessions: BTreeMap<String, PeerConfig>,
}

/// Where the routers listen.
#[derive(Clone, Copy)]
pub(crate) struct Addresses {
    port: u16,
}

impl Addresses {
    /// The address of the router that plays this peer, in 127.77.0.0/16.
    pub(crate) fn of(self, peer: &str) -> SocketAddrV4 {
        // FNV-1a: the same for nodes and routers, and spread enough for a handful of peers.
        let hash = peer.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let [a, b, c, d] = hash.to_be_bytes();
        SocketAddrV4::new(Ipv4Addr::new(127, 77, a ^ b, c ^ d), self.port)
    }
}

/// The loopback address that a node's sessions start from.
pub(crate) fn node_address(index: usize) -> IpAddr {
    // Two octets: more nodes than anybody runs in one process.
    let [.., high, low] = (index + 1).to_be_bytes();
    Ipv4Addr::new(127, 78, high, low).into()
}

/// The next hops of a node that nobody gave addresses: of the ranges that the sample nodes have theirs from.
pub(crate) fn next_hops(index: usize) -> NextHops {
    let number = u16::try_from(index).unwrap_or(u16::MAX).saturating_add(11);
    let [high, low] = number.to_be_bytes();
    NextHops {
        ipv4: Some(Ipv4Addr::new(10, 77, high, low)),
        ipv6: Some(Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, number)),
    }
}

/// A router that never had more to say waits here; one message says as much as many.
const CHANGES: usize = 1;
/// What a router without a fixed ASN is given (`peerType: External`).
const ANY_OTHER_ASN: Asn = Asn(64_512);
const ANOTHER_ASN: Asn = Asn(64_513);

impl Routers {
    /// No router as yet; finds a port that all will have.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let probe = tokio::net::TcpListener::bind((Ipv4Addr::new(127, 77, 0, 1), 0)).await;
        let port = probe.context("no free port on loopback")?.local_addr()?.port();
        Ok(Self { addresses: Addresses { port }, routers: BTreeMap::new(), changes: mpsc::channel(CHANGES) })
    }

    /// Where the routers listen.
    pub(crate) fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Makes the routers fit the sessions that the nodes want.
    pub(crate) async fn follow(&mut self, sessions: Vec<NodeSession>) -> anyhow::Result<()> {
        let mut wanted: BTreeMap<String, BTreeMap<String, PeerConfig>> = BTreeMap::new();
        for (node, peer, config) in sessions {
            wanted.entry(peer.to_string()).or_default().insert(node, mirror(&config, self.addresses.of(peer.as_str())));
        }
        let gone: Vec<String> = self.routers.keys().filter(|peer| !wanted.contains_key(*peer)).cloned().collect();
        for router in gone.iter().filter_map(|peer| self.routers.remove(peer)) {
            router.engine.shutdown(Shutdown::Leave("the BGPPeer is gone".to_owned())).await;
        }
        for (peer, sessions) in wanted {
            if !self.routers.contains_key(&peer) {
                let router = self.power_on(&peer)?;
                self.routers.insert(peer.clone(), router);
            }
            if let Some(router) = self.routers.get_mut(&peer) {
                router.configure(sessions).await?;
            }
        }
        Ok(())
    }

    /// Returns when a router learned or lost something.
    pub(crate) async fn changed(&mut self) {
        // Never `None`: a sender lives beside the receiver.
        let _ = self.changes.1.recv().await;
    }

    /// What all routers know.
    pub(crate) async fn learned(&self) -> Learned {
        let mut learned = Learned::new();
        for (peer, router) in &self.routers {
            learned.insert(peer.clone(), router.engine.learned().await.unwrap_or_default());
        }
        learned
    }

    fn power_on(&self, peer: &str) -> anyhow::Result<Router> {
        let address = self.addresses.of(peer);
        let config = DriverConfig { listen: vec![address.into()], seed: u64::from(address.port()), record: None };
        let (engine, events) =
            Driver::start(config).with_context(|| format!("the router for BGPPeer {peer} cannot start"))?;
        tokio::spawn(pass_on(events, self.changes.0.clone()));
        Ok(Router { engine, sessions: BTreeMap::new() })
    }
}

impl Router {
    async fn configure(&mut self, wanted: BTreeMap<String, PeerConfig>) -> anyhow::Result<()> {
        let gone: Vec<String> = self.sessions.keys().filter(|node| !wanted.contains_key(*node)).cloned().collect();
        for node in gone {
            self.sessions.remove(&node);
            self.engine.remove_peer(PeerKey::from(node.as_str())).await?;
        }
        for (node, config) in wanted {
            if self.sessions.get(&node) != Some(&config) {
                self.engine.set_peer(PeerKey::from(node.as_str()), config.clone()).await?;
                self.sessions.insert(node, config);
            }
        }
        Ok(())
    }
}

/// The other end of a node's session.
fn mirror(node: &PeerConfig, router: SocketAddrV4) -> PeerConfig {
    let local_asn = match &node.peer_asn {
        PeerAsn::Exactly(asn) => *asn,
        PeerAsn::Within(ranges) => ranges.0.first().map_or(ANY_OTHER_ASN, |range| *range.start()),
        PeerAsn::Internal => node.local_asn,
        PeerAsn::External if node.local_asn == ANY_OTHER_ASN => ANOTHER_ASN,
        PeerAsn::External => ANY_OTHER_ASN,
    };
    let peer_asn = PeerAsn::Exactly(node.local_asn);
    let remote = SocketAddr::new(node.transport.source.unwrap_or_else(|| Ipv4Addr::LOCALHOST.into()), 0);
    let mut config = PeerConfig::new(local_asn, peer_asn, *router.ip(), remote);
    let everything = |prefix: &str| prefix.parse().ok().map(|prefix| PrefixRule { prefix, ge: Some(0), le: None });
    config.families = node.families.clone();
    config.hold_time = node.hold_time;
    config.connect_retry = Duration::from_millis(250);
    config.connect = Connect::Passive;
    config.import = ImportPolicy {
        accept: ["0.0.0.0/0", "::/0"].into_iter().filter_map(everything).collect(),
        // Nodes of a laboratory may announce from anywhere.
        refuse: BTreeSet::new(),
        ..ImportPolicy::default()
    };
    config.transport = Transport {
        remote,
        source: None,
        source_interface: None,
        password: node.transport.password.clone(),
        signature: node.transport.signature,
        ttl: Ttl::Default,
    };
    config
}

/// Says that something changed, whatever it was. A message that is waiting already says it too.
async fn pass_on(mut events: EventReceiver, changes: mpsc::Sender<()>) {
    while events.recv().await.is_some() {
        let _ = changes.try_send(());
    }
}
