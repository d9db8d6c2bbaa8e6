//! The `NodeReport`: what this speaker is doing, for people and for the controller.

use std::collections::BTreeMap;
use std::time::Instant;

use jiff::Timestamp;
use roadstead_api::kinds::{
    BfdReport, Capabilities, CidrText, ConnectedReport, NodeReport, NodeReportSpec, NodeReportStatus, ObjectName,
    PodsReport, ReportText, SessionReport,
};
use roadstead_bgp::bfd::{BfdSessionStatus, Diagnostic};
use roadstead_bgp::driver::BfdThreadStatus;
use roadstead_bgp::{LimitState, LimitStatus, PeerKey, PeerStatus, SessionState};

use crate::fib::{Connected, FibStatus};
use crate::local;
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
    pub(crate) fn wall_time_of(self, instant: Instant) -> String {
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
    bfd: &BfdThreadStatus,
    refused: &BTreeMap<PeerKey, (String, Refusal)>,
    pods: Option<PodsReport>,
) -> NodeReport {
    let established = sessions.iter().filter(|session| session.state == SessionState::Established).count();
    let mut reports: Vec<SessionReport> = sessions.iter().map(|status| session_report(status, bfd, moment)).collect();
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
        bfd_scheduling: bfd.scheduling.map(|scheduling| scheduling.to_string()),
        sessions: reports,
        links: Vec::new(),
        connected: Vec::new(),
        problems: Vec::new(),
        pods,
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

/// Behind an interface the address is known as long as there is a connection.
pub(crate) fn address(status: &PeerStatus) -> String {
    match (&status.interface, status.remote.ip()) {
        (Some(interface), remote) if remote.is_unspecified() => interface.clone(),
        (Some(interface), remote) => format!("{remote}%{interface}"),
        (None, remote) => remote.to_string(),
    }
}

fn session_report(status: &PeerStatus, bfd: &BfdThreadStatus, moment: Moment) -> SessionReport {
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
        address: address(status),
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
        bfd: bfd.bfd.sessions.get(&status.key).map(|session| bfd_report(session, moment)),
        families: status.families.iter().map(|family| ReportText::cut(&family.to_string())).collect(),
        hold_seconds: status.hold_time.and_then(|time| i64::try_from(time.as_secs()).ok()),
        capabilities: Some(Capabilities {
            sent: few(&status.capabilities_sent),
            received: few(&status.capabilities_received),
        })
        .filter(|both| *both != Capabilities::default()),
        flaps: i64::try_from(status.flaps).unwrap_or(i64::MAX),
        limits: status.limits.iter().filter(|limit| limit.state != LimitState::Below).map(limit).collect(),
        last_refusals: status
            .last_refusals
            .iter()
            .rev()
            .take(MOST_REFUSALS)
            .map(|refusal| {
                let at = moment.wall_time_of(refusal.at);
                ReportText::cut(&format!("{at} {}: {}", refusal.prefix, refusal.reason))
            })
            .collect(),
        last_malformed: status.last_malformed.as_deref().map(|update| {
            let (at, outcome) = (moment.wall_time_of(update.at), local::outcome(update.outcome));
            ReportText::cut(&format!("{at} {outcome}: {}", update.detail))
        }),
        // What the schema allows; a peer's text may be longer than that together with ours.
        last_error: last_error.map(|text| text.chars().take(1000).collect()),
    }
}

/// The networks that the node is directly connected to.
pub fn connected(kernel: &FibStatus) -> Vec<ConnectedReport> {
    let report = |connected: &Connected| ConnectedReport {
        cidr: CidrText(connected.network.to_string()),
        interface: connected.interface.clone(),
    };
    kernel.connected.iter().take(MOST_CONNECTED).map(report).collect()
}

fn bfd_report(session: &BfdSessionStatus, moment: Moment) -> BfdReport {
    let told = session.remote.filter(|_| session.diagnostic == Diagnostic::NEIGHBOR_SIGNALED_DOWN);
    let diagnostic = match told {
        Some(remote) => format!("{}; the router says {}", session.diagnostic, remote.diagnostic),
        None => session.diagnostic.to_string(),
    };
    let failed = (session.diagnostic != Diagnostic::NONE).then_some(diagnostic);
    BfdReport {
        state: session.state.to_string(),
        since: moment.wall_time_of(session.since),
        remote_discriminator: session.remote.map(|remote| remote.discriminator.into()),
        detection_milliseconds: session.detection_time.map(|time| i64::try_from(time.as_millis()).unwrap_or(i64::MAX)),
        downs: i64::try_from(session.downs).unwrap_or(i64::MAX),
        last_error: session.obstacle.clone().or(failed),
    }
}

/// Newest first; the object is for a glance, and every one of its readers gets all of it.
const MOST_REFUSALS: usize = 5;
/// What the schema allows.
const MOST_CONNECTED: usize = 256;
/// More capabilities than we know of ourselves are those of a strange peer.
const MOST_CAPABILITIES: usize = 16;

fn few(words: &[String]) -> Vec<ReportText> {
    words.iter().take(MOST_CAPABILITIES).map(|word| ReportText::cut(word)).collect()
}

fn limit(limit: &LimitStatus) -> ReportText {
    let LimitStatus { family, accepted, limit, state } = limit;
    ReportText::cut(&format!("{}: {accepted} of {limit} {family} prefixes", local::limit_state(*state)))
}

fn in_seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
