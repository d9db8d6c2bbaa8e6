//! What the kernel has of us, and what it has not, in words.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

/// How many prefixes that are not in the kernel are listed; the rest is counted.
pub(super) const MISSING_LISTED: usize = 100;

/// A snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FibStatus {
    /// How many prefixes the kernel has of us, those of an earlier run among them.
    pub installed: usize,
    /// Those among them that only an earlier run wanted.
    pub adopted: usize,
    /// Wanted and not in the kernel, with the reason: the first hundred.
    pub missing: BTreeMap<IpNet, Missing>,
    /// How many there are of them in all.
    pub missing_total: usize,
    /// Next hops that only the default route leads to: the first hundred. They are used where a prefix has no other.
    pub by_default_route: BTreeSet<IpAddr>,
    /// What is wrong on this machine, in words: each names the file or the right that it is about.
    pub problems: BTreeSet<String>,
    /// The networks that this machine is connected to, with the interface.
    pub connected: BTreeSet<Connected>,
}

/// Why a prefix that is wanted is not in the kernel, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing(pub String);

/// A network that this machine is connected to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Connected {
    /// Its prefix.
    pub network: IpNet,
    /// The interface's name.
    pub interface: String,
}
