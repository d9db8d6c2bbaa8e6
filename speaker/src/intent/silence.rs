//! Why a Service that has an address is not announced from this node.

use roadstead_api::checked::{ServiceKey, TrafficPolicy};

use super::{ClaimView, Contribution, Intent};

/// The first thing that stands in the way, in the order in which an operator would look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Silence {
    /// No BGPPeer selects the node.
    #[error("no BGPPeer selects the node")]
    NoPeer,
    /// There is no such Node, or it is excluded, or its network is unavailable.
    #[error("the node does not exist, is excluded from load balancers, or has no network")]
    NodeMayNot,
    /// No endpoint is ready anywhere.
    #[error("no endpoint is ready")]
    NoEndpoint,
    /// The traffic policy is Local, and no endpoint is ready on the node.
    #[error("externalTrafficPolicy is Local, and no endpoint is ready on the node")]
    NoEndpointHere,
    /// No claim of the Service is there for any of its addresses.
    #[error("no AddressClaim of the Service is there for its address")]
    NotClaimed,
    /// No Advertisement selects pool, Service and node.
    #[error("no Advertisement selects its pool, the Service and the node")]
    NoAdvertisement,
    /// Advertisements do, but none of them selects a peer of the node.
    #[error("the Advertisements that select it select no BGPPeer of the node")]
    NoPeerSelected,
}

impl Intent {
    /// Why the node is silent about a Service, as of the last call of [`Intent::changes`]; `None`: it is not, or the Service has no
    /// address.
    pub fn silence(&self, key: &ServiceKey) -> Option<Silence> {
        let state = self.services.get(key)?;
        let view = state.view.as_ref().filter(|view| !view.addresses.is_empty())?;
        let told = |Contribution { advertisement, prefix, .. }: &Contribution| {
            self.advertisements.get(advertisement).is_some_and(|announcing| {
                let mut peers = self.peers.iter();
                let heard =
                    peers.any(|(peer, audience)| audience.hears(peer, advertisement, &announcing.advertisement));
                announcing.prefixes.contains_key(prefix) && heard
            })
        };
        if state.contributes.iter().any(told) {
            return None;
        }
        let endpoints = state.endpoints.summary();
        let anywhere = view.addresses.iter().any(|address| endpoints.of(*address).anywhere > 0);
        let here = view.addresses.iter().any(|address| endpoints.of(*address).here > 0);
        let claimed = |claim: &ClaimView| claim.owners.contains(&view.uid);
        Some(if self.peers.is_empty() {
            Silence::NoPeer
        } else if !self.node.as_ref().is_some_and(|node| node.may_announce) {
            Silence::NodeMayNot
        } else if !anywhere {
            Silence::NoEndpoint
        } else if view.traffic_policy == TrafficPolicy::Local && !here {
            Silence::NoEndpointHere
        } else if !view.addresses.iter().any(|address| self.claims.get(address).is_some_and(claimed)) {
            Silence::NotClaimed
        } else if state.contributes.is_empty() {
            Silence::NoAdvertisement
        } else {
            Silence::NoPeerSelected
        })
    }
}
