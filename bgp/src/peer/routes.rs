//! Routes of an established session: what comes in is judged and kept, what goes out depends on the next hop.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use ipnet::IpNet;
use rustbgpd_wire::constants::MAX_MESSAGE_LEN;
use rustbgpd_wire::{RouteRefreshMessage, Safi, UpdateMessage};
use tracing::{debug, warn};

use super::connection::Connection;
use super::state::Event;
use super::{Context, Input, Peer};
use crate::policy::Candidate;
use crate::refusal;
use crate::rib::{AcceptedRoute, EndOfRib, Unconfirmed};
use crate::update::{Disposition, Export, Import, decode_update};
use crate::{
    AsPath, Asn, ConnectionId, Endpoints, Family, LearnedPath, MalformedOutcome, MalformedUpdate, NextHops, PeerStatus,
    Refusal, RefusalReason, RouteChange, SessionError,
};

/// What is counted per session, and how the session's routes leave.
#[derive(Debug)]
pub(super) struct SessionCounters {
    pub(super) export: Export,
    pub(super) end_of_rib_received: BTreeSet<Family>,
    received: u64,
    refused: BTreeMap<RefusalReason, u64>,
    with_discarded_attributes: u64,
    treated_as_withdrawn: u64,
}

impl Default for SessionCounters {
    fn default() -> Self {
        let export = Export {
            local_asn: Asn(0),
            internal: false,
            four_octet_asn: true,
            next_hops: NextHops::default(),
            only_to_customer: None,
            max_message: MAX_MESSAGE_LEN,
        };
        Self {
            export,
            end_of_rib_received: BTreeSet::new(),
            received: 0,
            refused: BTreeMap::new(),
            with_discarded_attributes: 0,
            treated_as_withdrawn: 0,
        }
    }
}

impl Peer {
    pub(super) fn begin_session(&mut self, context: &mut Context<'_>, id: ConnectionId) {
        let Some(connection) = self.connections.iter().find(|connection| connection.id == id) else { return };
        let (Some(negotiated), Some(endpoints)) = (&connection.negotiated, &connection.endpoints) else { return };
        let next_hops = self.next_hops(endpoints);
        self.session = SessionCounters {
            export: Export {
                local_asn: self.config.local_asn,
                internal: negotiated.internal,
                four_octet_asn: negotiated.four_octet_asn,
                next_hops,
                only_to_customer: self.config.role.filter(|role| role.marks()).map(|_| self.config.local_asn),
                max_message: negotiated.max_message,
            },
            ..SessionCounters::default()
        };
        let open = negotiated.families.iter().copied().filter(|family| next_hops.of(*family).is_some()).collect();
        self.rib_out.begin_session(&negotiated.families, open);
        let negotiated = negotiated.clone();
        self.confirm_stale_routes(context, &negotiated);
    }

    pub(crate) fn update_routes(&mut self, context: &mut Context<'_>, changes: Vec<RouteChange>) {
        self.rib_out.change(changes);
        self.request_writes(context);
    }

    /// The embedder has said all that it knows at the start. From now on a first dump ends with End-of-RIB.
    pub(crate) fn release_end_of_rib(&mut self, context: &mut Context<'_>) {
        self.end_of_rib = EndOfRib::Release;
        self.request_writes(context);
    }

    /// For each family: what is configured; the session's own address, for its own family; an address of the interface
    /// that the session is over, for the other; what is configured to fall back to.
    fn next_hops(&self, endpoints: &Endpoints) -> NextHops {
        let local = endpoints.local.ip().to_canonical();
        let own = match local {
            IpAddr::V4(address) => NextHops { ipv4: Some(address), ipv6: None },
            // A link-local address means nothing beyond its link, so it is no next hop to pass on.
            IpAddr::V6(address) if address.is_unicast_link_local() => NextHops::default(),
            IpAddr::V6(address) => NextHops { ipv4: None, ipv6: Some(address) },
        };
        let sources = [self.config.next_hops, own, endpoints.interface, self.config.fallback_next_hops];
        NextHops {
            ipv4: sources.iter().find_map(|source| source.ipv4),
            ipv6: sources.iter().find_map(|source| source.ipv6),
        }
    }

    /// The configured next hops have changed: what was told with another one is told again.
    pub(super) fn apply_next_hops(&mut self) {
        let Some(connection) = self.connections.iter().find(|connection| connection.is_established()) else { return };
        let (Some(negotiated), Some(endpoints)) = (&connection.negotiated, &connection.endpoints) else { return };
        let next_hops = self.next_hops(endpoints);
        let before = std::mem::replace(&mut self.session.export.next_hops, next_hops);
        for &family in &negotiated.families {
            if before.of(family) != next_hops.of(family) {
                self.rib_out.set_open(family, next_hops.of(family).is_some());
                self.rib_out.resend(family);
            }
        }
    }

