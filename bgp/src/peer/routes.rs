//! Routes of an established session: what comes in is judged and kept, what goes out depends on the next hop.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rustbgpd_wire::UpdateMessage;
use rustbgpd_wire::constants::MAX_MESSAGE_LEN;
use tracing::{debug, warn};

use super::open::Negotiated;
use super::state::Event;
use super::{Context, Input, Peer};
use crate::next_hop::SessionNextHops;
use crate::policy::Candidate;
use crate::refusal;
use crate::rib::{EndOfRib, Identity, Route};
use crate::update::relayed::RelaySession;
use crate::update::{Disposition, Export, Import, Reach, decode_update};
use crate::{
    AsPath, Asn, ConnectionId, Family, MalformedOutcome, MalformedUpdate, Refusal, RefusalReason, Relay,
    RelayedNextHop, Role, RouteChange, SessionError,
};

/// What is counted per session, and how the session's routes leave.
#[derive(Debug)]
pub(super) struct SessionCounters {
    pub(super) export: Export,
    pub(super) end_of_rib_received: BTreeSet<Family>,
    pub(super) received: u64,
    pub(super) refused: BTreeMap<RefusalReason, u64>,
    pub(super) with_discarded_attributes: u64,
    pub(super) treated_as_withdrawn: u64,
}

