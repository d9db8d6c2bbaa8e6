//! `roadstead edge-config`: the one file of a host outside.

use std::io::Write;
use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::{Context, bail};
use ipnet::IpNet;
use roadstead_api::checked::{self, EdgePrefix, Network};
use roadstead_api::kinds::{self, CidrText, RouteClass};
use roadstead_api::store::{Kind, Object};
use serde_json::{Value, json};

use super::source::{Place, Source};

/// Print the file by which a host outside joins the cluster: `roadstead-speaker edge --config FILE`.
///
/// It says who the host is, by its EdgeHost; where the cluster's gateways are, by their Nodes; what may be taken of them, by the
/// ClusterNetwork; and it holds the key, in the clear: print it into a file that its owner alone can read.
#[derive(clap::Args)]
pub(crate) struct EdgeConfigFlags {
    /// The EdgeHost
    name: String,

    #[command(flatten)]
    place: Place,

    /// Where the Secret is that the EdgeHost names
    #[arg(long, value_name = "NAMESPACE", default_value = "roadstead-system")]
    namespace: String,
}

/// Where `roadstead-speaker edge` looks for the Secret.
const EDGE_NAMESPACE: &str = "roadstead-system";

const KINDS: [Kind; 3] = [Kind::ClusterNetwork, Kind::EdgeHost, Kind::Node];

