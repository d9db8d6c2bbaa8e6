//! `roadstead export`: which addresses a cluster uses, as plain manifests.

use std::io::Write;
use std::process::ExitCode;

use roadstead_api::kinds::{ClaimOwner, OwnerKind};
use roadstead_api::store::{Object, ObjectKey};
use serde_json::{Map, Value, json};

use super::source::{Place, Source};

/// Print which addresses a cluster uses, as manifests for `roadstead check` at another place.
///
/// ClusterNetwork, AddressPools, PodPools, ServiceCIDRs, claims of blocks, Nodes and the networks that they are on, EdgeHosts and
/// Services, each reduced to its addresses: no Secret is read, and no label, annotation, selector or password reference is written.
#[derive(clap::Args)]
pub(crate) struct ExportFlags {
    #[command(flatten)]
    place: Place,
}

/// Reads and prints.
pub(crate) async fn export(flags: ExportFlags) -> anyhow::Result<ExitCode> {
    let source = Source::from(flags.place);
    let mut reduced: Vec<(ObjectKey, Value)> =
        source.objects().await?.iter().filter_map(|object| Some((ObjectKey::from(object), reduce(object)?))).collect();
    // The same cluster gives the same file.
    reduced.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut out = std::io::stdout().lock();
    for (_, object) in reduced {
        writeln!(out, "---\n{}", serde_saphyr::to_string(&object)?.trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What of an object tells addresses; `None`: nothing does.
fn reduce(object: &Object) -> Option<Value> {
    let body = match object {
        // What the controller has found, where nothing was declared.
        Object::ClusterNetwork(network) => {
            let status = network.status.as_ref();
            json!({"spec": network.spec, "status": {
                "asn": status.and_then(|status| status.asn),
                "serviceCIDRs": status.map(|status| &status.service_cidrs),
            }})
        }
        Object::NodeReport(report) => {
            let status = report.status.as_ref().filter(|status| !status.connected.is_empty())?;
            json!({"spec": report.spec, "status": {
                "heartbeat": status.heartbeat, "established": status.established, "prefixes": status.prefixes,
                "connected": status.connected,
            }})
        }
        Object::EdgeHost(host) => {
            let spec = &host.spec;
            json!({"spec": {"address": spec.address, "asn": spec.asn, "prefix": spec.prefix, "pool": spec.pool}})
        }
        Object::AddressPool(pool) => {
            json!({"spec": {"addresses": pool.spec.addresses, "exclude": pool.spec.exclude}})
        }
        Object::PodPool(pool) => {
            let spec = &pool.spec;
            let nodes = spec.node_ranges.iter().map(|entry| json!({"nodes": entry.nodes, "ranges": entry.ranges}));
            json!({"spec": {
                "subnet": spec.subnet, "ranges": spec.ranges, "nodeRanges": nodes.collect::<Vec<_>>(),
                "exclude": spec.exclude, "blockPrefixLength": spec.block_prefix_length,
            }})
        }
        Object::ServiceCidr(range) => json!({"spec": {"cidrs": range.spec.cidrs}}),
        Object::AddressClaim(claim) => {
            let owner = |owner: &ClaimOwner| json!({"kind": owner.kind, "namespace": owner.namespace, "name": owner.name, "uid": owner.uid});
            let spec = &claim.spec;
            // Addresses of Services stand in their statuses, and those of pods lie in blocks and pools.
            let is_whole = spec.owners.iter().any(|owner| matches!(owner.kind, OwnerKind::Node | OwnerKind::EdgeHost));
            let owners: Vec<Value> = spec.owners.iter().map(owner).collect();
            is_whole.then(|| json!({"spec": {"cidr": spec.cidr, "pool": spec.pool, "owners": owners}}))?
        }
        Object::Node(node) => json!({
            "spec": {"podCIDRs": node.spec.pod_cidrs},
            "status": {"addresses": node.status.addresses.iter()
                .filter(|address| matches!(address.type_.as_str(), "InternalIP" | "ExternalIP"))
                .collect::<Vec<_>>()},
        }),
        Object::Service(service) => {
            let spec = &service.spec;
            let ports = spec.ports.iter().map(|port| json!({"port": port.port, "protocol": port.protocol}));
            let given = service.status.load_balancer.ingress.iter().filter_map(|ingress| ingress.ip.as_ref());
            let given: Vec<Value> = given.map(|ip| json!({"ip": ip})).collect();
            if spec.type_.as_deref() == Some("ExternalName") {
                return None;
            }
            json!({
                "spec": {
                    "type": spec.type_, "clusterIP": spec.cluster_ip, "clusterIPs": spec.cluster_ips,
                    "ports": ports.collect::<Vec<_>>(),
                },
                "status": {"loadBalancer": {"ingress": given}},
            })
        }
        _ => return None,
    };
    let key = ObjectKey::from(object);
    let metadata = match key.namespace.as_str() {
        "" => json!({"name": key.name}),
        namespace => json!({"namespace": namespace, "name": key.name}),
    };
    let mut whole = Map::new();
    whole.insert("apiVersion".to_owned(), key.kind.api_version().into());
    whole.insert("kind".to_owned(), key.kind.as_str().into());
    whole.insert("metadata".to_owned(), metadata);
    if let Value::Object(body) = without_nothing(body) {
        whole.extend(body);
    }
    Some(Value::Object(whole))
}

/// Without what is null or empty, as a person would leave it out.
fn without_nothing(value: Value) -> Value {
    let is_something = |value: &Value| match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    };
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (name, without_nothing(value)));
            Value::Object(fields.filter(|(_, value)| is_something(value)).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nothing).collect()),
        other => other,
    }
}
