//! `roadstead replay`: what a recorded BGP engine did, and whether this one does the same.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use roadstead_bgp::record::{Change, Entry, Outcome, ReadError, Recording, Replay, Step, Taken};
use roadstead_bgp::{Accepted, ConnectionId, Event, Output, PeerKey};

/// Run a recording of `--record` through the BGP engine again, and print what happened.
///
/// One line for each thing that happened: peers and routes that were set, connections, messages in (<) and out (>), sessions up and
/// down with the reason; then the sessions and routes as they were in the end. No socket is opened. The last line says whether
/// this engine did the same, octet by octet, as the one that was recorded; if not, the command fails.
#[derive(clap::Args)]
pub(crate) struct Flags {
    /// The recording
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Print the last line alone
    #[arg(long)]
    check: bool,
}

/// Replays to the end of the recording.
pub(crate) fn replay(flags: &Flags) -> anyhow::Result<ExitCode> {
    let file = std::fs::read(&flags.file).with_context(|| format!("cannot read {}", flags.file.display()))?;
    let recording = Recording::read(&file).with_context(|| flags.file.display().to_string())?;
    let mut out = std::io::stdout().lock();
    let mut replay = Replay::new(&recording, Instant::now());
    let mut story = Story::default();
    let (mut steps, mut ending, mut differs) = (0u64, None, None);
    while let Some(step) = replay.next() {
        match step {
            Ok(step) => {
                if !flags.check {
                    for line in story.tell(&step, &replay) {
                        writeln!(out, "{:>12.6} s  {line}", step.at.as_secs_f64())?;
                    }
                }
                steps = step.number;
                if let Entry::End(why) = step.entry {
                    ending = Some(why.to_string());
                }
                if !step.agrees && differs.is_none() {
                    differs = Some(step);
                }
            }
            Err(error @ ReadError::BreaksOff { .. }) => ending = Some(error.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
    if !flags.check {
        print_end(&mut out, &replay)?;
        writeln!(out, "end: {}", ending.as_deref().unwrap_or("the recording has no end"))?;
    }
    let Some(step) = differs else {
        writeln!(out, "all {steps} steps are as recorded by engine {}", recording.engine())?;
        return Ok(ExitCode::SUCCESS);
    };
    let Step { number, at, entry, outcome, .. } = step;
    writeln!(
        out,
        "step {number} of {steps}, at {:.6} s, is not as recorded by engine {}: recorded {entry:?}, now {outcome:?}",
        at.as_secs_f64(),
        recording.engine()
    )?;
    Ok(ExitCode::FAILURE)
}

fn print_end(out: &mut impl Write, replay: &Replay<'_>) -> std::io::Result<()> {
    writeln!(out, "\nsessions:")?;
    for status in replay.speaker().status(replay.now()) {
        let error = status.last_error.map_or_else(String::new, |error| format!("; last error: {error}"));
        writeln!(
            out,
            "  {}  {}  {}, told {} of {} prefixes, accepted {}, lost {} times{error}",
            status.key,
            status.remote,
            status.state,
            status.prefixes_sent,
            status.prefixes_wanted,
            status.prefixes_accepted,
            status.flaps
        )?;
    }
    writeln!(out, "learned routes:")?;
    for (prefix, paths) in replay.speaker().learned() {
        for path in paths {
            let stale = if path.stale { ", stale" } else { "" };
            writeln!(out, "  {prefix}  via {} from {}, path {}{stale}", path.next_hop, path.peer, path.as_path)?;
        }
    }
    writeln!(out)
}

/// What is needed to tell a step in words: whole messages are seen only over several steps.
#[derive(Default)]
struct Story {
    received: BTreeMap<ConnectionId, Messages>,
    sent: BTreeMap<ConnectionId, Messages>,
    pending: Vec<u8>,
}

impl Story {
    fn tell(&mut self, step: &Step, replay: &Replay<'_>) -> Vec<String> {
        match (&step.entry, &step.outcome) {
            (Entry::SetPeer { key, .. }, _) => {
                let config = replay.speaker().config(&PeerKey::from(key.as_str()));
                let said = config.map_or_else(
                    || "refused".to_owned(),
                    |config| format!("AS {} to {} AS {}", config.local_asn, config.transport.remote, config.peer_asn),
                );
                vec![format!("set peer {key}: {said}")]
            }
            (Entry::RemovePeer { key, .. }, _) => vec![format!("remove peer {key}")],
            (Entry::SetDynamicPeers { key, prefix, max_sessions, .. }, _) => {
                vec![format!("set peers {key}: at most {max_sessions} from {prefix}")]
            }
            (Entry::RemoveDynamicPeers { key, .. }, _) => vec![format!("remove peers {key}")],
            (Entry::UpdateRoutes { key, changes, .. }, _) => {
                let announced = changes.iter().filter(|change| matches!(change, Change::Announce(..))).count();
                vec![format!("routes for {key}: {announced} announced, {} withdrawn", changes.len() - announced)]
            }
            (Entry::DeferSelection { deferral, .. }, _) => {
                vec![format!("others' routes are held back for {:?} to {:?}", deferral.establish, deferral.limit)]
            }
            (Entry::InitialSetComplete { key, .. }, _) => vec![format!("routes for {key} are complete")],
            (Entry::Shutdown { shutdown, .. }, _) => vec![format!("shut down: {shutdown:?}")],
            (Entry::HandleDialled { connection, endpoints, .. }, _) => {
                vec![format!("connection {} is up: {} to {}", connection.0, endpoints.local, endpoints.remote)]
            }
            (
                Entry::HandleAccepted { endpoints, .. } | Entry::HandleAcceptedOnLink { endpoints, .. },
                Outcome::Accepted(Accepted::Connection(connection, key)),
            ) => {
                vec![format!("connection {} from {} is of {key}", connection.0, endpoints.remote)]
            }
            (Entry::HandleAccepted { endpoints, .. } | Entry::HandleAcceptedOnLink { endpoints, .. }, _) => {
                vec![format!("connection from {} refused", endpoints.remote)]
            }
            (Entry::HandleBytes { connection, bytes, .. }, _) => {
                let messages = self.received.entry(*connection).or_default().take(bytes);
                messages.map(|messages| format!("connection {} < {messages}", connection.0)).into_iter().collect()
            }
            (Entry::HandleClosed { connection, reason, .. }, _) => {
                let reason = reason.as_deref().unwrap_or("by the peer");
                vec![format!("connection {} is closed: {reason}", connection.0)]
            }
            (Entry::HandleNextHopRoutes { changes, .. }, _) => {
                let gone = changes.iter().filter(|change| change.metric.is_none()).count();
                vec![format!("routes to next hops: {} there, {gone} gone", changes.len() - gone)]
            }
            (Entry::HandleBfdDown { key, failure, .. }, _) => vec![format!("BFD with {key} is down: {failure}")],
            (Entry::PendingWrite { .. }, Outcome::Pending(pending)) => {
                self.pending.clone_from(pending);
                Vec::new()
            }
            (Entry::HandleWritten { connection, taken, .. }, _) => {
                let count = match taken {
                    Taken::All => self.pending.len(),
                    Taken::Octets(octets) => usize::try_from(*octets).unwrap_or(usize::MAX).min(self.pending.len()),
                };
                let messages = self.sent.entry(*connection).or_default().take(&self.pending[..count]);
                messages.map(|messages| format!("connection {} > {messages}", connection.0)).into_iter().collect()
            }
            (Entry::PollOutput { .. }, Outcome::Output(Some(output))) => self.tell_output(output, replay),
            _ => Vec::new(),
        }
    }

    fn tell_output(&mut self, output: &Output, replay: &Replay<'_>) -> Vec<String> {
        match output {
            Output::Dial { connection, peer } => vec![format!("dial {peer}: connection {}", connection.0)],
            Output::Write { .. } => Vec::new(),
            Output::Close { connection, last } => {
                self.received.remove(connection);
                let last = self.sent.remove(connection).unwrap_or_default().take(last);
                let last = last.map_or_else(String::new, |messages| format!(" > {messages}"));
                vec![format!("close connection {}{last}", connection.0)]
            }
            Output::Event(Event::SessionUp { peer }) => vec![format!("session with {peer} is up")],
            Output::Event(Event::SessionDown { peer, reason }) => {
                vec![format!("session with {peer} is down: {reason}")]
            }
            Output::Event(Event::RoutesChanged) => {
                let status = replay.speaker().status(replay.now());
                let routes: usize = status.iter().map(|status| status.prefixes_accepted).sum();
                vec![format!("learned routes have changed: {routes} now")]
            }
            Output::Event(Event::MaxPrefixesNear { peer, family, accepted, limit }) => {
                vec![format!("{peer} has {accepted} of at most {limit} {family} prefixes")]
            }
            Output::Event(Event::BfdChanged { peer }) => vec![format!("BFD with {peer} has changed")],
            Output::Event(Event::Missed { events }) => vec![format!("{events} events were missed")],
        }
    }
}

/// A stream, cut into messages by the lengths in their headers (RFC 4271 section 4.1).
#[derive(Default)]
struct Messages {
    begun: Vec<u8>,
}

impl Messages {
    /// The messages that these octets complete, by type.
    fn take(&mut self, octets: &[u8]) -> Option<String> {
        self.begun.extend_from_slice(octets);
        let mut counts: Vec<(&str, u32)> = Vec::new();
        let mut rest = self.begun.as_slice();
        while let [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, high, low, kind, ..] = rest {
            let length = usize::from(u16::from_be_bytes([*high, *low])).max(19);
            let Some(behind) = rest.get(length..) else { break };
            let name = match kind {
                1 => "OPEN",
                2 => "UPDATE",
                3 => "NOTIFICATION",
                4 => "KEEPALIVE",
                5 => "ROUTE-REFRESH",
                _ => "unknown message",
            };
            rest = behind;
            match counts.last_mut() {
                Some((last, count)) if *last == name => *count += 1,
                _ => counts.push((name, 1)),
            }
        }
        self.begun = rest.to_vec();
        let texts: Vec<String> = counts
            .into_iter()
            .map(|(name, count)| if count == 1 { name.to_owned() } else { format!("{count} x {name}") })
            .collect();
        (!texts.is_empty()).then(|| texts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_seen_when_they_are_whole() {
        let message = |kind: u8, length: u8| {
            let mut octets = vec![0xff; usize::from(length)];
            octets[16..19].copy_from_slice(&[0, length, kind]);
            octets
        };
        let mut messages = Messages::default();
        let stream = [message(1, 29), message(4, 19), message(2, 23), message(2, 30), message(3, 21)].concat();
        assert_eq!(messages.take(&stream[..28]), None);
        assert_eq!(messages.take(&stream[28..60]).as_deref(), Some("OPEN, KEEPALIVE"));
        assert_eq!(messages.take(&stream[60..]).as_deref(), Some("2 x UPDATE, NOTIFICATION"));
        assert_eq!(messages.take(&[]), None);
    }
}
