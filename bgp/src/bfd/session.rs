//! One session: its state, what it says, what it makes of what it hears.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::info;

use super::config::{BfdConfig, Hops, Path};
use super::discard::{Discard, Discards};
use super::packet::{ControlPacket, Diagnostic, State};
use super::state::{Event, Reaction, react};
use super::status::{BfdFailure, BfdSessionStatus, RemoteStatus};
use super::timers::{Changed, SLOW, Settled, Timers};
use super::{BfdEvent, BfdOutput};
use crate::PeerKey;
use crate::random::SplitMix64;

#[derive(Debug)]
pub(crate) struct Session {
    path: Arc<Path>,
    /// Who relies on it, and what each has asked for. Nobody: it is about to end.
    clients: BTreeMap<PeerKey, BfdConfig>,
    wanted: Wanted,
    local_discriminator: u32,
    state: State,
    since: Instant,
    diagnostic: Diagnostic,
    timers: Timers,
    /// `None`: never heard, or silent for a detection time.
    remote: Option<RemoteStatus>,
    /// Of the last packet (RFC 5880 section 6.6).
    remote_demand: Demand,
    /// Nobody wants it any more: when the remote side must have heard of that.
    ends_at: Option<Instant>,
    random: SplitMix64,
    packets_in: u64,
    packets_out: u64,
    discards: Discards,
    ups: u64,
    downs: u64,
}

/// What all clients together ask for: of each the strictest (RFC 5882 section 2); packets from furthest away.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    transmit: Duration,
    receive: Duration,
    multiplier: u8,
    minimum_ttl: u8,
}

/// Whether the remote side has asked us to be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Demand {
    Active,
    Inactive,
}

/// Why a packet is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occasion {
    /// Because of the time, or because it says something new.
    Own,
    /// The other side has set P.
    Answer,
}

/// What an input may reach beyond its session.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) outputs: &'a mut VecDeque<BfdOutput>,
}

impl Session {
    pub(crate) fn new(
        context: &mut Context<'_>,
        path: Arc<Path>,
        local_discriminator: u32,
        seed: u64,
        (key, config): (PeerKey, BfdConfig),
    ) -> Self {
        let wanted = Wanted::from(config);
        Self {
            path,
            clients: BTreeMap::from([(key, config)]),
            wanted,
            local_discriminator,
            state: State::Down,
            since: context.now,
            diagnostic: Diagnostic::NONE,
            timers: Timers::new(context.now, wanted.transmit, wanted.receive, wanted.multiplier),
            remote: None,
            remote_demand: Demand::Inactive,
            ends_at: None,
            random: SplitMix64::new(seed),
            packets_in: 0,
            packets_out: 0,
            discards: Discards::default(),
            ups: 0,
            downs: 0,
        }
    }

    pub(crate) fn set_client(&mut self, context: &mut Context<'_>, key: PeerKey, config: BfdConfig) {
        self.clients.insert(key, config);
        self.ends_at = None;
        self.apply(context, Event::Enabled);
        self.take_wishes(context);
    }

    pub(crate) fn remove_client(&mut self, context: &mut Context<'_>, key: &PeerKey) {
        self.clients.remove(key);
        if self.clients.is_empty() { self.disable(context) } else { self.take_wishes(context) }
    }

    /// RFC 5880 section 6.8.16: says so for a detection time, or until the remote side has shown that it knows.
    pub(crate) fn disable(&mut self, context: &mut Context<'_>) {
        self.clients.clear();
        self.apply(context, Event::Disabled);
        let detection_time = self.timers.transmit_interval().unwrap_or(SLOW) * u32::from(self.timers.multiplier());
        // A remote side that was never heard has nothing to unlearn.
        let time = self.remote.map_or(Duration::ZERO, |_| detection_time);
        self.ends_at.get_or_insert(context.now + time);
    }

