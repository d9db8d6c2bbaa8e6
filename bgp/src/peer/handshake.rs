//! From a connection to a session: both OPENs, what is done about a second connection, and Established.

use std::time::{Duration, Instant};

use tracing::info;

use super::connection::{Connection, Origin};
use super::open::{Negotiated, RestartState, encode_open, our_open};
use super::state::{Event, State};
use super::timers::Timer;
use super::{Context, Input, Peer};
use crate::SessionError;
use crate::capability;
use crate::exchange::{self, ConnectionId, Endpoints, Output};

impl Peer {
    pub(super) fn send_open(&mut self, context: &mut Context<'_>, id: ConnectionId, endpoints: Endpoints) {
        let open = our_open(&self.config, self.restart_state(context.now));
        let Some(connection) = self.connection(id) else { return };
        connection.state = State::OpenSent;
        connection.endpoints = Some(endpoints);
        connection.capabilities = capability::in_words(&open);
        connection.timers.stop(Timer::Connect);
        connection.restart_hold_timer(context.now);
        self.send(id, &encode_open(&open));
    }

    /// RFC 4724 section 4.1: R in the first OPENs after our own start, while a peer may still have routes from before it.
    fn restart_state(&self, now: Instant) -> RestartState {
        let restart_time = self.config.graceful_restart.as_ref().map_or(Duration::ZERO, |restart| restart.restart_time);
        if !self.was_established && now < self.started + restart_time {
            RestartState::Restarting
        } else {
            RestartState::Running
        }
    }

    pub(super) fn accept_open(&mut self, context: &mut Context<'_>, id: ConnectionId, negotiated: Negotiated) {
        self.backoff.connection_came_up();
        let gone = self.connections.iter().find(|connection| connection.is_established());
        let accepted = |connection: &Connection| connection.id == id && connection.origin == Origin::Accepted;
        if let Some(gone) = gone.map(|connection| connection.id)
            && self.connections.iter().any(accepted)
            && self.may_have_restarted(context.now)
        {
            // RFC 4724 section 4.2: as if TCP had failed, and without a word to a connection that has no other end.
            self.apply(context, gone, Input::Failed(Event::TcpFails, SessionError::PeerRestarted));
        }
        if let Some(loser) = self.collision_loser(id, &negotiated) {
            self.apply(context, loser, Input::Failed(Event::CollisionLost, SessionError::Collision));
        }
        let Some(connection) = self.connection(id) else { return };
        connection.state = State::OpenConfirm;
        connection.negotiated = Some(negotiated);
        connection.restart_hold_timer(context.now);
        self.send_keepalive(context, id);
    }

    /// RFC 4271 section 6.8: which connection must go, now that an OPEN has come over `id`.
    fn collision_loser(&self, id: ConnectionId, negotiated: &Negotiated) -> Option<ConnectionId> {
        let this = self.connections.iter().find(|connection| connection.id == id)?;
        let other = self.connections.iter().find(|connection| connection.id != id)?;
        match other.state {
            // Nothing is known of its other end yet: its turn comes with its OPEN.
            State::Connect | State::OpenSent => None,
            State::Established => Some(this.id),
            // The connection stays that was opened by the speaker with the higher identifier; RFC 6286 section 2.3: if
            // they are equal, by the one with the higher AS number.
            State::OpenConfirm => {
                let ours = (u32::from(self.config.router_id), self.config.local_asn);
                let theirs = (u32::from(negotiated.peer_router_id), negotiated.peer_asn);
                let kept = if ours > theirs { Origin::Dialled } else { Origin::Accepted };
                Some(if this.origin == kept { other.id } else { this.id })
            }
        }
    }

    pub(super) fn establish(&mut self, context: &mut Context<'_>, id: ConnectionId) {
        let now = context.now;
        let Some(connection) = self.connection(id) else { return };
        connection.state = State::Established;
        connection.established_at = Some(now);
        connection.restart_hold_timer(now);
        self.retry = None;
        // A dial that has not been answered yet would only make another collision.
        let dialling = self.connections.iter().find(|connection| connection.state == State::Connect);
        if let Some(dialling) = dialling.map(|connection| connection.id) {
            self.apply(context, dialling, Input::Failed(Event::CollisionLost, SessionError::Collision));
        }
        self.explained = false;
        if matches!(self.ended_by, Some(SessionError::DialFailed { .. } | SessionError::DialTimeout { .. })) {
            // A connection that did not come up is no news once one has.
            self.last_error = None;
        }
        self.was_established = true;
        self.begin_session(context, id);
        info!(peer = %self.key, "session established");
        context.outputs.push_back(Output::Event(exchange::Event::SessionUp { peer: self.key.clone() }));
    }
}
