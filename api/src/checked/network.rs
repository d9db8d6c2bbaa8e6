//! The cluster's own ASN and ranges.

use ipnet::IpNet;

use super::peer::asn;
use super::range::parse_cidr;
use super::{Findings, Invalid, ObjectRef};
use crate::kinds::{CidrText, ClusterNetwork};

/// A `ClusterNetwork` whose fields were checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// The cluster's name among those that it is joined with.
    pub cluster_name: Option<String>,
    /// The ASN of every session whose peer names none for us.
    pub asn: Option<u32>,
    /// Where pods have their addresses.
    pub pod_cidrs: Vec<IpNet>,
    /// Where ClusterIPs come from.
    pub service_cidrs: Vec<IpNet>,
    /// Where Services of type LoadBalancer have their addresses.
    pub load_balancer_cidrs: Vec<IpNet>,
    /// Where the nodes have their addresses.
    pub fabric_cidrs: Vec<IpNet>,
}

impl Network {
    /// The name of the one object of its kind.
    pub const NAME: &str = "default";

    /// Checks an object.
    pub fn check(raw: &ClusterNetwork) -> Result<Self, Vec<Invalid>> {
        let name = raw.metadata.name.clone().unwrap_or_default();
        let mut findings = Findings::new(ObjectRef::cluster("ClusterNetwork", &name));
        if name != Self::NAME {
            findings.refuse("metadata.name", &name, "there is one ClusterNetwork, and its name is default");
        }
        let spec = &raw.spec;
        let network = Self {
            cluster_name: spec.cluster_name.as_ref().map(|name| name.0.clone()),
            asn: spec.asn.and_then(|number| findings.take("spec.asn", number, asn(number))),
            pod_cidrs: cidrs("spec.podCIDRs", &spec.pod_cidrs, &mut findings),
            service_cidrs: cidrs("spec.serviceCIDRs", &spec.service_cidrs, &mut findings),
            load_balancer_cidrs: cidrs("spec.loadBalancerCIDRs", &spec.load_balancer_cidrs, &mut findings),
            fabric_cidrs: cidrs("spec.fabricCIDRs", &spec.fabric_cidrs, &mut findings),
        };
        findings.conclude(Some(network))
    }
}

fn cidrs(field: &str, texts: &[CidrText], findings: &mut Findings) -> Vec<IpNet> {
    let parse =
        |(index, text): (usize, &CidrText)| findings.take(format!("{field}[{index}]"), text, parse_cidr(&text.0));
    texts.iter().enumerate().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, spec: &str, expected: Result<Option<u32>, &str>) {
        let raw = format!(r#"{{"metadata":{{"name":"{name}"}},"spec":{spec}}}"#);
        let raw: ClusterNetwork = serde_json::from_str(&raw).unwrap();
        let checked = Network::check(&raw).map(|network| network.asn).map_err(|found| found[0].to_string());
        assert_eq!(checked, expected.map_err(str::to_owned), "{name} {spec}");
    }

    #[test]
    fn networks() {
        check("default", "{}", Ok(None));
        check("default", r#"{"asn": 64501, "podCIDRs": ["10.1.0.0/16"]}"#, Ok(Some(64501)));
        check(
            "other",
            "{}",
            Err(
                r#"ClusterNetwork other: metadata.name: "other": there is one ClusterNetwork, and its name is default"#,
            ),
        );
        check(
            "default",
            r#"{"podCIDRs": ["10.1.0.1/16"]}"#,
            Err(
                r#"ClusterNetwork default: spec.podCIDRs[0]: "10.1.0.1/16": host bits must be zero: write 10.1.0.0/16"#,
            ),
        );
    }
}
