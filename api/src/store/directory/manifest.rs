//! From the text of a manifest to objects, as strictly as the API server would take them.
//!
//! Each document is parsed to a tree, told what it is by `apiVersion` and `kind`, decoded without a field left over, completed
//! with the defaults that the API server would fill in, and checked. Whatever is wrong costs that document alone.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::documents::{Document, split};
use super::fields::{allowed_beside, decode, drop_server_set, shown};
use super::problem::{Fault, Place};
use crate::checked::{Advertisement, EdgeHost, Invalid, Link, LoadBalancer, Network, Peer, PodPool, Pool, RouteServer};
use crate::kinds::crds;
use crate::kubernetes::{Service, ServiceStatus};
use crate::store::{Kind, Object, ObjectKey};

/// What was found at one place of a file.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) place: Place,
    pub(super) outcome: Outcome,
}

/// What a document is.
#[derive(Debug)]
pub(super) enum Outcome {
    /// An object, as its manifest gives it: without what the API server sets, and without status but for a Node's.
    Object(Object),
    /// An object of a kind that we do not read, as `ConfigMap metallb-system/config`.
    Other(String),
    /// Not an object that could be in force.
    Broken {
        /// Which object it would be, where that can be told.
        key: Option<ObjectKey>,
        faults: Vec<Fault>,
    },
}

/// For what manifests are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To be in force here: what Roadstead writes itself is no manifest, and a status is its writer's.
    Force,
    /// To be looked at, as a cluster told of them: what is written by Roadstead, and statuses, count too.
    Survey,
}

/// Reads all documents of a file.
pub(super) fn read(text: &str, purpose: Purpose) -> Vec<Reading> {
    split(text).iter().flat_map(|document| read_document(document, purpose)).collect()
}

