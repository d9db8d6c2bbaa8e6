use std::path::PathBuf;

use super::*;
use crate::checked::{FamilyPolicy, TrafficPolicy};
use crate::store::directory::problem::Problem;

/// What is wrong with a file, line by line as it is shown.
fn problems(text: &str) -> Vec<String> {
    let shown = |Reading { place, outcome }: Reading| {
        let Outcome::Broken { key, faults } = outcome else { return Vec::new() };
        let object = key.as_ref().map(ObjectKey::object);
        let problem = |Fault { field, value, reason }| {
            let (file, place, object) = (PathBuf::from("f"), Some(place), object.clone());
            Problem { file, place, object, field, value, reason }.to_string()
        };
        faults.into_iter().map(problem).collect()
    };
    read(text, Purpose::Force).into_iter().flat_map(shown).collect()
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    assert_eq!(problems(text), expected, "{text}");
}

/// One object of ours, called `x`.
#[track_caller]
fn check_ours(kind: &str, spec: &str, expected: &[&str]) {
    let text = format!("apiVersion: roadstead.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: x}}\nspec: {{{spec}}}\n");
    let found: Vec<String> = problems(&text).iter().map(|line| line.replace("f:1: document 1: ", "")).collect();
    assert_eq!(found, expected, "{text}");
}

/// One Service, called `x`.
#[track_caller]
fn check_service(spec: &str, expected: &[&str]) {
    let text = format!("apiVersion: v1\nkind: Service\nmetadata: {{name: x}}\nspec: {{{spec}}}\n");
    let found: Vec<String> = problems(&text).iter().map(|line| line.replace("f:1: document 1: ", "")).collect();
    assert_eq!(found, expected, "{text}");
}

#[test]
fn what_is_no_object() {
    check("", &[]);
    check("# nothing\n---\n---\n", &[]);
    check("a: b: c\n", &["f:1: document 1: not YAML: mapping values are not allowed in this context"]);
    check(
        "---\na: 1\n---\nb: [\n\n",
        &["f:2: document 1: apiVersion: must be given", "f:4: document 2: not YAML: unclosed bracket '['"],
    );
    check("a: 1\na: 2\n", &["f:2: document 1: not YAML: duplicate mapping key: a"]);
    check("just words\n", &["f:1: document 1: not an object: a manifest has apiVersion, kind and metadata"]);
    check("{apiVersion: v1}\n", &["f:1: document 1: kind: must be given"]);
    check("{apiVersion: v1, kind: [x]}\n", &["f:1: document 1: kind: \"[\\\"x\\\"]\": must be given"]);
}

#[test]
fn what_is_no_kind_of_ours() {
    let ours = |version: &str, kind: &str| {
        format!("{{apiVersion: roadstead.dev/{version}, kind: {kind}, metadata: {{name: x}}}}\n")
    };
    check(
        &ours("v1alpha1", "AddressPol"),
        &[
            "f:1: document 1: kind: \"AddressPol\": must be one of AddressPool, Advertisement, BGPPeer, ClusterLink, ClusterNetwork, EdgeHost, PodPool, RouteServer",
        ],
    );
    check(
        &ours("v1", "AddressPool"),
        &["f:1: document 1: apiVersion: \"roadstead.dev/v1\": must be roadstead.dev/v1alpha1 for kinds of this group"],
    );
    check(
        &ours("v1alpha1", "AddressClaim"),
        &[
            "f:1: document 1: kind: \"AddressClaim\": is written by Roadstead alone, into the state directory; it cannot be a manifest",
        ],
    );
    check("{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}, spec: {whatever: 1}}\n", &[]);
    check("{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: x}}\n", &[]);
}

