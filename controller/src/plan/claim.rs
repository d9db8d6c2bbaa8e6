//! Claims as the plan has them.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use jiff::Timestamp;
use roadstead_api::checked::Port;
use roadstead_api::kinds::OwnerKind;

/// A UID as Kubernetes gives it.
pub type Uid = String;

/// What an `AddressClaim` says: this address, or this block, belongs to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The address as /32 or /128, or the block.
    pub net: IpNet,
    /// The pool that it came from.
    pub pool: String,
    /// Whose it is; none while it rests.
    pub owners: BTreeMap<Uid, Owner>,
    /// The node that uses it, where one does.
    pub node: Option<String>,
    /// When the last owner gave it up, while it rests.
    pub released: Option<Timestamp>,
    /// How often a controller made sure of it before it told the address. Counting is what makes that a change, and so ends
    /// whatever another controller has under way upon the state before.
    pub assured: u64,
}

/// One owner of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// What kind of object.
    pub kind: OwnerKind,
    /// Its namespace, where the kind has one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// The key under which it shares the address.
    pub share_key: Option<String>,
    /// Its ports, where it shares the address.
    pub ports: BTreeSet<Port>,
}

/// Which state of a stored object is meant: the precondition of its next write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The object's UID.
    pub uid: Uid,
    /// Its `resourceVersion`.
    pub resource_version: String,
}

/// A claim as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredClaim {
    /// What it says.
    pub claim: Claim,
    /// Which state of it.
    pub version: Version,
}

impl Version {
    /// Whether this is a later state than `other`, be it of the same object or of another that had the same name.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        // Opaque by the letter of the API, but numbers that count all changes of a kind at every store there is; KEP-5504 makes that
        // official.
        match (self.resource_version.parse::<u64>(), other.resource_version.parse::<u64>()) {
            (Ok(this), Ok(other)) => this > other,
            _ => self != other,
        }
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{:?} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{:?} {}", self.kind, self.name),
        }
    }
}
