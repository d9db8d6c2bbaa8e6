//! Hands for the engine: sockets and a clock.
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use ipnet::IpNet;
use thiserror::Error;

use crate::{ConfigError, Event, LearnedPath, PeerConfig, PeerKey, PeerStatus, RouteChange};

/// Where to listen, and the seed of every jitter.
#[derive(Debug, Clone, Default)]
pub struct DriverConfig {
    /// Empty: only dial.
    pub listen: Vec<SocketAddr>,
    pub seed: u64,
}

/// The engine has ended: it was shut down, or every handle was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the BGP engine has ended")]
pub struct Stopped;

/// Why a peer was not set.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SetPeerError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Starts the engine.
pub struct Driver;

/// What the embedder speaks to the engine through.
#[derive(Debug, Clone)]
pub struct Handle {}

/// What the engine has to say.
#[derive(Debug)]
pub struct EventReceiver {}

impl Driver {
    /// Binds every listening address and starts the engine on the current tokio runtime.
    pub async fn start(_config: DriverConfig) -> io::Result<(Handle, EventReceiver)> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Handle {
    pub async fn set_peer(&self, _key: PeerKey, _config: PeerConfig) -> Result<(), SetPeerError> {
        Err(Stopped.into())
    }
    pub async fn remove_peer(&self, _key: PeerKey) -> Result<(), Stopped> {
        Err(Stopped)
    }
    pub async fn update_routes(&self, _key: PeerKey, _changes: Vec<RouteChange>) -> Result<(), Stopped> {
        Err(Stopped)
    }
    pub async fn initial_set_complete(&self, _key: PeerKey) -> Result<(), Stopped> {
        Err(Stopped)
    }
    pub async fn status(&self) -> Result<Vec<PeerStatus>, Stopped> {
        Err(Stopped)
    }
    pub async fn learned(&self) -> Result<BTreeMap<IpNet, Vec<LearnedPath>>, Stopped> {
        Err(Stopped)
    }
    /// Closes every session with Cease 6/2 and `text`, and returns when that was done, within a second.
    pub async fn shutdown(&self, _text: &str) {}
}

impl EventReceiver {
    /// The next event; `None` when the engine has ended.
    pub async fn recv(&mut self) -> Option<Event> {
        None
    }
}
