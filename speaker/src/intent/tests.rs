//! Stories: a node, two peers, and what each must be told after every step.

use std::collections::{BTreeMap, BTreeSet};

use roadstead_api::checked::{Advertisement, Labels, ServiceKey, TrafficPolicy};
use roadstead_api::kinds;
use roadstead_bgp::{PeerKey, RouteChange, Transitivity};

use super::*;

/// An intent whose changes are applied to what the peers know, as the engine would.
#[derive(Default)]
struct Story {
    intent: Intent,
    told: BTreeMap<(String, String), String>,
}

impl Story {
    fn new() -> Self {
        let mut story = Self::default();
        story.intent.set_node(Some(NodeView { labels: labels("rack=a"), may_announce: true }));
        story.intent.set_peer(PeerKey::from("tor-a"), Audience::Router(labels("role=tor")));
        story.intent.set_peer(PeerKey::from("tor-b"), Audience::Router(labels("role=tor,side=b")));
        story.intent.set_pool("public", Some(labels("zone=dmz")));
        story.advertise("all", r#"{"from":[{"loadBalancers":{}}],"attributes":{"communities":["64500:1"]}}"#);
        story
    }

    fn advertise(&mut self, name: &str, spec: &str) {
        let raw = kinds::Advertisement::new(name, serde_json::from_str(spec).unwrap());
        self.intent.set_advertisement(name, Some(Advertisement::check(&raw).unwrap()));
    }

    fn service(&mut self, name: &str, policy: TrafficPolicy, addresses: &[&str]) {
        self.labelled_service(name, policy, addresses, "");
    }

    fn labelled_service(&mut self, name: &str, traffic_policy: TrafficPolicy, addresses: &[&str], label: &str) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let view = ServiceView { uid: format!("uid-{name}"), labels: labels(label), traffic_policy, addresses };
        self.intent.set_service(key(name), Some(view));
    }

    fn claim(&mut self, address: &str, owners: &[&str]) {
        let owners = owners.iter().map(|name| format!("uid-{name}")).collect();
        let claim = ClaimView { pool: "public".to_owned(), owners };
        self.intent.set_claim(address.parse().unwrap(), Some(claim));
    }

    fn slice(&mut self, service: &str, slice: &str, endpoints: &[(&str, EndpointState)]) {
        self.slice_of(service, slice, Some("IPv4"), endpoints);
    }

    fn slice_of(
        &mut self,
        service: &str,
        slice: &str,
        address_type: Option<&str>,
        endpoints: &[(&str, EndpointState)],
    ) {
        let family = SliceFamily::from_address_type(address_type);
        let endpoints = endpoints.iter().map(|(node, state)| (Some(*node), *state));
        self.intent.set_slice(key(service), slice, Some(SliceEndpoints::count(family, endpoints, "here")));
    }

    /// Applies the changes and compares all that `tor-a` knows with the expectation.
    #[track_caller]
    fn expect(&mut self, step: &str, expected: &[(&str, &str)]) {
        self.apply();
        let told: Vec<(&str, &str)> = self
            .told
            .iter()
            .filter(|((peer, _), _)| peer == "tor-a")
            .map(|((_, prefix), communities)| (prefix.as_str(), communities.as_str()))
            .collect();
        assert_eq!(told, expected, "{step}");
    }

    fn apply(&mut self) -> usize {
        let mut count = 0;
        for (peer, changes) in self.intent.changes() {
            for change in changes {
                count += 1;
                match change {
                    RouteChange::Announce(prefix, attributes) => {
                        let communities = attributes.communities.iter().map(ToString::to_string);
                        let extended = attributes.extended_communities.iter().map(ToString::to_string);
                        let bandwidth = attributes.link_bandwidth.iter().map(|link| {
                            let form = if link.transitivity == Transitivity::Transitive { "" } else { " here" };
                            format!("{}M{form}", link.bits_per_second / 1_000_000)
                        });
                        let communities: Vec<String> = communities.chain(extended).chain(bandwidth).collect();
                        self.told.insert((peer.to_string(), prefix.to_string()), communities.join(" "));
                    }
                    RouteChange::Withdraw(prefix) => {
                        self.told.remove(&(peer.to_string(), prefix.to_string()));
                    }
                }
            }
        }
        count
    }
}