    /// The import policy has changed. What it does not accept any more is dropped; what it refused before was not kept,
    /// so the peer is asked for everything again, or the session restarted if the peer cannot be asked.
    pub(super) fn apply_import(&mut self, context: &mut Context<'_>) {
        let Some(connection) = self.connections.iter().find(|connection| connection.is_established()) else { return };
        let (Some(negotiated), Some(endpoints)) = (&connection.negotiated, &connection.endpoints) else { return };
        let (id, local_address) = (connection.id, endpoints.local.ip().to_canonical());
        if !negotiated.route_refresh {
            self.apply(context, id, Input::Failed(Event::Stop, SessionError::ConfigurationChanged));
            self.idle_until = None;
            self.retry = None;
            return;
        }
        let families: Vec<Family> = negotiated.families.iter().copied().collect();
        let (policy, local_asn) = (&self.config.import, self.config.local_asn);
        *context.routes_changed |= self.rib_in.retain(|prefix, route| {
            let as_path = &route.attributes.as_path;
            policy.judge(&Candidate { prefix, next_hop: route.next_hop, as_path, local_asn, local_address }).is_ok()
        });
        for family in families {
            let refresh = RouteRefreshMessage::new(family.afi(), Safi::Unicast);
            let mut message = bytes::BytesMut::with_capacity(23);
            let encoded = refresh.encode(&mut message);
            debug_assert!(encoded.is_ok(), "a refresh without filters always fits");
            self.send(id, &message);
        }
        self.check_max_prefixes(context, id, Family::Ipv4Unicast);
    }

    pub(super) fn take_update(&mut self, context: &mut Context<'_>, id: ConnectionId, update: &UpdateMessage) {
        let Some(connection) = self.connection(id) else { return };
        connection.restart_hold_timer(context.now);
        let (Some(negotiated), Some(endpoints)) = (&connection.negotiated, &connection.endpoints) else { return };
        let session = Import {
            internal: negotiated.internal,
            four_octet_asn: negotiated.four_octet_asn,
            families: &negotiated.families,
        };
        let local_address = endpoints.local.ip().to_canonical();
        let peer_asn = negotiated.peer_asn;
        let received = match decode_update(update, session) {
            Ok(received) => received,
            Err(error) => return self.apply(context, id, Input::Failed(Event::UpdateInvalid, error)),
        };

        let mut attributes = received.attributes;
        let mut mark = Ok(());
        if let (Some(role), Some(attributes)) = (self.config.role, &mut attributes) {
            mark = role.receive(attributes.only_to_customer, peer_asn).map(|mark| attributes.only_to_customer = mark);
        }
        let attributes = attributes.map(Arc::new);
        // Made once for all that are refused.
        let as_path = OnceCell::new();
        let as_path = || {
            as_path
                .get_or_init(|| attributes.as_ref().map_or_else(Arc::default, |known| refusal::trimmed(&known.as_path)))
        };
        match received.disposition {
            Disposition::Ok => {}
            Disposition::AttributeDiscarded { detail, octets } => {
                self.session.with_discarded_attributes += 1;
                if self.session.with_discarded_attributes == 1 {
                    warn!(peer = %self.key, %detail, "attributes of an UPDATE were discarded; further ones are counted");
                }
                self.note_malformed(context.now, MalformedOutcome::AttributeDiscarded, detail, octets);
            }
            Disposition::TreatedAsWithdrawn { detail, octets, routes } => {
                self.session.treated_as_withdrawn += 1;
                // Counted from here on: a peer must not be able to fill our logs.
                if self.session.treated_as_withdrawn == 1 {
                    warn!(peer = %self.key, %detail, prefixes = routes.len(), "an UPDATE was treated as a withdrawal; further ones are counted");
                }
                let outcome = MalformedOutcome::TreatedAsWithdrawn;
                let malformed = Some(self.note_malformed(context.now, outcome, detail, octets));
                for route in routes {
                    self.refuse(context.now, RefusalReason::TreatedAsWithdrawn, route, as_path(), malformed.clone());
                }
            }
        }
        for route in received.not_negotiated {
            self.refuse(context.now, RefusalReason::FamilyNotNegotiated, route, as_path(), None);
        }
        if let Some(family) = received.end_of_rib {
            debug!(peer = %self.key, %family, "End-of-RIB");
            self.session.end_of_rib_received.insert(family);
            self.drop_stale_routes(context, family);
        }

        let mut changed = false;
        for prefix in &received.withdrawn {
            changed |= self.rib_in.remove(prefix);
        }
        self.session.received += received.announced.len() as u64;
        let mut over_limit = None;
        if let Some(attributes) = &attributes {
            for (prefix, next_hop) in received.announced {
                let candidate = Candidate {
                    prefix: &prefix,
                    next_hop,
                    as_path: &attributes.as_path,
                    local_asn: self.config.local_asn,
                    local_address,
                };
                match mark.and_then(|()| self.config.import.judge(&candidate)) {
                    Ok(()) => {
                        let route = AcceptedRoute { attributes: Arc::clone(attributes), next_hop };
                        changed |= self.rib_in.insert(prefix, route);
                        over_limit = Some(Family::of(&prefix));
                    }
                    Err(reason) => {
                        self.refuse(context.now, reason, (prefix, next_hop), as_path(), None);
                        // The peer has replaced a route that was accepted by one that is not.
                        changed |= self.rib_in.remove(&prefix);
                    }
                }
            }
        }
        *context.routes_changed |= changed;
        if let Some(family) = over_limit {
            self.check_max_prefixes(context, id, family);
        }
    }

