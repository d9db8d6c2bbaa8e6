//! BFD (RFC 5880) beside BGP: it notices within milliseconds that a peer is not reached any more, where the hold timer needs
//! seconds.
//!
//! ```text
//!  set_session, remove_session ---.
//!                                  v
//!  datagrams, time ---> [ Bfd: Session, Session, ... ] ---> datagrams to send, events for the BGP peers
//!                          Session: state machine, timers, who relies on it
//! ```
//!
//! As the engine itself it is a machine without hands: `handle_*` in, [`Bfd::poll_output`] and [`Bfd::next_deadline`] out, the
//! time is an argument, and the seed decides every jitter. Where to read on: `state` for the state machine as a table,
//! `timers` for what is negotiated, `packet` for the octets and the first checks, `session` for everything between.
//!
//! # What it does
//!
//! Asynchronous mode over a single hop (RFC 5881) and several (RFC 5883), both families; poll sequences whenever an interval
//! changes; Demand mode as far as a remote side may ask for it. Sessions are shared by all that ask for the same path (RFC
//! 5882 section 2). Going from Up to Down is an event for the BGP peer, unless it is because the other side was taken down on
//! purpose (AdminDown): that says nothing of the path (RFC 5882 section 3.2). The C bit is 0, because a crash of ours ends both
//! BFD and BGP.
//!
//! # Where a session is
//!
//! A peer with an address is watched from the moment on in which it is configured, so BFD may be up before BGP. A peer from a range and one on
//! an unnumbered link are watched between the ends of their BGP session as long as there is one: before, nobody knows where they are, and
//! after, nobody relies on it. Link-local ends belong to their interface. How many sessions there are is so bounded by the peers; how many
//! are about to end, by a number of its own.
//!
//! # What it deliberately does not do
//!
//! No Echo function, no Demand mode of our own. No authentication: what is authenticated is discarded, and GTSM keeps strangers
//! out of single-hop sessions. No session that only the other side wants. BGP never waits for BFD to come up.
//!
//! # What others do, measured
//!
//! FRR 8.4 and BIRD 2.0.12 take our AdminDown for a failure, and end BGP with Cease 6/10 and 6/0, which takes our routes with it even where
//! graceful restart is agreed. So on a planned restart such a peer hears of BFD's end when it has closed its side of TCP: FRR then keeps
//! what it has, BIRD with `bfd graceful` too, and with `bfd on` it forgets it whatever we do, because to BIRD a path that BFD has lost is
//! lost while it waits as well. `e2e/tests/bfd.rs` shows all of that. BIRD's `disable` of BFD is silence, and so a failure. FRR makes its session anew when BGP has come up, with the local address that it has learnt: to us that is a
//! restart, so where BFD was up before BGP the first BGP session ends at once. BIRD sends multihop packets with the TTL of any other packet (64), so a minimum for it counts from
//! there.

mod config;
mod discard;
mod packet;
mod session;
mod state;
mod status;
mod timers;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

pub use self::config::{BfdConfig, Hops, Path, Port};
pub use self::discard::Discard;
pub use self::packet::{Diagnostic, State};
pub use self::status::{BfdFailure, BfdSessionStatus, BfdStatus, RemoteStatus};

use self::discard::Discards;
use self::packet::ControlPacket;
use self::session::{Context, Session};
use crate::PeerKey;
use crate::random::SplitMix64;

/// Every BFD session of this machine.
#[derive(Debug)]
pub struct Bfd {
    sessions: BTreeMap<Arc<Path>, Session>,
    by_discriminator: BTreeMap<u32, Arc<Path>>,
    by_client: BTreeMap<PeerKey, Arc<Path>>,
    outputs: VecDeque<BfdOutput>,
    discards: Discards,
    random: SplitMix64,
    stopped: bool,
}

/// So many sessions may be about to end at a time because their peers are gone: more would be what somebody who comes and goes makes of
/// detection times that he chooses himself.
const MOST_ENDING: usize = 256;

