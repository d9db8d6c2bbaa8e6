//! The intervals of a session: what each side says, what is in force, and what follows for the next packet and for the
//! detection time (RFC 5880 sections 6.8.2 to 6.8.4 and 6.8.7).
//!
//! Both directions are negotiated apart: who sends, sends at the slower of what he would like and of what the other bears. A
//! side may change its mind at any time, and then polls: it sets P until an answer with F says that the change was heard.
//! Two changes wait for that answer, so that no one is declared dead by a clock that he does not know of yet: a longer interval
//! of ours between packets sent, and a shorter one that we require between packets received.
//!
//! Deadlines are not stored but computed from the last packet in each direction, so a changed interval counts at once.

use std::time::{Duration, Instant};

use super::packet::ControlPacket;
use crate::random::SplitMix64;

/// RFC 5880 section 6.8.3: a session that is not up asks for no more than this.
pub(crate) const SLOW: Duration = Duration::from_secs(1);
/// Longer than any path that a session of milliseconds is for.
const ROUND_TRIP: Duration = Duration::from_secs(1);
/// RFC 5880 section 6.8.1: what is assumed of a remote side that has not said.
const UNSAID: Duration = Duration::from_micros(1);

#[derive(Debug)]
pub(crate) struct Timers {
    multiplier: u8,
    /// bfd.DesiredMinTxInterval, as told.
    desired_transmit: Duration,
    /// The shorter one that is kept until the longer one was heard of.
    transmit_until_final: Option<Duration>,
    /// bfd.RequiredMinRxInterval, as told.
    required_receive: Duration,
    /// The longer one that is kept until the shorter one was heard of.
    receive_until_final: Option<Duration>,
    /// Something changed that no poll has asked about yet.
    unasked: bool,
    /// RFC 5880 section 6.5: packets carry P until one with F comes.
    polling: bool,
    last_poll: Option<Instant>,
    /// bfd.RemoteMinRxInterval: zero means that it wants no periodic packets.
    remote_required_receive: Duration,
    /// What the remote side's last packet said of its own sending; `None`: nothing was heard for a detection time.
    remote: Option<RemoteSending>,
    /// When the session began: then its first packet is due.
    began: Instant,
    /// The last packet that was not an answer.
    last_sent: Option<Instant>,
    /// How much of the interval is waited for before the next packet, in thousandths; drawn for each.
    share: u32,
}

#[derive(Debug, Clone, Copy)]
struct RemoteSending {
    multiplier: u8,
    desired_transmit: Duration,
    last_received: Instant,
}

impl Timers {
    pub(crate) fn new(now: Instant, transmit: Duration, receive: Duration, multiplier: u8) -> Self {
        Self {
            multiplier,
            desired_transmit: transmit.max(SLOW),
            transmit_until_final: None,
            required_receive: receive,
            receive_until_final: None,
            unasked: false,
            polling: false,
            last_poll: None,
            remote_required_receive: UNSAID,
            remote: None,
            began: now,
            last_sent: None,
            share: 1000,
        }
    }

    /// Other intervals, by configuration or because the session came up or went down. `settled` says that both sides rely on
    /// what was agreed: then what could harm waits for the answer to a poll.
    pub(crate) fn change(&mut self, transmit: Duration, receive: Duration, settled: Settled) -> Changed {
        if (transmit, receive) == (self.desired_transmit, self.required_receive) {
            return Changed::No;
        }
        let (transmit_before, receive_before) = (self.transmit_in_force(), self.receive_in_force());
        let waits = settled == Settled::Yes;
        self.transmit_until_final = (waits && transmit > transmit_before).then_some(transmit_before);
        self.receive_until_final = (waits && receive < receive_before).then_some(receive_before);
        (self.desired_transmit, self.required_receive) = (transmit, receive);
        self.unasked = true;
        Changed::Yes
    }

    /// RFC 5880 section 6.8.12: needs no poll.
    pub(crate) fn set_multiplier(&mut self, multiplier: u8) {
        self.multiplier = multiplier;
    }

    /// A packet was accepted.
    pub(crate) fn received(&mut self, now: Instant, packet: &ControlPacket) {
        self.remote_required_receive = packet.required_min_rx;
        self.remote = Some(RemoteSending {
            multiplier: packet.detect_multiplier,
            desired_transmit: packet.desired_min_tx,
            last_received: now,
        });
        if self.polling && packet.is_final {
            self.polling = false;
            // What changed meanwhile may or may not have been heard of: it will be asked about again.
            if !self.unasked {
                (self.transmit_until_final, self.receive_until_final) = (None, None);
            }
        }
    }