fn read_document(document: &Document<'_>, purpose: Purpose) -> Vec<Reading> {
    let place = Place { document: document.number, line: document.line };
    let options = serde_saphyr::options! {
        // The length of the file bounds these already; the default would refuse a List of some ten thousand objects.
        budget: serde_saphyr::budget! { max_events: 32_000_000, max_nodes: 16_000_000 },
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Value>(document.text, options) {
        Ok(Value::Null) => Vec::new(),
        Ok(Value::Object(list)) if is_list(&list) => {
            let items = list.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let read = |(index, item)| Reading { place, outcome: in_list(index, read_object(item, purpose)) };
            items.iter().enumerate().map(read).collect()
        }
        Ok(value) => vec![Reading { place, outcome: read_object(&value, purpose) }],
        Err(error) => {
            let line = error.location().map_or(1, |location| usize::try_from(location.line()).unwrap_or(1));
            let place = Place { line: document.line + line.saturating_sub(1), ..place };
            vec![Reading { place, outcome: broken(None, vec![Fault::whole(syntax(document.text, &error))]) }]
        }
    }
}

/// What is wrong with the YAML, without the parser's idea of the place: its lines count from the document's first.
fn syntax(text: &str, error: &serde_saphyr::Error) -> String {
    // The parser's words may quote what stands there.
    if text.contains("Secret") {
        return "not YAML (what stands there is not shown, because it may be a Secret's)".to_owned();
    }
    let words = error.without_snippet().to_string();
    let words = words.split(" at line ").next().unwrap_or_default();
    let words = words.split(", set DuplicateKeyPolicy").next().unwrap_or_default();
    format!("not YAML: {}", words.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// `kind: List`, and what `kubectl get -o yaml` calls `ServiceList` and the like.
fn is_list(object: &serde_json::Map<String, Value>) -> bool {
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    kind.ends_with("List") && object.contains_key("items")
}

/// Faults of an item whose name is unknown say which item it was.
fn in_list(index: usize, outcome: Outcome) -> Outcome {
    let Outcome::Broken { key: None, faults } = outcome else { return outcome };
    let at = |fault: Fault| {
        let field = fault.field.map_or_else(|| format!("items[{index}]"), |field| format!("items[{index}].{field}"));
        Fault { field: Some(field), ..fault }
    };
    broken(None, faults.into_iter().map(at).collect())
}

fn broken(key: Option<ObjectKey>, faults: Vec<Fault>) -> Outcome {
    Outcome::Broken { key, faults }
}

const GROUP: &str = "roadstead.dev";
/// Those of our kinds that people write.
const OURS: &[Kind] = &[
    Kind::AddressPool,
    Kind::Advertisement,
    Kind::BgpPeer,
    Kind::ClusterLink,
    Kind::ClusterNetwork,
    Kind::EdgeHost,
    Kind::PodPool,
    Kind::RouteServer,
];
/// Those of Kubernetes' kinds that we read.
const THEIRS: &[Kind] = &[Kind::EndpointSlice, Kind::Namespace, Kind::Node, Kind::Pod, Kind::Secret, Kind::Service];
/// What a survey reads besides.
const SURVEYED: &[Kind] = &[Kind::AddressClaim, Kind::NodeReport, Kind::ServiceCidr];

fn read_object(value: &Value, purpose: Purpose) -> Outcome {
    let Some(object) = value.as_object() else {
        return broken(None, vec![Fault::whole("not an object: a manifest has apiVersion, kind and metadata")]);
    };
    let text = |name| object.get(name).and_then(Value::as_str);
    let (Some(api_version), Some(kind_name)) = (text("apiVersion"), text("kind")) else {
        let missing = if text("apiVersion").is_none() { "apiVersion" } else { "kind" };
        return broken(None, vec![Fault::field(missing, object.get(missing).map(shown), "must be given")]);
    };
    let surveyed = if purpose == Purpose::Survey { SURVEYED } else { &[] };
    let known =
        OURS.iter().chain(THEIRS).chain(surveyed).find(|k| k.as_str() == kind_name && k.api_version() == api_version);
    let Some(kind) = known.copied() else {
        return match api_version.split_once('/') {
            Some((GROUP, _)) => broken(None, vec![unknown_kind(api_version, kind_name)]),
            _ => Outcome::Other(format!("{kind_name} {}", name_in(value))),
        };
    };
    let (key, faults) = identify(kind, value);
    if !faults.is_empty() {
        return broken(key, faults);
    }
    match decode_kind(kind, value, purpose) {
        Ok(object) => Outcome::Object(object),
        Err(faults) => broken(key, faults),
    }
}

fn unknown_kind(api_version: &str, kind: &str) -> Fault {
    if api_version != Kind::AddressPool.api_version() {
        let allowed = format!("must be {} for kinds of this group", Kind::AddressPool.api_version());
        return Fault::field("apiVersion", Some(api_version.to_owned()), allowed);
    }
    if [Kind::AddressClaim, Kind::NodeReport].iter().any(|written| written.as_str() == kind) {
        let reason = "is written by Roadstead alone, into the state directory; it cannot be a manifest";
        return Fault::field("kind", Some(kind.to_owned()), reason);
    }
    let allowed: Vec<&str> = OURS.iter().map(|kind| kind.as_str()).collect();
    Fault::field("kind", Some(kind.to_owned()), format!("must be one of {}", allowed.join(", ")))
}

fn name_in(value: &Value) -> String {
    let text = |name: &str| value["metadata"][name].as_str();
    let name = text("name").unwrap_or("without a name");
    text("namespace").map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"))
}

/// Which object it is, as far as can be told, and what is wrong with that.
fn identify(kind: Kind, value: &Value) -> (Option<ObjectKey>, Vec<Fault>) {
    let mut faults = Vec::new();
    let mut named = |field: &str, default: Option<&str>, longest: usize, allowed: &str| {
        let path = format!("metadata.{field}");
        match &value["metadata"][field] {
            Value::Null if default.is_some() => default.map(str::to_owned),
            Value::Null => {
                faults.push(Fault::field(path, None, "must be given"));
                None
            }
            Value::String(name) if is_name(name) && name.len() <= longest => Some(name.clone()),
            other => {
                faults.push(Fault::field(path, Some(shown(other)), allowed));
                None
            }
        }
    };
    // A name becomes a path below the state directory, so what may be in one is more than a matter of form.
    let name = named(
        "name",
        None,
        253,
        "must be lower-case letters, digits, - and ., at most 253, with a letter or digit at both ends",
    );
    let namespace = if kind.is_namespaced() {
        named(
            "namespace",
            Some("default"),
            63,
            "must be lower-case letters, digits and -, at most 63, with a letter or digit at both ends",
        )
    } else {
        Some(String::new())
    };
    (name.zip(namespace).map(|(name, namespace)| ObjectKey { kind, namespace, name }), faults)
}

/// The name of an object (DNS-1123 subdomain); lengths are checked apart.
pub(super) fn is_name(name: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'.');
    let outer = |c: Option<&u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let bytes = name.as_bytes();
    bytes.iter().all(|c| inner(*c)) && outer(bytes.first()) && outer(bytes.last())
}

fn decode_kind(kind: Kind, value: &Value, purpose: Purpose) -> Result<Object, Vec<Fault>> {
    use k8s_openapi::api::{core::v1 as core, discovery::v1 as discovery, networking::v1 as networking};
    let mut object = match kind {
        Kind::Service => theirs::<core::Service>(kind, value)?,
        Kind::EndpointSlice => theirs::<discovery::EndpointSlice>(kind, value)?,
        Kind::Node => theirs::<core::Node>(kind, value)?,
        Kind::Namespace => theirs::<core::Namespace>(kind, value)?,
        Kind::Pod => theirs::<core::Pod>(kind, value)?,
        Kind::Secret => theirs::<core::Secret>(kind, value)
            .map_err(|faults| faults.into_iter().map(without_value).collect::<Vec<_>>())?,
        Kind::ServiceCidr => theirs::<networking::ServiceCIDR>(kind, value)?,
        _ => ours(kind, value)?,
    };
    if kind.is_namespaced() {
        object.metadata_mut().namespace.get_or_insert_with(|| "default".to_owned());
    } else {
        object.metadata_mut().namespace = None;
    }
    let object = match (purpose, object) {
        (Purpose::Force, object) => as_written(object),
        (Purpose::Survey, Object::Service(mut service)) => {
            complete(Arc::make_mut(&mut service));
            Object::Service(service)
        }
        (Purpose::Survey, object) => object,
    };
    check(&object).map_err(|found| found.into_iter().map(Fault::from).collect::<Vec<_>>())?;
    Ok(object)
}

/// A kind of Kubernetes' own: its whole type says which fields there are, our reduced one which of them we read.
fn theirs<T: DeserializeOwned>(kind: Kind, value: &Value) -> Result<Object, Vec<Fault>> {
    decode::<T>(value)?;
    Object::from_json(kind, value.clone()).map_err(|error| vec![Fault::whole(error.to_string())])
}

/// A kind of ours. `apiVersion` and `kind` are no fields of its type, and were read.
fn ours(kind: Kind, value: &Value) -> Result<Object, Vec<Fault>> {
    let mut value = value.clone();
    if let Some(object) = value.as_object_mut() {
        object.retain(|name, _| !matches!(name.as_str(), "apiVersion" | "kind"));
    }
    let decoded = match kind {
        Kind::AddressPool => decode(&value).map(|object: crate::kinds::AddressPool| object.into()),
        Kind::BgpPeer => decode(&value).map(|object: crate::kinds::BgpPeer| object.into()),
        Kind::Advertisement => decode(&value).map(|object: crate::kinds::Advertisement| object.into()),
        Kind::ClusterLink => decode(&value).map(|object: crate::kinds::ClusterLink| object.into()),
        Kind::ClusterNetwork => decode(&value).map(|object: crate::kinds::ClusterNetwork| object.into()),
        Kind::EdgeHost => decode(&value).map(|object: crate::kinds::EdgeHost| object.into()),
        Kind::RouteServer => decode(&value).map(|object: crate::kinds::RouteServer| object.into()),
        Kind::PodPool => decode(&value).map(|object: crate::kinds::PodPool| object.into()),
        Kind::AddressClaim => decode(&value).map(|object: crate::kinds::AddressClaim| object.into()),
        Kind::NodeReport => decode(&value).map(|object: crate::kinds::NodeReport| object.into()),
        Kind::Service
        | Kind::EndpointSlice
        | Kind::Node
        | Kind::Namespace
        | Kind::Pod
        | Kind::Secret
        | Kind::ServiceCidr => Err(vec![Fault::whole("is not a kind of ours")]),
    };
    decoded.map_err(|faults| faults.into_iter().map(|fault| with_allowed_fields(kind, fault)).collect())
}

/// An unknown field's fault, with the names that are known there.
fn with_allowed_fields(kind: Kind, mut fault: Fault) -> Fault {
    let field = fault.field.as_deref().filter(|_| fault.reason == "unknown field");
    let schema = crds().into_iter().find(|crd| crd.spec.names.kind == kind.as_str());
    let schema = schema.and_then(|crd| crd.spec.versions.into_iter().next()?.schema?.open_api_v3_schema);
    if let Some(allowed) = field.zip(schema).and_then(|(field, schema)| allowed_beside(&schema, field)) {
        fault.reason = format!("unknown field; known here: {allowed}");
    }
    fault
}

/// A fault of a Secret: where it is, but nothing of what stands there.
fn without_value(fault: Fault) -> Fault {
    match &fault.field {
        Some(field) if !field.starts_with("metadata") && fault.reason != "unknown field" => {
            let reason = "must be text (in data: base64); the value is not shown";
            Fault { value: None, reason: reason.to_owned(), ..fault }
        }
        _ => fault,
    }
}

/// An object without what its manifest does not decide: what the API server sets, and status, as `kubectl apply` leaves it out. A
/// Node's status stays, and a Pod's: here nobody else says which addresses it has, or whether it still runs.
pub(super) fn as_written(mut object: Object) -> Object {
    drop_server_set(object.metadata_mut());
    match object {
        Object::AddressPool(mut pool) => {
            Arc::make_mut(&mut pool).status = None;
            Object::AddressPool(pool)
        }
        Object::BgpPeer(mut peer) => {
            Arc::make_mut(&mut peer).status = None;
            Object::BgpPeer(peer)
        }
        Object::Advertisement(mut advertisement) => {
            Arc::make_mut(&mut advertisement).status = None;
            Object::Advertisement(advertisement)
        }
        Object::PodPool(mut pool) => {
            Arc::make_mut(&mut pool).status = None;
            Object::PodPool(pool)
        }
        Object::ClusterLink(mut link) => {
            Arc::make_mut(&mut link).status = None;
            Object::ClusterLink(link)
        }
        Object::ClusterNetwork(mut network) => {
            Arc::make_mut(&mut network).status = None;
            Object::ClusterNetwork(network)
        }
        Object::EdgeHost(mut host) => {
            Arc::make_mut(&mut host).status = None;
            Object::EdgeHost(host)
        }
        Object::Service(mut service) => {
            let completed = Arc::make_mut(&mut service);
            completed.status = ServiceStatus::default();
            complete(completed);
            Object::Service(service)
        }
        other => other,
    }
}

/// What the API server would fill in, on a cluster whose first family is IPv4.
fn complete(service: &mut Service) {
    let spec = &mut service.spec;
    let kind = spec.type_.get_or_insert_with(|| "ClusterIP".to_owned()).clone();
    for port in &mut spec.ports {
        port.protocol.get_or_insert_with(|| "TCP".to_owned());
    }
    if kind == "ExternalName" {
        return;
    }
    let dual = match spec.ip_family_policy.get_or_insert_with(|| "SingleStack".to_owned()).as_str() {
        "SingleStack" => false,
        "PreferDualStack" | "RequireDualStack" => true,
        // Refused when it is checked.
        _ => return,
    };
    if spec.ip_families.is_empty() {
        let ipv6 = spec.cluster_ip.as_deref().is_some_and(|address| address.contains(':'));
        spec.ip_families.push(if ipv6 { "IPv6" } else { "IPv4" }.to_owned());
    }
    if dual && spec.ip_families.len() == 1 {
        let other = if spec.ip_families[0] == "IPv6" { "IPv4" } else { "IPv6" };
        spec.ip_families.push(other.to_owned());
    }
    if matches!(kind.as_str(), "LoadBalancer" | "NodePort") {
        spec.external_traffic_policy.get_or_insert_with(|| "Cluster".to_owned());
    }
}

/// What the API server would refuse: schema and CEL rules of our kinds, validation of Kubernetes'.
fn check(object: &Object) -> Result<(), Vec<Invalid>> {
    match object {
        Object::AddressPool(pool) => Pool::check(pool).map(drop),
        Object::BgpPeer(peer) => Peer::check(peer).map(drop),
        Object::Advertisement(advertisement) => Advertisement::check(advertisement).map(drop),
        Object::ClusterLink(link) => Link::check(link).map(drop),
        Object::ClusterNetwork(network) => Network::check(network).map(drop),
        Object::EdgeHost(host) => EdgeHost::check(host).map(drop),
        Object::RouteServer(server) => RouteServer::check(server).map(drop),
        Object::PodPool(pool) => PodPool::check(pool).map(drop),
        Object::Service(service) => check_service(service),
        _ => Ok(()),
    }
}

/// Annotations and `loadBalancerIP` are free text to the API server; what is wrong there the controller says, as on a cluster.
fn check_service(service: &Service) -> Result<(), Vec<Invalid>> {
    let mut found = LoadBalancer::check(service).err().unwrap_or_default();
    found.retain(|invalid| invalid.field.starts_with("spec.") && invalid.field != "spec.loadBalancerIP");
    let key = crate::checked::ServiceKey::from(service);
    let mut refuse = |field: &str, value: &str, allowed: &str| {
        let (field, value, allowed) = (field.to_owned(), value.to_owned(), allowed.to_owned());
        found.push(Invalid { object: key.object(), field, value, allowed });
    };
    let spec = &service.spec;
    let kind = spec.type_.as_deref().unwrap_or_default();
    if !matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer" | "ExternalName") {
        refuse("spec.type", kind, "must be ClusterIP, NodePort, LoadBalancer or ExternalName");
    }
    if kind == "LoadBalancer" && spec.ports.is_empty() {
        refuse("spec.ports", "[]", "must list at least one port");
    }
    for (index, family) in spec.ip_families.iter().enumerate() {
        if !matches!(family.as_str(), "IPv4" | "IPv6") {
            refuse(&format!("spec.ipFamilies[{index}]"), family, "must be IPv4 or IPv6");
        }
    }
    if found.is_empty() { Ok(()) } else { Err(found) }
}

#[cfg(test)]
mod tests;
