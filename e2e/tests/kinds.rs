//! Our kinds at a real API server: the samples are accepted, and what one object may not say is refused in words.

use std::fs;

use anyhow::{Context, Result, ensure};
use roadstead_e2e::kubernetes::{ControlPlane, workspace};
use roadstead_e2e::network::Fabric;
use roadstead_e2e::{Scene, scene};

/// An API server that serves our kinds, as `roadstead crds` prints them, and the namespace that the samples need.
fn start_plane(scene: &Scene) -> Result<ControlPlane> {
    let machine = Fabric::new(scene, "switch")?.machine(scene, "control", &["10.99.0.100/24"])?;
    let plane = ControlPlane::start(scene, Some(&machine), "10.99.0.100", &[])?;
    plane.serve_our_kinds()?;
    plane.kubectl("create namespace roadstead-system")?;
    scene.step("our kinds are served");
    Ok(plane)
}

#[test]
fn samples_and_refusals() -> Result<()> {
    scene("samples and refusals", |scene| {
        let plane = start_plane(scene)?;

        for sample in ["addresses.yaml", "pods.yaml", "routing.yaml", "route-server.yaml", "clusters.yaml"] {
            let path = workspace().join("docs/samples").join(sample);
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            plane.apply_with(&text, &["--validate=strict"]).with_context(|| format!("docs/samples/{sample}"))?;
        }
        scene.step("the samples are accepted");

        let failures: Vec<String> =
            REFUSALS.iter().filter_map(|refusal| unrefused(&plane, refusal).err()).map(|e| format!("{e:#}")).collect();
        ensure!(failures.is_empty(), "{} of {}:\n{}", failures.len(), REFUSALS.len(), failures.join("\n"));
        scene.step(&format!("{} bad objects are refused in words", REFUSALS.len()));

        printer_columns(&plane)
    })
}

/// Something that one object may not say, and part of the API server's answer.
struct Refusal {
    name: &'static str,
    kind: &'static str,
    spec: &'static str,
    answer: &'static str,
}

const fn pool(name: &'static str, spec: &'static str, answer: &'static str) -> Refusal {
    Refusal { name, kind: "AddressPool", spec, answer }
}

const fn pod_pool(name: &'static str, spec: &'static str, answer: &'static str) -> Refusal {
    Refusal { name, kind: "PodPool", spec, answer }
}

const fn peer(name: &'static str, spec: &'static str, answer: &'static str) -> Refusal {
    Refusal { name, kind: "BGPPeer", spec, answer }
}

const fn advertisement(name: &'static str, spec: &'static str, answer: &'static str) -> Refusal {
    Refusal { name, kind: "Advertisement", spec, answer }
}

const fn claim(name: &'static str, spec: &'static str, answer: &'static str) -> Refusal {
    Refusal { name, kind: "AddressClaim", spec, answer }
}

const fn route_server(name: &'static str, spec: &'static str, answer: &'static str) -> Refusal {
    Refusal { name, kind: "RouteServer", spec, answer }
}

const fn link(name: &'static str, spec: &'static str, answer: &'static str) -> Refusal {
    Refusal { name, kind: "ClusterLink", spec, answer }
}

const fn edge(name: &'static str, spec: &'static str, answer: &'static str) -> Refusal {
    Refusal { name, kind: "EdgeHost", spec, answer }
}