    /// RFC 5880 sections 6.8.1 and 6.8.18: a remote side that was silent for a detection time is a stranger again.
    pub(crate) fn forget_remote(&mut self) {
        self.remote = None;
        self.remote_required_receive = UNSAID;
    }

    /// A periodic packet, or one that told a change, has left.
    pub(crate) fn sent(&mut self, now: Instant, random: &mut SplitMix64) {
        self.last_sent = Some(now);
        // RFC 5880 section 6.8.7: 75 to 100 % of the interval, and at most 90 % where the first packet lost is the last.
        let most = if self.multiplier == 1 { 900 } else { 1000 };
        self.share = 750 + (random.next() % (most - 750 + 1)) as u32;
    }

    /// Whether the packet that leaves now is to carry P. Two polls are kept a round trip apart (RFC 5880 section 6.8.3, the second of
    /// its three ways), or a late answer to the first would be taken for one to the second.
    pub(crate) fn poll(&mut self, now: Instant) -> bool {
        if self.unasked && !self.polling && self.last_poll.is_none_or(|last| now >= last + ROUND_TRIP) {
            (self.unasked, self.polling) = (false, true);
        }
        if self.polling {
            self.last_poll = Some(now);
        }
        self.polling
    }

    /// Whether an answer is still to come, or to be asked for.
    pub(crate) const fn has_to_poll(&self) -> bool {
        self.polling || self.unasked
    }

    pub(crate) const fn multiplier(&self) -> u8 {
        self.multiplier
    }

    pub(crate) const fn desired_transmit(&self) -> Duration {
        self.desired_transmit
    }

    pub(crate) const fn required_receive(&self) -> Duration {
        self.required_receive
    }

    /// Between two packets of ours, before jitter; `None` where the remote side wants none.
    pub(crate) fn transmit_interval(&self) -> Option<Duration> {
        let wanted = !self.remote_required_receive.is_zero();
        wanted.then(|| self.transmit_in_force().max(self.remote_required_receive))
    }

    /// RFC 5880 section 6.8.4: how long the remote side may be silent; `None` when it is already.
    pub(crate) fn detection_time(&self) -> Option<Duration> {
        let remote = self.remote?;
        Some(self.receive_in_force().max(remote.desired_transmit) * u32::from(remote.multiplier))
    }

    pub(crate) fn detection_deadline(&self) -> Option<Instant> {
        Some(self.remote?.last_received + self.detection_time()?)
    }

    /// When the next periodic packet is due; in the past, if it should have left already.
    pub(crate) fn transmit_deadline(&self) -> Option<Instant> {
        let interval = self.transmit_interval()?;
        Some(self.last_sent.map_or(self.began, |sent| sent + interval * self.share / 1000))
    }

    fn transmit_in_force(&self) -> Duration {
        self.transmit_until_final.unwrap_or(self.desired_transmit)
    }

    fn receive_in_force(&self) -> Duration {
        self.receive_until_final.unwrap_or(self.required_receive)
    }
}

/// Whether a session is up, and so both sides rely on what they have agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    Yes,
    No,
}

/// Whether there is something to tell the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Changed {
    Yes,
    No,
}

#[cfg(test)]
mod tests {
    use super::super::packet::{Diagnostic, State};
    use super::*;

    /// Any moment will do to start virtual time from.
    #[allow(clippy::disallowed_methods, reason = "the origin of virtual time; nothing is measured")]
    fn start_of_time() -> Instant {
        Instant::now()
    }

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn says(transmit: u64, receive: u64, multiplier: u8, is_final: bool) -> ControlPacket {
        ControlPacket {
            diagnostic: Diagnostic::NONE,
            state: State::Up,
            poll: false,
            is_final,
            control_plane_independent: false,
            authentication_present: false,
            demand: false,
            detect_multiplier: multiplier,
            my_discriminator: 7,
            your_discriminator: 8,
            desired_min_tx: ms(transmit),
            required_min_rx: ms(receive),
            required_min_echo_rx: Duration::ZERO,
        }
    }

    /// A session that is up at 300 ms both ways, and no poll under way.
    fn settled(now: Instant) -> Timers {
        let mut timers = Timers::new(now, ms(300), ms(300), 3);
        timers.change(ms(300), ms(300), Settled::Yes);
        assert!(timers.poll(now - ROUND_TRIP));
        timers.received(now, &says(300, 300, 3, true));
        assert!(!timers.poll(now));
        timers
    }

