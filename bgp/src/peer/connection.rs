//! One connection of a peer: where it stands, and the bytes in both directions.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use rustbgpd_wire::constants::MAX_MESSAGE_LEN;

use super::open::Negotiated;
use super::output_buffer::OutputBuffer;
use super::state::State;
use super::timers::{Timer, Timers};
use crate::exchange::{ConnectionId, Endpoints};

/// Who opened a connection. Decides a collision (RFC 4271 section 6.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Dialled,
    Accepted,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) origin: Origin,
    /// How long the peer may take for its OPEN.
    pub(super) open_time: Duration,
    pub(super) state: State,
    /// Known from the moment on in which the connection is up.
    pub(super) endpoints: Option<Endpoints>,
    /// What we have offered, in words.
    pub(super) capabilities: Vec<String>,
    /// Known once the peer's OPEN was accepted.
    pub(super) negotiated: Option<Negotiated>,
    pub(super) established_at: Option<Instant>,
    pub(super) timers: Timers,
    pub(super) input: BytesMut,
    pub(super) output: OutputBuffer,
    /// The driver knows that there is something to write, and will come back until there is not.
    pub(super) write_requested: bool,
}

/// RFC 4271 section 8.2.2: how long a peer may take for its OPEN.
pub(super) const LARGE_HOLD_TIME: Duration = Duration::from_secs(240);
/// RFC 9687 section 4.
const DEFAULT_SEND_HOLD_TIME: Duration = Duration::from_secs(480);

impl Connection {
    pub(super) fn new(id: ConnectionId, origin: Origin, open_time: Duration) -> Self {
        Self {
            id,
            origin,
            open_time,
            state: State::Connect,
            endpoints: None,
            capabilities: Vec::new(),
            negotiated: None,
            established_at: None,
            timers: Timers::default(),
            input: BytesMut::new(),
            output: OutputBuffer::default(),
            write_requested: false,
        }
    }

    pub(super) fn is_established(&self) -> bool {
        self.state == State::Established
    }

    /// The longest message that the peer takes, as far as is known.
    pub(super) fn max_message(&self) -> u16 {
        self.negotiated.as_ref().map_or(MAX_MESSAGE_LEN, |negotiated| negotiated.max_message)
    }

    /// RFC 9687 section 4: the greater of 8 minutes and twice the hold time, unless configured.
    pub(super) fn send_hold_time(&self, configured: Option<Duration>) -> Duration {
        let hold = self.negotiated.as_ref().map_or(Duration::ZERO, |negotiated| negotiated.hold_time);
        configured.unwrap_or_else(|| DEFAULT_SEND_HOLD_TIME.max(hold * 2))
    }

    /// The negotiated hold time runs from now on; never, if it is zero.
    pub(super) fn restart_hold_timer(&mut self, now: Instant) {
        match &self.negotiated {
            Some(negotiated) if !negotiated.hold_time.is_zero() => {
                self.timers.start(Timer::Hold, now, negotiated.hold_time);
            }
            Some(_) => self.timers.stop(Timer::Hold),
            None => self.timers.start(Timer::Hold, now, self.open_time),
        }
    }
}
