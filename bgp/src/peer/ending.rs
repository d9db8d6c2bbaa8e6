//! The end of a connection: last words, what becomes of the session's routes, what the operator is told, and when to try
//! again.

use std::time::{Duration, Instant};

use rustbgpd_wire::notification::cease_subcode;
use tracing::info;

use super::connection::{Connection, Origin};
use super::state::State;
use super::{Context, Peer};
use crate::exchange::{ConnectionId, Event, Output};
use crate::notification::Notification;
use crate::{MalformedOutcome, SessionError};

/// A session that ended sooner has not been one: a peer that only connects and closes is damped.
const MOMENT: Duration = Duration::from_secs(1);

impl Peer {
    /// Ends a connection: last words, consequences for routes, and when to try again.
    pub(super) fn close(&mut self, context: &mut Context<'_>, id: ConnectionId, error: SessionError) {
        let Some(index) = self.connections.iter().position(|connection| connection.id == id) else { return };
        let mut connection = self.connections.remove(index);
        context.connections.remove(&id);
        let established = connection.is_established();
        let last = match self.last_words(&connection, &error) {
            // Before the connection is up there is nobody to write to.
            Some(notification) if connection.state != State::Connect => {
                self.messages_out += 1;
                let output = std::mem::take(&mut connection.output);
                if established && error.is_farewell() {
                    // What the peer was told it is to forget first, so what it was told must reach it too.
                    let mut last = self.rib_out.withdraw_all(&self.session.export);
                    last.extend_from_slice(&notification.encode(connection.max_message()));
                    output.append(&last)
                } else {
                    output.finish(&notification.encode(connection.max_message()))
                }
            }
            _ => Vec::new(),
        };
        context.outputs.push_back(Output::Close { connection: id, last });

        if let SessionError::Update { detail, octets, .. } = &error {
            self.note_malformed(context.now, MalformedOutcome::SessionReset, detail.clone(), octets.clone());
        }
        let uptime = connection.established_at.map(|since| context.now.saturating_duration_since(since));
        if uptime.is_some() {
            self.flaps += 1;
            self.rib_out.end_session();
            context.rib.end_session(self.member);
            self.limits.end_session();
            self.keep_or_drop_routes(context, connection.negotiated.as_ref(), &error);
        }
        self.report(context, &error, uptime.is_some());
        self.plan_retry(context.now, &connection, &error, uptime);
        self.rest_after_excess(context, &error);
    }

    fn last_words(&self, connection: &Connection, error: &SessionError) -> Option<Notification> {
        let notification = error.notification()?;
        let restart = connection.negotiated.as_ref().and_then(|negotiated| negotiated.graceful_restart.as_ref());
        // RFC 8538 section 4: otherwise the peer would keep the routes of a session that is meant to be gone, or of a path that
        // has failed.
        let gone = error.is_farewell() || matches!(error, SessionError::BfdDown { .. });
        let hard = gone && restart.is_some_and(|restart| restart.notification);
        Some(if hard { notification.as_hard_reset() } else { notification })
    }

    /// Tells the operator, unless it is what he was told last or nothing to be told about.
    fn report(&mut self, context: &mut Context<'_>, error: &SessionError, was_established: bool) {
        if matches!(error, SessionError::Collision) && !was_established {
            return;
        }
        // After a session was ended in words there is often no connection for a while: the words are still what matters.
        if self.explained && error.explains_nothing() {
            return;
        }
        self.explained = error.explains();
        self.ended_by = Some(error.clone());
        let reason = format!("{} ({}): {error}", self.key, self.config.transport.router());
        // Of those that come from a range without a session there may be any number: the range tells of them.
        if was_established || (self.range.is_none() && self.last_error.as_ref() != Some(&reason)) {
            info!(peer = %self.key, %error, was_established, "session down");
            let event = Event::SessionDown { peer: self.key.clone(), reason: reason.clone() };
            context.outputs.push_back(Output::Event(event));
        }
        self.last_error = Some(reason);
    }

    fn plan_retry(&mut self, now: Instant, lost: &Connection, error: &SessionError, uptime: Option<Duration>) {
        let alone = self.connections.is_empty();
        if self.stopped || (!alone && lost.origin == Origin::Accepted) {
            return;
        }
        let retry = self.config.connect_retry;
        let collision = match error {
            SessionError::Collision => true,
            SessionError::NotificationReceived { notification, .. } => notification.is_collision(),
            _ => false,
        };
        // The peer's OPEN is what turns a failed connection into a failed session.
        let answered = lost.negotiated.is_some() || error.notification().is_some() || error.is_from_peer();
        let pause = if collision || !answered {
            self.backoff.connection_failed(retry, &mut self.random)
        } else {
            let pause = self.backoff.session_failed(uptime, retry, &mut self.random);
            // A peer that restarts in order is welcome at once; what we had to end ourselves, or what did not even last a
            // moment, will not be better in a moment.
            let in_order = error.notification().is_none() && uptime.is_some_and(|uptime| uptime >= MOMENT);
            if alone && !in_order {
                // However long we wait before dialling, a peer that dials us is heard again after one retry time.
                self.idle_until = Some(now + pause.min(retry));
            }
            pause
        };
        self.retry = self.config.connect.dials().then(|| now + pause);
    }
}

impl SessionError {
    /// Whether the peer has ended a session in words, rather than just the connection.
    fn is_from_peer(&self) -> bool {
        match self {
            // "Nobody here for you": as if nobody had answered.
            Self::NotificationReceived { notification, .. } => {
                (notification.code, notification.subcode) != (6, cease_subcode::CONNECTION_REJECTED)
            }
            _ => false,
        }
    }

    /// Whether there is not to be a session with this peer any more.
    const fn is_farewell(&self) -> bool {
        matches!(self, Self::Shutdown { .. } | Self::Deconfigured)
    }

    /// Whether it says what has to change before there can be a session: what one side did not like about the other.
    fn explains(&self) -> bool {
        match self {
            Self::NotificationReceived { notification, .. } => !notification.is_collision(),
            Self::Open(_)
            | Self::Header { .. }
            | Self::Update { .. }
            | Self::RouteRefresh { .. }
            | Self::MaxPrefixes { .. } => true,
            _ => false,
        }
    }

    /// Whether all that is known is that a connection ended before it was of any use.
    const fn explains_nothing(&self) -> bool {
        matches!(self, Self::ClosedByPeer { established: false } | Self::ConnectionLost { .. })
    }
}
