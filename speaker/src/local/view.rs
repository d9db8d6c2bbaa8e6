//! What the socket tells, as it stands in the JSON. Times are RFC 3339 in UTC, durations are in the unit of their name.

use std::collections::BTreeMap;

use roadstead_bgp::{
    ExplainedPath, LearnedPath, LimitState, MalformedOutcome, MalformedUpdate, Origin, PeerStatus, Refusal, ShownRoute,
    Standing, Verdict,
};
use serde::{Deserialize, Serialize};

use crate::report::Moment;

/// All that is going on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusView {
    /// The speaker's version.
    pub version: String,
    /// The node it speaks for.
    pub node: String,
    /// By name of the peer.
    pub sessions: Vec<SessionView>,
}

/// One session. What was negotiated is there only while there is a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "named after the fields of roadstead_bgp::PeerStatus, which explains them")]
pub struct SessionView {
    pub peer: String,
    /// As in RFC 4271 section 8.2.2; `Refused` where the object or its Secret does not permit a session.
    pub state: String,
    pub since: Option<String>,
    pub uptime_seconds: Option<u64>,
    pub next_attempt_seconds: Option<u64>,
    pub remote: String,
    pub local: Option<String>,
    #[serde(rename = "localASN")]
    pub local_asn: Option<u32>,
    #[serde(rename = "remoteASN")]
    pub remote_asn: Option<u32>,
    #[serde(rename = "remoteRouterID")]
    pub remote_router_id: Option<String>,
    pub remote_role: Option<String>,
    pub hold_seconds: Option<u64>,
    pub keepalive_seconds: Option<u64>,
    pub max_message_octets: Option<u16>,
    pub families: Vec<String>,
    pub withheld: Vec<String>,
    pub capabilities_sent: Vec<String>,
    pub capabilities_received: Vec<String>,
    pub prefixes_wanted: usize,
    pub prefixes_sent: usize,
    pub prefixes_too_large: usize,
    pub prefixes_received: u64,
    pub prefixes_accepted: usize,
    pub prefixes_stale: usize,
    pub limits: Vec<LimitView>,
    /// By reason.
    pub refused: BTreeMap<String, u64>,
    /// Oldest first; at most a hundred.
    pub last_refusals: Vec<RefusalView>,
    pub updates_with_discarded_attributes: u64,
    pub updates_treated_as_withdrawn: u64,
    pub last_malformed: Option<MalformedView>,
    pub messages_in: u64,
    pub messages_out: u64,
    pub flaps: u64,
    pub last_error: Option<String>,
}

/// A maximum of prefixes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitView {
    /// The family that it is for.
    pub family: String,
    /// What counts.
    pub accepted: usize,
    /// What may.
    pub limit: u32,
    /// `Below`, `Warned` or `Dropping`.
    pub state: String,
}

/// A route that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusalView {
    /// Whose.
    pub peer: String,
    /// When.
    pub at: String,
    /// To where.
    pub prefix: String,
    /// By which way, if it said.
    pub next_hop: Option<String>,
    /// Its beginning.
    pub as_path: String,
    /// Why.
    pub reason: String,
    /// What it came in, where that is the reason.
    pub malformed: Option<MalformedView>,
}

/// An UPDATE in which something was wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MalformedView {
    /// When.
    pub at: String,
    /// `AttributeDiscarded`, `TreatedAsWithdrawn` or `SessionReset` (RFC 7606 section 2).
    pub outcome: String,
    /// In words.
    pub detail: String,
    /// Where it begins to be wrong, in hexadecimal; at most 256 octets.
    pub octets: String,
}

/// A page of routes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoutesView {
    /// In no order.
    pub routes: Vec<RouteView>,
    /// Ask with this `after` for more; absent: that was all.
    pub next: Option<String>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "named after the fields of roadstead_bgp::LearnedPath, which explains them")]
pub struct RouteView {
    pub prefix: String,
    /// From whom, or to whom.
    pub peer: String,
    /// `Best`, `Other`, `Unreachable`, `Told` or `Outdated`: see [`Standing`].
    pub standing: String,
    #[serde(rename = "pathID")]
    pub path_id: u32,
    pub stale: bool,
    pub next_hop: String,
    pub origin: String,
    pub as_path: String,
    pub med: Option<u32>,
    pub local_preference: Option<u32>,
    pub communities: Vec<String>,
    pub large_communities: Vec<String>,
    pub extended_communities: Vec<String>,
    pub only_to_customer: Option<u32>,
    pub aigp: Option<u64>,
}

/// Why a prefix is reached as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainView {
    /// The question.
    pub prefix: String,
    /// Accepted, best first.
    pub paths: Vec<ExplainedView>,
    /// Among the last hundred refusals of each peer, oldest first.
    pub refused: Vec<RefusalView>,
    /// So many refusals are kept of a peer; of these it had more, so what is not shown may have been refused too.
    pub peers_with_more: Vec<String>,
}

/// A path, and why it is chosen or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedView {
    /// The path.
    pub route: RouteView,
    /// In words.
    pub verdict: String,
}