/// Reads and prints.
pub(crate) async fn edge_config(flags: EdgeConfigFlags) -> anyhow::Result<ExitCode> {
    let EdgeConfigFlags { name, place, namespace } = flags;
    let source = Source::from(place);
    let objects = source.list(&KINDS).await?;
    let hosts: Vec<&kinds::EdgeHost> = objects
        .iter()
        .filter_map(|object| match object {
            Object::EdgeHost(host) => Some(host.as_ref()),
            _ => None,
        })
        .collect();
    let named = |host: &&kinds::EdgeHost| host.metadata.name.as_deref() == Some(&name);
    let Some(host) = hosts.iter().copied().find(named) else {
        let names: Vec<&str> = hosts.iter().filter_map(|host| host.metadata.name.as_deref()).collect();
        bail!("EdgeHost {name} does not exist in {source}; there are: {}", names.join(", "));
    };
    let checked = checked::EdgeHost::check(host).map_err(|found| anyhow::anyhow!("{}", found[0]))?;
    let password =
        match &checked.password {
            None => None,
            Some(key) => {
                let secret = source.secret(&namespace, &key.name).await?;
                let secret = secret.with_context(|| format!("Secret {namespace}/{} does not exist", key.name))?;
                let octets = secret.value(checked::SecretKey::KEY).map(<[u8]>::to_vec).unwrap_or_default();
                let text = String::from_utf8(octets).ok().filter(|text| !text.is_empty());
                Some(text.with_context(|| {
                    format!("Secret {namespace}/{} has no text under the key \"password\"", key.name)
                })?)
            }
        };
    let mut out = std::io::stdout().lock();
    for object in manifests(&checked, host, &objects, password)? {
        writeln!(out, "---\n{}", serde_saphyr::to_string(&object)?.trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A host outside is a cluster of one node, with a link to the one that it joins.
fn manifests(
    host: &checked::EdgeHost,
    raw: &kinds::EdgeHost,
    objects: &[Object],
    password: Option<String>,
) -> anyhow::Result<Vec<Value>> {
    let name = &host.name;
    let prefix = match &host.prefix {
        EdgePrefix::Given(prefix) => prefix.to_string(),
        EdgePrefix::FromPool { pool, .. } => {
            let given = raw.status.as_ref().and_then(|status| status.prefix.clone());
            given.with_context(|| format!("EdgeHost {name} has no prefix of PodPool {pool} yet"))?.0
        }
    };
    let network = objects.iter().find_map(|object| match object {
        Object::ClusterNetwork(network) => Some(network.as_ref()),
        _ => None,
    });
    let network = network.context("there is no ClusterNetwork default, which says who the cluster is")?;
    let declared = Network::check(network).map_err(|found| anyhow::anyhow!("{}", found[0]))?;
    let status = network.status.clone().unwrap_or_default();
    let derived = status.asn.and_then(|asn| u32::try_from(asn.0).ok());
    let asn = declared.asn.or(derived).context("ClusterNetwork default has no ASN: give spec.asn")?;
    let accept = |class: RouteClass, declared: &[CidrText], found: &[CidrText]| -> Vec<CidrText> {
        if !host.exports.contains(&class) {
            return Vec::new();
        }
        // What is in use counts, whatever was declared; what was declared takes most of it along.
        let nets =
            |texts: &[CidrText]| texts.iter().filter_map(|text| text.0.parse::<IpNet>().ok()).collect::<Vec<_>>();
        let mut accepted = nets(declared);
        let outside = nets(found).into_iter().filter(|net| !accepted.iter().any(|wide| wide.contains(net)));
        let outside: Vec<IpNet> = outside.collect();
        accepted.retain(|net| !outside.iter().any(|wide| wide.contains(net)));
        accepted.extend(outside);
        accepted.into_iter().map(|net| CidrText(net.to_string())).collect()
    };
    let spec = &network.spec;
    let (pods, services, load_balancers) = (
        accept(RouteClass::Pods, &spec.pod_cidrs, &status.pod_cidrs),
        accept(RouteClass::Services, &spec.service_cidrs, &status.service_cidrs),
        accept(RouteClass::LoadBalancers, &spec.load_balancer_cidrs, &status.load_balancer_cidrs),
    );
    let gateways = gateways(host, objects);
    if gateways.is_empty() {
        bail!(
            "EdgeHost {name}: spec.gatewaySelector: selects no Node with an address of the family of {}",
            host.address
        );
    }
    let (api_version, cluster) = ("roadstead.dev/v1alpha1", declared.cluster_name.as_deref().unwrap_or("cluster"));
    let mut link = json!({
        "remoteCluster": cluster, "remoteASN": asn, "endpoints": gateways, "listen": false, "exports": ["Pods"],
        "acceptCIDRs": { "pods": pods, "services": services, "loadBalancers": load_balancers },
        "timers": { "holdSeconds": 9, "connectRetrySeconds": 1 },
    });
    for (field, given) in [
        ("ttlSecurity", serde_json::to_value(&raw.spec.ttl_security)?),
        ("ebgpMultihop", serde_json::to_value(&raw.spec.ebgp_multihop)?),
        ("bfd", serde_json::to_value(&raw.spec.bfd)?),
    ] {
        if !given.is_null() {
            link[field] = given;
        }
    }
    let mut all = vec![
        json!({ "apiVersion": api_version, "kind": "ClusterNetwork", "metadata": { "name": "default" },
                "spec": { "clusterName": name, "asn": host.asn, "podCIDRs": [prefix] } }),
        json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name }, "spec": { "podCIDRs": [prefix] },
                "status": { "addresses": [{ "type": "InternalIP", "address": host.address }] } }),
    ];
    if let Some(password) = password {
        link["passwordSecret"] = json!({ "name": name });
        all.push(
            json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name, "namespace": EDGE_NAMESPACE },
                         "type": "kubernetes.io/basic-auth", "stringData": { "password": password } }),
        );
    }
    all.push(
        json!({ "apiVersion": api_version, "kind": "ClusterLink", "metadata": { "name": cluster }, "spec": link }),
    );
    Ok(all)
}

/// The addresses of the nodes that the host may dial.
fn gateways(host: &checked::EdgeHost, objects: &[Object]) -> Vec<IpAddr> {
    let nodes = objects.iter().filter_map(|object| match object {
        Object::Node(node) => Some(node.as_ref()),
        _ => None,
    });
    let is_gateway = |node: &&roadstead_api::kubernetes::Node| {
        let labels = node.metadata.labels.clone().unwrap_or_default();
        host.gateway_selector.as_ref().is_none_or(|selector| selector.matches(&labels))
    };
    let of_family = |address: &IpAddr| address.is_ipv4() == host.address.is_ipv4();
    nodes.filter(is_gateway).filter_map(|node| node.internal_addresses().find(of_family)).collect()
}
