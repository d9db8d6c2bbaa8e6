//! What a node reports of each link and each host outside.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use roadstead_api::kinds::{LinkReport, ReportText};
use roadstead_api::overlap::Neighbour;
use roadstead_bgp::PeerStatus;

use super::{Counterpart, LinkCounts, Links};

/// The object is for a glance, and every one of its readers gets all of it.
const MOST_REFUSALS: usize = 8;

impl Links {
    /// One for each link and host. What the engine has refused at once, because nothing of the kind is accepted, is not in any table: it
    /// is counted by session, and of the last ones it is said what they collide with.
    pub fn reports(&self, sessions: &[PeerStatus], missing: &BTreeSet<IpNet>) -> Vec<LinkReport> {
        let mut at_once: BTreeMap<Neighbour, (u64, BTreeMap<IpNet, String>)> = BTreeMap::new();
        for session in sessions {
            let from = match Counterpart::of(&session.key) {
                Some(Counterpart::Link { link, .. }) => Neighbour::Link(link),
                Some(Counterpart::Edge(host)) => Neighbour::Edge(host),
                Some(Counterpart::Node(_)) | None => continue,
            };
            let (most, refused) = at_once.entry(from.clone()).or_default();
            // The gateways of one cluster tell the same.
            *most = (*most).max(session.refused.values().sum());
            for refusal in &session.last_refusals {
                let objection = self.objection(&from, refusal.prefix);
                let text = objection.unwrap_or_else(|| format!("{} from {from}: {}", refusal.prefix, refusal.reason));
                refused.insert(refusal.prefix, text);
            }
        }
        let report = |(from, counts): (Neighbour, LinkCounts)| {
            let (most, at_once) = at_once.remove(&from).unwrap_or_default();
            let refusals = counts.refused.values().chain(at_once.values()).take(MOST_REFUSALS);
            LinkReport {
                link: match from {
                    Neighbour::Link(name) => name,
                    Neighbour::Edge(name) => format!("edge/{name}"),
                },
                accepted: i64::try_from(counts.accepted).unwrap_or(i64::MAX),
                installed: i64::try_from(counts.wanted.difference(missing).count()).unwrap_or(i64::MAX),
                refused: i64::try_from(counts.refused.len() as u64 + most).unwrap_or(i64::MAX),
                refusals: refusals.map(|text| ReportText::cut(text)).collect(),
            }
        };
        self.counts().into_iter().map(report).collect()
    }
}
