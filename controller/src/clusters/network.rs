//! Who this cluster is in effect, and where that is something else than what was declared.
//!
//! Of each class what is in use counts, and not what somebody once wrote down: where a declared range holds what is in use, it is shown as
//! declared; what is in use beyond that is shown by itself; a declared range that holds nothing of it is shown only where nothing is
//! known to be in use.

use std::collections::BTreeMap;

use ipnet::IpNet;
use roadstead_api::checked::{AddressRange, AddressSet, Network};
use roadstead_api::kinds::ConditionStatus::{False, True};
use roadstead_api::kinds::{AsnNumber, CidrText, ClusterNetworkStatus};
use roadstead_api::overlap::{Holding, Identity, Territory, prefixes};
use roadstead_api::store::ObjectKey;

use crate::conditions::judge::{Finding, invalid, verdict};
use crate::judged::Known;
use crate::plan::Now;
use crate::verdict::Ready;

/// The condition's type.
const AS_DECLARED: &str = "AsDeclared";
/// How many differences a message lists.
const LISTED: usize = 3;
/// How many ranges of a class a status lists.
const LISTED_IN_STATUS: usize = 1024;
/// How many of ClusterIPs; the API server has no more than two.
const LISTED_OF_SERVICES: usize = 64;

/// What is said of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NetworkReport {
    asn: Option<u32>,
    /// By class: pods, Services, load balancers, fabric.
    ranges: [Vec<IpNet>; 4],
    as_declared: Ready,
}

/// What ranges are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Pods,
    Services,
    LoadBalancers,
    Fabric,
}

impl Class {
    const ALL: [Self; 4] = [Self::Pods, Self::Services, Self::LoadBalancers, Self::Fabric];

    fn of(holding: &Holding) -> Option<Self> {
        match holding {
            Holding::PodCidr(_) | Holding::Block(_) | Holding::PodPool(_) => Some(Self::Pods),
            Holding::ServiceCidr(_) | Holding::ServiceRange => Some(Self::Services),
            Holding::AddressPool(_) => Some(Self::LoadBalancers),
            Holding::NodeAddress(_) => Some(Self::Fabric),
            _ => None,
        }
    }

    fn field(self) -> &'static str {
        match self {
            Self::Pods => "spec.podCIDRs",
            Self::Services => "spec.serviceCIDRs",
            Self::LoadBalancers => "spec.loadBalancerCIDRs",
            Self::Fabric => "spec.fabricCIDRs",
        }
    }

    fn declared(self, network: &Network) -> &[IpNet] {
        match self {
            Self::Pods => &network.pod_cidrs,
            Self::Services => &network.service_cidrs,
            Self::LoadBalancers => &network.load_balancer_cidrs,
            Self::Fabric => &network.fabric_cidrs,
        }
    }
}

/// What there is to say.
pub(super) fn find(
    object: &Known<Network>,
    this: &Identity,
    held: &BTreeMap<ObjectKey, Vec<(AddressRange, Holding)>>,
    own: &Territory,
    stored: Option<&NetworkReport>,
    now: Now,
) -> NetworkReport {
    let nothing = Network::default();
    let network = object.good.as_ref().unwrap_or(&nothing);
    let mut in_use: [Vec<(IpNet, &Holding)>; 4] = Default::default();
    for (range, holding) in held.values().flatten() {
        if let Some(class) = Class::of(holding) {
            in_use[class as usize].extend(prefixes(*range).map(|prefix| (prefix, holding)));
        }
    }
    let ranges = Class::ALL.map(|class| effective(class, network, &in_use[class as usize], own));
    let differences: Vec<String> =
        Class::ALL.iter().flat_map(|class| differences(*class, network, &in_use[*class as usize])).collect();
    let (status, reason, message) = invalid(object).unwrap_or_else(|| judge(&differences));
    let verdict = verdict(status, reason, message, object.generation);
    let as_declared = Ready::next(stored.map(|stored| &stored.as_declared), verdict, now.wall);
    NetworkReport { asn: this.asn, ranges, as_declared }
}

