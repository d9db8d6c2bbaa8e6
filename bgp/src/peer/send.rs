//! Bytes for the peer: messages of the session itself, and UPDATEs, which are made as the socket takes them.

use std::time::Instant;

use super::timers::Timer;
use super::{Context, KEEPALIVE, Peer};
use crate::Relay;
use crate::exchange::{ConnectionId, Output};
use crate::rib::Rib;

impl Peer {
    pub(super) fn send_keepalive(&mut self, context: &mut Context<'_>, id: ConnectionId) {
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else { return };
        if let Some(negotiated) = &connection.negotiated
            && !negotiated.keepalive.is_zero()
        {
            // RFC 4271 section 10: jitter, or peers that came up together would be heard together for ever.
            let interval = self.random.jitter(negotiated.keepalive);
            connection.timers.start(Timer::Keepalive, context.now, interval);
        }
        self.send(id, &KEEPALIVE);
    }

    pub(super) fn send(&mut self, id: ConnectionId, message: &[u8]) {
        if let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) {
            connection.output.push(message);
            self.messages_out += 1;
        }
    }

    /// Makes what is to be shown by [`pending_write`](Self::pending_write). If that is nothing, the next [`Output::Write`] says
    /// when there is something again.
    pub(crate) fn prepare_write(&mut self, now: Instant, id: ConnectionId, rib: &mut Rib) {
        self.fill(id, rib);
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else { return };
        if connection.output.is_empty() {
            connection.write_requested = false;
            connection.timers.stop(Timer::SendHold);
        } else if !connection.timers.is_running(Timer::SendHold) {
            let send_hold = connection.send_hold_time(self.config.send_hold);
            connection.timers.start(Timer::SendHold, now, send_hold);
        }
    }

    /// Bytes for the socket.
    pub(crate) fn pending_write(&self, id: ConnectionId) -> &[u8] {
        let connection = self.connections.iter().find(|connection| connection.id == id);
        connection.map_or(&[], |connection| connection.output.as_slice())
    }

    /// Makes messages as long as there is room for them: our own routes, others' routes, and what follows all of them.
    fn fill(&mut self, id: ConnectionId, rib: &mut Rib) {
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else { return };
        if !connection.is_established() || !connection.output.has_run_low() {
            return;
        }
        let end_of_rib = self.end_of_rib.while_held(rib.is_held() && self.config.relay != Relay::Nothing);
        let mut again = None;
        while connection.output.has_room() {
            if let Some(message) = self.rib_out.next_message(&self.session.export, rib.encoded()) {
                connection.output.push(&message);
            } else if connection.output.push_with(|output| rib.next_message(self.member, output)) {
            } else if let Some((message, family)) = self.rib_out.next_marker(&self.session.export, end_of_rib) {
                connection.output.push(&message);
                again = family;
            } else {
                break;
            }
            self.messages_out += 1;
            if let Some(family) = again.take()
                && self.rib_out.refresh(family)
            {
                rib.resend(self.member, family);
            }
        }
    }

    /// The socket took some of them.
    pub(crate) fn handle_written(&mut self, id: ConnectionId, count: usize) {
        let Some(connection) = self.connection(id) else { return };
        connection.output.advance(count);
        if count > 0 {
            // Started anew with the next attempt to write.
            connection.timers.stop(Timer::SendHold);
        }
    }

    pub(crate) fn request_writes(&mut self, context: &mut Context<'_>) {
        let held = context.rib.is_held() && self.config.relay != Relay::Nothing;
        let end_of_rib = self.end_of_rib.while_held(held);
        for connection in &mut self.connections {
            let waiting = !connection.output.is_empty()
                || (connection.is_established()
                    && (self.rib_out.has_pending(end_of_rib) || context.rib.has_pending(self.member)));
            if waiting && !connection.write_requested {
                connection.write_requested = true;
                context.outputs.push_back(Output::Write { connection: connection.id });
            }
        }
    }
}