    #[test]
    fn the_slower_of_both_counts_in_each_direction() {
        let now = start_of_time();
        // Ours: transmit, receive. Theirs: transmit, receive, multiplier. Then our interval, and the detection time.
        let cases = [
            ((300, 300), (300, 300, 3), (Some(300), 900)),
            ((300, 300), (1000, 50, 3), (Some(300), 3000)),
            ((50, 50), (50, 1000, 4), (Some(1000), 200)),
            ((50, 400), (100, 60, 1), (Some(60), 400)),
            ((300, 300), (300, 0, 255), (None, 76_500)),
        ];
        for (ours, theirs, (interval, detection)) in cases {
            let mut timers = settled(now);
            timers.change(ms(ours.0), ms(ours.1), Settled::No);
            timers.received(now, &says(theirs.0, theirs.1, theirs.2, true));
            assert_eq!(timers.transmit_interval(), interval.map(ms), "{ours:?} {theirs:?}");
            assert_eq!(timers.detection_time(), Some(ms(detection)), "{ours:?} {theirs:?}");
        }
    }

    #[test]
    fn what_could_harm_waits_for_the_answer() {
        let now = start_of_time();
        // Another transmit and receive interval: what is in force before the answer, and after it.
        let cases = [
            ("slower sending waits", (900, 300), (300, 900), (900, 900)),
            ("faster sending does not", (100, 300), (300, 900), (300, 900)),
            ("faster receiving waits", (300, 100), (300, 900), (300, 900)),
            ("slower receiving does not", (300, 500), (300, 1500), (300, 1500)),
        ];
        for (name, (transmit, receive), before, after) in cases {
            let mut timers = settled(now);
            timers.change(ms(transmit), ms(receive), Settled::Yes);
            let in_force = |timers: &Timers| (timers.transmit_interval(), timers.detection_time());
            timers.received(now, &says(300, 300, 3, true));
            assert!(timers.poll(now), "{name}: an answer before the question is none");
            timers.received(now, &says(300, 300, 3, false));
            assert!(timers.poll(now), "{name}: an answer without F is none");
            assert_eq!(in_force(&timers), (Some(ms(before.0)), Some(ms(before.1))), "{name}, before");
            timers.received(now, &says(300, 300, 3, true));
            assert!(!timers.poll(now), "{name}");
            assert_eq!(in_force(&timers), (Some(ms(after.0)), Some(ms(after.1))), "{name}, after");
        }
        // 300 ms are what the remote side requires; alone, our own would have been faster and the detection shorter.
        let mut timers = settled(now);
        timers.change(ms(300), ms(100), Settled::Yes);
        assert!(timers.poll(now));
        timers.received(now, &says(100, 300, 3, false));
        assert_eq!(timers.detection_time(), Some(ms(900)));
        timers.received(now, &says(100, 300, 3, true));
        assert_eq!(timers.detection_time(), Some(ms(300)));
    }

    #[test]
    fn a_change_during_a_poll_is_polled_again() {
        let now = start_of_time();
        let mut timers = settled(now);
        timers.change(ms(900), ms(300), Settled::Yes);
        assert!(timers.poll(now));
        timers.change(ms(1200), ms(300), Settled::Yes);
        assert!(timers.poll(now + ms(100)));
        // To which of the two does this belong?
        timers.received(now, &says(300, 300, 3, true));
        assert_eq!(timers.transmit_interval(), Some(ms(300)));
        // Another answer to the first question may be on its way still.
        assert!(!timers.poll(now + ms(1099)));
        timers.received(now, &says(300, 300, 3, true));
        assert!(timers.has_to_poll());
        assert!(timers.poll(now + ms(1100)));
        timers.received(now, &says(300, 300, 3, true));
        assert_eq!(timers.transmit_interval(), Some(ms(1200)));
        assert!(!timers.has_to_poll());
    }

    #[test]
    fn jitter_is_three_quarters_to_the_whole_and_less_for_a_single_packet() {
        let now = start_of_time();
        for (multiplier, most) in [(1, 270), (2, 300), (3, 300)] {
            let mut random = SplitMix64::new(7);
            let mut timers = settled(now);
            timers.set_multiplier(multiplier);
            let pauses: Vec<Duration> = (0..2000)
                .map(|_| {
                    timers.sent(now, &mut random);
                    timers.transmit_deadline().unwrap() - now
                })
                .collect();
            assert!(pauses.iter().all(|pause| (ms(225)..=ms(most)).contains(pause)), "multiplier {multiplier}");
            assert!(pauses.iter().any(|pause| *pause < ms(228)), "multiplier {multiplier}");
            assert!(pauses.iter().any(|pause| *pause > ms(most - 3)), "multiplier {multiplier}");
        }
    }
}
