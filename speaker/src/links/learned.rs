//! What becomes of learned routes: each is judged by itself, and what is in order is installed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use roadstead_api::kinds::LinkMode;
use roadstead_api::overlap::{Neighbour, Refusal};
use roadstead_bgp::{ChangedRoute, ExplainedPath, NextHops, RouteAttributes, Verdict};

use super::{Counterpart, Links};

/// What is kept of a path stands once for each prefix, so another cluster must not decide how much that is. No path between clusters
/// is so long.
const LONGEST_PATH: usize = 64;
/// More communities than these are not passed on.
const MOST_COMMUNITIES: usize = 32;

/// A prefix that somebody tells, and what was made of it.
#[derive(Debug, Default)]
pub(super) struct Destination {
    /// Best first, those of sessions of links only.
    paths: Vec<Path>,
    outcome: Outcome,
}

#[derive(Debug)]
struct Path {
    counterpart: Counterpart,
    next_hop: IpAddr,
    /// As good as the best.
    is_equal: bool,
    attributes: Arc<RouteAttributes>,
    /// It is marked to go down to customers only (RFC 9234).
    only_to_customer: bool,
}

/// What was made of a prefix.
#[derive(Debug, Default)]
enum Outcome {
    /// Nothing yet.
    #[default]
    None,
    Used(Chosen),
    /// In order, and only watched.
    Observed(Neighbour),
    Refused(Neighbour, Box<Refusal>),
}

/// The path that is used, and those that are as good.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) from: Neighbour,
    /// It was told by a gateway of this cluster.
    pub(super) is_internal: bool,
    pub(super) attributes: Arc<RouteAttributes>,
    pub(super) only_to_customer: bool,
    next_hops: BTreeSet<IpAddr>,
}

impl Destination {
    pub(super) fn chosen(&self) -> Option<&Chosen> {
        match &self.outcome {
            Outcome::Used(chosen) => Some(chosen),
            Outcome::None | Outcome::Observed(_) | Outcome::Refused(..) => None,
        }
    }
}

/// What a node makes of the routes of one neighbour.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LinkCounts {
    /// Prefixes that are in order.
    pub(super) accepted: usize,
    /// Prefixes of these that are to be in the kernel.
    pub(super) wanted: BTreeSet<IpNet>,
    /// Prefixes that are refused, each with the reason.
    pub(super) refused: BTreeMap<IpNet, String>,
}

impl Links {
    /// The engine's routes have changed.
    pub fn handle_routes(&mut self, changed: Vec<ChangedRoute>) {
        for ChangedRoute { prefix, paths } in changed {
            let paths: Vec<Path> = paths.into_iter().filter_map(path).collect();
            if paths.is_empty() {
                // Judged once more, to be removed from where it was.
                if let Some(destination) = self.learned.get_mut(&prefix) {
                    destination.paths.clear();
                    self.unjudged.insert(prefix);
                }
                continue;
            }
            if !self.learned.contains_key(&prefix) {
                self.learned_where.insert(prefix, ());
            }
            self.learned.entry(prefix).or_default().paths = paths;
            self.unjudged.insert(prefix);
        }
    }

    /// Judges what has changed; the answer is what the kernel is to have instead.
    pub(super) fn judge(&mut self) -> Vec<(IpNet, BTreeSet<IpAddr>)> {
        let mut kernel = Vec::new();
        for prefix in std::mem::take(&mut self.unjudged) {
            let Some(destination) = self.learned.get(&prefix) else { continue };
            let outcome = self.judged(prefix, destination);
            if let (Outcome::Refused(_, refusal), false) = (&outcome, destination.is_refused_as(&outcome)) {
                // Whoever is refused could repeat itself for ever; the status and `roadstead status` say it.
                tracing::debug!("{refusal}");
            }
            let next_hops = match &outcome {
                Outcome::Used(chosen) => chosen.next_hops.clone(),
                Outcome::None | Outcome::Observed(_) | Outcome::Refused(..) => BTreeSet::new(),
            };
            self.passed_on.insert(prefix);
            match self.learned.get_mut(&prefix) {
                Some(destination) if !destination.paths.is_empty() => destination.outcome = outcome,
                _ => {
                    self.learned.remove(&prefix);
                    self.learned_where.remove(prefix, &());
                }
            }
            let installed = self.installed.get(&prefix);
            if installed.map_or(next_hops.is_empty(), |installed| *installed == next_hops) {
                continue;
            }
            match next_hops.is_empty() {
                true => drop(self.installed.remove(&prefix)),
                false => drop(self.installed.insert(prefix, next_hops.clone())),
            }
            kernel.push((prefix, next_hops));
        }
        kernel
    }

