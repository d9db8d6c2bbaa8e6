//! A speaker that writes down what is done to it.

use std::fmt::{self, Write};
use std::ops::Deref;
use std::time::Instant;

use bytes::Bytes;

use super::entry::{Entry, RecordingEnd, Taken, encode_changes, encode_config};
use super::recording;
use crate::bfd::BfdFailure;
use crate::{
    Accepted, ChangedRoute, ConfigError, ConnectionId, DynamicPeers, Endpoints, NextHopRoute, Output, PeerConfig,
    PeerKey, RouteChange, SelectionDeferral, Shutdown, Speaker, UnknownPeer,
};

/// A [`Speaker`] with the same inputs, and a recording of them if one was asked for.
#[derive(Debug)]
pub struct RecordedSpeaker {
    speaker: Speaker,
    journal: Option<Journal>,
}

#[derive(Debug)]
struct Journal {
    began: Instant,
    recorded: Vec<u8>,
    /// How many octets may still be recorded.
    room: u64,
    /// What the latest `pending_write` showed.
    shown: usize,
    ended: Option<RecordingEnd>,
}

impl RecordedSpeaker {
    /// Records nothing.
    pub fn new(seed: u64) -> Self {
        Self { speaker: Speaker::new(seed), journal: None }
    }

    /// Records from the beginning, because there is no other state that a replay could start from, and up to `limit`
    /// octets. No call may be earlier than `now`.
    pub fn recorded(seed: u64, now: Instant, limit: u64) -> Self {
        let recorded = recording::header(seed);
        let room = limit.saturating_sub(recorded.len() as u64);
        let journal = Journal { began: now, recorded, room, shown: 0, ended: None };
        Self { speaker: Speaker::new(seed), journal: Some(journal) }
    }

    /// How many octets of the recording wait to be taken.
    pub fn recorded_octets(&self) -> usize {
        self.journal.as_ref().map_or(0, |journal| journal.recorded.len())
    }

    /// What has been recorded since the last time.
    pub fn take_recorded(&mut self) -> Vec<u8> {
        self.journal.as_mut().map(|journal| std::mem::take(&mut journal.recorded)).unwrap_or_default()
    }

    /// Why nothing is recorded any more.
    pub fn recording_end(&self) -> Option<RecordingEnd> {
        self.journal.as_ref().and_then(|journal| journal.ended)
    }

    /// Ends the recording; the speaker goes on.
    pub fn end_recording(&mut self, why: RecordingEnd) {
        if let Some(journal) = &mut self.journal {
            journal.end(why);
        }
    }

    /// See [`Speaker::set_peer`].
    pub fn set_peer(&mut self, now: Instant, key: PeerKey, config: PeerConfig) -> Result<(), ConfigError> {
        self.record(now, |at| Entry::SetPeer { at, key: key.to_string(), config: encode_config(&config) });
        self.speaker.set_peer(now, key, config)
    }

    /// See [`Speaker::remove_peer`].
    pub fn remove_peer(&mut self, now: Instant, key: &PeerKey) -> Result<(), UnknownPeer> {
        self.record(now, |at| Entry::RemovePeer { at, key: key.to_string() });
        self.speaker.remove_peer(now, key)
    }

    /// See [`Speaker::set_dynamic_peers`].
    pub fn set_dynamic_peers(&mut self, now: Instant, key: PeerKey, peers: DynamicPeers) -> Result<(), ConfigError> {
        self.record(now, |at| {
            let DynamicPeers { prefix, max_sessions, template } = &peers;
            let (max_sessions, template) = (*max_sessions as u64, encode_config(template));
            Entry::SetDynamicPeers { at, key: key.to_string(), prefix: *prefix, max_sessions, template }
        });
        self.speaker.set_dynamic_peers(now, key, peers)
    }

