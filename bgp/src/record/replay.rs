//! A recording through the engine again.

use std::time::{Duration, Instant};

use super::entry::{Entry, Taken, decode_changes, decode_config};
use super::recorder::{digest, digest_octets};
use super::recording::{Entries, ReadError, Recording};
use crate::{Accepted, DynamicPeers, Output, PeerKey, Speaker};

/// Gives a recording's inputs to a new [`Speaker`], one [`Step`] after the other.
#[derive(Debug)]
pub struct Replay<'a> {
    speaker: Speaker,
    entries: Entries<'a>,
    /// When the recording began, on the clock of the replay.
    began: Instant,
    now: Instant,
    number: u64,
    /// What the latest `pending_write` showed.
    shown: usize,
}

/// One call, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Counted from one.
    pub number: u64,
    /// Since the recording began.
    pub at: Duration,
    pub entry: Entry,
    pub outcome: Outcome,
    /// Whether this is what came of it when it was recorded; true where nothing comes of it.
    pub agrees: bool,
}

/// What an engine says to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Nothing,
    Accepted(Accepted),
    /// What is to be written now.
    Pending(Vec<u8>),
    Output(Option<Output>),
}

impl<'a> Replay<'a> {
    /// `began` stands for the moment when the recording began.
    pub fn new(recording: &Recording<'a>, began: Instant) -> Self {
        let speaker = Speaker::new(recording.seed());
        Self { speaker, entries: recording.entries(), began, now: began, number: 0, shown: 0 }
    }

    /// The speaker as it is after the steps that were taken.
    pub fn speaker(&self) -> &Speaker {
        &self.speaker
    }

    /// The time of the latest step.
    pub fn now(&self) -> Instant {
        self.now
    }

    fn take(&mut self, entry: &Entry) -> Result<(Outcome, bool), ReadError> {
        let now = entry.at().map_or(self.now, |at| self.began + Duration::from_nanos(at));
        self.now = now;
        let unreadable = |error: serde_json::Error| ReadError::Entry { entry: self.number, reason: error.to_string() };
        // What was refused when it was recorded is refused again.
        match entry {
            Entry::SetPeer { key, config, .. } => {
                let config = decode_config(config).map_err(unreadable)?;
                drop(self.speaker.set_peer(now, PeerKey::from(key.as_str()), config));
            }
            Entry::RemovePeer { key, .. } => drop(self.speaker.remove_peer(now, &PeerKey::from(key.as_str()))),
            Entry::SetDynamicPeers { key, prefix, max_sessions, template, .. } => {
                let template = decode_config(template).map_err(unreadable)?;
                let max_sessions = usize::try_from(*max_sessions).unwrap_or(usize::MAX);
                let peers = DynamicPeers { prefix: *prefix, max_sessions, template };
                drop(self.speaker.set_dynamic_peers(now, PeerKey::from(key.as_str()), peers));
            }
            Entry::RemoveDynamicPeers { key, .. } => {
                drop(self.speaker.remove_dynamic_peers(now, &PeerKey::from(key.as_str())));
            }
            Entry::UpdateRoutes { key, attributes, changes, .. } => {
                let changes = decode_changes(attributes, changes).map_err(unreadable)?;
                drop(self.speaker.update_routes(now, &PeerKey::from(key.as_str()), changes));
            }
            Entry::InitialSetComplete { key, .. } => {
                drop(self.speaker.initial_set_complete(now, &PeerKey::from(key.as_str())));
            }
            Entry::DeferSelection { deferral, .. } => self.speaker.defer_selection(now, *deferral),
            Entry::Shutdown { shutdown, .. } => self.speaker.shutdown(now, shutdown),
            Entry::HandleDialled { connection, endpoints, .. } => {
                self.speaker.handle_dialled(now, *connection, *endpoints);
            }
            Entry::HandleAccepted { endpoints, answer, .. } => {
                let accepted = self.speaker.handle_accepted(now, *endpoints);
                let agrees = digest(&accepted) == *answer;
                return Ok((Outcome::Accepted(accepted), agrees));
            }
            Entry::HandleAcceptedOnLink { link, endpoints, answer, .. } => {
                let accepted = self.speaker.handle_accepted_on_link(now, link, *endpoints);
                let agrees = digest(&accepted) == *answer;
                return Ok((Outcome::Accepted(accepted), agrees));
            }
            Entry::HandleBytes { connection, bytes, .. } => self.speaker.handle_bytes(now, *connection, bytes),
            Entry::HandleClosed { connection, reason, .. } => {
                self.speaker.handle_closed(now, *connection, reason.clone());
            }
            Entry::HandleNextHopRoutes { changes, .. } => self.speaker.handle_next_hop_routes(now, changes),
            Entry::HandleBfdDown { key, failure, .. } => {
                drop(self.speaker.handle_bfd_down(now, &PeerKey::from(key.as_str()), *failure));
            }
            Entry::PendingWrite { connection, length, shown, .. } => {
                let pending = self.speaker.pending_write(now, *connection).to_vec();
                self.shown = pending.len();
                let agrees = pending.len() as u64 == *length && digest_octets(&pending) == *shown;
                return Ok((Outcome::Pending(pending), agrees));
            }
            Entry::HandleWritten { connection, taken, .. } => {
                let count = match taken {
                    Taken::All => self.shown,
                    Taken::Octets(octets) => usize::try_from(*octets).unwrap_or(usize::MAX),
                };
                self.speaker.handle_written(now, *connection, count);
            }
            Entry::HandleTimeout { .. } => self.speaker.handle_timeout(now),
            Entry::PollOutput { output } => {
                let replayed = self.speaker.poll_output();
                let agrees = replayed.as_ref().map(digest) == *output;
                return Ok((Outcome::Output(replayed), agrees));
            }
            Entry::End(_) => {}
        }
        Ok((Outcome::Nothing, true))
    }
}

impl Iterator for Replay<'_> {
    type Item = Result<Step, ReadError>;

    /// The next step; an error is the last thing that comes.
    fn next(&mut self) -> Option<Self::Item> {
        let entry = match self.entries.next()? {
            Ok(entry) => entry,
            Err(error) => return Some(Err(error)),
        };
        self.number += 1;
        let (outcome, agrees) = match self.take(&entry) {
            Ok(taken) => taken,
            Err(error) => {
                self.entries.stop();
                return Some(Err(error));
            }
        };
        let at = self.now.saturating_duration_since(self.began);
        Some(Ok(Step { number: self.number, at, entry, outcome, agrees }))
    }
}