fn judge(differences: &[String]) -> Finding {
    if differences.is_empty() {
        return (True, "AsDeclared", "what is in use lies within what was declared".to_owned());
    }
    let more = differences.len().saturating_sub(LISTED);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    let listed = differences[..differences.len().min(LISTED)].join("; ");
    (False, "Differs", format!("what is in use is not what was declared: {listed}{more}"))
}

/// The ranges of a class as they are.
fn effective(class: Class, network: &Network, in_use: &[(IpNet, &Holding)], own: &Territory) -> Vec<IpNet> {
    let declared = class.declared(network);
    let mut shown = AddressSet::default();
    for (prefix, _) in in_use {
        let around = declared.iter().find(|declared| declared.contains(prefix)).copied();
        // A node's address tells of the network that the node is on.
        let connected = || {
            let mut networks = own.covering(*prefix);
            let on = networks.find(|held| matches!(held.holder.holding, Holding::Connected { .. }))?;
            (class == Class::Fabric && on.prefix.prefix_len() > 0).then_some(on.prefix)
        };
        shown.insert(around.or_else(connected).unwrap_or(*prefix).into());
    }
    if in_use.is_empty() {
        shown.extend(declared.iter().map(|net| AddressRange::from(*net)));
    }
    let limit = if class == Class::Services { LISTED_OF_SERVICES } else { LISTED_IN_STATUS };
    shown.ranges().flat_map(prefixes).take(limit).collect()
}

/// Where what is declared of a class and what is in use are two things, in either direction.
fn differences(class: Class, network: &Network, in_use: &[(IpNet, &Holding)]) -> Vec<String> {
    let declared = class.declared(network);
    if declared.is_empty() {
        return Vec::new();
    }
    // Pods may have addresses on the nodes' own networks.
    let lies_on_fabric = |prefix: &IpNet, holding: &Holding| {
        matches!(holding, Holding::PodPool(_)) && network.fabric_cidrs.iter().any(|fabric| fabric.contains(prefix))
    };
    let is_outside = |(prefix, holding): &&(IpNet, &Holding)| {
        !declared.iter().any(|declared| declared.contains(prefix)) && !lies_on_fabric(prefix, holding)
    };
    let outside = in_use
        .iter()
        .filter(is_outside)
        .map(|(prefix, holding)| format!("{prefix}, {holding}, is outside {}", class.field()));
    let meets = |one: &IpNet, other: &IpNet| one.contains(other) || other.contains(one);
    let is_idle = |declared: &&IpNet| !in_use.is_empty() && !in_use.iter().any(|(prefix, _)| meets(prefix, declared));
    let idle =
        declared.iter().filter(is_idle).map(|declared| format!("{declared} of {} has nothing in use", class.field()));
    outside.chain(idle).collect()
}

impl NetworkReport {
    /// What a status says; `None` where it says nothing that could be compared.
    pub(super) fn of(status: &ClusterNetworkStatus) -> Option<Self> {
        let nets = |texts: &[CidrText]| texts.iter().filter_map(|text| text.0.parse().ok()).collect();
        Some(Self {
            asn: status.asn.and_then(|asn| u32::try_from(asn.0).ok()),
            ranges: [
                nets(&status.pod_cidrs),
                nets(&status.service_cidrs),
                nets(&status.load_balancer_cidrs),
                nets(&status.fabric_cidrs),
            ],
            as_declared: Ready::find_as(AS_DECLARED, &status.conditions)?,
        })
    }
}

impl From<&NetworkReport> for ClusterNetworkStatus {
    fn from(report: &NetworkReport) -> Self {
        let [pods, services, load_balancers, fabric] =
            report.ranges.each_ref().map(|nets| nets.iter().map(|net| CidrText(net.to_string())).collect());
        Self {
            asn: report.asn.map(|asn| AsnNumber(asn.into())),
            pod_cidrs: pods,
            service_cidrs: services,
            load_balancer_cidrs: load_balancers,
            fabric_cidrs: fabric,
            conditions: vec![report.as_declared.condition_as(AS_DECLARED)],
        }
    }
}