    /// One UPDATE at a time may take the table over the limit, by what fits into its octets.
    fn check_max_prefixes(&mut self, context: &mut Context<'_>, id: ConnectionId, family: Family) {
        if let Some(limit) = self.config.import.max_prefixes
            // A peer that is back after a restart may have other routes than before.
            && self.rib_in.len() - self.rib_in.unconfirmed(Unconfirmed::Restart) > limit as usize
        {
            let error = SessionError::MaxPrefixes { limit, family };
            self.apply(context, id, Input::Failed(Event::TooManyPrefixes, error));
        }
    }

    fn refuse(
        &mut self,
        at: Instant,
        reason: RefusalReason,
        (prefix, next_hop): (IpNet, IpAddr),
        as_path: &Arc<AsPath>,
        malformed: Option<Arc<MalformedUpdate>>,
    ) {
        *self.session.refused.entry(reason).or_default() += 1;
        let next_hop = Some(next_hop).filter(|next_hop| malformed.is_none() || !next_hop.is_unspecified());
        let as_path = Arc::clone(as_path);
        self.refusals.push(Refusal { at, prefix, next_hop, as_path, reason, malformed });
    }

    pub(super) fn note_malformed(
        &mut self,
        at: Instant,
        outcome: MalformedOutcome,
        detail: String,
        octets: Bytes,
    ) -> Arc<MalformedUpdate> {
        self.refusals.malformed(MalformedUpdate { at, outcome, detail, octets })
    }

    pub(crate) fn learned(&self) -> impl Iterator<Item = (&IpNet, LearnedPath)> {
        self.rib_in.iter().map(|(prefix, route, stale)| {
            let attributes = &route.attributes;
            let path = LearnedPath {
                peer: self.key.clone(),
                stale,
                next_hop: route.next_hop,
                origin: attributes.origin,
                as_path: attributes.as_path.clone(),
                med: attributes.med,
                local_preference: attributes.local_preference,
                communities: attributes.communities.clone(),
                large_communities: attributes.large_communities.clone(),
                only_to_customer: attributes.only_to_customer,
            };
            (prefix, path)
        })
    }

    pub(crate) fn status(&self, now: Instant) -> PeerStatus {
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
            remote: endpoints.map_or(self.config.transport.remote, |endpoints| endpoints.remote),
            local: endpoints.map(|endpoints| endpoints.local),
            state: self.state,
            since: self.since,
            uptime: established.then(|| now.saturating_duration_since(self.since)),
            local_asn: self.config.local_asn,
            remote_asn: negotiated.map(|negotiated| negotiated.peer_asn),
            remote_router_id: negotiated.map(|negotiated| negotiated.peer_router_id),
            remote_role: negotiated.and_then(|negotiated| negotiated.peer_role),
            hold_time: negotiated.map(|negotiated| negotiated.hold_time),
            max_message: negotiated.map(|negotiated| negotiated.max_message),
            families,
            withheld,
            prefixes_wanted: self.rib_out.wanted(),
            prefixes_sent: self.rib_out.told(),
            prefixes_too_large: self.rib_out.too_large(),
            prefixes_received: self.session.received,
            prefixes_accepted: self.rib_in.len(),
            prefixes_stale: self.rib_in.unconfirmed(Unconfirmed::Restart),
            refused: self.session.refused.clone(),
            last_refusals: self.refusals.last(),
            updates_with_discarded_attributes: self.session.with_discarded_attributes,
            updates_treated_as_withdrawn: self.session.treated_as_withdrawn,
            last_malformed: self.refusals.last_malformed(),
            messages_in: self.messages_in,
            messages_out: self.messages_out,
            last_error: self.last_error.clone(),
            flaps: self.flaps,
        }
    }
}