const REFUSALS: &[Refusal] = &[
    link("no endpoints", "{remoteCluster: s, remoteASN: 64502, endpoints: []}", "should have at least 1 item"),
    link("no address", "{remoteCluster: s, remoteASN: 64502, endpoints: [banana]}", "must be an IPv4 or IPv6 address"),
    link("an ASN of nobody", "{remoteCluster: s, remoteASN: 0, endpoints: [10.80.2.11]}", "spec.remoteASN"),
    link(
        "host bits",
        "{remoteCluster: s, remoteASN: 64502, endpoints: [10.80.2.11], acceptCIDRs: {pods: [10.2.0.1/16]}}",
        "host bits must be zero",
    ),
    link(
        "an unknown class",
        "{remoteCluster: s, remoteASN: 64502, endpoints: [10.80.2.11], exports: [Nodes]}",
        "supported values: \"Pods\", \"Services\", \"LoadBalancers\"",
    ),
    link(
        "near and far",
        "{remoteCluster: s, remoteASN: 64502, endpoints: [10.80.2.11], ttlSecurity: {hops: 1}, ebgpMultihop: {ttl: 4}}",
        "ttlSecurity and ebgpMultihop exclude each other",
    ),
    link(
        "BFD from afar over one hop",
        "{remoteCluster: s, remoteASN: 64502, endpoints: [10.80.2.11], ttlSecurity: {hops: 1}, bfd: {minimumTTL: 9}}",
        "bfd.minimumTTL is for gateways several hops away",
    ),
    edge("no prefix", "{address: 10.90.0.17, asn: 64617}", "exactly one of prefix and pool must be given"),
    edge(
        "a prefix and a pool",
        "{address: 10.90.0.17, asn: 64617, prefix: 10.99.17.0/28, pool: stands}",
        "exactly one of prefix and pool must be given",
    ),
    edge(
        "a length of a prefix",
        "{address: 10.90.0.17, asn: 64617, prefix: 10.99.17.0/28, prefixLength: 28}",
        "prefixLength is for a prefix from pool",
    ),
    edge(
        "near and far",
        "{address: 10.90.0.17, asn: 64617, prefix: 10.99.17.0/28, ttlSecurity: {hops: 1}, ebgpMultihop: {ttl: 4}}",
        "ttlSecurity and ebgpMultihop exclude each other",
    ),
    pool("no addresses", "{addresses: []}", "should have at least 1 item"),
    pool("no range", "{addresses: [banana]}", "must be a CIDR like 192.0.2.0/24, an address, or a range first-last"),
    pool("host bits", "{addresses: [192.0.2.1/24]}", "host bits must be zero"),
    pool("mixed families", "{addresses: [\"192.0.2.1-2001:db8::1\"]}", "both ends of a range must be of one family"),
    pool("half a range", "{addresses: [\"192.0.2.1-\"]}", "must be a CIDR like"),
    pool("a bad exclusion", "{addresses: [192.0.2.0/24], exclude: [x]}", "spec.exclude[0]"),
    pool("a negative priority", "{addresses: [192.0.2.0/24], priority: -1}", "greater than or equal to 0"),
    pool(
        "an unknown sharing",
        "{addresses: [192.0.2.0/24], sharing: Everybody}",
        "supported values: \"Namespace\", \"Cluster\"",
    ),
    pool("a negative delay", "{addresses: [192.0.2.0/24], reuseDelaySeconds: -1}", "greater than or equal to 0"),
    pool("a bad namespace", "{addresses: [192.0.2.0/24], namespaces: [Shop]}", "must be the name of an object"),
    pool(
        "In without values",
        "{addresses: [192.0.2.0/24], serviceSelector: {matchExpressions: [{key: a, operator: In}]}}",
        "operators In and NotIn need values",
    ),
    pool(
        "Exists with values",
        "{addresses: [192.0.2.0/24], serviceSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}",
        "operators Exists and DoesNotExist take no values",
    ),
    pod_pool("no subnet", "{ranges: [10.1.0.9]}", "spec.subnet: Required value"),
    pod_pool("host bits", "{subnet: 10.1.0.1/24}", "host bits must be zero"),
    pod_pool(
        "a range elsewhere",
        "{subnet: 10.1.0.0/24, ranges: [10.1.0.250-10.1.1.3]}",
        "ranges must be inside subnet",
    ),
    pod_pool("another family", "{subnet: 10.1.0.0/24, ranges: [\"2001:db8::/64\"]}", "ranges must be inside subnet"),
    pod_pool("a foreign exclusion", "{subnet: 10.1.0.0/24, exclude: [10.2.0.0/24]}", "exclude must be inside subnet"),
    pod_pool(
        "ranges of all and of each",
        "{subnet: 10.1.0.0/24, ranges: [10.1.0.9], nodeRanges: [{nodes: [a], ranges: [10.1.0.8]}]}",
        "ranges and nodeRanges exclude each other",
    ),
    pod_pool(
        "ranges of nobody",
        "{subnet: 10.1.0.0/24, nodeRanges: [{nodes: [], ranges: [10.1.0.8]}]}",
        "should have at least 1 item",
    ),
    pod_pool("a gateway elsewhere", "{subnet: 10.1.0.0/24, gateway: 10.2.0.1}", "gateway must be inside subnet"),
    pod_pool(
        "a gateway of the other family",
        "{subnet: \"2001:db8::/64\", gateway: 10.1.0.1}",
        "gateway must be inside subnet",
    ),
    pod_pool(
        "ranges of IPv4 in a subnet of IPv6",
        "{subnet: \"2001:db8::/64\", ranges: [10.1.0.1-10.1.0.9]}",
        "ranges must be inside subnet",
    ),
    pod_pool(
        "a default route",
        "{subnet: 10.1.0.0/24, routes: [{destination: 0.0.0.0/0}]}",
        "must not be the default route",
    ),
    pod_pool(
        "a route of another family",
        "{subnet: 10.1.0.0/24, routes: [{destination: \"2001:db8::/32\"}]}",
        "routes must be of subnet's family",
    ),
    pod_pool(
        "a route by elsewhere",
        "{subnet: 10.1.0.0/24, routes: [{destination: 10.9.0.0/16, gateway: 10.9.0.1}]}",
        "the gateways of routes must be inside subnet",
    ),
    pod_pool(
        "a route twice",
        "{subnet: 10.1.0.0/24, routes: [{destination: 10.9.0.0/16}, {destination: 10.9.0.0/16}]}",
        "Duplicate value",
    ),
    pod_pool(
        "a network without a namespace",
        "{subnet: 10.1.0.0/24, networks: [macvlan]}",
        "must be the namespace and name of a NetworkAttachmentDefinition",
    ),
    pod_pool("an advertisement of blocks", "{subnet: 10.1.0.0/24, advertise: Block}", "needs blockPrefixLength"),
    pod_pool(
        "an unknown advertisement",
        "{subnet: 10.1.0.0/24, advertise: All}",
        "supported values: \"None\", \"Block\", \"Address\"",
    ),
    pod_pool(
        "addresses beside blocks",
        "{subnet: 10.1.0.0/24, advertise: Address, blockPrefixLength: 26}",
        "advertise: Address is for pools without blockPrefixLength",
    ),
    pod_pool(
        "a block wider than the subnet",
        "{subnet: 10.1.0.0/24, blockPrefixLength: 23}",
        "blockPrefixLength must be from the length of subnet",
    ),
    pod_pool(
        "a block of the other family's length",
        "{subnet: 10.1.0.0/24, blockPrefixLength: 64}",
        "blockPrefixLength must be from the length of subnet",
    ),
    pod_pool("a block of everything", "{subnet: \"::/0\", blockPrefixLength: 129}", "less than or equal to 128"),
    pod_pool(
        "blocks beside ranges of each",
        "{subnet: 10.1.0.0/24, blockPrefixLength: 26, nodeRanges: [{nodes: [a], ranges: [10.1.0.8]}]}",
        "blockPrefixLength and nodeRanges exclude each other",
    ),
    peer("no ASN", "{address: 192.0.2.1}", "exactly one of peerASN and peerType must be given"),
    peer(
        "ASN and type",
        "{address: 192.0.2.1, peerASN: 64512, peerType: External}",
        "exactly one of peerASN and peerType",
    ),
    peer(
        "a role on an internal session",
        "{address: 192.0.2.1, peerType: Internal, role: Customer}",
        "role is for external sessions",
    ),
    peer("ASN 0", "{address: 192.0.2.1, peerASN: 0}", "greater than or equal to 1"),
    peer("AS_TRANS", "{address: 192.0.2.1, peerASN: 23456}", "23456 is AS_TRANS"),
    peer("our own AS_TRANS", "{address: 192.0.2.1, peerASN: 64512, localASN: 23456}", "23456 is AS_TRANS"),
    peer("an ASN beyond 32 bits", "{address: 192.0.2.1, peerASN: 4294967296}", "less than or equal to 4294967295"),
    peer("no address", "{peerASN: 64512}", "exactly one of address and interface"),
    peer("a name for an address", "{address: router.example, peerASN: 64512}", "must be an IPv4 or IPv6 address"),
    peer("port 0", "{address: 192.0.2.1, peerASN: 64512, port: 0}", "greater than or equal to 1"),
    peer(
        "hold time 1",
        "{address: 192.0.2.1, peerASN: 64512, timers: {holdSeconds: 1}}",
        "holdSeconds must be 0 or from 3 to 65535",
    ),
    peer(
        "hold time 2",
        "{address: 192.0.2.1, peerASN: 64512, timers: {holdSeconds: 2}}",
        "holdSeconds must be 0 or from 3 to 65535",
    ),
    peer(
        "keepalive beyond hold",
        "{address: 192.0.2.1, peerASN: 64512, timers: {holdSeconds: 9, keepaliveSeconds: 10}}",
        "keepaliveSeconds must not exceed holdSeconds",
    ),
    peer(
        "GTSM and multihop",
        "{address: 192.0.2.1, peerASN: 64512, ttlSecurity: {hops: 1}, ebgpMultihop: {ttl: 4}}",
        "ttlSecurity and ebgpMultihop exclude each other",
    ),
    peer(
        "an authentication without a password",
        "{address: 192.0.2.1, peerASN: 64512, authentication: {type: MD5}}",
        "authentication says how a password signs: it needs passwordSecret",
    ),
    peer(
        "TCP-AO without KeyIDs",
        "{address: 192.0.2.1, peerASN: 64512, passwordSecret: {name: a}, authentication: {type: TCPAO, sendID: 1}}",
        "TCPAO needs sendID and receiveID",
    ),
    peer(
        "MD5 with a KeyID",
        "{address: 192.0.2.1, peerASN: 64512, passwordSecret: {name: a}, authentication: {type: MD5, sendID: 1}}",
        "TCPAO needs sendID and receiveID",
    ),
    peer(
        "a KeyID beyond an octet",
        "{address: 192.0.2.1, peerASN: 64512, passwordSecret: {name: a}, authentication: {type: TCPAO, sendID: 1, receiveID: 256}}",
        "less than or equal to 255",
    ),
    peer("neither address nor interface", "{peerASN: 64512}", "exactly one of address and interface must be given"),
    peer(
        "both address and interface",
        "{address: 192.0.2.1, interface: eth1, peerASN: 64512}",
        "exactly one of address and interface must be given",
    ),
    peer(
        "an interface and a source",
        "{interface: eth1, sourceInterface: eth2, peerASN: 64512}",
        "interface excludes sourceAddress, sourceInterface and ebgpMultihop",
    ),
    peer(
        "a BFD interval below 10 ms",
        "{address: 192.0.2.1, peerASN: 64512, bfd: {transmitIntervalMilliseconds: 9}}",
        "greater than or equal to 10",
    ),
    peer(
        "a BFD multiplier of 0",
        "{address: 192.0.2.1, peerASN: 64512, bfd: {detectMultiplier: 0}}",
        "greater than or equal to 1",
    ),
    peer(
        "BFD over several hops to a neighbour",
        "{address: 192.0.2.1, peerASN: 64512, ttlSecurity: {hops: 1}, bfd: {minimumTTL: 250}}",
        "bfd.minimumTTL is for routers several hops away",
    ),
    peer(
        "BFD over several hops on a link",
        "{interface: eth1, peerASN: 64512, bfd: {minimumTTL: 250}}",
        "bfd.minimumTTL is for routers several hops away, and one behind interface is on that link",
    ),
    peer(
        "a source of another family",
        "{address: 192.0.2.1, peerASN: 64512, sourceAddress: \"2001:db8::1\"}",
        "sourceAddress must be of the same family as address",
    ),
    peer(
        "router ID 0.0.0.0",
        "{address: 192.0.2.1, peerASN: 64512, routerID: 0.0.0.0}",
        "0.0.0.0 is no BGP identifier",
    ),
    peer(
        "an IPv6 router ID",
        "{address: 192.0.2.1, peerASN: 64512, routerID: \"2001:db8::1\"}",
        "must be an IPv4 address",
    ),
    peer(
        "a family twice",
        "{address: 192.0.2.1, peerASN: 64512, families: [IPv4Unicast, IPv4Unicast]}",
        "Duplicate value",
    ),
    peer("an unknown family", "{address: 192.0.2.1, peerASN: 64512, families: [VPNv4]}", "supported values"),
    peer(
        "a next hop of another family",
        "{address: 192.0.2.1, peerASN: 64512, nextHop: {ipv6: 192.0.2.9}}",
        "must be an IPv6 address",
    ),
    peer(
        "ge beyond le",
        "{address: 192.0.2.1, peerASN: 64512, import: {accept: [{prefix: 10.0.0.0/8, ge: 24, le: 16}]}}",
        "ge must not exceed le",
    ),
    peer(
        "host bits in an import rule",
        "{address: 192.0.2.1, peerASN: 64512, import: {accept: [{prefix: 10.1.0.0/8}]}}",
        "host bits must be zero",
    ),
    peer(
        "an action without a limit",
        "{address: 192.0.2.1, peerASN: 64512, import: {onExcess: Drop}}",
        "warnAtPercent, onExcess and restartSeconds need maxPrefixes",
    ),
    peer(
        "a restart of a session that is not closed",
        "{address: 192.0.2.1, peerASN: 64512, import: {maxPrefixes: 1, onExcess: Drop, restartSeconds: 1}}",
        "restartSeconds is for onExcess: Close",
    ),
    peer(
        "a warning beyond the limit",
        "{address: 192.0.2.1, peerASN: 64512, import: {maxPrefixes: 1, warnAtPercent: 101}}",
        "less than or equal to 100",
    ),
    peer(
        "an unknown purpose",
        "{address: 192.0.2.1, peerASN: 64512, import: {refuse: [Martian]}}",
        "supported values: \"Private\", \"Documentation\"",
    ),
    advertisement("nothing to announce", "{from: []}", "should have at least 1 item"),
    advertisement("a source of nothing", "{from: [{}]}", "one of loadBalancers and podPools"),
    advertisement(
        "a source of two",
        "{from: [{loadBalancers: {}, podPools: {}}]}",
        "one of loadBalancers and podPools",
    ),
    advertisement(
        "a bad community",
        "{from: [{loadBalancers: {}}], attributes: {communities: [\"65536:1\"]}}",
        "must be ASN:value with both from 0 to 65535",
    ),
    advertisement(
        "a bad large community",
        "{from: [{loadBalancers: {}}], attributes: {largeCommunities: [\"1:2\"]}}",
        "must be three numbers from 0 to 4294967295",
    ),
    advertisement(
        "a bad extended community",
        "{from: [{loadBalancers: {}}], attributes: {extendedCommunities: [\"rt:192.0.2.1:65536\"]}}",
        "must be rt: or soo: with an ASN or an address and a number",
    ),
    advertisement(
        "an extended community with an IPv4 address for an IPv6 one",
        "{from: [{loadBalancers: {}}], attributes: {extendedCommunities: [\"rt:[192.0.2.1]:1\"]}}",
        "must be rt: or soo: with an ASN or an address and a number",
    ),
    advertisement(
        "a bandwidth without a unit",
        "{from: [{loadBalancers: {}}], attributes: {linkBandwidth: \"25\"}}",
        "must be PerEndpoint, or a number from 1 to 999999 with Mbps or Gbps",
    ),
    advertisement(
        "the transitivity of nothing",
        "{from: [{loadBalancers: {}}], attributes: {linkBandwidthTransitivity: NonTransitive}}",
        "linkBandwidthTransitivity needs linkBandwidth",
    ),
    advertisement(
        "two bandwidths",
        "{from: [{loadBalancers: {}}], attributes: {linkBandwidth: 1Gbps, extendedCommunities: [\"0x4004fbf44cee6b28\"]}}",
        "one of linkBandwidth and a link bandwidth among extendedCommunities",
    ),
    advertisement(
        "an impossible length",
        "{from: [{loadBalancers: {}}], aggregate: {ipv4: 33}}",
        "less than or equal to 32",
    ),
    advertisement(
        "a local preference beyond 32 bits",
        "{from: [{loadBalancers: {}}], attributes: {localPreference: 4294967296}}",
        "less than or equal to 4294967295",
    ),
    claim("nobody's claim", "{cidr: 192.0.2.1/32, pool: public, owners: []}", "a claim needs an owner"),
    peer(
        "another word for accumulated metrics",
        "{address: 192.0.2.1, peerASN: 64512, import: {aigp: Always}}",
        "supported values: \"Enabled\", \"Disabled\"",
    ),
    route_server(
        "a route server in the way",
        "{asn: 64999, routerID: 10.77.0.1, listen: [\"10.77.0.1:179\"], clients: [{name: a, prefix: 10.77.0.0/16, asnRanges: [{from: 1, to: 2}], nextHopSelf: true}]}",
        "nextHopSelf is a reflector's",
    ),
    route_server(
        "nobody to let in",
        "{asn: 64999, routerID: 10.77.0.1, listen: [\"10.77.0.1:179\"], clients: []}",
        "should have at least 1 item",
    ),
    route_server(
        "no port",
        "{asn: 64999, routerID: 10.77.0.1, listen: [10.77.0.1], clients: [{name: a, prefix: 10.77.0.0/16, asnRanges: [{from: 1, to: 2}]}]}",
        "10.77.0.1: must be an address with a port",
    ),
    route_server(
        "clients of any ASN",
        "{asn: 64999, routerID: 10.77.0.1, listen: [\"[2001:db8::1]:179\"], clients: [{name: a, prefix: 10.77.0.0/16}]}",
        "clients of a route server need asnRanges",
    ),
    route_server(
        "one client of any ASN",
        "{asn: 64999, routerID: 10.77.0.1, listen: [\"10.77.0.1:179\"], clients: [{name: a, prefix: 10.77.0.0/16}, {name: b, prefix: 10.78.0.0/16, asnRanges: [{from: 1, to: 2}]}]}",
        "clients of a route server need asnRanges",
    ),
    route_server(
        "an authentication without a password",
        "{asn: 64999, routerID: 10.77.0.1, listen: [\"10.77.0.1:179\"], clients: [{name: a, prefix: 10.77.0.0/16, asnRanges: [{from: 1, to: 2}], authentication: {type: MD5}}]}",
        "authentication says how a password signs: it needs passwordFile",
    ),
    route_server(
        "BFD over several hops to neighbours",
        "{asn: 64999, routerID: 10.77.0.1, listen: [\"10.77.0.1:179\"], clients: [{name: a, prefix: 10.77.0.0/16, asnRanges: [{from: 1, to: 2}], ttlSecurity: {hops: 1}, bfd: {minimumTTL: 250}}]}",
        "bfd.minimumTTL is for clients several hops away",
    ),
    route_server(
        "ASNs in the wrong order",
        "{asn: 64999, routerID: 10.77.0.1, listen: [\"10.77.0.1:179\"], clients: [{name: a, prefix: 10.77.0.0/16, asnRanges: [{from: 2, to: 1}]}]}",
        "from must not exceed to",
    ),
    route_server(
        "ASNs for a reflector's clients",
        "{asn: 64999, routerID: 10.77.0.1, reflector: true, listen: [\"10.77.0.1:179\"], clients: [{name: a, prefix: 10.77.0.0/16, asnRanges: [{from: 1, to: 2}]}]}",
        "those of a reflector are in its own ASN and have none",
    ),
    route_server(
        "a cluster without a reflector",
        "{asn: 64999, routerID: 10.77.0.1, clusterID: 10.0.0.1, listen: [\"10.77.0.1:179\"], clients: [{name: a, prefix: 10.77.0.0/16, asnRanges: [{from: 1, to: 2}]}]}",
        "clusterID is a reflector's",
    ),
    route_server(
        "a network to dial",
        "{asn: 64999, routerID: 10.77.0.1, listen: [\"10.77.0.1:179\"], clients: [{name: a, prefix: 10.77.0.0/16, passive: false, asnRanges: [{from: 1, to: 2}]}]}",
        "nobody can dial a whole network",
    ),
    route_server(
        "a limit's action without a limit",
        "{asn: 64999, routerID: 10.77.0.1, listen: [\"10.77.0.1:179\"], clients: [{name: a, prefix: 10.77.0.0/16, asnRanges: [{from: 1, to: 2}], onExcess: Drop}]}",
        "warnAtPercent, onExcess and restartSeconds need maxPrefixes",
    ),
    route_server(
        "a time for what closes nothing",
        "{asn: 64999, routerID: 10.77.0.1, listen: [\"10.77.0.1:179\"], clients: [{name: a, prefix: 10.77.0.0/16, asnRanges: [{from: 1, to: 2}], maxPrefixes: 1, onExcess: Drop, restartSeconds: 1}]}",
        "restartSeconds is for onExcess: Close",
    ),
    route_server(
        "a client of a route server that is none",
        "{asn: 64999, routerID: 10.77.0.1, listen: [\"10.77.0.1:179\"], clients: [{name: a, prefix: 10.77.0.0/16, asnRanges: [{from: 1, to: 2}], nonClient: true}]}",
        "nonClient is for a reflector's peers",
    ),
    route_server(
        "a role on an internal session",
        "{asn: 64999, routerID: 10.77.0.1, listen: [\"10.77.0.1:179\"], reflector: true, clients: [{name: a, prefix: 10.77.0.0/16, role: RouteServer}]}",
        "role is for external sessions (RFC 9234), and a reflector has none",
    ),
    route_server(
        "a role of somebody else",
        "{asn: 64999, routerID: 10.77.0.1, listen: [\"10.77.0.1:179\"], clients: [{name: a, prefix: 10.77.0.0/16, asnRanges: [{from: 1, to: 2}], role: Customer}]}",
        "supported values: \"RouteServer\"",
    ),
    route_server(
        "a wait longer than its limit",
        "{asn: 64999, routerID: 10.77.0.1, listen: [\"10.77.0.1:179\"], gracefulRestart: {deferralSeconds: 20}, clients: [{name: a, prefix: 10.77.0.0/16, asnRanges: [{from: 1, to: 2}]}]}",
        "establishSeconds must not exceed deferralSeconds",
    ),
    route_server(
        "one name for two",
        "{asn: 64999, routerID: 10.77.0.1, listen: [\"10.77.0.1:179\"], clients: [{name: a, prefix: 10.77.0.0/16, asnRanges: [{from: 1, to: 2}]}, {name: a, prefix: 10.78.0.0/16, asnRanges: [{from: 1, to: 2}]}]}",
        "Duplicate value",
    ),
    Refusal {
        name: "a second network",
        kind: "ClusterNetwork",
        spec: "{asn: 64500}",
        answer: "there is one ClusterNetwork, and its name is default",
    },
];