/// A packet that came in, and how.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    pub source: IpAddr,
    /// The address of ours that it came to.
    pub destination: IpAddr,
    /// What it came in over: its index, and its name where that is known.
    pub interface_index: u32,
    pub interface: Option<&'a str>,
    /// TTL or hop limit on arrival.
    pub ttl: u8,
    /// The port that it came to.
    pub port: Port,
    pub payload: &'a [u8],
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BfdOutput {
    /// Send this to the path's remote address and port, with TTL 255, from one port of 49152 to 65535 that is the path's own
    /// (RFC 5881 section 4).
    Send {
        path: Arc<Path>,
        packet: [u8; packet::LENGTH],
    },
    Event {
        peer: PeerKey,
        event: BfdEvent,
    },
}

/// What became of a session that a BGP peer relies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BfdEvent {
    Up,
    /// The path has failed, or the remote side says so.
    Down(BfdFailure),
    /// The remote side was taken down on purpose; nothing is known of the path any more.
    RemoteAdminDown {
        diagnostic: Diagnostic,
    },
}

impl Bfd {
    /// `seed` decides every jitter and every discriminator.
    pub fn new(seed: u64) -> Self {
        Self {
            sessions: BTreeMap::new(),
            by_discriminator: BTreeMap::new(),
            by_client: BTreeMap::new(),
            outputs: VecDeque::new(),
            discards: Discards::default(),
            random: SplitMix64::new(seed),
            stopped: false,
        }
    }

    /// Has the path watched for this peer. Other intervals take effect without a loss of the session; another path is another
    /// session. The configuration was [checked](BfdConfig::check).
    pub fn set_session(&mut self, now: Instant, key: PeerKey, path: Path, config: BfdConfig) {
        if self.stopped {
            return;
        }
        if self.by_client.get(&key).is_some_and(|before| **before != path) {
            self.remove_session(now, &key);
        }
        let mut context = Context { now, outputs: &mut self.outputs };
        let path = Arc::new(path);
        self.by_client.insert(key.clone(), Arc::clone(&path));
        if let Some(session) = self.sessions.get_mut(&path) {
            session.set_client(&mut context, key, config);
            return;
        }
        let discriminator = unused(&self.by_discriminator, &mut self.random);
        let seed = self.random.next();
        let session = Session::new(&mut context, Arc::clone(&path), discriminator, seed, (key, config));
        self.by_discriminator.insert(discriminator, Arc::clone(&path));
        self.sessions.insert(path, session);
    }

    /// The peer does not rely on its session any more. When nobody does, the remote side is told (AdminDown), and the session
    /// goes when it has heard of it or a detection time has passed.
    pub fn remove_session(&mut self, now: Instant, key: &PeerKey) {
        let Some(path) = self.by_client.remove(key) else { return };
        if let Some(session) = self.sessions.get_mut(&path) {
            session.remove_client(&mut Context { now, outputs: &mut self.outputs }, key);
        }
        self.forget_what_is_over(now);
        self.hasten_ends();
    }

    /// Leaves only the sessions of these peers; of all others it is as if each had been removed.
    pub fn keep_only(&mut self, now: Instant, kept: &BTreeSet<PeerKey>) {
        let gone: Vec<PeerKey> = self.by_client.keys().filter(|key| !kept.contains(*key)).cloned().collect();
        for key in gone {
            self.remove_session(now, &key);
        }
    }

    /// Tells every remote side that this one goes down on purpose. [`Bfd::is_idle`] says when all have heard of it.
    pub fn shutdown(&mut self, now: Instant) {
        self.stopped = true;
        self.by_client.clear();
        for session in self.sessions.values_mut() {
            session.disable(&mut Context { now, outputs: &mut self.outputs });
        }
        self.forget_what_is_over(now);
    }

