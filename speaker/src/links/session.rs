//! The sessions of links: with gateways of other clusters, with hosts outside, and with the nodes of this cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use roadstead_api::checked::{Excess, Link, MaxPrefixes};
use roadstead_api::overlap::{LinkRefusal, Neighbour, links_in_force};
use roadstead_bgp::{Asn, Connect, ImportPolicy, NextHops, PeerAsn, PeerConfig, PeerKey, PrefixRule};

use super::exports::advertisement_of;
use super::{Counterpart, Host, Links};
use crate::intent::Audience;
use crate::picture::Sessions;
use crate::session::{Refusal, Surroundings, bfd, max_prefixes, ttl};

/// Why a link or a host outside has no session on this node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSession {
    /// The link is not in force anywhere.
    #[error(transparent)]
    Link(#[from] LinkRefusal),
    /// The host has the cluster's own ASN.
    #[error(
        "spec.asn: {0} is this cluster's own: the session would be iBGP, by which hosts outside are not told apart from nodes"
    )]
    OwnAsn(u32),
    /// The node cannot speak to an address of that family.
    #[error("the node has no {family} address to reach {address} from")]
    NoAddress {
        /// IPv4 or IPv6.
        family: &'static str,
        /// What was given.
        address: IpAddr,
    },
    /// The controller has not found a prefix yet.
    #[error("the host has no prefix yet")]
    NoPrefix,
}

/// Inside the cluster, where nobody asks for other times: a gateway that is gone is noticed in seconds.
const INTERNAL_HOLD_TIME: Duration = Duration::from_secs(9);
/// What a prefix too many costs another cluster, or a host outside.
const CLOSE: Excess = Excess::Close { restart: Some(Duration::from_secs(300)) };
/// Hosts outside are many, and small.
const EDGE_MAX_PREFIXES: u32 = 256;

impl Links {
    /// Adds the sessions that links and hosts outside ask of this node.
    pub fn add_sessions(&self, surroundings: &Surroundings<'_>, listen_port: u16, sessions: &mut Sessions) {
        let Some(asn) = self.cluster_asn() else {
            for (key, (address, _)) in self.all_wanted(surroundings) {
                sessions.refused.insert(key, (address, Refusal::NoLocalAsn));
            }
            return;
        };
        for (key, (address, wanted)) in self.all_wanted(surroundings) {
            let config = wanted.and_then(|wanted| self.config(asn, &wanted, surroundings, listen_port));
            match config {
                Ok(config) => {
                    let audience = audience(&key);
                    sessions.wanted.insert(key, (config, audience));
                }
                Err(refusal) => drop(sessions.refused.insert(key, (address, refusal))),
            }
        }
    }

