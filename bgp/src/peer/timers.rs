//! The timers of a connection: a table of deadlines, looked at when somebody says what time it is.

use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// Until a dialled connection must be up.
    Connect,
    /// Until the peer must have said something (RFC 4271 section 4.2); before its OPEN the large value of section 8.2.2.
    Hold,
    /// Until we must have said something.
    Keepalive,
    /// Until the peer must have taken some of what waits for it (RFC 9687).
    SendHold,
}

impl Timer {
    /// In the order in which simultaneous expiries are handled: what ends the connection first.
    pub(crate) const ALL: [Self; 4] = [Self::Connect, Self::Hold, Self::SendHold, Self::Keepalive];
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Timers {
    deadlines: [Option<Instant>; Timer::ALL.len()],
}

impl Timers {
    pub(crate) fn start(&mut self, timer: Timer, now: Instant, duration: Duration) {
        self.deadlines[timer as usize] = Some(now + duration);
    }

    pub(crate) fn stop(&mut self, timer: Timer) {
        self.deadlines[timer as usize] = None;
    }

    pub(crate) fn is_running(&self, timer: Timer) -> bool {
        self.deadlines[timer as usize].is_some()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.iter().flatten().min().copied()
    }

    /// Stops and returns a timer that has expired.
    pub(crate) fn take_expired(&mut self, now: Instant) -> Option<Timer> {
        let expired = |timer: &Timer| self.deadlines[*timer as usize].is_some_and(|deadline| deadline <= now);
        let timer = Timer::ALL.into_iter().find(expired)?;
        self.stop(timer);
        Some(timer)
    }
}
