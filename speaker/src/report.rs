//! The `NodeReport`: what this speaker is doing, for people and for the controller.

use std::collections::BTreeMap;
use std::time::Instant;

use jiff::Timestamp;
use roadstead_api::kinds::{NodeReport, NodeReportSpec, NodeReportStatus, ObjectName, SessionReport};
use roadstead_bgp::{PeerKey, PeerStatus, SessionState};

use crate::node::LocalNode;
use crate::session::Refusal;

/// The moment at which a report is made, on both clocks: sessions count on the monotonic one, people read the other.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// On the monotonic clock.
    pub instant: Instant,
    /// On the wall.
    pub wall: Timestamp,
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Self { instant: Instant::now(), wall: Timestamp::now() }
    }

    /// The wall time of an earlier instant, in whole seconds so that it does not wander from report to report.
    fn wall_time_of(self, instant: Instant) -> String {
        let ago = self.instant.saturating_duration_since(instant);
        let wall = self.wall.checked_sub(jiff::SignedDuration::try_from(ago).unwrap_or_default()).unwrap_or(self.wall);
        in_seconds(wall)
    }
}

/// The report of a node with these sessions, and with these peers that have none.
pub fn node_report(
    node: &LocalNode,
    moment: Moment,
    prefixes: usize,
    sessions: &[PeerStatus],
    refused: &BTreeMap<PeerKey, (String, Refusal)>,
) -> NodeReport {
    let established = sessions.iter().filter(|session| session.state == SessionState::Established).count();
    let mut reports: Vec<SessionReport> = sessions.iter().map(|status| session_report(status, moment)).collect();
    reports.extend(refused.iter().map(|(key, (address, refusal))| SessionReport {
        peer: key.to_string(),
        address: address.clone(),
        state: "Refused".to_owned(),
        last_error: Some(refusal.to_string()),
        ..SessionReport::default()
    }));
    reports.sort_by(|a, b| a.peer.cmp(&b.peer));
    let mut report = NodeReport::new(&node.name, NodeReportSpec { node_name: ObjectName(node.name.clone()) });
    report.status = Some(NodeReportStatus {
        heartbeat: in_seconds(moment.wall),
        established: format!("{established}/{}", reports.len()),
        prefixes: count(prefixes),
        sessions: reports,
    });
    report
}

/// Whether two reports say the same, but for when they were made.
pub fn same_news(a: &NodeReport, b: &NodeReport) -> bool {
    let news = |report: &NodeReport| {
        report.status.clone().map(|status| NodeReportStatus { heartbeat: String::new(), ..status })
    };
    news(a) == news(b)
}

fn session_report(status: &PeerStatus, moment: Moment) -> SessionReport {
    let mut last_error = status.last_error.clone();
    if !status.withheld.is_empty() {
        let families: Vec<String> = status.withheld.iter().map(ToString::to_string).collect();
        last_error = Some(format!(
            "{} is withheld: no next hop of that family; give spec.nextHop, or the node an address of it",
            families.join(", ")
        ));
    }
    SessionReport {
        peer: status.key.to_string(),
        address: status.remote.ip().to_string(),
        state: status.state.to_string(),
        since: Some(moment.wall_time_of(status.since)),
        sent: count(status.prefixes_sent),
        received: i64::try_from(status.prefixes_received).unwrap_or(i64::MAX),
        accepted: count(status.prefixes_accepted),
        refused: status
            .refused
            .iter()
            .map(|(reason, count)| (reason.to_string(), i64::try_from(*count).unwrap_or(i64::MAX)))
            .collect(),
        // What the schema allows; a peer's text may be longer than that together with ours.
        last_error: last_error.map(|text| text.chars().take(1000).collect()),
    }
}

fn in_seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