#[test]
fn names() {
    let named = |metadata: &str| format!("{{apiVersion: v1, kind: Service, metadata: {metadata}, spec: {{}}}}\n");
    check(&named("{}"), &["f:1: document 1: metadata.name: must be given"]);
    let allowed = "must be lower-case letters, digits, - and ., at most 253, with a letter or digit at both ends";
    for name in ["../../etc/passwd", "Front", "-x", "x."] {
        let expected = format!("f:1: document 1: metadata.name: {name:?}: {allowed}");
        check(&named(&format!("{{name: {name:?}}}")), &[&expected]);
    }
    let expected = format!("f:1: document 1: metadata.name: \"7\": {allowed}");
    check(&named("{name: 7}"), &[&expected]);
    check(
        &named("{name: x, namespace: ../up}"),
        &[
            "f:1: document 1: metadata.namespace: \"../up\": must be lower-case letters, digits and -, at most 63, with a letter or digit at \
         both ends",
        ],
    );
}

#[test]
fn unknown_fields() {
    check_ours(
        "AddressPool",
        "adresses: [192.0.2.0/24], addresses: [192.0.2.0/24]",
        &[
            "AddressPool x: spec.adresses: unknown field; known here: addresses, autoAssign, avoidBuggyIPs, exclude, namespaceSelector, \
         namespaces, priority, reclaim, reuseDelaySeconds, serviceSelector, sharing",
        ],
    );
    check_ours(
        "BGPPeer",
        "address: 192.0.2.1, peerASN: 64512, timers: {hold: 9}",
        &["BGPPeer x: spec.timers.hold: unknown field; known here: connectRetrySeconds, holdSeconds, keepaliveSeconds"],
    );
    check_service(
        "type: LoadBalancer, ports: [{port: 80, targetport: 8080}], loadBalancerClas: x",
        &[
            "Service default/x: spec.loadBalancerClas: unknown field",
            "Service default/x: spec.ports[0].targetport: unknown field",
        ],
    );
}

#[test]
fn wrong_types() {
    check_ours(
        "AddressPool",
        "addresses: 192.0.2.0/24",
        &["AddressPool x: spec.addresses: \"192.0.2.0/24\": must be a list"],
    );
    check_ours(
        "AddressPool",
        "addresses: [192.0.2.0/24], sharing: Nobody",
        &["AddressPool x: spec.sharing: \"Nobody\": must be Namespace or Cluster"],
    );
    check_ours(
        "AddressPool",
        "addresses: [192.0.2.0/24], autoAssign: maybe",
        &["AddressPool x: spec.autoAssign: \"maybe\": must be true or false"],
    );
    check_ours("AddressPool", "", &["AddressPool x: spec.addresses: must be given"]);
    check_ours(
        "BGPPeer",
        "address: 192.0.2.1, peerASN: lots",
        &["BGPPeer x: spec.peerASN: \"lots\": must be a whole number"],
    );
    check_service(
        "ports: [{port: http}]",
        &["Service default/x: spec.ports[0].port: \"http\": must be a whole number"],
    );
    check_service("selector: [a]", &["Service default/x: spec.selector: \"[\\\"a\\\"]\": must be a mapping"]);
    check(
        "{apiVersion: v1, kind: Service, metadata: {name: x, labels: {a: 1}}, spec: {}}\n",
        &["f:1: document 1: Service default/x: metadata.labels.a: \"1\": must be text"],
    );
}

#[test]
fn wrong_values_in_the_words_of_the_checked_types() {
    check_ours(
        "AddressPool",
        "addresses: [192.0.2.9/24, 192.0.2.9-192.0.2.1]",
        &[
            "AddressPool x: spec.addresses[0]: \"192.0.2.9/24\": host bits must be zero: write 192.0.2.0/24",
            "AddressPool x: spec.addresses[1]: \"192.0.2.9-192.0.2.1\": the first address of a range must not be above the last: write \
         192.0.2.1-192.0.2.9",
        ],
    );
    check_ours(
        "ClusterNetwork",
        "asn: 64500",
        &["ClusterNetwork x: metadata.name: \"x\": there is one ClusterNetwork, and its name is default"],
    );
    let held = problems(
        "{apiVersion: roadstead.dev/v1alpha1, kind: BGPPeer, metadata: {name: x}, spec: {address: 192.0.2.1, peerASN: 64512, \
         timers: {holdSeconds: 2}}}\n",
    );
    assert!(held[0].starts_with("f:1: document 1: BGPPeer x: spec.timers.holdSeconds: \"2\": "), "{held:?}");
    check_service("type: LoadBalancer", &["Service default/x: spec.ports: \"[]\": must list at least one port"]);
    check_service(
        "type: Balancer",
        &["Service default/x: spec.type: \"Balancer\": must be ClusterIP, NodePort, LoadBalancer or ExternalName"],
    );
    check_service(
        "type: LoadBalancer, ports: [{port: 80}], externalTrafficPolicy: Near",
        &["Service default/x: spec.externalTrafficPolicy: \"Near\": must be Cluster or Local"],
    );
    check_service("type: LoadBalancer, ports: [{port: 80}], loadBalancerIP: nonsense", &[]);
}

