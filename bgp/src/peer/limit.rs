//! Keeping a peer to its number of prefixes ([`MaxPrefixes`]): the warning before, the end or the refusals beyond, and asking
//! again when there is room.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use ipnet::IpNet;
use rustbgpd_wire::{RouteRefreshMessage, Safi};
use tracing::{info, warn};

use super::state::Event;
use super::{Context, Input, Peer};
use crate::exchange::{self, ConnectionId, Output};
use crate::rib::Rib;
use crate::status::{LimitState, LimitStatus};
use crate::update::Nlri;
use crate::{Excess, Family, MaxPrefixes, RefusalReason, SessionError};

/// A peer that swings around the mark is warned of once in so long: it must not be able to fill our logs.
const WARNING_PAUSE: Duration = Duration::from_secs(60);
/// The peer answers with its whole table. One that keeps withdrawing a route and announcing two is not asked more often.
const ASKING_PAUSE: Duration = Duration::from_secs(30);

/// "Until the configuration changes", for a peer of a range: nothing but a time is kept of it.
const LONGEST_REST: Duration = Duration::from_secs(7 * 24 * 3600);

/// Where a peer stands with its limit.
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// At or above the warning mark.
    warned: BTreeSet<Family>,
    last_warning: Option<Instant>,
    /// Routes of these were refused for want of room, and not asked for since.
    missing: BTreeSet<Family>,
    last_asked: Option<Instant>,
    /// When to ask for them; there is room.
    ask_at: Option<Instant>,
}

impl Limits {
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.ask_at
    }

    pub(super) fn refused(&mut self, prefix: &IpNet) {
        self.missing.insert(Family::of(prefix));
    }

    /// What is missing of a session that is over comes with the next one.
    pub(super) fn end_session(&mut self) {
        *self = Self { last_warning: self.last_warning, ..Self::default() };
    }
}

impl Peer {
    /// Whether one more route may be kept. One in place of another may always.
    pub(super) fn room_for(&self, context: &Context<'_>, route: Nlri) -> Result<(), RefusalReason> {
        match self.config.import.max_prefixes {
            Some(MaxPrefixes { limit, excess: Excess::Drop, .. })
                if context.rib.live(self.member, Family::of(&route.prefix)) >= limit as usize
                    && !context.rib.is_live(self.member, &route.prefix, route.path_id) =>
            {
                Err(RefusalReason::BeyondMaxPrefixes)
            }
            _ => Ok(()),
        }
    }

    /// One UPDATE at a time may take the table over the limit, by what fits into its octets.
    pub(super) fn close_beyond_limit(&mut self, context: &mut Context<'_>, id: ConnectionId) {
        let Some(MaxPrefixes { limit, excess: Excess::Close { restart }, .. }) = self.config.import.max_prefixes else {
            return;
        };
        if let Some(family) =
            Family::ALL.into_iter().find(|family| context.rib.live(self.member, *family) > limit as usize)
        {
            let error = SessionError::MaxPrefixes { limit, family, restart };
            self.apply(context, id, Input::Failed(Event::TooManyPrefixes, error));
        }
    }

    /// The session was closed for its prefixes: nothing else of this peer stays or comes, as long as was asked for.
    pub(super) fn rest_after_excess(&mut self, context: &mut Context<'_>, error: &SessionError) {
        let SessionError::MaxPrefixes { restart, .. } = error else { return };
        self.close_all(context, error);
        match restart {
            Some(restart) => {
                let until = context.now + *restart;
                self.idle_until = Some(until);
                self.retry = self.config.connect.dials().then_some(until);
            }
            // Its range forgets it, but for the time that it rests.
            None if self.range.is_some() => self.idle_until = Some(context.now + LONGEST_REST),
            None => self.stopped = true,
        }
    }

    /// Warns, and asks for what has room now.
    pub(super) fn tend_limit(&mut self, context: &mut Context<'_>) {
        let Some(max) = self.config.import.max_prefixes else {
            self.limits = Limits::default();
            return;
        };
        let Some(established) = self.connections.iter().find(|connection| connection.is_established()) else { return };
        let asks = established.negotiated.as_ref().is_some_and(|negotiated| negotiated.route_refresh);
        let id = established.id;
        for family in Family::ALL {
            if context.rib.live(self.member, family) < max.mark() {
                self.limits.warned.remove(&family);
            } else if self.limits.warned.insert(family) {
                self.warn_of_limit(context, max, family);
            }
        }
        let room = |family: &&Family| context.rib.live(self.member, **family) < max.limit as usize;
        let wanted: Vec<Family> = self.limits.missing.iter().filter(room).copied().collect();
        if wanted.is_empty() || !asks {
            self.limits.ask_at = None;
            return;
        }
        let at = self.limits.last_asked.map_or(context.now, |last| context.now.max(last + ASKING_PAUSE));
        if at > context.now {
            self.limits.ask_at = Some(at);
            return;
        }
        info!(peer = %self.key, ?wanted, "there is room again: the peer is asked for what was refused");
        (self.limits.ask_at, self.limits.last_asked) = (None, Some(context.now));
        for family in wanted {
            self.ask_for(id, family);
        }
    }

    fn warn_of_limit(&mut self, context: &mut Context<'_>, max: MaxPrefixes, family: Family) {
        if self.limits.last_warning.is_some_and(|last| context.now < last + WARNING_PAUSE) {
            return;
        }
        self.limits.last_warning = Some(context.now);
        let (accepted, limit) = (context.rib.live(self.member, family), max.limit);
        warn!(peer = %self.key, %family, accepted, limit, "the peer comes close to its maximum of prefixes");
        let peer = self.key.clone();
        context.outputs.push_back(Output::Event(exchange::Event::MaxPrefixesNear { peer, family, accepted, limit }));
    }

    /// RFC 2918: a request for everything of a family again.
    pub(super) fn ask_for(&mut self, id: ConnectionId, family: Family) {
        self.limits.missing.remove(&family);
        let refresh = RouteRefreshMessage::new(family.afi(), Safi::Unicast);
        let mut message = BytesMut::with_capacity(23);
        let encoded = refresh.encode(&mut message);
        debug_assert!(encoded.is_ok(), "a refresh without filters always fits");
        self.send(id, &message);
    }

    pub(super) fn limit_status(&self, rib: &Rib) -> Vec<LimitStatus> {
        let Some(max) = self.config.import.max_prefixes else { return Vec::new() };
        let of_family = |&family: &Family| LimitStatus {
            family,
            accepted: rib.live(self.member, family),
            limit: max.limit,
            state: if self.limits.missing.contains(&family) {
                LimitState::Dropping
            } else if self.limits.warned.contains(&family) {
                LimitState::Warned
            } else {
                LimitState::Below
            },
        };
        self.config.families.iter().map(of_family).collect()
    }
}
