//! The verdicts on links and edge hosts: from the objects, from what is in use here, and from the nodes' reports.
//!
//! A link as a whole is refused only where it leads nowhere, or where another leads already ([`links_in_force`]). Where what it
//! accepts is in use here, or accepted of another, these prefixes alone are refused: what works goes on working.

use std::collections::BTreeMap;

use ipnet::IpNet;
use roadstead_api::checked::{EdgeHost, EdgePrefix, Link};
use roadstead_api::kinds::ConditionStatus::{False, True};
use roadstead_api::kinds::{CidrText, ClusterLinkStatus, EdgeHostStatus, LinkMode, LinkReport, ReportText, RouteClass};
use roadstead_api::overlap::{Held, Holder, Holding, Identity, LinkRefusal, Territory, links_in_force};

use crate::conditions::NodeState;
use crate::conditions::judge::{Finding, Sessions, invalid, verdict};
use crate::judged::Known;
use crate::plan::Now;
use crate::verdict::Ready;

/// The condition of a link that says whether what it accepts is its own.
const DISJOINT: &str = "Disjoint";
/// How many overlaps a message lists.
const LISTED: usize = 3;
/// How many refusals a status lists.
const LISTED_REFUSALS: usize = 16;

/// What is said of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LinkState {
    sessions: Option<String>,
    accepted: i64,
    refused: i64,
    refusals: Vec<ReportText>,
    ready: Ready,
    disjoint: Ready,
}

/// What is said of an edge host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostReport {
    prefix: Option<IpNet>,
    sessions: Option<String>,
    ready: Ready,
}

/// Everything that links are judged by.
pub(super) struct World<'a> {
    links: &'a [Link],
    this: &'a Identity,
    own: &'a Territory,
    /// When each edge host was made.
    hosts: &'a BTreeMap<String, String>,
    nodes: &'a BTreeMap<String, NodeState>,
    in_force: BTreeMap<String, Result<(), LinkRefusal>>,
}

impl<'a> World<'a> {
    pub(super) fn new(
        links: &'a [Link],
        this: &'a Identity,
        own: &'a Territory,
        hosts: &'a BTreeMap<String, String>,
        nodes: &'a BTreeMap<String, NodeState>,
    ) -> Self {
        Self { links, this, own, hosts, nodes, in_force: links_in_force(links, this, own) }
    }

    /// What there is to say of a link.
    pub(super) fn link(&self, name: &str, object: &Known<Link>, stored: Option<&LinkState>, now: Now) -> LinkState {
        let sessions = self.sessions(&format!("link/{name}"));
        let reports: Vec<&LinkReport> = self.reports(name).collect();
        // Every gateway hears of the same prefixes: the one that hears most tells how many there are.
        let most = |count: fn(&LinkReport) -> i64| reports.iter().map(|report| count(report)).max().unwrap_or_default();
        let (accepted, refused) = (most(|report| report.accepted), most(|report| report.refused));
        let mut refusals: Vec<ReportText> = Vec::new();
        for refusal in reports.iter().flat_map(|report| &report.refusals) {
            if refusals.len() < LISTED_REFUSALS && !refusals.contains(refusal) {
                refusals.push(refusal.clone());
            }
        }
        let overlaps = object.good.as_ref().map(|link| self.overlaps(link)).unwrap_or_default();
        let disjoint = Self::disjoint(&overlaps);
        let ready = invalid(object).or_else(|| self.not_in_force(name)).unwrap_or_else(|| {
            let is_observing = object.good.as_ref().is_some_and(|link| link.mode == LinkMode::Observe);
            match sessions.judge() {
                (True, _, message) if is_observing => {
                    let would =
                        format!("{message}; mode Observe installs nothing, Active would install {accepted} prefixes");
                    (True, "Observing", would)
                }
                found => found,
            }
        });
        let next = |(status, reason, message): Finding, stored: Option<&Ready>| {
            Ready::next(stored, verdict(status, reason, message, object.generation), now.wall)
        };
        LinkState {
            sessions: told(&sessions),
            accepted,
            refused,
            refusals,
            ready: next(ready, stored.map(|stored| &stored.ready)),
            disjoint: next(disjoint, stored.map(|stored| &stored.disjoint)),
        }
    }

