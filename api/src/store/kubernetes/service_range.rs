//! Where ClusterIPs come from, on an API server without `ServiceCIDR` objects (before Kubernetes 1.33).
//!
//! Its range is a flag of its own, which no object tells. But it names the range when it refuses a Service whose ClusterIP lies outside,
//! and it refuses before anything is written: the Service is asked for in a dry run, in the namespace that we run in.

use ipnet::IpNet;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::WRITE_TIMEOUT;
use super::connect::one_line;
use crate::kubernetes::Service;
use crate::store::Kind;
use crate::store::ListError;

/// Addresses that are nobody's ClusterIP: reserved (RFC 1112) and the discard prefix (RFC 6666).
const IMPOSSIBLE: [(&str, &str); 2] = [("IPv4", "240.0.0.1"), ("IPv6", "100::1")];

/// What stands before the range in the refusal.
const BEFORE: &str = "The range of valid IPs is ";

/// The ranges that the API server names, one for each family that it serves.
pub(super) async fn service_ranges(client: &Client) -> Result<Vec<IpNet>, ListError> {
    let services: Api<Service> = Api::default_namespaced(client.clone());
    let params = PostParams { dry_run: true, field_manager: None };
    let mut ranges = Vec::new();
    for (family, address) in IMPOSSIBLE {
        let service = json!({
            "metadata": {"name": "roadstead-service-range"},
            "spec": {"clusterIP": address, "ipFamilies": [family], "ports": [{"port": 1}]},
        });
        let unknown = |reason: String| ListError { kind: Kind::ServiceCidr, reason };
        let request = create(&services, &params, service);
        match timeout(WRITE_TIMEOUT, request).await {
            Ok(Err(kube::Error::Api(status))) if status.code == 422 => ranges.extend(named_in(&status.message)),
            Ok(Err(kube::Error::Api(status))) => return Err(unknown(status.message.clone())),
            Ok(Err(error)) => return Err(unknown(one_line(&error))),
            // It would have been taken, so it tells nothing.
            Ok(Ok(())) => {}
            Err(_) => {
                return Err(unknown(format!("no answer from the API server within {} s", WRITE_TIMEOUT.as_secs())));
            }
        }
    }
    Ok(ranges)
}

async fn create(services: &Api<Service>, params: &PostParams, service: Value) -> kube::Result<()> {
    let service: Service = serde_json::from_value(service).map_err(kube::Error::SerdeError)?;
    services.create(params, &service).await.map(drop)
}

fn named_in(refusal: &str) -> Option<IpNet> {
    let (_, after) = refusal.split_once(BEFORE)?;
    after.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_range() {
        let check = |refusal: &str, expected: Option<&str>| {
            assert_eq!(named_in(refusal), expected.map(|net| net.parse().unwrap()), "{refusal}");
        };
        check(
            "Service \"x\" is invalid: spec.clusterIPs: Invalid value: [\"240.0.0.1\"]: failed to allocate IP 240.0.0.1: the provided IP \
             (240.0.0.1) is not in the valid range. The range of valid IPs is 10.96.0.0/16",
            Some("10.96.0.0/16"),
        );
        check("(100::1) is not in the valid range. The range of valid IPs is fd00:96::/108", Some("fd00:96::/108"));
        check("spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster", None);
        check("The range of valid IPs is ", None);
        check("The range of valid IPs is unknown", None);
    }
}