impl Default for SessionCounters {
    fn default() -> Self {
        let export = Export {
            local_asn: Asn(0),
            internal: false,
            four_octet_asn: true,
            next_hops: SessionNextHops::default(),
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
        let next_hops = SessionNextHops::choose(&self.config, endpoints, negotiated.extended_next_hops);
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
        let identity = Identity {
            internal: negotiated.internal,
            transparent: self.config.relay == Relay::RouteServerClient,
            router_id: negotiated.peer_router_id.into(),
            address: endpoints.remote.ip().to_canonical(),
        };
        let negotiated = negotiated.clone();
        context.rib.begin_session(self.member, identity, self.relay_session(&negotiated, next_hops));
        self.confirm_stale_routes(context, &negotiated);
    }

    /// What the peer gets of others' routes, if it has a part in that.
    fn relay_session(&self, negotiated: &Negotiated, next_hops: SessionNextHops) -> Option<RelaySession> {
        (self.config.relay != Relay::Nothing).then(|| RelaySession {
            families: Family::ALL.map(|family| negotiated.families.contains(&family)),
            paths: Family::ALL.map(|family| match negotiated.sends_several.contains(&family) {
                true => self.config.add_path.send,
                false => 1,
            }),
            four_octet_asn: negotiated.four_octet_asn,
            max_message: negotiated.max_message,
            extended_next_hops: negotiated.extended_next_hops,
            cluster: self.config.relay.cluster(),
            own_next_hops: (self.config.relayed_next_hop == RelayedNextHop::Own).then_some(next_hops),
            only_to_customer: self.session.export.only_to_customer,
            withholds_marked: self.config.role.is_some_and(Role::withholds_marked),
            aigp: self.config.aigp.applies(negotiated.internal),
        })
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

    /// The configured next hops have changed: what was told with another one is told again.
    pub(super) fn apply_next_hops(&mut self) {
        let Some(connection) = self.connections.iter().find(|connection| connection.is_established()) else { return };
        let (Some(negotiated), Some(endpoints)) = (&connection.negotiated, &connection.endpoints) else { return };
        let next_hops = SessionNextHops::choose(&self.config, endpoints, negotiated.extended_next_hops);
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
        let (router_id, cluster) = (self.config.router_id, self.config.relay.cluster());
        *context.routes_changed |= context.rib.retain(self.member, |prefix, route| {
            let (next_hop, attributes) = (route.next_hop, &route.attributes);
            let candidate = Candidate { next_hop, attributes, local_asn, local_address, router_id, cluster };
            policy.judge(&candidate).and_then(|()| policy.judge_prefix(prefix)).is_ok()
        });
        for family in families {
            self.ask_for(id, family);
        }
        self.close_beyond_limit(context, id);
    }

    pub(super) fn take_update(&mut self, context: &mut Context<'_>, id: ConnectionId, update: &UpdateMessage) {
        let heard = self.config.aigp;
        let Some(connection) = self.connection(id) else { return };
        connection.restart_hold_timer(context.now);
        let (Some(negotiated), Some(endpoints)) = (&connection.negotiated, &connection.endpoints) else { return };
        let session = Import {
            internal: negotiated.internal,
            four_octet_asn: negotiated.four_octet_asn,
            families: &negotiated.families,
            extended_next_hops: negotiated.extended_next_hops,
            local_address: endpoints.local.ip().to_canonical(),
            several_paths: &negotiated.receives_several,
            aigp: heard.applies(negotiated.internal),
        };
        let local_address = session.local_address;
        let (peer_asn, peer_router_id) = (negotiated.peer_asn, negotiated.peer_router_id);
        let received = match decode_update(update, session) {
            Ok(received) => received,
            Err(error) => return self.apply(context, id, Input::Failed(Event::UpdateInvalid, error)),
        };

        let mut attributes = received.attributes;
        let mut mark = Ok(());
        if let (Some(role), Some(attributes)) = (self.config.role, &mut attributes) {
            mark = role.receive(attributes.only_to_customer(), peer_asn).map(|mark| {
                mark.into_iter().for_each(|asn| attributes.mark_only_to_customer(asn));
            });
        }
        if let (Some(_), Some(attributes)) = (self.config.relay.cluster(), &mut attributes) {
            attributes.name_originator(peer_router_id);
        }
        // Made once for all that are refused.
        let as_path = OnceCell::new();
        let as_path = || {
            as_path.get_or_init(|| {
                attributes.as_ref().map_or_else(Arc::default, |known| refusal::trimmed(&known.meaning().as_path))
            })
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
            changed |= context.rib.remove(self.member, &prefix.prefix, prefix.path_id);
        }
        self.session.received += received.announced.len() as u64;
        if let Some(attributes) = &attributes {
            let mut known: Option<(Arc<Route>, Result<(), RefusalReason>)> = None;
            for reach in received.announced {
                // One for all, but where a message has routes of both families.
                let (route, verdict) = match &known {
                    Some(known) if known.0.next_hop == reach.next_hop => known,
                    _ => {
                        let route = context.rib.route(attributes, reach.next_hop);
                        let verdict = self.config.import.judge(&Candidate {
                            next_hop: reach.next_hop,
                            attributes: &route.attributes,
                            local_asn: self.config.local_asn,
                            local_address,
                            router_id: self.config.router_id,
                            cluster: self.config.relay.cluster(),
                        });
                        known.insert((route, mark.and(verdict)))
                    }
                };
                match verdict
                    .and_then(|()| self.config.import.judge_prefix(&reach.nlri.prefix))
                    .and_then(|()| self.room_for(context, reach.nlri))
                {
                    Ok(()) => {
                        changed |= context.rib.insert(self.member, reach.nlri.prefix, reach.nlri.path_id, route);
                    }
                    Err(reason) => {
                        self.refuse(context.now, reason, reach, as_path(), None);
                        // The peer has replaced a route that was accepted by one that is not.
                        changed |= context.rib.remove(self.member, &reach.nlri.prefix, reach.nlri.path_id);
                    }
                }
            }
        }
        *context.routes_changed |= changed;
        self.close_beyond_limit(context, id);
    }

    fn refuse(
        &mut self,
        at: Instant,
        reason: RefusalReason,
        reach: Reach,
        as_path: &Arc<AsPath>,
        malformed: Option<Arc<MalformedUpdate>>,
    ) {
        *self.session.refused.entry(reason).or_default() += 1;
        if reason == RefusalReason::BeyondMaxPrefixes {
            self.limits.refused(&reach.nlri.prefix);
        }
        let (prefix, next_hop) = (reach.nlri.prefix, reach.next_hop);
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
}