fn unrefused(plane: &ControlPlane, refusal: &Refusal) -> Result<()> {
    let Refusal { name, kind, spec, answer } = refusal;
    let object = format!("{{apiVersion: roadstead.dev/v1alpha1, kind: {kind}, metadata: {{name: bad}}, spec: {spec}}}");
    match plane.apply_with(&object, &["--dry-run=server"]) {
        Ok(_) => anyhow::bail!("{kind} with {name} is accepted"),
        Err(error) => {
            let said = format!("{error:#}");
            ensure!(said.contains(answer), "{kind} with {name}: no {answer:?} in: {said}");
            Ok(())
        }
    }
}

#[test]
fn an_unknown_field_is_refused_by_the_strict_form() -> Result<()> {
    scene("an unknown field", |scene| {
        let plane = start_plane(scene)?;
        let object = "{apiVersion: roadstead.dev/v1alpha1, kind: AddressPool, metadata: {name: typo},
                       spec: {addresses: [192.0.2.0/24], autoassign: false}}";
        let said = match plane.apply_with(object, &["--dry-run=server", "--validate=strict"]) {
            Ok(printed) => anyhow::bail!("it is accepted: {printed}"),
            Err(error) => format!("{error:#}"),
        };
        ensure!(said.contains("unknown field \"spec.autoassign\""), "{said}");

        // A claim is for one address for ever: only an update can show that rule.
        let claim = |cidr: &str| {
            format!(
                "{{apiVersion: roadstead.dev/v1alpha1, kind: AddressClaim, metadata: {{name: 192.0.2.1}},
                  spec: {{cidr: {cidr}, pool: public, owners: [{{kind: Service, namespace: default, name: a, uid: u}}]}}}}"
            )
        };
        plane.apply(&claim("192.0.2.1/32"))?;
        let said = match plane.apply(&claim("192.0.2.2/32")) {
            Ok(printed) => anyhow::bail!("a claim was moved to another address: {printed}"),
            Err(error) => format!("{error:#}"),
        };
        ensure!(said.contains("a claim is for one address for ever"), "{said}");

        // Likewise a pool for pods stays in its subnet.
        let pool = |subnet: &str| {
            format!(
                "{{apiVersion: roadstead.dev/v1alpha1, kind: PodPool, metadata: {{name: pods}}, spec: {{subnet: {subnet}}}}}"
            )
        };
        plane.apply(&pool("10.1.0.0/24"))?;
        let said = match plane.apply(&pool("10.2.0.0/24")) {
            Ok(printed) => anyhow::bail!("a pool was moved to another subnet: {printed}"),
            Err(error) => format!("{error:#}"),
        };
        ensure!(said.contains("a pool stays in its subnet"), "{said}");
        let blocks = |length: &str| {
            format!(
                "{{apiVersion: roadstead.dev/v1alpha1, kind: PodPool, metadata: {{name: blocks}}, spec: {{subnet: 10.3.0.0/16{length}}}}}"
            )
        };
        plane.apply(&blocks(", blockPrefixLength: 26"))?;
        for other in [", blockPrefixLength: 27", ""] {
            let said = match plane.apply(&blocks(other)) {
                Ok(printed) => anyhow::bail!("the length of a pool's blocks was changed: {printed}"),
                Err(error) => format!("{error:#}"),
            };
            ensure!(said.contains("blockPrefixLength stays as it is"), "{said}");
        }
        Ok(())
    })
}

/// `kubectl get` of each kind, by its short name where it has one, prints a table.
fn printer_columns(plane: &ControlPlane) -> Result<()> {
    for (name, column) in [
        ("ap", "ADDRESSES"),
        ("pp", "SUBNET"),
        ("peer", "PEER-ASN"),
        ("adv", "COMMUNITIES"),
        ("roadstead", "ADDRESSES"),
    ] {
        let table = plane.kubectl(&format!("get {name}"))?;
        ensure!(table.contains(column), "kubectl get {name} has no column {column}: {table}");
    }
    Ok(())
}