    /// See [`Speaker::remove_dynamic_peers`].
    pub fn remove_dynamic_peers(&mut self, now: Instant, key: &PeerKey) -> Result<(), UnknownPeer> {
        self.record(now, |at| Entry::RemoveDynamicPeers { at, key: key.to_string() });
        self.speaker.remove_dynamic_peers(now, key)
    }

    /// See [`Speaker::update_routes`].
    pub fn update_routes(&mut self, now: Instant, key: &PeerKey, changes: Vec<RouteChange>) -> Result<(), UnknownPeer> {
        self.record(now, |at| {
            let (attributes, changes) = encode_changes(&changes);
            Entry::UpdateRoutes { at, key: key.to_string(), attributes, changes }
        });
        self.speaker.update_routes(now, key, changes)
    }

    /// See [`Speaker::initial_set_complete`].
    pub fn initial_set_complete(&mut self, now: Instant, key: &PeerKey) -> Result<(), UnknownPeer> {
        self.record(now, |at| Entry::InitialSetComplete { at, key: key.to_string() });
        self.speaker.initial_set_complete(now, key)
    }

    /// See [`Speaker::defer_selection`].
    pub fn defer_selection(&mut self, now: Instant, deferral: SelectionDeferral) {
        self.record(now, |at| Entry::DeferSelection { at, deferral });
        self.speaker.defer_selection(now, deferral);
    }

    /// See [`Speaker::shutdown`].
    pub fn shutdown(&mut self, now: Instant, shutdown: &Shutdown) {
        self.record(now, |at| Entry::Shutdown { at, shutdown: shutdown.clone() });
        self.speaker.shutdown(now, shutdown);
    }

    /// See [`Speaker::handle_dialled`].
    pub fn handle_dialled(&mut self, now: Instant, connection: ConnectionId, endpoints: Endpoints) {
        self.record(now, |at| Entry::HandleDialled { at, connection, endpoints });
        self.speaker.handle_dialled(now, connection, endpoints);
    }

    /// See [`Speaker::handle_accepted`].
    pub fn handle_accepted(&mut self, now: Instant, endpoints: Endpoints) -> Accepted {
        let accepted = self.speaker.handle_accepted(now, endpoints);
        self.record(now, |at| Entry::HandleAccepted { at, endpoints, answer: digest(&accepted) });
        accepted
    }

    /// See [`Speaker::handle_accepted_on_link`].
    pub fn handle_accepted_on_link(&mut self, now: Instant, link: &str, endpoints: Endpoints) -> Accepted {
        let accepted = self.speaker.handle_accepted_on_link(now, link, endpoints);
        self.record(now, |at| {
            let (link, answer) = (link.to_owned(), digest(&accepted));
            Entry::HandleAcceptedOnLink { at, link, endpoints, answer }
        });
        accepted
    }

    /// See [`Speaker::handle_bytes`].
    pub fn handle_bytes(&mut self, now: Instant, connection: ConnectionId, bytes: &[u8]) {
        self.record(now, |at| Entry::HandleBytes { at, connection, bytes: Bytes::copy_from_slice(bytes) });
        self.speaker.handle_bytes(now, connection, bytes);
    }

    /// See [`Speaker::handle_closed`].
    pub fn handle_closed(&mut self, now: Instant, connection: ConnectionId, reason: Option<String>) {
        self.record(now, |at| Entry::HandleClosed { at, connection, reason: reason.clone() });
        self.speaker.handle_closed(now, connection, reason);
    }

    /// See [`Speaker::handle_next_hop_routes`].
    pub fn handle_next_hop_routes(&mut self, now: Instant, changes: &[NextHopRoute]) {
        self.record(now, |at| Entry::HandleNextHopRoutes { at, changes: changes.to_vec() });
        self.speaker.handle_next_hop_routes(now, changes);
    }

    /// See [`Speaker::handle_bfd_down`].
    pub fn handle_bfd_down(&mut self, now: Instant, key: &PeerKey, failure: BfdFailure) -> Result<(), UnknownPeer> {
        self.record(now, |at| Entry::HandleBfdDown { at, key: key.to_string(), failure });
        self.speaker.handle_bfd_down(now, key, failure)
    }

