//! Hands for the engine: sockets and a clock, on tokio. Nothing in here decides anything.
//!
//! ```text
//!  Handle --commands (64)--> [ engine task: owns the Speaker ] --events (broadcast, 256)--> EventReceiver
//!                                ^                  |
//!              inputs (128)      |                  '--> write() on the sockets themselves
//!  accept, dial, read tasks -----'
//!  thread of BFD ----------------'
//! ```
//!
//! One task owns the [`Speaker`](crate::Speaker) and does every write itself, so that from a change of routes to `write()`
//! there is one wake-up and nothing to wait for. Reading, dialling and accepting happen in small tasks of their own, which
//! hand what they got to the engine through one bounded channel: a peer that sends faster than the engine reads is slowed
//! down by its own TCP window. Nothing that the engine awaits depends on an embedder: a command's answer goes into a slot
//! made for it, and events that nobody fetches are overwritten by newer ones.

mod bfd;
mod closing;
mod engine;
mod listeners;
mod neighbor;
mod recording;
mod socket;
mod sockopt;
mod tasks;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use thiserror::Error;
use tokio::sync::{broadcast, mpsc, oneshot};

pub use self::bfd::{BfdThreadStatus, Scheduling};

use self::engine::{Command, Engine};
use self::recording::RecordingFile;
use crate::{
    AoAlgorithm, ChangedRoute, ConfigError, DynamicPeers, DynamicStatus, Event, ExplainedPath, LearnedPath,
    NextHopRoute, PeerConfig, PeerKey, PeerStatus, RouteChange, RoutePage, RouteQuery, SelectionDeferral, Shutdown,
    UnknownPeer,
};

/// Where to listen, and the seed of every jitter.
#[derive(Debug, Clone, Default)]
pub struct DriverConfig {
    /// Empty: only dial, until [`Handle::listen`]. A port of 0 takes any that is free; see [`Handle::listening`].
    pub listen: Vec<SocketAddr>,
    pub seed: u64,
    /// Where every input of the engine is written down, to be [replayed](crate::record).
    pub record: Option<RecordTo>,
}

/// The file of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordTo {
    /// What was there before is kept beside it, as `PATH.1`: a process that died and was started again must not take the
    /// evidence with it.
    pub path: PathBuf,
    /// In octets. There the recording ends, and the engine goes on.
    pub limit: u64,
}

/// The engine has ended: it was shut down, or every handle was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the BGP engine has ended")]
pub struct Stopped;

/// Why a peer was not set.
#[derive(Debug, Error)]
pub enum SetPeerError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The listening socket does not take the peer's password.
    #[error("cannot set the password of {remote} on the socket listening on {listen}: {source}")]
    Password { listen: SocketAddr, remote: IpNet, source: io::Error },
    /// The listening socket could not tell which password is meant.
    #[error("{remote} {conflict} {other_remote} of {other}: both connect to {listen}, where the kernel knows them by {}", .conflict.known_by())]
    PasswordConflict { conflict: KeyConflict, remote: IpNet, other: PeerKey, other_remote: IpNet, listen: SocketAddr },
    /// A session that is to be signed is not had unsigned.
    #[error(
        "{remote} is to be signed by TCP-AO (RFC 5925), and this kernel cannot do that: it takes Linux 6.7 or newer, built \
         with CONFIG_TCP_AO; the session stays down"
    )]
    NoTcpAo { remote: IpNet },
    #[error(
        "{remote} is to be signed by TCP-AO with {algorithm}, which this kernel does not have; the session stays down"
    )]
    NoAlgorithm { remote: IpNet, algorithm: AoAlgorithm },
    #[error(
        "{remote} is to be signed by TCP-AO, and this kernel does not take the key: {source}; the session stays down"
    )]
    TcpAo { remote: IpNet, source: io::Error },
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// What the keys of two peers on one socket do not agree in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyConflict {
    /// One address has two, or one and none.
    Password,
    /// One address has two of TCP-AO.
    Key,
    /// One is of TCP MD5 and the other of TCP-AO.
    Signature,
    /// Both are of TCP-AO, and what the routers send does not say which is meant.
    KeyId,
}

