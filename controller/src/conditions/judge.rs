//! The verdicts themselves.

use std::collections::BTreeMap;

use jiff::Timestamp;
use roadstead_api::checked::{Advertisement, Peer};
use roadstead_api::kinds::ConditionStatus::{self, False, True, Unknown};

use super::{NodeState, PeerReport, Session};
use crate::judged::Known;
use crate::verdict::{Ready, Verdict, findings, shorten};

/// How many nodes a message lists.
const LISTED: usize = 3;

/// What a condition's message may be long, with room for what others put around it.
const MESSAGE_LIMIT: usize = 4096;

/// A finding: the verdict, its reason for programs, and in words.
pub(crate) type Finding = (ConditionStatus, &'static str, String);

/// What is to be said of a peer.
pub(super) fn peer(
    name: &str,
    object: &Known<Peer>,
    nodes: &BTreeMap<String, NodeState>,
    stored: Option<&PeerReport>,
    now: Timestamp,
) -> PeerReport {
    let reports = nodes.iter().filter_map(|(node, state)| Some((node.as_str(), state, state.sessions.get(name)?)));
    let sessions = Sessions::count(reports);
    let (status, reason, message) = invalid(object).unwrap_or_else(|| sessions.judge());
    let verdict = verdict(status, reason, message, object.generation);
    let told = (sessions.wanted > 0).then(|| format!("{}/{}", sessions.established, sessions.wanted));
    PeerReport { sessions: told, ready: Ready::next(stored.map(|stored| &stored.ready), verdict, now) }
}

/// What is to be said of an advertisement.
pub(super) fn advertisement(
    object: &Known<Advertisement>,
    peers: &[&Peer],
    stored: Option<&Ready>,
    now: Timestamp,
) -> Ready {
    let selects =
        |advertisement: &Advertisement| peers.iter().any(|peer| advertisement.selects_peer(&peer.name, &peer.labels));
    let (status, reason, message) = invalid(object).unwrap_or_else(|| match &object.good {
        Some(advertisement) if !selects(advertisement) => (
            False,
            "NoPeers",
            "in force, but it selects no BGPPeer that there is, so nobody is told anything".to_owned(),
        ),
        _ => (True, "InForce", "in force".to_owned()),
    });
    Ready::next(stored, verdict(status, reason, message, object.generation), now)
}

pub(crate) fn verdict(status: ConditionStatus, reason: &str, message: String, generation: Option<i64>) -> Verdict {
    Verdict { status, reason: reason.to_owned(), message: shorten(message, MESSAGE_LIMIT), generation }
}

/// The finding on an object that cannot be read.
pub(crate) fn invalid<T>(object: &Known<T>) -> Option<Finding> {
    if object.invalid.is_empty() {
        return None;
    }
    let force = if object.good.is_some() { "the last good version stays in force" } else { "not in force" };
    Some((False, "Invalid", format!("{force}: {}", findings(&object.invalid))))
}

/// The sessions of one peer, or of one link.
#[derive(Default)]
pub(crate) struct Sessions {
    pub(crate) wanted: usize,
    pub(crate) established: usize,
    silent: usize,
    /// What the first few say that are not established.
    down: Vec<String>,
    /// The first few nodes that say nothing any more.
    unheard: Vec<String>,
}

impl Sessions {
    pub(crate) fn count<'a>(reports: impl Iterator<Item = (&'a str, &'a NodeState, &'a Session)>) -> Self {
        let mut sessions = Self::default();
        for (node, state, session) in reports {
            sessions.wanted += 1;
            if state.silent {
                sessions.silent += 1;
                if sessions.unheard.len() < LISTED {
                    sessions.unheard.push(node.to_owned());
                }
            } else if session.is_established() {
                sessions.established += 1;
            } else if sessions.down.len() < LISTED {
                let error = session.last_error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
                sessions.down.push(format!("{node}: {}{error}", session.state));
            }
        }
        sessions
    }

    pub(crate) fn judge(&self) -> Finding {
        let down = self.wanted - self.established - self.silent;
        if self.wanted == 0 {
            return (Unknown, "NoReports", "no node has reported a session with this peer".to_owned());
        }
        if down > 0 {
            let more = if down > self.down.len() { "; …" } else { "" };
            let message = format!("{down} of {} sessions not established: {}{more}", self.wanted, self.down.join("; "));
            return (False, "SessionsDown", message);
        }
        if self.silent > 0 {
            let more = if self.silent > self.unheard.len() { ", …" } else { "" };
            let nodes = self.unheard.join(", ");
            let message = format!("{} of {} nodes are silent: {nodes}{more}", self.silent, self.wanted);
            return (Unknown, "Silent", message);
        }
        (True, "Established", format!("all sessions established: {}", self.wanted))
    }
}