    /// There is no session, not even one that is about to end.
    pub fn is_idle(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Takes a packet, or says why it was thrown away (RFC 5880 section 6.8.6).
    pub fn handle_datagram(&mut self, now: Instant, datagram: Datagram<'_>) -> Result<(), Discard> {
        let (packet, path) = match self.select(&datagram) {
            Ok(selected) => selected,
            Err(reason) => {
                self.discards.count(reason);
                return Err(reason);
            }
        };
        // Every path that `select` finds has a session.
        let Some(session) = self.sessions.get_mut(&path) else { return Err(Discard::UnknownSource) };
        let outcome = session.receive(&mut Context { now, outputs: &mut self.outputs }, datagram.ttl, &packet);
        if session.is_over(now) {
            self.forget_what_is_over(now);
        }
        outcome
    }

    /// The time has come that [`next_deadline`](Self::next_deadline) named. Too early or too late does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        for session in self.sessions.values_mut() {
            if session.next_deadline().is_some_and(|deadline| deadline <= now) && !session.is_over(now) {
                session.handle_timeout(&mut Context { now, outputs: &mut self.outputs });
            }
        }
        self.forget_what_is_over(now);
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.sessions.values().filter_map(Session::next_deadline).min()
    }

    /// The next thing to be done.
    pub fn poll_output(&mut self) -> Option<BfdOutput> {
        self.outputs.pop_front()
    }

    /// Every path that is watched.
    pub fn paths(&self) -> impl Iterator<Item = &Arc<Path>> {
        self.sessions.keys()
    }

    pub fn status(&self) -> BfdStatus {
        let mut status = BfdStatus { discarded: self.discards.by_reason(), ..BfdStatus::default() };
        for session in self.sessions.values() {
            status.sessions.extend(session.clients().map(|key| (key.clone(), session.status())));
        }
        status
    }

    fn select(&self, datagram: &Datagram<'_>) -> Result<(ControlPacket, Arc<Path>), Discard> {
        // RFC 5881 section 5: before anything is read. Over several hops the session has its own minimum.
        if datagram.port == Port::SingleHop && datagram.ttl != 255 {
            return Err(Discard::TimeToLive);
        }
        let packet = ControlPacket::decode(datagram.payload)?;
        let path = match packet.your_discriminator {
            0 => self.by_address(datagram).ok_or(Discard::UnknownSource)?,
            // The port must be the session's, or the other one would be a way around its TTL.
            discriminator => self
                .by_discriminator
                .get(&discriminator)
                .filter(|path| path.port == datagram.port)
                .ok_or(Discard::UnknownDiscriminator)?,
        };
        Ok((packet, Arc::clone(path)))
    }

    /// Whose first packets these are. Of several paths that fit, the one that says most.
    fn by_address(&self, datagram: &Datagram<'_>) -> Option<&Arc<Path>> {
        let fits = |path: &&Arc<Path>| {
            path.port == datagram.port
                && path.remote == datagram.source.to_canonical()
                && (path.scope == 0 || path.scope == datagram.interface_index)
                && path.local.is_none_or(|local| local == datagram.destination.to_canonical())
                && path.interface.as_deref().is_none_or(|name| Some(name) == datagram.interface)
        };
        self.sessions.keys().filter(fits).max_by_key(|path| (path.interface.is_some(), path.local.is_some()))
    }

    /// The remote side of a session that is forgotten early was told once that it ends.
    fn hasten_ends(&mut self) {
        let ending = self.sessions.iter().filter_map(|(path, session)| Some((session.ends_at()?, path)));
        let mut ending: Vec<(Instant, Arc<Path>)> = ending.map(|(at, path)| (at, Arc::clone(path))).collect();
        ending.sort_unstable();
        let excess = ending.len().saturating_sub(MOST_ENDING);
        for (_, path) in &ending[..excess] {
            self.sessions.remove(path);
            self.by_discriminator.retain(|_, other| other != path);
        }
    }

    fn forget_what_is_over(&mut self, now: Instant) {
        self.by_discriminator.retain(|_, path| self.sessions.get(path).is_some_and(|session| !session.is_over(now)));
        self.sessions.retain(|_, session| !session.is_over(now));
    }
}

/// RFC 5880 section 6.8.1: not zero, and nobody's, and nobody's guess.
fn unused(taken: &BTreeMap<u32, Arc<Path>>, random: &mut SplitMix64) -> u32 {
    loop {
        let discriminator = random.next() as u32;
        if discriminator != 0 && !taken.contains_key(&discriminator) {
            return discriminator;
        }
    }
}
