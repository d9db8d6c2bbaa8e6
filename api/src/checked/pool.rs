//! Address pools.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::{AddressRange, AddressSet, Findings, Invalid, ObjectRef, Selector};
use crate::kinds::{AddressPool, LabelSelector, ObjectName, RangeText, Sharing};

/// An `AddressPool` whose fields were checked. Whether it overlaps another is for the plan to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The object's name.
    pub name: String,
    /// The object's labels, for `poolSelector`.
    pub labels: BTreeMap<String, String>,
    /// When the object was made, as sortable text (RFC 3339, UTC); empty where unknown. Of two pools that overlap the older is in force.
    pub created: String,
    /// The object's `metadata.generation`.
    pub generation: Option<i64>,
    /// The addresses, in the order given; may overlap each other.
    pub addresses: Vec<AddressRange>,
    /// Addresses of these that are never handed out.
    pub exclude: Vec<AddressRange>,
    /// Whether Services that ask for nothing are served.
    pub auto_assign: bool,
    /// Whether IPv4 addresses ending in .0 and .255 are never handed out.
    pub avoid_buggy_ips: bool,
    /// Smaller first; `None` last.
    pub priority: Option<i32>,
    /// Which namespaces are served.
    pub namespaces: NamespaceChoice,
    /// Which Services are served; `None`: all.
    pub service_selector: Option<Selector>,
    /// Who may share an address.
    pub sharing: Sharing,
    /// Whether stranded addresses are taken away.
    pub reclaim: bool,
    /// How long a freed address rests.
    pub reuse_delay: Duration,
}

/// Which namespaces a pool serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamespaceChoice {
    /// All.
    All,
    /// Those named, and those whose labels the selector takes.
    Some {
        /// By name.
        names: BTreeSet<String>,
        /// By label; `None` takes none.
        selector: Option<Selector>,
    },
}

impl NamespaceChoice {
    /// Checks the two fields that every pool has for it.
    pub(super) fn check(names: &[ObjectName], selector: Option<&LabelSelector>, findings: &mut Findings) -> Self {
        let selector = Selector::check_option(selector, "spec.namespaceSelector", findings);
        if names.is_empty() && selector.is_none() {
            return Self::All;
        }
        Self::Some { names: names.iter().map(|name| name.0.clone()).collect(), selector }
    }

    /// Whether a namespace with these labels is served.
    pub fn takes(&self, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::All => true,
            Self::Some { names, selector } => {
                names.contains(namespace) || selector.as_ref().is_some_and(|selector| selector.matches(labels))
            }
        }
    }
}

impl Pool {
    /// Checks an object.
    pub fn check(raw: &AddressPool) -> Result<Self, Vec<Invalid>> {
        let name = raw.metadata.name.clone().unwrap_or_default();
        let mut findings = Findings::new(ObjectRef::cluster("AddressPool", &name));
        let spec = &raw.spec;
        if spec.addresses.is_empty() {
            findings.refuse("spec.addresses", "[]", "must list at least one CIDR, address or range");
        }
        let addresses = ranges("spec.addresses", &spec.addresses, &mut findings);
        let exclude = ranges("spec.exclude", &spec.exclude, &mut findings);
        let priority = priority(spec.priority, &mut findings);
        let namespaces = NamespaceChoice::check(&spec.namespaces, spec.namespace_selector.as_ref(), &mut findings);
        let service_selector =
            Selector::check_option(spec.service_selector.as_ref(), "spec.serviceSelector", &mut findings);
        let reuse_delay = reuse_delay(spec.reuse_delay_seconds, &mut findings);
        let pool = Self {
            name,
            labels: raw.metadata.labels.clone().unwrap_or_default(),
            created: raw.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string()).unwrap_or_default(),
            generation: raw.metadata.generation,
            addresses,
            exclude,
            auto_assign: spec.auto_assign,
            avoid_buggy_ips: spec.avoid_buggy_ips,
            priority,
            namespaces,
            service_selector,
            sharing: spec.sharing,
            reclaim: spec.reclaim,
            reuse_delay,
        };
        findings.conclude(Some(pool))
    }

    /// Whether the address is one that this pool hands out.
    pub fn contains(&self, address: IpAddr) -> bool {
        let buggy = self.avoid_buggy_ips && is_buggy(address);
        !buggy && in_any(&self.addresses, address) && !in_any(&self.exclude, address)
    }

    /// Whether Services of a namespace with these labels are served.
    pub fn takes_namespace(&self, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        self.namespaces.takes(namespace, labels)
    }

    /// All addresses that this pool hands out, but for those that `avoidBuggyIPs` leaves out.
    pub fn usable(&self) -> AddressSet {
        let mut usable: AddressSet = self.addresses.iter().copied().collect();
        for range in &self.exclude {
            usable.remove(*range);
        }
        usable
    }

    /// Whether a Service with these labels is served.
    pub fn takes_service(&self, labels: &BTreeMap<String, String>) -> bool {
        self.service_selector.as_ref().is_none_or(|selector| selector.matches(labels))
    }

    /// Whether the pool is made for particular Services; such pools go before those that take all.
    pub fn is_selective(&self) -> bool {
        self.namespaces != NamespaceChoice::All || self.service_selector.is_some()
    }
}

/// Whether an old client may take the address for a network or broadcast address.
fn is_buggy(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if matches!(v4.octets()[3], 0 | 255))
}

fn in_any(ranges: &[AddressRange], address: IpAddr) -> bool {
    ranges.iter().any(|range| range.contains(address))
}

pub(super) fn ranges(field: &str, texts: &[RangeText], findings: &mut Findings) -> Vec<AddressRange> {
    let parse = |(index, text): (usize, &RangeText)| {
        findings.take(format!("{field}[{index}]"), text, text.0.parse::<AddressRange>())
    };
    texts.iter().enumerate().filter_map(parse).collect()
}

/// `spec.priority` of every pool.
pub(super) fn priority(given: Option<i32>, findings: &mut Findings) -> Option<i32> {
    if let Some(given) = given.filter(|given| *given < 0) {
        findings.refuse("spec.priority", given, "must be from 0 to 2147483647");
    }
    given
}

/// `spec.reuseDelaySeconds` of every pool.
pub(super) fn reuse_delay(given: i64, findings: &mut Findings) -> Duration {
    let delay = u64::try_from(given).ok().filter(|seconds| *seconds <= 2_592_000);
    if delay.is_none() {
        findings.refuse("spec.reuseDelaySeconds", given, "must be from 0 to 2592000 (30 days)");
    }
    Duration::from_secs(delay.unwrap_or_default())
}