    /// When it is over, if nobody wants it any more.
    pub(crate) fn ends_at(&self) -> Option<Instant> {
        self.ends_at
    }

    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.ends_at.is_some_and(|at| at <= now)
    }

    /// RFC 5880 section 6.8.6, from the choice of the session on.
    pub(crate) fn receive(
        &mut self,
        context: &mut Context<'_>,
        ttl: u8,
        packet: &ControlPacket,
    ) -> Result<(), Discard> {
        let outcome = self.take(context, ttl, packet);
        if let Err(reason) = outcome {
            self.discards.count(reason);
        }
        outcome
    }

    fn take(&mut self, context: &mut Context<'_>, ttl: u8, packet: &ControlPacket) -> Result<(), Discard> {
        if ttl < self.wanted.minimum_ttl {
            return Err(Discard::TimeToLive);
        }
        if packet.authentication_present {
            return Err(Discard::Authentication);
        }
        self.packets_in += 1;
        self.remote = Some(RemoteStatus {
            discriminator: packet.my_discriminator,
            state: packet.state,
            diagnostic: packet.diagnostic,
        });
        self.remote_demand = if packet.demand { Demand::Active } else { Demand::Inactive };
        self.timers.received(context.now, packet);
        if self.state == State::AdminDown {
            let knows = packet.your_discriminator == self.local_discriminator
                && matches!(packet.state, State::Down | State::AdminDown);
            if knows && self.ends_at.is_some() {
                self.ends_at = Some(context.now);
            }
            return Err(Discard::AdminDown);
        }
        self.apply(context, Event::Received(packet.state));
        if packet.poll {
            self.send(context, Occasion::Answer);
        }
        Ok(())
    }

    pub(crate) fn handle_timeout(&mut self, context: &mut Context<'_>) {
        if self.timers.detection_deadline().is_some_and(|deadline| deadline <= context.now) {
            // RFC 5880 section 6.8.1: its discriminator is unknown from now on.
            self.remote = None;
            self.apply(context, Event::DetectionTimeExpired);
            self.timers.forget_remote();
        }
        if self.transmit_deadline().is_some_and(|deadline| deadline <= context.now) {
            self.send(context, Occasion::Own);
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.detection_deadline().into_iter().chain(self.transmit_deadline()).chain(self.ends_at).min()
    }

    pub(crate) fn status(&self) -> BfdSessionStatus {
        BfdSessionStatus {
            path: (*self.path).clone(),
            state: self.state,
            since: self.since,
            diagnostic: self.diagnostic,
            remote: self.remote,
            local_discriminator: self.local_discriminator,
            transmit_interval: self.timers.transmit_interval(),
            detection_time: self.timers.detection_time(),
            packets_in: self.packets_in,
            packets_out: self.packets_out,
            discarded: self.discards.by_reason(),
            ups: self.ups,
            downs: self.downs,
            obstacle: None,
        }
    }

    pub(crate) fn clients(&self) -> impl Iterator<Item = &PeerKey> {
        self.clients.keys()
    }

    /// When the next packet is due by itself.
    fn transmit_deadline(&self) -> Option<Instant> {
        // RFC 5880 section 6.8.7: a remote side in Demand mode hears from us when we poll, and else not.
        let both_up = self.state == State::Up && self.remote.is_some_and(|remote| remote.state == State::Up);
        if both_up && self.remote_demand == Demand::Active && !self.timers.has_to_poll() {
            return None;
        }
        self.timers.transmit_deadline()
    }

    /// The one place where the state machine is driven.
    fn apply(&mut self, context: &mut Context<'_>, event: Event) {
        let Reaction::Enter(next, diagnostic) = react(self.state, event) else { return };
        let previous = std::mem::replace(&mut self.state, next);
        self.since = context.now;
        self.diagnostic = diagnostic.unwrap_or(self.diagnostic);
        let remote = self.remote;
        info!(session = %self.path, %previous, state = %next, diagnostic = %self.diagnostic, "BFD session changes");
        match (previous, next) {
            (_, State::Up) => {
                self.ups += 1;
                self.tell(context, BfdEvent::Up);
            }
            (State::Up, State::Down) => {
                self.downs += 1;
                // RFC 5882 section 3.2: what is taken down on purpose says nothing of the path.
                self.tell(
                    context,
                    match remote {
                        Some(remote) if event == Event::Received(State::AdminDown) => {
                            BfdEvent::RemoteAdminDown { diagnostic: remote.diagnostic }
                        }
                        _ => BfdEvent::Down(BfdFailure {
                            diagnostic: self.diagnostic,
                            remote_diagnostic: remote.map_or(Diagnostic::NONE, |remote| remote.diagnostic),
                            detection_time: self.timers.detection_time().unwrap_or_default(),
                        }),
                    },
                );
            }
            _ => {}
        }
        self.change_intervals(Settled::No);
        // RFC 5880 section 6.8.7: what is new is told at once. Of a session that begins to end only whoever was heard.
        if next != State::AdminDown || remote.is_some() {
            self.send(context, Occasion::Own);
        }
    }

    fn take_wishes(&mut self, context: &mut Context<'_>) {
        let Some(wanted) = self.clients.values().copied().map(Wanted::from).reduce(Wanted::strictest) else { return };
        self.wanted = wanted;
        let changed = self.timers.multiplier() != wanted.multiplier;
        self.timers.set_multiplier(wanted.multiplier);
        let settled = if self.state == State::Up { Settled::Yes } else { Settled::No };
        if self.change_intervals(settled) == Changed::Yes || changed {
            self.send(context, Occasion::Own);
        }
    }

    fn change_intervals(&mut self, settled: Settled) -> Changed {
        let Wanted { transmit, receive, .. } = self.wanted;
        // RFC 5880 section 6.8.3: a session that is not up costs next to nothing.
        let transmit = if self.state == State::Up { transmit } else { transmit.max(SLOW) };
        self.timers.change(transmit, receive, settled)
    }

    fn tell(&self, context: &mut Context<'_>, event: BfdEvent) {
        context.outputs.extend(self.clients.keys().map(|key| BfdOutput::Event { peer: key.clone(), event }));
    }

    /// RFC 5880 section 6.8.7.
    fn send(&mut self, context: &mut Context<'_>, occasion: Occasion) {
        let packet = ControlPacket {
            diagnostic: self.diagnostic,
            state: self.state,
            poll: occasion == Occasion::Own && self.timers.poll(context.now),
            is_final: occasion == Occasion::Answer,
            // RFC 5882 section 4.3.2: we share the fate of the process that speaks BGP.
            control_plane_independent: false,
            authentication_present: false,
            demand: false,
            detect_multiplier: self.timers.multiplier(),
            my_discriminator: self.local_discriminator,
            your_discriminator: self.remote.map_or(0, |remote| remote.discriminator),
            desired_min_tx: self.timers.desired_transmit(),
            required_min_rx: self.timers.required_receive(),
            // No Echo packet is looped back here.
            required_min_echo_rx: Duration::ZERO,
        };
        self.packets_out += 1;
        if occasion == Occasion::Own {
            self.timers.sent(context.now, &mut self.random);
        }
        context.outputs.push_back(BfdOutput::Send { path: Arc::clone(&self.path), packet: packet.encode() });
    }
}

impl Wanted {
    fn strictest(self, other: Self) -> Self {
        Self {
            transmit: self.transmit.min(other.transmit),
            receive: self.receive.min(other.receive),
            multiplier: self.multiplier.min(other.multiplier),
            minimum_ttl: self.minimum_ttl.min(other.minimum_ttl),
        }
    }
}

impl From<BfdConfig> for Wanted {
    fn from(config: BfdConfig) -> Self {
        Self {
            transmit: config.transmit_interval,
            receive: config.receive_interval,
            multiplier: config.multiplier,
            minimum_ttl: match config.hops {
                // RFC 5881 section 5.
                Hops::Single => 255,
                Hops::Multi { minimum_ttl } => minimum_ttl,
            },
        }
    }
}