impl KeyConflict {
    const fn known_by(self) -> &'static str {
        match self {
            Self::Password | Self::Key | Self::Signature => "address alone",
            Self::KeyId => "address and receive ID",
        }
    }
}

impl fmt::Display for KeyConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password => "cannot have another password than",
            Self::Key => "cannot have another key of TCP-AO than",
            Self::Signature => "cannot have another of TCP MD5 and TCP-AO than",
            Self::KeyId => "needs another receive ID of TCP-AO than",
        })
    }
}

/// Starts the engine.
#[derive(Debug)]
pub struct Driver;

/// What the embedder speaks to the engine through. Commands take effect in the order in which they were given.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    listening: Vec<SocketAddr>,
}

/// What the engine has to say.
#[derive(Debug)]
pub struct EventReceiver {
    events: broadcast::Receiver<Event>,
}

/// A command is answered at once, so a few are enough for those who give them at the same time.
const COMMANDS: usize = 64;
/// A few events for each of a few dozen peers between two looks of an embedder; whoever looks later is told how many it
/// has missed.
const EVENTS: usize = 256;

impl Driver {
    /// Binds every listening address and starts the engine on the current tokio runtime. The engine ends with
    /// [`Handle::shutdown`], or when the last handle is dropped.
    ///
    /// # Panics
    /// Outside of a tokio runtime, as everything there that makes a socket or a task.
    ///
    /// # Errors
    /// An address that cannot be bound; the message names it with its port. A recording that cannot be written; the message
    /// names the file.
    pub fn start(config: DriverConfig) -> io::Result<(Handle, EventReceiver)> {
        let listeners = config.listen.iter().map(|&address| socket::listen(address)).collect::<io::Result<Vec<_>>>()?;
        let listening = listeners.iter().map(tokio::net::TcpListener::local_addr).collect::<io::Result<Vec<_>>>()?;
        let (commands, command_receiver) = mpsc::channel(COMMANDS);
        let (event_sender, events) = broadcast::channel(EVENTS);
        let recording = config.record.map(RecordingFile::create).transpose()?;
        let engine = Engine::new(config.seed, recording, listeners, command_receiver, event_sender);
        tokio::spawn(engine.run());
        Ok((Handle { commands, listening }, EventReceiver { events }))
    }
}