    /// What there is to say of an edge host.
    pub(super) fn host(
        &self,
        name: &str,
        object: &Known<EdgeHost>,
        allocated: Result<IpNet, Option<String>>,
        stored: Option<&HostReport>,
        now: Now,
    ) -> HostReport {
        let sessions = self.sessions(&format!("edge/{name}"));
        let prefix = object.good.as_ref().and_then(|host| match host.prefix {
            EdgePrefix::Given(prefix) => Some(prefix),
            EdgePrefix::FromPool { .. } => allocated.clone().ok(),
        });
        let refusal = allocated.err().flatten();
        let (status, reason, message) = invalid(object)
            .or_else(|| self.edge_refusal(object.good.as_ref()?, prefix, refusal))
            .unwrap_or_else(|| sessions.judge());
        let verdict = verdict(status, reason, message, object.generation);
        let ready = Ready::next(stored.map(|stored| &stored.ready), verdict, now.wall);
        HostReport { prefix, sessions: told(&sessions), ready }
    }

    fn not_in_force(&self, name: &str) -> Option<Finding> {
        let refusal = self.in_force.get(name)?.as_ref().err()?;
        Some((False, refusal.reason(), format!("not in force: {refusal}")))
    }

    /// What a link accepts and somebody else has: what is in use here, and what an older link in force accepts.
    fn overlaps(&self, link: &Link) -> Vec<String> {
        let own = link.accept.iter().flat_map(|accepted| {
            let held = self.own.overlaps(accepted.1).map(|Held { prefix, holder }| (prefix, holder.clone()));
            one_for_each_holder(held).into_iter().map(move |held| in_words(*accepted, &held))
        });
        let age = |link: &'a Link| (&link.created, &link.name);
        let is_older = |other: &&Link| {
            (&other.created, &other.name) < (&link.created, &link.name)
                && self.in_force.get(&other.name) == Some(&Ok(()))
        };
        let mut older: Vec<&Link> = self.links.iter().filter(is_older).collect();
        older.sort_by_key(|link| age(link));
        let of_others = older.into_iter().flat_map(|other| {
            other.accept.iter().flat_map(move |(class, theirs)| {
                let holder = Holding::Accepted { link: other.name.clone(), class: *class }.ours();
                let meets = move |(_, ours): &&(RouteClass, IpNet)| ours.contains(theirs) || theirs.contains(ours);
                link.accept.iter().filter(meets).map(move |ours| in_words(*ours, &(*theirs, holder.clone())))
            })
        });
        own.chain(of_others).collect()
    }

    fn disjoint(overlaps: &[String]) -> Finding {
        if overlaps.is_empty() {
            let message = "nothing that is accepted is in use here, or accepted of another cluster";
            return (True, "Disjoint", message.to_owned());
        }
        let more = overlaps.len().saturating_sub(LISTED);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        let listed = overlaps[..overlaps.len().min(LISTED)].join("; ");
        (False, "Overlap", format!("routes into these are refused, all others are in order: {listed}{more}"))
    }