    fn judged(&self, prefix: IpNet, destination: &Destination) -> Outcome {
        let mut refused = None;
        let mut observed = None;
        for (index, path) in destination.paths.iter().enumerate() {
            let Some(from) = self.neighbour(path, prefix) else { continue };
            if let Err(refusal) =
                self.border.judge(&from, prefix).and_then(|_| self.judge_next_hop(&from, prefix, path))
            {
                refused.get_or_insert((from, refusal));
                continue;
            }
            if !self.is_in_use(&from) {
                observed.get_or_insert(from);
                continue;
            }
            // Those behind it compare to the best of all, which is this one or was refused.
            let as_good = destination.paths[index + 1..]
                .iter()
                .take_while(|_| index == 0)
                .filter(|other| other.is_equal && self.neighbour(other, prefix).as_ref() == Some(&from));
            let next_hops = std::iter::once(path).chain(as_good).map(|path| path.next_hop).collect();
            let is_internal = matches!(path.counterpart, Counterpart::Node(_));
            let attributes = Arc::clone(&path.attributes);
            let only_to_customer = path.only_to_customer;
            return Outcome::Used(Chosen { from, is_internal, attributes, only_to_customer, next_hops });
        }
        match (observed, refused) {
            (Some(from), _) => Outcome::Observed(from),
            (None, Some((from, refusal))) => Outcome::Refused(from, refusal),
            (None, None) => Outcome::None,
        }
    }

    fn judge_next_hop(&self, from: &Neighbour, prefix: IpNet, path: &Path) -> Result<(), Box<Refusal>> {
        let next_hop = path.next_hop;
        match &path.counterpart {
            // A gateway of ours says itself.
            Counterpart::Node(_) => Ok(()),
            Counterpart::Link { .. } => self.border.judge_next_hop(from, prefix, next_hop),
            Counterpart::Edge(host) => {
                let own = self.hosts.get(host).map(|host| host.host.address);
                match own.filter(|own| own.is_ipv4() == next_hop.is_ipv4() && *own != next_hop) {
                    None => self.border.judge_next_hop(from, prefix, next_hop),
                    Some(own) => {
                        let (from, whose) = (from.clone(), format!("and spec.address is {own}"));
                        Err(Box::new(Refusal::NextHop { prefix, from, next_hop, whose }))
                    }
                }
            }
        }
    }

    /// On whose behalf a path is told. Of one that a gateway of ours tells the prefix says it.
    fn neighbour(&self, path: &Path, prefix: IpNet) -> Option<Neighbour> {
        match &path.counterpart {
            Counterpart::Link { link, .. } => Some(Neighbour::Link(link.clone())),
            Counterpart::Edge(host) => Some(Neighbour::Edge(host.clone())),
            Counterpart::Node(_) => {
                let covering = self.border.neighbours().covering(prefix).map(|held| held.holder);
                covering.min_by(|one, other| one.seniority(other)).map(|acceptance| acceptance.from.clone())
            }
        }
    }

    fn is_in_use(&self, neighbour: &Neighbour) -> bool {
        match neighbour {
            Neighbour::Link(link) => self.links.get(link).is_some_and(|link| link.mode == LinkMode::Active),
            Neighbour::Edge(host) => self.hosts.contains_key(host),
        }
    }

    /// What is made of the routes of every link and host, by `ClusterLink` or `EdgeHost`.
    pub(super) fn counts(&self) -> BTreeMap<Neighbour, LinkCounts> {
        let links = self.links.keys().map(|name| Neighbour::Link(name.clone()));
        let hosts = self.hosts.keys().map(|name| Neighbour::Edge(name.clone()));
        let mut all: BTreeMap<Neighbour, LinkCounts> =
            links.chain(hosts).map(|neighbour| (neighbour, LinkCounts::default())).collect();
        for (prefix, destination) in &self.learned {
            match &destination.outcome {
                Outcome::None => {}
                Outcome::Used(chosen) => {
                    let counts = all.entry(chosen.from.clone()).or_default();
                    counts.accepted += 1;
                    counts.wanted.insert(*prefix);
                }
                Outcome::Observed(from) => all.entry(from.clone()).or_default().accepted += 1,
                Outcome::Refused(from, refusal) => {
                    all.entry(from.clone()).or_default().refused.insert(*prefix, refusal.to_string());
                }
            }
        }
        all
    }

    /// What is wrong with a prefix of a neighbour, in words that name both sides.
    pub(super) fn objection(&self, from: &Neighbour, prefix: IpNet) -> Option<String> {
        self.border.judge(from, prefix).err().map(|refusal| refusal.to_string())
    }
}

impl Destination {
    /// Whether this is what was found before.
    fn is_refused_as(&self, outcome: &Outcome) -> bool {
        match (&self.outcome, outcome) {
            (Outcome::Refused(_, before), Outcome::Refused(_, now)) => before == now,
            _ => false,
        }
    }
}

/// A path of a session of a link; those of routers are not ours to install.
fn path(ExplainedPath { path, verdict }: ExplainedPath) -> Option<Path> {
    let counterpart = Counterpart::of(&path.peer)?;
    if verdict == Verdict::Unreachable || path.as_path.0.len() > LONGEST_PATH {
        return None;
    }
    let attributes = RouteAttributes {
        communities: path.communities.into_iter().take(MOST_COMMUNITIES).collect(),
        large_communities: path.large_communities.into_iter().take(MOST_COMMUNITIES).collect(),
        as_path: path.as_path,
        next_hops: NextHops::default(),
        ..RouteAttributes::default()
    };
    Some(Path {
        counterpart,
        next_hop: path.next_hop,
        is_equal: matches!(verdict, Verdict::Best | Verdict::Equal(_)),
        attributes: Arc::new(attributes),
        only_to_customer: path.only_to_customer.is_some(),
    })
}
