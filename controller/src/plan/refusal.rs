//! Why a Service did not get an address: one line for each thing that stood in the way.

use std::fmt;
use std::net::IpAddr;

use roadstead_api::checked::{AddressRange, ObjectRef, Port};

use super::pools::Family;

/// One thing that stood in the way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("no AddressPool is in force")]
    NoPools,
    #[error("requested {address} is in no pool; pools: {}", list_pools(.pools))]
    OutsideEveryPool { address: IpAddr, pools: Vec<(String, Vec<AddressRange>)> },
    #[error("requested {address} is not in the requested pool {pool}; it has {}", list_ranges(.ranges))]
    OutsidePool { address: IpAddr, pool: String, ranges: Vec<AddressRange> },
    #[error(
        "requested {address} is {family}, and the Service takes no {family} address: see spec.ipFamilies and spec.ipFamilyPolicy"
    )]
    OtherFamily { address: IpAddr, family: Family },
    #[error("{address} belongs to {owner}")]
    Taken { address: IpAddr, owner: String },
    #[error("{address} is an address of {owner} and is never handed out")]
    Reserved { address: IpAddr, owner: ObjectRef },
    #[error("{address} rests after its last use, for {seconds} s as pool {pool} says")]
    Resting { address: IpAddr, pool: String, seconds: u64 },
    #[error("{address} is being given back by its last owner")]
    BeingReleased { address: IpAddr },
    #[error("{address} cannot be shared with {owner}: {reason}")]
    NotShareable { address: IpAddr, owner: String, reason: ShareRefusal },
    #[error("there is no pool {pool} in force; pools in force: {}", list_names(.pools))]
    NoSuchPool { pool: String, pools: Vec<String> },
    #[error("pool {pool}: takes no Service of namespace {namespace}")]
    Namespace { pool: String, namespace: String },
    #[error("pool {pool}: its serviceSelector takes no Service with these labels")]
    Service { pool: String },
    #[error("pool {pool}: autoAssign is false, so a Service must ask for it by name or address")]
    NotAutomatic { pool: String },
    #[error("pool {pool}: has no {family} addresses")]
    NoFamily { pool: String, family: Family },
    #[error("pool {pool}: full ({taken} of {total} {family} addresses)")]
    Full { pool: String, family: Family, taken: u128, total: u128 },
}

/// Why two Services cannot have one address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ShareRefusal {
    #[error("both have port {}/{}", .0.protocol.as_str(), .0.port)]
    Port(Port),
    #[error("they are in different namespaces and pool {0} does not say sharing: Cluster")]
    Namespace(String),
    #[error("with externalTrafficPolicy: Local both must have that policy and the same selector")]
    Backends,
}

/// How many pools a message lists.
const LISTED: usize = 8;

fn list_ranges(ranges: &[AddressRange]) -> String {
    let shown: Vec<String> = ranges.iter().take(LISTED).map(ToString::to_string).collect();
    let rest = if ranges.len() > LISTED { ", …" } else { "" };
    format!("{}{rest}", shown.join(", "))
}

fn list_pools(pools: &[(String, Vec<AddressRange>)]) -> String {
    let shown: Vec<String> =
        pools.iter().take(LISTED).map(|(name, ranges)| format!("{name} ({})", list_ranges(ranges))).collect();
    more(shown, pools.len())
}

fn list_names(pools: &[String]) -> String {
    more(pools.iter().take(LISTED).cloned().collect(), pools.len())
}

fn more(shown: Vec<String>, of: usize) -> String {
    match (shown.len(), of) {
        (0, _) => "none".to_owned(),
        (shown_count, of) if shown_count < of => format!("{} and {} more", shown.join(", "), of - shown_count),
        _ => shown.join(", "),
    }
}

/// All that stood in the way, in one line.
pub(super) struct Refusals<'a>(pub(super) &'a [Refusal]);

impl fmt::Display for Refusals<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, refusal) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            refusal.fmt(f)?;
        }
        Ok(())
    }
}