    fn edge_refusal(&self, host: &EdgeHost, prefix: Option<IpNet>, refusal: Option<String>) -> Option<Finding> {
        let name = &host.name;
        if self.this.asn == Some(host.asn) {
            let words = format!(
                "not in force: spec.asn: {} is the ASN of this cluster too: the session would be iBGP; give the machine another",
                host.asn
            );
            return Some((False, "OwnASN", words));
        }
        let Some(prefix) = prefix else {
            let EdgePrefix::FromPool { pool, .. } = &host.prefix else { return None };
            let refusal = refusal.unwrap_or_else(|| format!("no prefix of PodPool {pool} is allocated to it as yet"));
            return Some((False, "NoPrefix", refusal));
        };
        let pool = match &host.prefix {
            EdgePrefix::Given(_) => None,
            EdgePrefix::FromPool { pool, .. } => Some(pool),
        };
        let is_foreign = |held: &Held<'_>| match &held.holder.holding {
            // Of two hosts the older has it.
            Holding::EdgeHost(owner) => owner != name && (self.hosts.get(owner), owner) < (self.hosts.get(name), name),
            Holding::PodPool(owner) => pool != Some(owner),
            Holding::Declared(_) => pool.is_none(),
            _ => true,
        };
        let Held { prefix: other, holder } = self.own.overlaps(prefix).find(is_foreign)?;
        let words = format!("nothing is accepted of it: {prefix} overlaps {other}, {holder}");
        Some((False, "Overlap", words))
    }

    /// The sessions of a link or an edge host: `link/NAME` and `edge/NAME`, with the remote end behind where there are several.
    fn sessions(&self, name: &str) -> Sessions {
        let is_of = |peer: &str| peer.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let reports = self.nodes.iter().flat_map(|(node, state)| {
            let sessions = state.sessions.iter().filter(|(peer, _)| is_of(peer));
            sessions.map(move |(_, session)| (node.as_str(), state, session))
        });
        Sessions::count(reports)
    }

    fn reports(&self, link: &str) -> impl Iterator<Item = &LinkReport> {
        let living = self.nodes.values().filter(|state| !state.silent);
        living.flat_map(|state| &state.links).filter(move |report| report.link == link)
    }
}

fn told(sessions: &Sessions) -> Option<String> {
    (sessions.wanted > 0).then(|| format!("{}/{}", sessions.established, sessions.wanted))
}

/// Of the many prefixes that one pool or one range is held as, the first is enough to tell.
fn one_for_each_holder(held: impl Iterator<Item = (IpNet, Holder)>) -> Vec<(IpNet, Holder)> {
    let mut told: Vec<(IpNet, Holder)> = Vec::new();
    for (prefix, holder) in held {
        // What lies in what was told goes without saying: where a range is declared, so do the nodes' parts of it.
        let goes_without = |(before, by): &(IpNet, Holder)| *by == holder || before.contains(&prefix);
        if told.len() <= LISTED && !told.iter().any(goes_without) {
            told.push((prefix, holder));
        }
    }
    told
}

fn in_words((class, ours): (RouteClass, IpNet), (prefix, holder): &(IpNet, Holder)) -> String {
    let field = match class {
        RouteClass::Pods => "pods",
        RouteClass::Services => "services",
        RouteClass::LoadBalancers => "loadBalancers",
    };
    format!("{ours} of spec.acceptCIDRs.{field} overlaps {prefix}, {holder}")
}

impl LinkState {
    /// What a status says; `None` where it says nothing that could be compared.
    pub(super) fn of(status: &ClusterLinkStatus) -> Option<Self> {
        Some(Self {
            sessions: status.sessions.clone(),
            accepted: status.accepted,
            refused: status.refused,
            refusals: status.refusals.clone(),
            ready: Ready::find(&status.conditions)?,
            disjoint: Ready::find_as(DISJOINT, &status.conditions)?,
        })
    }
}

impl From<&LinkState> for ClusterLinkStatus {
    fn from(state: &LinkState) -> Self {
        Self {
            sessions: state.sessions.clone(),
            accepted: state.accepted,
            refused: state.refused,
            refusals: state.refusals.clone(),
            conditions: vec![state.ready.condition(), state.disjoint.condition_as(DISJOINT)],
        }
    }
}

impl HostReport {
    /// What a status says; `None` where it says nothing that could be compared.
    pub(super) fn of(status: &EdgeHostStatus) -> Option<Self> {
        Some(Self {
            prefix: status.prefix.as_ref().and_then(|prefix| prefix.0.parse().ok()),
            sessions: status.sessions.clone(),
            ready: Ready::find(&status.conditions)?,
        })
    }
}

impl From<&HostReport> for EdgeHostStatus {
    fn from(report: &HostReport) -> Self {
        Self {
            prefix: report.prefix.map(|prefix| CidrText(prefix.to_string())),
            sessions: report.sessions.clone(),
            conditions: vec![report.ready.condition()],
        }
    }
}