impl Handle {
    /// The addresses that are listened on from the start, with the ports that the kernel chose where 0 was asked for.
    pub fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }

    /// Listens on another address, and returns it with its port; does nothing if it is listened on already. So port 179
    /// need not be opened before there is a peer to wait for.
    ///
    /// # Errors
    /// An address that cannot be bound, a password that the new socket does not take, or an engine that has ended.
    pub async fn listen(&self, address: SocketAddr) -> io::Result<SocketAddr> {
        self.ask(|reply| Command::Listen { address, reply }).await.map_err(io::Error::other)?
    }

    /// Listens on this address no more; sessions that came over it stay. Does nothing if it is not listened on.
    pub async fn stop_listening(&self, address: SocketAddr) -> Result<(), Stopped> {
        self.ask(|reply| Command::StopListening { address, reply }).await
    }

    /// See [`Speaker::set_peer`](crate::Speaker::set_peer).
    pub async fn set_peer(&self, key: PeerKey, config: PeerConfig) -> Result<(), SetPeerError> {
        self.ask(|reply| Command::SetPeer { key, config: Box::new(config), reply }).await?
    }

    /// See [`Speaker::remove_peer`](crate::Speaker::remove_peer). Removing a peer that is not there does nothing.
    pub async fn remove_peer(&self, key: PeerKey) -> Result<(), Stopped> {
        self.tell(Command::RemovePeer { key }).await
    }

    /// See [`Speaker::set_dynamic_peers`](crate::Speaker::set_dynamic_peers).
    pub async fn set_dynamic_peers(&self, key: PeerKey, peers: DynamicPeers) -> Result<(), SetPeerError> {
        self.ask(|reply| Command::SetDynamicPeers { key, peers: Box::new(peers), reply }).await?
    }

    /// See [`Speaker::remove_dynamic_peers`](crate::Speaker::remove_dynamic_peers). Removing a range that is not there does
    /// nothing.
    pub async fn remove_dynamic_peers(&self, key: PeerKey) -> Result<(), Stopped> {
        self.tell(Command::RemoveDynamicPeers { key }).await
    }

    /// See [`Speaker::update_routes`](crate::Speaker::update_routes). Changes for a peer that is not there are dropped.
    pub async fn update_routes(&self, key: PeerKey, changes: Vec<RouteChange>) -> Result<(), Stopped> {
        self.tell(Command::UpdateRoutes { key, changes }).await
    }

    /// See [`Speaker::handle_next_hop_routes`](crate::Speaker::handle_next_hop_routes).
    pub async fn handle_next_hop_routes(&self, changes: Vec<NextHopRoute>) -> Result<(), Stopped> {
        self.tell(Command::HandleNextHopRoutes { changes }).await
    }

    /// See [`Speaker::initial_set_complete`](crate::Speaker::initial_set_complete).
    pub async fn initial_set_complete(&self, key: PeerKey) -> Result<(), Stopped> {
        self.tell(Command::InitialSetComplete { key }).await
    }

    /// See [`Speaker::defer_selection`](crate::Speaker::defer_selection).
    pub async fn defer_selection(&self, deferral: SelectionDeferral) -> Result<(), Stopped> {
        self.tell(Command::DeferSelection { deferral }).await
    }

    /// Every session, by name.
    pub async fn status(&self) -> Result<Vec<PeerStatus>, Stopped> {
        self.ask(|reply| Command::Status { reply }).await
    }

    /// Every range of peers, by name.
    pub async fn dynamic_status(&self) -> Result<Vec<DynamicStatus>, Stopped> {
        self.ask(|reply| Command::DynamicStatus { reply }).await
    }

    /// The BFD sessions, by the peers that asked for them.
    pub async fn bfd(&self) -> Result<BfdThreadStatus, Stopped> {
        self.ask(|reply| Command::BfdStatus { reply }).await
    }

    /// Every learned route with all its paths.
    pub async fn learned(&self) -> Result<BTreeMap<IpNet, Vec<LearnedPath>>, Stopped> {
        self.ask(|reply| Command::Learned { reply }).await
    }

    /// See [`Speaker::routes`](crate::Speaker::routes).
    ///
    /// # Errors
    /// An engine that has ended; within, a peer that is not there.
    pub async fn routes(&self, query: RouteQuery) -> Result<Result<RoutePage, UnknownPeer>, Stopped> {
        self.ask(|reply| Command::Routes { query, reply }).await
    }

    /// See [`Speaker::follow_routes`](crate::Speaker::follow_routes).
    pub async fn follow_routes(&self) -> Result<(), Stopped> {
        self.tell(Command::FollowRoutes).await
    }

    /// See [`Speaker::changed_routes`](crate::Speaker::changed_routes). Asking for many keeps the engine from other work meanwhile.
    pub async fn changed_routes(&self, limit: usize) -> Result<Vec<ChangedRoute>, Stopped> {
        self.ask(|reply| Command::ChangedRoutes { limit, reply }).await
    }

    /// See [`Speaker::explain`](crate::Speaker::explain).
    ///
    /// # Errors
    /// An engine that has ended.
    pub async fn explain(&self, prefix: IpNet) -> Result<Vec<ExplainedPath>, Stopped> {
        self.ask(|reply| Command::Explain { prefix, reply }).await
    }

    /// See [`Speaker::shutdown`](crate::Speaker::shutdown). Returns when the last of it was written and closed, or after a
    /// second.
    pub async fn shutdown(&self, shutdown: Shutdown) {
        // An engine that has ended already has nothing left to close.
        let _ = self.ask(|reply| Command::Shutdown { shutdown, reply }).await;
    }

    async fn tell(&self, command: Command) -> Result<(), Stopped> {
        self.commands.send(command).await.map_err(|_| Stopped)
    }

    async fn ask<Answer>(&self, command: impl FnOnce(oneshot::Sender<Answer>) -> Command) -> Result<Answer, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.tell(command(reply)).await?;
        answer.await.map_err(|_| Stopped)
    }
}

impl EventReceiver {
    /// The next event; `None` when the engine has ended. Whoever waits too long gets [`Event::Missed`].
    pub async fn recv(&mut self) -> Option<Event> {
        match self.events.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(events)) => Some(Event::Missed { events }),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