#[test]
fn items_of_a_list_are_told_apart() {
    let item = |name: &str| format!("{{apiVersion: v1, kind: Service, metadata: {{{name}}}, spec: {{bad: 1}}}}");
    check(
        &format!("{{apiVersion: v1, kind: List, items: [{}, {}]}}\n", item("name: x"), item("")),
        &[
            "f:1: document 1: Service default/x: spec.bad: unknown field",
            "f:1: document 1: items[1].metadata.name: must be given",
        ],
    );
}

/// The one object of a file.
fn object(text: &str) -> Object {
    match read(text, Purpose::Force).into_iter().map(|reading| reading.outcome).collect::<Vec<_>>().as_slice() {
        [Outcome::Object(object)] => object.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_the_api_server_sets_is_not_the_manifests_to_set() {
    let text = "{apiVersion: v1, kind: Service, metadata: {name: x, uid: u, resourceVersion: '7', generation: 3, creationTimestamp: \
                '2026-01-01T00:00:00Z', managedFields: [{manager: m}], labels: {a: b}}, spec: {type: LoadBalancer, ports: [{port: 80}]}, \
                status: {loadBalancer: {ingress: [{ip: 192.0.2.1}]}}}\n";
    let Object::Service(service) = object(text) else { panic!() };
    let metadata = &service.metadata;
    assert_eq!((&metadata.uid, &metadata.resource_version, metadata.generation), (&None, &None, None));
    assert_eq!(metadata.namespace.as_deref(), Some("default"));
    assert_eq!(metadata.labels.as_ref().and_then(|labels| labels.get("a")).map(String::as_str), Some("b"));
    assert!(service.status.load_balancer.ingress.is_empty());
}

#[test]
fn defaults_are_those_of_the_api_server() {
    let checked = |spec: &str| {
        let text = format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: x}}, spec: {{type: LoadBalancer, ports: [{{port: 80}}]{spec}}}}}\n"
        );
        let Object::Service(service) = object(&text) else { panic!() };
        (service.spec.ip_families.join(","), LoadBalancer::check(&service).unwrap().unwrap())
    };
    let (families, single) = checked("");
    assert_eq!(
        (families.as_str(), single.families, single.traffic_policy),
        ("IPv4", FamilyPolicy::Ipv4, TrafficPolicy::Cluster)
    );
    let (families, dual) = checked(", ipFamilyPolicy: RequireDualStack");
    assert_eq!((families.as_str(), dual.families), ("IPv4,IPv6", FamilyPolicy::Both));
    let (families, dual) = checked(", ipFamilyPolicy: PreferDualStack, ipFamilies: [IPv6]");
    assert_eq!((families.as_str(), dual.families), ("IPv6,IPv4", FamilyPolicy::PreferBoth { primary_ipv4: false }));
    let (families, single) = checked(", clusterIP: 'fd00::1'");
    assert_eq!((families.as_str(), single.families), ("IPv6", FamilyPolicy::Ipv6));
}

#[test]
fn a_nodes_status_is_its_manifests() {
    let text = "{apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}}\n";
    let Object::Node(node) = object(text) else { panic!() };
    assert_eq!(node.internal_addresses().map(|address| address.to_string()).collect::<Vec<_>>(), ["192.0.2.1"]);
}
