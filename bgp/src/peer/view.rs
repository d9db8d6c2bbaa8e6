//! What can be seen of a peer from outside.

use std::collections::BTreeSet;
use std::time::Instant;

use super::Peer;
use super::connection::Connection;
use crate::next_hop::ExtendedNextHops;
use crate::rib::{Rib, Unconfirmed};
use crate::{Cursor, Family, PeerStatus, RoutePage, RouteQuery};

impl Peer {
    /// A page of what the peer was told: what the embedder wants announced first, then routes of other peers.
    pub(crate) fn routes_out(&self, rib: &Rib, query: &RouteQuery) -> RoutePage {
        match query.after {
            Some(Cursor::Table(_)) => rib.page_out(self.member, query),
            Some(Cursor::Own(_)) | None => {
                let page = self.rib_out.page(&self.key, &self.session.export, query);
                let relays = page.next != Some(Cursor::Table(0)) || rib.told(self.member) > 0;
                RoutePage { next: page.next.filter(|_| relays), ..page }
            }
        }
    }

    pub(crate) fn status(&self, now: Instant, rib: &Rib) -> PeerStatus {
        let best = self.connections.iter().max_by_key(|connection| connection.state);
        let endpoints = best.and_then(|connection| connection.endpoints);
        let negotiated = best.and_then(|connection| connection.negotiated.as_ref());
        let established = best.is_some_and(Connection::is_established);
        let families: BTreeSet<Family> =
            negotiated.filter(|_| established).map(|negotiated| negotiated.families.clone()).unwrap_or_default();
        let next_hops = self.session.export.next_hops;
        let withheld = families.iter().copied().filter(|family| next_hops.of(*family).is_none()).collect();
        PeerStatus {
            key: self.key.clone(),
            range: self.range.clone(),
            remote: endpoints.map_or(self.config.transport.remote, |endpoints| endpoints.remote),
            interface: self.config.transport.unnumbered().map(str::to_owned),
            local: endpoints.map(|endpoints| endpoints.local),
            state: self.state,
            since: self.since,
            uptime: established.then(|| now.saturating_duration_since(self.since)),
            local_asn: self.config.local_asn,
            remote_asn: negotiated.map(|negotiated| negotiated.peer_asn),
            remote_router_id: negotiated.map(|negotiated| negotiated.peer_router_id),
            remote_role: negotiated.and_then(|negotiated| negotiated.peer_role),
            hold_time: negotiated.map(|negotiated| negotiated.hold_time),
            keepalive: negotiated.map(|negotiated| negotiated.keepalive),
            capabilities_sent: best.map(|connection| connection.capabilities.clone()).unwrap_or_default(),
            capabilities_received: negotiated.map(|negotiated| negotiated.capabilities.clone()).unwrap_or_default(),
            max_message: negotiated.map(|negotiated| negotiated.max_message),
            extended_next_hop: negotiated
                .is_some_and(|negotiated| negotiated.extended_next_hops == ExtendedNextHops::Agreed),
            families,
            withheld,
            prefixes_wanted: self.rib_out.wanted(),
            prefixes_sent: self.rib_out.told() + rib.told(self.member),
            prefixes_too_large: self.rib_out.too_large(),
            prefixes_received: self.session.received,
            prefixes_accepted: rib.accepted(self.member),
            prefixes_stale: rib.unconfirmed(self.member, Unconfirmed::Restart),
            limits: self.limit_status(rib),
            refused: self.session.refused.clone(),
            last_refusals: self.refusals.last(),
            updates_with_discarded_attributes: self.session.with_discarded_attributes,
            updates_treated_as_withdrawn: self.session.treated_as_withdrawn,
            last_malformed: self.refusals.last_malformed(),
            next_attempt: self.idle_until.max(self.retry),
            messages_in: self.messages_in,
            messages_out: self.messages_out,
            last_error: self.last_error.clone(),
            flaps: self.flaps,
        }
    }
}