impl SessionView {
    pub(super) fn new(status: &PeerStatus, moment: Moment) -> Self {
        let names = |families: &std::collections::BTreeSet<roadstead_bgp::Family>| {
            families.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let refusal = |refusal: &Refusal| RefusalView::new(status, refusal, moment);
        Self {
            peer: status.key.to_string(),
            state: status.state.to_string(),
            since: Some(moment.wall_time_of(status.since)),
            uptime_seconds: status.uptime.map(|uptime| uptime.as_secs()),
            next_attempt_seconds: status
                .next_attempt
                .map(|at| at.saturating_duration_since(moment.instant).as_secs_f64().ceil() as u64),
            remote: status.remote.to_string(),
            local: status.local.map(|local| local.to_string()),
            local_asn: Some(status.local_asn.0),
            remote_asn: status.remote_asn.map(|asn| asn.0),
            remote_router_id: status.remote_router_id.map(|id| id.to_string()),
            remote_role: status.remote_role.map(|role| role.to_string()),
            hold_seconds: status.hold_time.map(|time| time.as_secs()),
            keepalive_seconds: status.keepalive.map(|time| time.as_secs()),
            max_message_octets: status.max_message,
            families: names(&status.families),
            withheld: names(&status.withheld),
            capabilities_sent: status.capabilities_sent.clone(),
            capabilities_received: status.capabilities_received.clone(),
            prefixes_wanted: status.prefixes_wanted,
            prefixes_sent: status.prefixes_sent,
            prefixes_too_large: status.prefixes_too_large,
            prefixes_received: status.prefixes_received,
            prefixes_accepted: status.prefixes_accepted,
            prefixes_stale: status.prefixes_stale,
            limits: status
                .limits
                .iter()
                .map(|limit| LimitView {
                    family: limit.family.to_string(),
                    accepted: limit.accepted,
                    limit: limit.limit,
                    state: limit_state(limit.state).to_owned(),
                })
                .collect(),
            refused: status.refused.iter().map(|(reason, count)| (reason.to_string(), *count)).collect(),
            last_refusals: status.last_refusals.iter().map(refusal).collect(),
            updates_with_discarded_attributes: status.updates_with_discarded_attributes,
            updates_treated_as_withdrawn: status.updates_treated_as_withdrawn,
            last_malformed: status.last_malformed.as_deref().map(|update| MalformedView::new(update, moment)),
            messages_in: status.messages_in,
            messages_out: status.messages_out,
            flaps: status.flaps,
            last_error: status.last_error.clone(),
        }
    }
}

impl RefusalView {
    pub(super) fn new(status: &PeerStatus, refusal: &Refusal, moment: Moment) -> Self {
        Self {
            peer: status.key.to_string(),
            at: moment.wall_time_of(refusal.at),
            prefix: refusal.prefix.to_string(),
            next_hop: refusal.next_hop.map(|next_hop| next_hop.to_string()),
            as_path: refusal.as_path.to_string(),
            reason: refusal.reason.to_string(),
            malformed: refusal.malformed.as_deref().map(|update| MalformedView::new(update, moment)),
        }
    }
}

impl MalformedView {
    fn new(update: &MalformedUpdate, moment: Moment) -> Self {
        Self {
            at: moment.wall_time_of(update.at),
            outcome: outcome(update.outcome).to_owned(),
            detail: update.detail.clone(),
            octets: update.octets.iter().map(|octet| format!("{octet:02x}")).collect(),
        }
    }
}

impl RouteView {
    pub(super) fn new(route: &ShownRoute) -> Self {
        let standing = match route.standing {
            Standing::Best => "Best",
            Standing::Other => "Other",
            Standing::Unreachable => "Unreachable",
            Standing::Told => "Told",
            Standing::Outdated => "Outdated",
        };
        Self::of(route.prefix.to_string(), standing, &route.path)
    }

    fn of(prefix: String, standing: &str, path: &LearnedPath) -> Self {
        Self {
            prefix,
            peer: path.peer.to_string(),
            standing: standing.to_owned(),
            path_id: path.path_id,
            stale: path.stale,
            next_hop: path.next_hop.to_string(),
            origin: match path.origin {
                Origin::Igp => "IGP",
                Origin::Egp => "EGP",
                Origin::Incomplete => "Incomplete",
            }
            .to_owned(),
            as_path: path.as_path.to_string(),
            med: path.med,
            local_preference: path.local_preference,
            communities: path.communities.iter().map(ToString::to_string).collect(),
            large_communities: path.large_communities.iter().map(ToString::to_string).collect(),
            extended_communities: path.extended_communities.iter().map(ToString::to_string).collect(),
            only_to_customer: path.only_to_customer.map(|asn| asn.0),
            aigp: path.aigp,
        }
    }
}

impl ExplainedView {
    pub(super) fn new(prefix: &ipnet::IpNet, explained: &ExplainedPath) -> Self {
        let (standing, verdict) = match explained.verdict {
            Verdict::Best => ("Best", "the best".to_owned()),
            Verdict::Equal(rule) => ("Other", format!("as good as the best; the tie went by {rule}")),
            Verdict::Unreachable => ("Unreachable", "no route leads to its next hop".to_owned()),
            Verdict::Worse(rule) => ("Other", format!("the best has {rule}")),
        };
        Self { route: RouteView::of(prefix.to_string(), standing, &explained.path), verdict }
    }
}

/// One word for each.
pub(crate) const fn outcome(outcome: MalformedOutcome) -> &'static str {
    match outcome {
        MalformedOutcome::AttributeDiscarded => "AttributeDiscarded",
        MalformedOutcome::TreatedAsWithdrawn => "TreatedAsWithdrawn",
        MalformedOutcome::SessionReset => "SessionReset",
    }
}

/// One word for each.
pub(crate) const fn limit_state(state: LimitState) -> &'static str {
    match state {
        LimitState::Below => "Below",
        LimitState::Warned => "Warned",
        LimitState::Dropping => "Dropping",
    }
}
