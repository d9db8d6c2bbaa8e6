//! Hosts outside the cluster.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::link::{address, cidr, distance};
use super::peer::{asn, bfd};
use super::{Bfd, Findings, Invalid, ObjectRef, SecretKey, Selector, Ttl};
use crate::kinds::{self, RouteClass};

/// An `EdgeHost` whose fields were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeHost {
    /// The object's name.
    pub name: String,
    /// When the object was made, as sortable text (RFC 3339, UTC); empty where unknown. Of two that exclude each other the older is in
    /// force.
    pub created: String,
    /// The object's `metadata.generation`.
    pub generation: Option<i64>,
    /// Where the machine dials from.
    pub address: IpAddr,
    /// The machine's ASN.
    pub asn: u32,
    /// What it may announce.
    pub prefix: EdgePrefix,
    /// What it is told.
    pub exports: BTreeSet<RouteClass>,
    /// The nodes that it may dial; `None`: all.
    pub gateway_selector: Option<Selector>,
    /// The Secret that signs the sessions.
    pub password: Option<SecretKey>,
    /// The TTL of the sessions' packets.
    pub ttl: Ttl,
    /// BFD beside the sessions.
    pub bfd: Option<Bfd>,
}

/// What a machine outside may announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EdgePrefix {
    /// This.
    Given(IpNet),
    /// What the controller claims for it.
    FromPool {
        /// The PodPool's name.
        pool: String,
        /// The prefix's length; `None`: 28, for IPv6 124.
        length: Option<u8>,
    },
}

impl EdgeHost {
    /// Checks an object.
    pub fn check(raw: &kinds::EdgeHost) -> Result<Self, Vec<Invalid>> {
        let name = raw.metadata.name.clone().unwrap_or_default();
        let mut findings = Findings::new(ObjectRef::cluster("EdgeHost", &name));
        let host = Self::check_spec(name, raw, &mut findings);
        findings.conclude(host)
    }

    fn check_spec(name: String, raw: &kinds::EdgeHost, findings: &mut Findings) -> Option<Self> {
        let spec = &raw.spec;
        let own = findings.take("spec.asn", spec.asn, asn(spec.asn));
        let length =
            spec.prefix_length.map(|given| (given, u8::try_from(given).ok().filter(|l| (8..=128).contains(l))));
        if let Some((given, None)) = length {
            findings.refuse("spec.prefixLength", given, "must be from 8 to 128");
        }
        if let (Some((given, _)), None) = (length, &spec.pool) {
            findings.refuse("spec.prefixLength", given, "is for a prefix from spec.pool");
        }
        let prefix = match (&spec.prefix, &spec.pool) {
            (Some(text), None) => cidr("spec.prefix", text, findings).map(EdgePrefix::Given),
            (None, Some(pool)) => Some(EdgePrefix::FromPool { pool: pool.0.clone(), length: length.and_then(|l| l.1) }),
            (Some(text), Some(_)) => {
                findings.refuse("spec.prefix", text, "exactly one of prefix and pool must be given");
                None
            }
            (None, None) => {
                findings.refuse("spec.prefix", "", "exactly one of prefix and pool must be given");
                None
            }
        };
        let ttl = distance(spec.ttl_security.as_ref(), spec.ebgp_multihop.as_ref(), findings);
        let address = address("spec.address", &spec.address.0, findings);
        Some(Self {
            name,
            created: raw.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string()).unwrap_or_default(),
            generation: raw.metadata.generation,
            address: address?,
            asn: own?,
            prefix: prefix?,
            exports: spec.exports.iter().copied().collect(),
            gateway_selector: Selector::check_option(spec.gateway_selector.as_ref(), "spec.gatewaySelector", findings),
            password: spec.password_secret.as_ref().map(|secret| SecretKey { name: secret.name.0.clone() }),
            ttl,
            bfd: bfd("spec", spec.bfd.as_ref(), ttl, findings),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_a_prefix_or_a_pool() {
        let check = |spec: &str| {
            let spec = format!(r#"{{"address":"10.90.0.17","asn":64617{spec}}}"#);
            let raw = kinds::EdgeHost::new("stand-17", serde_json::from_str(&spec).unwrap());
            EdgeHost::check(&raw).map(|host| host.prefix).map_err(|found| found[0].to_string())
        };
        assert_eq!(check(r#","prefix":"10.99.17.0/28""#), Ok(EdgePrefix::Given("10.99.17.0/28".parse().unwrap())));
        let pool = |length| EdgePrefix::FromPool { pool: "stands".to_owned(), length };
        assert_eq!(check(r#","pool":"stands""#), Ok(pool(None)));
        assert_eq!(check(r#","pool":"stands","prefixLength":27"#), Ok(pool(Some(27))));
        for (spec, expected) in [
            ("", "EdgeHost stand-17: spec.prefix: \"\": exactly one of prefix and pool must be given"),
            (r#","prefix":"10.99.17.0/28","pool":"stands""#, "exactly one of prefix and pool"),
            (r#","prefix":"10.99.17.0/28","prefixLength":27"#, "is for a prefix from spec.pool"),
            (r#","pool":"stands","prefixLength":7"#, "must be from 8 to 128"),
            (r#","prefix":"0.0.0.0/0""#, "must not be the default route"),
        ] {
            let found = check(spec).expect_err(spec);
            assert!(found.contains(expected), "{spec}: {found}");
        }
    }
}
