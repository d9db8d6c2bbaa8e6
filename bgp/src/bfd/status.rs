//! What an operator can see of BFD.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use super::config::Path;
use super::discard::Discard;
use super::packet::{Diagnostic, State};
use crate::PeerKey;

/// All of BFD.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BfdStatus {
    /// By the BGP peer that asked for it; peers that share a session show the same one.
    pub sessions: BTreeMap<PeerKey, BfdSessionStatus>,
    /// Packets that belonged to no session, by the reason why they were thrown away.
    pub discarded: BTreeMap<Discard, u64>,
}

/// One session as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BfdSessionStatus {
    pub path: Path,
    pub state: State,
    /// When the session entered this state.
    pub since: Instant,
    /// Why our side entered it, or the last state that had a reason.
    pub diagnostic: Diagnostic,
    /// As the remote side last told; `None` when it was silent for a detection time.
    pub remote: Option<RemoteStatus>,
    pub local_discriminator: u32,
    /// Between two packets of ours, before jitter; `None`: the remote side wants none.
    pub transmit_interval: Option<Duration>,
    /// How long the remote side may be silent.
    pub detection_time: Option<Duration>,
    pub packets_in: u64,
    pub packets_out: u64,
    /// Packets for this session that were thrown away, by reason.
    pub discarded: BTreeMap<Discard, u64>,
    /// How often the session came up, and how often it went from Up to Down.
    pub ups: u64,
    pub downs: u64,
    /// What keeps the driver from sending or receiving, in words.
    pub obstacle: Option<String>,
}

/// The other side, as it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteStatus {
    pub discriminator: u32,
    pub state: State,
    pub diagnostic: Diagnostic,
}

/// Why a session that was up is not any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct BfdFailure {
    pub diagnostic: Diagnostic,
    /// What the remote side said; of interest where it was the one who noticed.
    pub remote_diagnostic: Diagnostic,
    pub detection_time: Duration,
}

impl fmt::Display for BfdFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.diagnostic)?;
        match self.diagnostic {
            Diagnostic::DETECTION_TIME_EXPIRED => write!(f, "no packet for {:?}", self.detection_time),
            _ => write!(f, "its side says {}", self.remote_diagnostic),
        }
    }
}