    /// See [`Speaker::pending_write`].
    pub fn pending_write(&mut self, now: Instant, connection: ConnectionId) -> &[u8] {
        let pending = self.speaker.pending_write(now, connection);
        if let Some(journal) = &mut self.journal {
            journal.shown = pending.len();
            let (length, shown) = (pending.len() as u64, digest_octets(pending));
            journal.record(now, |at| Entry::PendingWrite { at, connection, length, shown });
        }
        pending
    }

    /// See [`Speaker::handle_written`].
    pub fn handle_written(&mut self, now: Instant, connection: ConnectionId, count: usize) {
        if let Some(journal) = &mut self.journal {
            let taken = if count == journal.shown { Taken::All } else { Taken::Octets(count as u64) };
            journal.record(now, |at| Entry::HandleWritten { at, connection, taken });
        }
        self.speaker.handle_written(now, connection, count);
    }

    /// See [`Speaker::handle_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        self.record(now, |at| Entry::HandleTimeout { at });
        self.speaker.handle_timeout(now);
    }

    /// See [`Speaker::follow_routes`]. That somebody looks changes nothing, so it is not recorded.
    pub fn follow_routes(&mut self) {
        self.speaker.follow_routes();
    }

    /// See [`Speaker::changed_routes`].
    pub fn changed_routes(&mut self, limit: usize) -> Vec<ChangedRoute> {
        self.speaker.changed_routes(limit)
    }

    /// See [`Speaker::poll_output`].
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.speaker.poll_output();
        if let Some(journal) = &mut self.journal {
            journal.append(|| Entry::PollOutput { output: output.as_ref().map(digest) });
        }
        output
    }

    fn record(&mut self, now: Instant, entry: impl FnOnce(u64) -> Entry) {
        if let Some(journal) = &mut self.journal {
            journal.record(now, entry);
        }
    }
}

/// For reading only: what changes a speaker is an input, and is recorded.
impl Deref for RecordedSpeaker {
    type Target = Speaker;

    fn deref(&self) -> &Speaker {
        &self.speaker
    }
}

impl Journal {
    fn record(&mut self, now: Instant, entry: impl FnOnce(u64) -> Entry) {
        let at = u64::try_from(now.saturating_duration_since(self.began).as_nanos()).unwrap_or(u64::MAX);
        self.append(|| entry(at));
    }

    fn append(&mut self, entry: impl FnOnce() -> Entry) {
        if self.ended.is_some() {
            return;
        }
        let encoded = entry().encode();
        match self.room.checked_sub(encoded.len() as u64) {
            Some(room) => {
                self.room = room;
                self.recorded.extend_from_slice(&encoded);
            }
            None => self.end(RecordingEnd::LimitReached),
        }
    }

    fn end(&mut self, why: RecordingEnd) {
        if self.ended.is_none() {
            self.recorded.extend_from_slice(&Entry::End(why).encode());
            self.ended = Some(why);
        }
    }
}

/// FNV-1a, folded: enough to notice a difference, and the same on every machine.
#[derive(Debug)]
struct Digest(u64);

impl Digest {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, octets: &[u8]) {
        for octet in octets {
            self.0 = (self.0 ^ u64::from(*octet)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    const fn finish(&self) -> u32 {
        (self.0 >> 32) as u32 ^ self.0 as u32
    }
}

impl Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.add(text.as_bytes());
        Ok(())
    }
}

/// Of everything that an output says.
pub(super) fn digest(output: &impl fmt::Debug) -> u32 {
    let mut digest = Digest::new();
    // A digest takes all that it is given.
    let _ = write!(digest, "{output:?}");
    digest.finish()
}

pub(super) fn digest_octets(octets: &[u8]) -> u32 {
    let mut digest = Digest::new();
    digest.add(octets);
    digest.finish()
}