    /// Every session that this node is to have, with the address of its other end.
    fn all_wanted<'a>(
        &'a self,
        surroundings: &Surroundings<'_>,
    ) -> BTreeMap<PeerKey, (String, Result<Wanted<'a>, Refusal>)> {
        let mut all = BTreeMap::new();
        let labels = &surroundings.node.labels;
        let mut verdicts = links_in_force(self.links.values(), &self.identity(), self.border.own());
        for link in self.links.values() {
            let verdict = verdicts.remove(&link.name).unwrap_or(Ok(()));
            if link.gateway_selector.as_ref().is_some_and(|selector| !selector.matches(labels)) {
                continue;
            }
            for endpoint in &link.endpoints {
                let key = Counterpart::Link { link: link.name.clone(), endpoint: endpoint.ip() }.key();
                let wanted =
                    verdict.clone().map(|()| Wanted::Link(link, *endpoint)).map_err(|no| NoSession::from(no).into());
                all.insert(key, (endpoint.ip().to_string(), wanted));
            }
        }
        for Host { host, prefix } in self.hosts.values() {
            if host.gateway_selector.as_ref().is_some_and(|selector| !selector.matches(labels)) {
                continue;
            }
            let wanted = match prefix {
                _ if Some(host.asn) == self.cluster_asn() => Err(NoSession::OwnAsn(host.asn).into()),
                Some(prefix) => Ok(Wanted::Edge(host, *prefix)),
                None => Err(NoSession::NoPrefix.into()),
            };
            all.insert(Counterpart::Edge(host.name.clone()).key(), (host.address.to_string(), wanted));
        }
        if !self.is_wanted() {
            return all;
        }
        let own = surroundings.node;
        let is_gateway = self.is_gateway(&own.name);
        for (name, member) in self.members.iter().filter(|(name, _)| **name != own.name) {
            if !is_gateway && !self.is_gateway(name) {
                continue;
            }
            let ends = [true, false].into_iter().find_map(|ipv4| {
                let ours = if ipv4 { own.ipv4.map(IpAddr::V4) } else { own.ipv6.map(IpAddr::V6) };
                ours.zip(member.address(ipv4))
            });
            // A Node without an address has not come up yet.
            let Some((source, remote)) = ends else { continue };
            // Gateways are dialled; of two of them one dials.
            let dials = !is_gateway || (self.is_gateway(name) && own.name > *name);
            let tells = self.is_gateway(name);
            let wanted = Wanted::Node { source, remote, dials, tells };
            all.insert(Counterpart::Node(name.clone()).key(), (remote.to_string(), Ok(wanted)));
        }
        all
    }

    /// What a gateway may tell its cluster: whatever it takes itself. A prefix too many costs itself and not the session, on which
    /// everything else depends.
    fn import_inside(&self) -> ImportPolicy {
        let accepted: BTreeSet<IpNet> = self.accepted.values().flatten().map(|(net, _)| *net).collect();
        let of_link = |link: &Link| {
            let gateways = u32::try_from(link.endpoints.len()).unwrap_or(u32::MAX);
            link.max_prefixes.saturating_mul(gateways)
        };
        let of_links = self.links.values().map(of_link).fold(0, u32::saturating_add);
        let of_hosts = u32::try_from(self.hosts.len()).unwrap_or(u32::MAX).saturating_mul(EDGE_MAX_PREFIXES);
        import(accepted, of_links.saturating_add(of_hosts).max(1), Excess::Drop)
    }

    fn config(
        &self,
        asn: u32,
        wanted: &Wanted<'_>,
        surroundings: &Surroundings<'_>,
        listen_port: u16,
    ) -> Result<PeerConfig, Refusal> {
        let node = surroundings.node;
        let own = Asn(asn);
        let mut config = match wanted {
            Wanted::Link(link, endpoint) => {
                let mut config =
                    PeerConfig::new(own, PeerAsn::Exactly(Asn(link.remote_asn)), node.router_id(), *endpoint);
                config.hold_time = link.hold_time;
                config.keepalive = link.keepalive;
                config.connect_retry = link.connect_retry;
                config.import = import(link.accept.iter().map(|(_, net)| *net), link.max_prefixes, CLOSE);
                config.graceful_restart =
                    link.graceful_restart.map(|time| surroundings.graceful_restart(&config, time));
                config.bfd = link.bfd.map(bfd);
                config.connect = if link.listen { Connect::Both } else { Connect::Dial };
                if !link.listen {
                    // Whoever is only dialled knows us by this address.
                    let (ipv4, ipv6) = (node.ipv4.map(IpAddr::V4), node.ipv6.map(IpAddr::V6));
                    config.transport.source = if endpoint.is_ipv4() { ipv4 } else { ipv6 };
                }
                config.transport.ttl = ttl(link.ttl);
                config.transport.password = link.password.as_ref().map(|key| surroundings.password(key)).transpose()?;
                config
            }
            Wanted::Edge(host, prefix) => {
                let remote = SocketAddr::new(host.address, listen_port);
                let mut config = PeerConfig::new(own, PeerAsn::Exactly(Asn(host.asn)), node.router_id(), remote);
                config.import = import([*prefix], EDGE_MAX_PREFIXES, CLOSE);
                config.bfd = host.bfd.map(bfd);
                config.connect = Connect::Passive;
                config.transport.ttl = ttl(host.ttl);
                config.transport.password = host.password.as_ref().map(|key| surroundings.password(key)).transpose()?;
                config
            }
            Wanted::Node { source, remote, dials, tells } => {
                let remote = SocketAddr::new(*remote, listen_port);
                let mut config = PeerConfig::new(own, PeerAsn::Internal, node.router_id(), remote);
                config.hold_time = INTERNAL_HOLD_TIME;
                config.connect_retry = Duration::from_secs(1);
                if *tells {
                    config.import = self.import_inside();
                }
                let restart = self.links.values().find_map(|link| link.graceful_restart);
                config.graceful_restart = restart.map(|time| surroundings.graceful_restart(&config, time));
                // Whoever wants to know soon that another cluster's gateway is gone wants to know it of its own too.
                config.bfd = self.links.values().find_map(|link| link.bfd).map(|given| {
                    let minimum_ttl = Some(given.minimum_ttl.unwrap_or(1));
                    bfd(roadstead_api::checked::Bfd { minimum_ttl, ..given })
                });
                config.connect = if *dials { Connect::Dial } else { Connect::Passive };
                config.transport.source = Some(*source);
                config
            }
        };
        if let Wanted::Link(_, endpoint) = wanted {
            let (address, has) =
                (endpoint.ip(), if endpoint.is_ipv4() { node.ipv4.is_some() } else { node.ipv6.is_some() });
            let family = if endpoint.is_ipv4() { "IPv4" } else { "IPv6" };
            if !has {
                return Err(NoSession::NoAddress { family, address }.into());
            }
        }
        config.fallback_next_hops = NextHops { ipv4: node.ipv4, ipv6: node.ipv6 };
        config.check()?;
        Ok(config)
    }
}

/// Of what this node announces itself a counterpart hears what its link or its host exports, and nothing else.
fn audience(key: &PeerKey) -> Audience {
    Audience::Own(match Counterpart::of(key) {
        Some(Counterpart::Link { link, .. }) => advertisement_of(&Neighbour::Link(link)),
        Some(Counterpart::Edge(host)) => advertisement_of(&Neighbour::Edge(host)),
        Some(Counterpart::Node(_)) | None => key.to_string(),
    })
}

/// A session that is wanted.
enum Wanted<'a> {
    Link(&'a Link, SocketAddr),
    Edge(&'a roadstead_api::checked::EdgeHost, IpNet),
    /// `tells`: it is a gateway; other nodes have nothing to tell.
    Node {
        source: IpAddr,
        remote: IpAddr,
        dials: bool,
        tells: bool,
    },
}

/// These and longer ones.
fn import(accept: impl IntoIterator<Item = IpNet>, limit: u32, excess: Excess) -> ImportPolicy {
    let longer = |net: IpNet| PrefixRule { prefix: net, ge: None, le: Some(net.max_prefix_len()) };
    ImportPolicy {
        accept: accept.into_iter().map(longer).collect(),
        max_prefixes: Some(max_prefixes(MaxPrefixes { limit, warn_at: 75, excess })),
        ..ImportPolicy::default()
    }
}