fn key(name: &str) -> ServiceKey {
    ServiceKey { namespace: "default".to_owned(), name: name.to_owned() }
}

fn labels(text: &str) -> Labels {
    text.split(',').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

use EndpointState::{Down, Draining, Ready};
use TrafficPolicy::{Cluster, Local};

const A: (&str, &str) = ("203.0.113.7/32", "64500:1");

#[test]
fn each_family_is_judged_by_its_own_slices_where_there_are_any() {
    let mut story = Story::new();
    story.service("a", Local, &["203.0.113.7", "2001:db8::7"]);
    story.claim("203.0.113.7", &["a"]);
    story.claim("2001:db8::7", &["a"]);
    let (ipv4, ipv6) = (("203.0.113.7/32", "64500:1"), ("2001:db8::7/128", "64500:1"));
    story.slice_of("a", "a-4", Some("IPv4"), &[("here", Ready)]);
    story.expect("slices of one family only, as written by hand, speak for both", &[ipv6, ipv4]);
    story.slice_of("a", "a-6", Some("IPv6"), &[]);
    story.expect("the cluster made an empty slice: nobody would take packets there", &[ipv4]);
    story.slice_of("a", "a-6", Some("IPv6"), &[("here", Ready)]);
    story.expect("both", &[ipv6, ipv4]);
    story.slice_of("a", "a-4", Some("IPv4"), &[("here", Down)]);
    story.expect("IPv4 not ready, IPv6 ready", &[ipv6]);
    story.slice_of("a", "a-4", Some("IPv4"), &[("elsewhere", Ready)]);
    story.expect("IPv4 ready elsewhere, under policy Local", &[ipv6]);
    story.slice_of("a", "a-6", Some("IPv6"), &[("here", Draining)]);
    story.expect("a family drains for itself", &[ipv6]);
}

#[test]
fn an_address_is_announced_while_service_claim_and_endpoint_are_there() {
    let mut story = Story::new();
    story.service("a", Cluster, &["203.0.113.7"]);
    story.expect("no claim, no endpoint", &[]);
    story.slice("a", "a-1", &[("elsewhere", Ready)]);
    story.expect("a status without a claim is somebody else's", &[]);
    story.claim("203.0.113.7", &["b"]);
    story.expect("so is one whose claim names another Service", &[]);
    story.claim("203.0.113.7", &["a"]);
    story.expect("claimed", &[A]);
    story.slice("a", "a-1", &[("elsewhere", Down)]);
    story.expect("nobody ready", &[]);
    story.slice("a", "a-2", &[("elsewhere", Ready)]);
    story.expect("ready in another slice", &[A]);
    story.intent.set_service(key("a"), None);
    story.expect("gone", &[]);
    story.service("a", Cluster, &["203.0.113.7"]);
    story.expect("slices may come before their Service", &[A]);
    story.intent.set_claim("203.0.113.7".parse().unwrap(), None);
    story.expect("released", &[]);
}

#[test]
fn policy_local_needs_an_endpoint_here() {
    let mut story = Story::new();
    story.service("a", Local, &["203.0.113.7"]);
    story.claim("203.0.113.7", &["a"]);
    story.slice("a", "a-1", &[("elsewhere", Ready)]);
    story.expect("elsewhere", &[]);
    story.slice("a", "a-1", &[("elsewhere", Ready), ("here", Ready)]);
    story.expect("here", &[A]);
    story.slice("a", "a-1", &[("elsewhere", Ready), ("here", Draining)]);
    story.expect("one that terminates does not count while another is ready", &[]);
    story.slice("a", "a-1", &[("elsewhere", Down), ("here", Draining)]);
    story.expect("it does when none is ready anywhere", &[A]);
    story.service("a", Cluster, &["203.0.113.7"]);
    story.expect("policy Cluster likewise", &[A]);
}

#[test]
fn the_node_decides_over_all() {
    let mut story = Story::new();
    story.service("a", Cluster, &["203.0.113.7"]);
    story.claim("203.0.113.7", &["a"]);
    story.slice("a", "a-1", &[("here", Ready)]);
    story.expect("announced", &[A]);
    story.intent.set_node(Some(NodeView { labels: labels("rack=a"), may_announce: false }));
    story.expect("excluded", &[]);
    story.intent.set_node(Some(NodeView { labels: labels("rack=a"), may_announce: true }));
    story.expect("back", &[A]);
    story.intent.set_node(None);
    story.expect("no such node", &[]);
}

#[test]
fn a_prefix_stays_while_anybody_wants_it() {
    let mut story = Story::new();
    story.advertise("all", r#"{"from":[{"loadBalancers":{}}],"aggregate":{"ipv4":24}}"#);
    for (name, address) in [("a", "203.0.113.7"), ("b", "203.0.113.8")] {
        story.service(name, Cluster, &[address]);
        story.claim(address, &[name]);
        story.slice(name, "s", &[("here", Ready)]);
    }
    story.expect("one aggregate for two", &[("203.0.113.0/24", "")]);
    story.intent.set_service(key("a"), None);
    assert_eq!(story.apply(), 0, "nothing is said while the other stays");
    story.intent.set_service(key("b"), None);
    story.expect("both gone", &[]);
}

#[test]
fn an_aggregate_follows_what_is_in_it_and_its_length() {
    let mut story = Story::new();
    let advertise = |story: &mut Story, ipv4: u8, ipv6: u8| {
        let lengths = format!(r#"{{"from":[{{"loadBalancers":{{}}}}],"aggregate":{{"ipv4":{ipv4},"ipv6":{ipv6}}}}}"#);
        story.advertise("all", &lengths);
    };
    advertise(&mut story, 24, 64);
    for (name, address) in [("a", "203.0.113.0"), ("b", "203.0.113.255"), ("c", "203.0.114.0"), ("d", "2001:db8::ffff")]
    {
        story.service(name, Local, &[address]);
        story.claim(address, &[name]);
    }
    story.expect("nothing contributes", &[]);
    story.slice("b", "s", &[("here", Ready)]);
    story.expect("the first address", &[("203.0.113.0/24", "")]);
    story.slice("a", "s", &[("here", Ready)]);
    story.slice("c", "s", &[("here", Ready)]);
    story.slice_of("d", "s", Some("IPv6"), &[("here", Ready)]);
    let all = [("2001:db8::/64", ""), ("203.0.113.0/24", ""), ("203.0.114.0/24", "")];
    story.expect("one beyond its end, and another family", &all);
    story.slice("b", "s", &[]);
    story.expect("what brought it goes, and another is in it", &all);
    story.intent.set_claim("203.0.113.0".parse().unwrap(), None);
    story.expect("the last of it goes", &[("2001:db8::/64", ""), ("203.0.114.0/24", "")]);
    // One change, so that the engine can tell the new prefix before it withdraws the old one.
    advertise(&mut story, 1, 128);
    let (_, changes) = story.intent.changes().remove(0);
    let text = |change: &RouteChange| match change {
        RouteChange::Announce(prefix, _) => format!("+{prefix}"),
        RouteChange::Withdraw(prefix) => format!("-{prefix}"),
    };
    let mut changes: Vec<String> = changes.iter().map(text).collect();
    changes.sort();
    assert_eq!(changes, ["+128.0.0.0/1", "+2001:db8::ffff/128", "-2001:db8::/64", "-203.0.114.0/24"]);
}

#[test]
fn two_services_share_an_address() {
    let mut story = Story::new();
    for name in ["a", "b"] {
        story.service(name, Cluster, &["203.0.113.7"]);
        story.slice(name, "s", &[("here", Ready)]);
    }
    story.claim("203.0.113.7", &["a", "b"]);
    story.expect("one route", &[A]);
    story.intent.set_service(key("a"), None);
    story.claim("203.0.113.7", &["b"]);
    story.expect("still", &[A]);
}

#[test]
fn advertisements_select_and_merge() {
    let mut story = Story::new();
    story.labelled_service("a", Cluster, &["203.0.113.7"], "expose=yes");
    story.claim("203.0.113.7", &["a"]);
    story.slice("a", "s", &[("here", Ready)]);
    let more =
        |rest: &str| format!(r#"{{"from":[{{"loadBalancers":{rest}}}],"attributes":{{"communities":["64500:2"]}}}}"#);
    let both = ("203.0.113.7/32", "64500:1 64500:2");
    story.advertise("more", &more(r#"{"serviceSelector":{"matchLabels":{"expose":"yes"}}}"#));
    story.expect("by the Service's labels", &[both]);
    story.advertise("more", &more(r#"{"serviceSelector":{"matchLabels":{"expose":"no"}}}"#));
    story.expect("not by others", &[A]);
    story.advertise("more", &more(r#"{"poolSelector":{"matchLabels":{"zone":"dmz"}}}"#));
    story.expect("by the pool's labels", &[both]);
    story.intent.set_pool("public", Some(labels("zone=lan")));
    story.expect("which may change", &[A]);
    story.advertise("more", &more(r#"{"pools":["public"]}"#));
    story.expect("by the pool's name", &[both]);
    story.intent.set_pool("public", None);
    story.expect("which the claim keeps when the pool is deleted", &[both]);
    story.intent.set_advertisement("more", None);
    story.expect("deleted", &[A]);
    story.intent.set_advertisement("all", None);
    story.expect("both deleted", &[]);
}

#[test]
fn peers_are_told_what_selects_them() {
    let mut story = Story::new();
    story.advertise("all", r#"{"from":[{"loadBalancers":{}}],"peerSelector":{"matchLabels":{"side":"b"}}}"#);
    story.service("a", Cluster, &["203.0.113.7"]);
    story.claim("203.0.113.7", &["a"]);
    story.slice("a", "s", &[("here", Ready)]);
    story.expect("not selected", &[]);
    assert_eq!(story.told.len(), 1, "tor-b is");
    story.intent.set_peer(PeerKey::from("tor-a"), Audience::Router(labels("side=b")));
    story.expect("relabelled", &[("203.0.113.7/32", "")]);
    story.intent.set_peer(PeerKey::from("tor-a"), Audience::Router(labels("side=c")));
    story.expect("and back", &[]);
    story.intent.set_peer(PeerKey::from("tor-c"), Audience::Router(labels("side=b")));
    story.apply();
    assert!(story.told.contains_key(&("tor-c".to_owned(), "203.0.113.7/32".to_owned())), "a new peer is told all");
}

#[test]
fn one_service_changing_costs_its_own_prefixes() {
    let mut story = Story::new();
    for n in 0..200 {
        let (name, address) = (format!("s{n}"), format!("203.0.113.{n}"));
        story.service(&name, Cluster, &[&address]);
        story.claim(&address, &[&name]);
        story.slice(&name, "s", &[("here", Ready)]);
    }
    assert_eq!(story.apply(), 400);
    story.slice("s7", "s", &[("here", Down)]);
    assert_eq!(story.apply(), 2, "one prefix, two peers");
    assert_eq!(story.apply(), 0);
    let distinct: BTreeSet<&String> = story.told.keys().map(|(_, prefix)| prefix).collect();
    assert_eq!(distinct.len(), 199);
    assert_eq!(story.intent.prefix_count(), 199);
}

#[test]
fn bandwidth_follows_the_endpoints_that_this_node_sends_to() {
    let mut story = Story::new();
    let advertise = |attributes: &str| format!(r#"{{"from":[{{"loadBalancers":{{}}}}],"attributes":{attributes}}}"#);
    story.advertise("all", &advertise(r#"{"linkBandwidth":"PerEndpoint"}"#));
    story.service("a", Local, &["203.0.113.7", "2001:db8::7"]);
    story.claim("203.0.113.7", &["a"]);
    story.claim("2001:db8::7", &["a"]);
    let both = |ipv6: &'static str, ipv4: &'static str| [("2001:db8::7/128", ipv6), ("203.0.113.7/32", ipv4)];
    let (here, elsewhere) = (("here", Ready), ("elsewhere", Ready));
    story.slice_of("a", "a-4", Some("IPv4"), &[here, here, elsewhere]);
    story.slice_of("a", "a-6", Some("IPv6"), &[here]);
    story.expect("those on the node, by family", &both("1000M", "2000M"));
    story.slice_of("a", "a-4b", Some("IPv4"), &[here, elsewhere]);
    story.expect("over all slices", &both("1000M", "3000M"));
    story.slice_of("a", "a-4", Some("IPv4"), &[here, ("here", Draining), elsewhere]);
    assert_eq!(story.apply(), 2, "one prefix, two peers");
    story.expect("one less", &both("1000M", "2000M"));
    story.slice_of("a", "a-4", Some("IPv4"), &[here, ("here", Down), elsewhere, elsewhere]);
    assert_eq!(story.apply(), 0, "what is elsewhere is not ours");
    story.service("a", Cluster, &["203.0.113.7", "2001:db8::7"]);
    story.expect("policy Cluster: all", &both("1000M", "5000M"));
    story.slice_of("a", "a-4b", Some("IPv4"), &[]);
    story.slice_of("a", "a-4", Some("IPv4"), &[("here", Draining), ("elsewhere", Draining)]);
    story.expect("those that terminate, where no other is left", &both("1000M", "2000M"));
    story.advertise("all", &advertise(r#"{"linkBandwidth":"25Gbps","linkBandwidthTransitivity":"NonTransitive"}"#));
    story.expect("a fixed number", &both("25000M here", "25000M here"));
    story.slice_of("a", "a-4", Some("IPv4"), &[here, here]);
    assert_eq!(story.apply(), 0, "a fixed number does not follow the endpoints");
    story.advertise("more", &advertise(r#"{"linkBandwidth":"PerEndpoint","extendedCommunities":["rt:64500:1"]}"#));
    story.expect("the most of several", &both("rt:64500:1 25000M here", "rt:64500:1 25000M here"));
    story.intent.set_advertisement("all", None);
    story.expect("what is left", &both("rt:64500:1 1000M", "rt:64500:1 2000M"));
}

#[test]
fn bandwidths_behind_one_prefix_add_up() {
    let mut story = Story::new();
    let per_endpoint =
        r#"{"from":[{"loadBalancers":{}}],"aggregate":{"ipv4":24},"attributes":{"linkBandwidth":"PerEndpoint"}}"#;
    story.advertise("all", per_endpoint);
    for (name, address) in [("a", "203.0.113.7"), ("b", "203.0.113.7"), ("c", "203.0.113.9")] {
        story.service(name, Local, &[address]);
        story.slice(name, "s", &[("here", Ready)]);
    }
    story.claim("203.0.113.7", &["a", "b"]);
    story.expect("two share an address", &[("203.0.113.0/24", "2000M")]);
    story.claim("203.0.113.9", &["c"]);
    story.expect("another address of the aggregate", &[("203.0.113.0/24", "3000M")]);
    story.slice("b", "s", &[]);
    story.expect("one of them gone", &[("203.0.113.0/24", "2000M")]);
    story.slice("b", "s", &[("here", Ready)]);
    story.slice("c", "s", &[]);
    story.expect("one came and one went", &[("203.0.113.0/24", "2000M")]);
    story.slice("a", "s", &[]);
    story.slice("b", "s", &[]);
    story.expect("all gone", &[]);
}

#[test]
fn silence_has_a_reason() {
    let mut story = Story::new();
    let why = |story: &mut Story| {
        story.apply();
        story.intent.silence(&key("a"))
    };
    assert_eq!(why(&mut story), None, "no such Service");
    story.service("a", Local, &["203.0.113.7"]);
    assert_eq!(why(&mut story), Some(Silence::NoEndpoint));
    story.slice("a", "s", &[("elsewhere", Ready)]);
    assert_eq!(why(&mut story), Some(Silence::NoEndpointHere));
    story.slice("a", "s", &[("here", Ready)]);
    assert_eq!(why(&mut story), Some(Silence::NotClaimed));
    story.claim("203.0.113.7", &["a"]);
    assert_eq!(why(&mut story), None, "announced");
    story.advertise("all", r#"{"from":[{"loadBalancers":{}}],"peers":["another"]}"#);
    assert_eq!(why(&mut story), Some(Silence::NoPeerSelected));
    story.advertise("all", r#"{"from":[{"loadBalancers":{"pools":["another"]}}]}"#);
    assert_eq!(why(&mut story), Some(Silence::NoAdvertisement));
    story.intent.set_node(None);
    assert_eq!(why(&mut story), Some(Silence::NodeMayNot));
    for peer in ["tor-a", "tor-b"] {
        story.intent.remove_peer(&PeerKey::from(peer));
    }
    assert_eq!(why(&mut story), Some(Silence::NoPeer));
}
