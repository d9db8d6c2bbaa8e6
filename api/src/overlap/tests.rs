//! Tables of what is said, and ten thousand random worlds against a model that looks at every pair.

use std::sync::Arc;

use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::checked::{AddressRange, AddressSet};
use crate::kinds::RouteClass;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn range(text: &str) -> AddressRange {
    text.parse().unwrap()
}

fn pool(name: &str) -> Holder {
    Holding::PodPool(name.to_owned()).ours()
}

/// Two ranges have an address in common.
fn meet(one: IpNet, other: IpNet) -> bool {
    AddressRange::from(one).overlaps(&other.into())
}

#[test]
fn holders_are_named() {
    let south: Arc<str> = "south".into();
    let check = |holding: Holding, expected: &str| {
        assert_eq!(holding.clone().ours().to_string(), expected);
        assert_eq!(holding.of(&south).to_string(), format!("{expected} of cluster south"));
    };
    check(Holding::Declared("spec.podCIDRs"), "ClusterNetwork default, spec.podCIDRs");
    check(Holding::AddressPool("public".to_owned()), "AddressPool public");
    check(Holding::PodPool("tenants".to_owned()), "PodPool tenants");
    check(Holding::Block("w1".to_owned()), "block of Node w1");
    check(Holding::PodCidr("w1".to_owned()), "podCIDR of Node w1");
    check(Holding::NodeAddress("w1".to_owned()), "address of Node w1");
    let connected = Holding::Connected { node: "w1".to_owned(), interface: "eth1".to_owned() };
    check(connected, "connected route on Node w1, eth1");
    check(Holding::ServiceCidr("kubernetes".to_owned()), "ServiceCIDR kubernetes");
    check(Holding::ServiceRange, "range of ClusterIPs of the API server");
    let service = Holding::ServiceAddress { namespace: "shop".to_owned(), name: "front".to_owned() };
    check(service, "address of Service shop/front");
    let accepted = Holding::Accepted { link: "south".to_owned(), class: RouteClass::LoadBalancers };
    check(accepted, "ClusterLink south, spec.acceptCIDRs.loadBalancers");
    check(Holding::EdgeHost("stand-17".to_owned()), "EdgeHost stand-17");
}

#[test]
fn a_prefix_is_held_until_the_last_holder_lets_go() {
    let mut territory = Territory::default();
    let prefix = net("10.1.0.0/16");
    territory.insert(prefix, pool("b"));
    territory.insert(prefix, pool("a"));
    territory.insert(prefix, pool("a"));
    assert!(territory.remove(prefix, &pool("a")));
    assert_eq!(territory.first_overlap(prefix).map(|held| held.holder), Some(&pool("a")));
    assert!(territory.remove(prefix, &pool("a")));
    assert!(!territory.remove(prefix, &pool("a")), "it holds it no more");
    assert_eq!(territory.first_overlap(prefix).map(|held| held.holder), Some(&pool("b")));
    assert!(territory.remove(prefix, &pool("b")) && territory.is_empty());
}

#[test]
fn ranges_are_the_fewest_prefixes() {
    let check = |text: &str, expected: &str| {
        let found: Vec<String> = prefixes(range(text)).map(|prefix| prefix.to_string()).collect();
        assert_eq!(found.join(" "), expected);
        let mut territory = Territory::default();
        territory.insert_range(range(text), &pool("a"));
        assert_eq!(territory.len(), found.len());
        territory.remove_range(range(text), &pool("a"));
        assert!(territory.is_empty());
    };
    check("192.0.2.10-192.0.2.17", "192.0.2.10/31 192.0.2.12/30 192.0.2.16/31");
    check("0.0.0.0-255.255.255.255", "0.0.0.0/0");
    check("::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::/0");
    check("2001:db8::1-2001:db8::4", "2001:db8::1/128 2001:db8::2/127 2001:db8::4/128");
}

fn border() -> Border {
    let mut border = Border::default();
    let own = [
        ("10.1.0.0/16", Holding::Declared("spec.podCIDRs")),
        ("10.1.64.0/18", Holding::PodPool("edges".to_owned())),
        ("10.3.7.0/24", Holding::PodPool("tenants".to_owned())),
        ("fd01::/48", Holding::Declared("spec.podCIDRs")),
    ];
    border.own_mut().extend(own.map(|(prefix, holding)| (net(prefix), holding.ours())));
    let link = |link: &str, created: &str, class| Acceptance {
        created: created.to_owned(),
        from: Neighbour::Link(link.to_owned()),
        class: Some(class),
        carved_from: None,
    };
    let edge = Acceptance {
        created: "3".to_owned(),
        from: Neighbour::Edge("stand".to_owned()),
        class: None,
        carved_from: Some(Holding::PodPool("edges".to_owned())),
    };
    let neighbours = [
        ("10.2.0.0/16", link("south", "1", RouteClass::Pods)),
        ("10.12.0.0/16", link("south", "1", RouteClass::Services)),
        ("10.3.0.0/16", link("south", "1", RouteClass::Pods)),
        ("fd02::/48", link("south", "1", RouteClass::Pods)),
        ("10.2.128.0/17", link("west", "2", RouteClass::Pods)),
        ("10.4.0.0/16", link("west", "2", RouteClass::Pods)),
        ("10.1.64.16/28", edge),
    ];
    border.neighbours_mut().extend(neighbours.map(|(prefix, acceptance)| (net(prefix), acceptance)));
    border
}

#[test]
fn received_prefixes_are_judged_one_by_one() {
    let border = border();
    let judge = |from: &Neighbour, prefix: &str| match border.judge(from, net(prefix)) {
        Ok(accepted) => format!("{} {:?}", accepted.within, accepted.class),
        Err(refusal) => format!("{}: {refusal}", refusal.reason()),
    };
    let south = Neighbour::Link("south".to_owned());
    let check = |prefix: &str, expected: &str| assert_eq!(judge(&south, prefix), expected);
    check("10.2.0.0/16", "10.2.0.0/16 Some(Pods)");
    check("10.2.200.0/24", "10.2.0.0/16 Some(Pods)");
    check("10.12.0.0/16", "10.12.0.0/16 Some(Services)");
    check("fd02:0:0:1::/64", "fd02::/48 Some(Pods)");
    check("0.0.0.0/0", "DefaultRoute: 0.0.0.0/0 is the default route, which is never taken from ClusterLink south");
    check("::/0", "DefaultRoute: ::/0 is the default route, which is never taken from ClusterLink south");
    check(
        "127.0.0.1/32",
        "Martian: 127.0.0.1/32 from ClusterLink south overlaps 127.0.0.0/8, loopback (RFC 1122), which is nobody's to announce",
    );
    check(
        "fe80::/16",
        "Martian: fe80::/16 from ClusterLink south overlaps fe80::/10, link-local (RFC 4291), which is nobody's to announce",
    );
    check(
        "10.1.5.0/24",
        "OverlapsOurs: 10.1.5.0/24 from ClusterLink south overlaps 10.1.0.0/16, ClusterNetwork default, spec.podCIDRs, which is in use here",
    );
    check(
        "10.3.0.0/16",
        "OverlapsOurs: 10.3.0.0/16 from ClusterLink south overlaps 10.3.7.0/24, PodPool tenants, which is in use here",
    );
    check("10.3.8.0/24", "10.3.0.0/16 Some(Pods)");
    check(
        "10.4.1.0/24",
        "OverlapsAnothers: 10.4.1.0/24 from ClusterLink south overlaps 10.4.0.0/16, ClusterLink west, spec.acceptCIDRs.pods, which is another's",
    );
    check(
        "10.12.0.0/15",
        "TooShort: 10.12.0.0/15 from ClusterLink south is too short: 10.12.0.0/16, ClusterLink south, spec.acceptCIDRs.services, and what lies in it is accepted",
    );
    check("10.7.0.0/16", "NotAccepted: 10.7.0.0/16 is outside all that is accepted from ClusterLink south");

    let west = Neighbour::Link("west".to_owned());
    assert_eq!(judge(&west, "10.4.1.0/24"), "10.4.0.0/16 Some(Pods)");
    assert_eq!(
        judge(&west, "10.2.128.0/24"),
        "OverlapsAnothers: 10.2.128.0/24 from ClusterLink west overlaps 10.2.0.0/16, ClusterLink south, spec.acceptCIDRs.pods, which is another's",
        "the link that was declared first has it"
    );

    let stand = Neighbour::Edge("stand".to_owned());
    assert_eq!(judge(&stand, "10.1.64.16/28"), "10.1.64.16/28 None", "it is carved from a pool of ours");
    assert_eq!(
        judge(&stand, "10.1.64.0/24"),
        "OverlapsOurs: 10.1.64.0/24 from EdgeHost stand overlaps 10.1.64.0/18, PodPool edges, which is in use here"
    );
    let block = Holding::Block("w1".to_owned()).ours();
    let mut border = border.clone();
    border.own_mut().insert(net("10.1.64.16/28"), Holding::EdgeHost("stand".to_owned()).ours());
    assert!(border.judge(&stand, net("10.1.64.16/28")).is_ok(), "what is its own is not in its way");
    let other = |created: &str, prefix: &str, from: Neighbour| {
        let mut border = border.clone();
        let class = matches!(from, Neighbour::Link(_)).then_some(RouteClass::Pods);
        let acceptance = Acceptance { created: created.to_owned(), from, class, carved_from: None };
        border.neighbours_mut().insert(net(prefix), acceptance);
        border.judge(&stand, net("10.1.64.16/28")).map_err(|refusal| refusal.reason())
    };
    let host = || Neighbour::Edge("other".to_owned());
    assert_eq!(other("2", "10.1.64.16/28", host()).err(), Some("OverlapsAnothers"), "of two hosts the older has it");
    assert!(other("4", "10.1.64.16/28", host()).is_ok());
    assert!(other("1", "10.1.64.0/20", Neighbour::Link("old".to_owned())).is_ok(), "an edge host is ours");
    border.own_mut().insert(net("10.1.64.16/29"), block);
    let refusal = border.judge(&stand, net("10.1.64.16/28")).unwrap_err().to_string();
    assert_eq!(
        refusal,
        "10.1.64.16/28 from EdgeHost stand overlaps 10.1.64.16/29, block of Node w1, which is in use here"
    );
}

#[test]
fn collisions_name_those_on_both_sides() {
    let (north, south): (Arc<str>, Arc<str>) = ("north".into(), "south".into());
    let mut one = Territory::default();
    one.insert(net("10.244.0.0/16"), Holding::Declared("spec.podCIDRs").of(&north));
    one.insert(net("10.244.3.0/24"), Holding::PodCidr("w1".to_owned()).of(&north));
    one.insert_range(range("192.0.2.10-192.0.2.50"), &Holding::AddressPool("public".to_owned()).of(&north));
    let mut other = Territory::default();
    other.insert(net("10.244.3.0/24"), Holding::PodCidr("a".to_owned()).of(&south));
    other.insert(net("10.244.3.128/25"), Holding::Block("a".to_owned()).of(&south));
    other.insert(net("192.0.2.0/24"), Holding::AddressPool("lan".to_owned()).of(&south));
    other.insert(net("fd00::/64"), Holding::PodPool("six".to_owned()).of(&south));
    let told: Vec<String> = collisions(&one, &other)
        .iter()
        .map(|collision| format!("{}: {} | {}", collision.range, collision.one, collision.other))
        .collect();
    assert_eq!(
        told,
        [
            "10.244.3.0-10.244.3.255: 10.244.3.0/24, podCIDR of Node w1 of cluster north and 1 more | 10.244.3.0/24, podCIDR of Node a of cluster south",
            "192.0.2.10-192.0.2.50: 192.0.2.10/31, AddressPool public of cluster north | 192.0.2.0/24, AddressPool lan of cluster south",
        ]
    );
}

#[test]
fn free_ranges_are_near_and_proposed_once() {
    let held =
        ["10.96.0.0/12", "10.244.0.0/16", "10.245.0.0/24", "172.16.0.0/12", "fd12:3456:789a:1::/64", "192.168.0.0/16"];
    let territory: Territory = held.map(|prefix| (net(prefix), pool("a"))).into_iter().collect();
    let mut vacancies = Vacancies::beside([&territory]);
    let mut check = |given: &str, expected: Option<&str>| {
        assert_eq!(vacancies.propose(range(given)), expected.map(net), "{given}");
    };
    check("10.244.0.0/16", Some("10.246.0.0/16"));
    check("10.244.0.0/16", Some("10.247.0.0/16"));
    check("10.96.0.0/12", Some("10.112.0.0/12"));
    check("10.255.255.0/24", Some("10.255.255.0/24"));
    check("10.255.255.0/24", Some("10.0.0.0/24"));
    check("192.168.0.0/16", Some("10.248.0.0/16"));
    check("172.16.5.0/24", Some("10.0.1.0/24"));
    check("203.0.113.0-203.0.113.9", Some("10.0.2.0/28"));
    check("10.0.0.0/8", None);
    check("0.0.0.0/0", None);
    check("fd12:3456:789a:1::/64", Some("fd12:3456:789a:2::/64"));
    check("fd12:3456:789a::/48", Some("fd12:3456:789b::/48"));
    check("2001:db8::/32", Some("fd00::/32"));
    check("::/0", None);
}

/// Few enough bits that random prefixes meet, at either end of the address and around the border between blocks.
fn any_prefix() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (0_u32..256, 0_u8..=32).prop_map(|(low, length)| {
            let bits = 0x0a00_0000 | (low & 0xf0) << 12 | (low & 0x0f);
            IpNet::new(std::net::Ipv4Addr::from(bits).into(), length).unwrap().trunc()
        }),
        (0_u128..256, 0_u8..=128).prop_map(|(low, length)| {
            let bits = 0xfd << 120 | (low & 0xf0) << 60 | (low & 0x0f);
            IpNet::new(std::net::Ipv6Addr::from(bits).into(), length).unwrap().trunc()
        }),
        // Such as stand in objects: not too short.
        (0_u32..64, 14_u8..=20).prop_map(|(third, length)| {
            IpNet::new(std::net::Ipv4Addr::from(0x0a00_0000 | third << 12).into(), length).unwrap().trunc()
        }),
    ]
}

fn any_holdings() -> impl Strategy<Value = Vec<(IpNet, Holder)>> {
    vec((any_prefix(), 0_usize..3), 0..12)
        .prop_map(|all| all.into_iter().map(|(prefix, who)| (prefix, pool(["a", "b", "c"][who]))).collect())
}

fn any_acceptances() -> impl Strategy<Value = Vec<(IpNet, Acceptance)>> {
    vec((any_prefix(), 0_usize..3, any::<bool>()), 0..8).prop_map(|all| {
        let acceptance = |who: usize, is_carved: bool| Acceptance {
            created: ["2", "1", "1"][who].to_owned(),
            from: [Neighbour::Link("x".to_owned()), Neighbour::Link("y".to_owned()), Neighbour::Edge("z".to_owned())]
                [who]
                .clone(),
            class: (who < 2).then_some(RouteClass::Pods),
            carved_from: (who == 2 && is_carved).then(|| Holding::PodPool("a".to_owned())),
        };
        all.into_iter().map(|(prefix, who, is_carved)| (prefix, acceptance(who, is_carved))).collect()
    })
}

/// What [`Border::judge`] says, by looking at everything.
fn naive_judge(
    own: &[(IpNet, Holder)],
    neighbours: &[(IpNet, Acceptance)],
    from: &Neighbour,
    prefix: IpNet,
) -> Result<IpNet, &'static str> {
    if prefix.prefix_len() == 0 {
        return Err("DefaultRoute");
    }
    if martian(prefix).is_some() {
        return Err("Martian");
    }
    let accepted = neighbours.iter().filter(|(net, by)| by.from == *from && net.contains(&prefix));
    // The longest; of several classes or origins of one prefix the first in order.
    let accepted = accepted.min_by_key(|(net, by)| (u8::MAX - net.prefix_len(), by.clone()));
    let is_exempt = |holder: &Holder| accepted.is_some_and(|(_, by)| by.carved_from.as_ref() == Some(&holder.holding));
    if own.iter().any(|(net, holder)| meet(*net, prefix) && !is_exempt(holder)) {
        return Err("OverlapsOurs");
    }
    let goes_before = |by: &Acceptance| match accepted {
        Some((_, ours)) => {
            let is_link = |by: &Acceptance| matches!(by.from, Neighbour::Link(_));
            (is_link(by), &by.created, &by.from) < (is_link(ours), &ours.created, &ours.from)
        }
        None => true,
    };
    if neighbours.iter().any(|(net, by)| by.from != *from && meet(*net, prefix) && goes_before(by)) {
        return Err("OverlapsAnothers");
    }
    match accepted {
        Some((net, _)) => Ok(*net),
        None if neighbours.iter().any(|(net, by)| by.from == *from && prefix.contains(net)) => Err("TooShort"),
        None => Err("NotAccepted"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn overlaps_are_those_that_a_look_at_every_prefix_finds(
        kept in any_holdings(),
        removed in any_holdings(),
        asked in any_prefix(),
    ) {
        let mut territory: Territory = kept.iter().chain(&removed).cloned().collect();
        for (prefix, holder) in &removed {
            prop_assert!(territory.remove(*prefix, holder));
        }
        let mut expected: Vec<(IpNet, &Holder)> =
            kept.iter().filter(|(prefix, _)| meet(*prefix, asked)).map(|(prefix, holder)| (*prefix, holder)).collect();
        expected.sort();
        expected.dedup();
        let found: Vec<(IpNet, &Holder)> = territory.overlaps(asked).map(|held| (held.prefix, held.holder)).collect();
        let first = territory.first_overlap(asked).map(|held| (held.prefix, held.holder));
        prop_assert_eq!(first, found.first().copied());
        let mut sorted = found.clone();
        sorted.sort();
        prop_assert_eq!(sorted, expected);
        // What it lies in comes first, the longest before the others.
        let lengths: Vec<u8> = territory.covering(asked).map(|held| held.prefix.prefix_len()).collect();
        prop_assert!(lengths.is_sorted_by(|a, b| a >= b));
        prop_assert!(found.iter().take(lengths.len()).all(|(prefix, _)| prefix.contains(&asked)));
        let all: Vec<IpNet> = territory.iter().map(|held| held.prefix).collect();
        prop_assert!(all.is_sorted_by_key(|prefix| (prefix.network(), prefix.prefix_len())));
    }

    #[test]
    fn routes_are_judged_as_a_look_at_everything_does(
        own in any_holdings(),
        neighbours in any_acceptances(),
        who in 0_usize..3,
        asked in any_prefix(),
    ) {
        let from = [Neighbour::Link("x".to_owned()), Neighbour::Link("y".to_owned()), Neighbour::Edge("z".to_owned())];
        let mut border = Border::default();
        border.own_mut().extend(own.iter().cloned());
        border.neighbours_mut().extend(neighbours.iter().cloned());
        let found = border.judge(&from[who], asked).map(|accepted| accepted.within).map_err(|refusal| refusal.reason());
        prop_assert_eq!(found, naive_judge(&own, &neighbours, &from[who], asked));
    }

    #[test]
    fn collisions_are_all_that_both_hold_and_free_ranges_are_free(one in any_holdings(), other in any_holdings()) {
        let territories: [Territory; 2] = [one.iter().cloned().collect(), other.iter().cloned().collect()];
        let found = collisions(&territories[0], &territories[1]);
        // Every pair that meets is in one of them, and none says more than is held by both.
        for (a, _) in &one {
            for (b, _) in other.iter().filter(|(b, _)| meet(*a, *b)) {
                let both = AddressRange::from(if a.prefix_len() > b.prefix_len() { *a } else { *b });
                let told = found.iter().any(|told| told.range.contains(both.first()) && told.range.contains(both.last()));
                prop_assert!(told, "{} and {}", a, b);
            }
        }
        for told in &found {
            let (first, last) = told.range.bounds();
            for given in [&one, &other] {
                let all: AddressSet = given.iter().map(|(prefix, _)| AddressRange::from(*prefix)).collect();
                prop_assert_eq!(all.count_in(told.range), (last - first).saturating_add(1), "not all of {}", told.range);
            }
            for (side, given) in [(&told.one, &one), (&told.other, &other)] {
                prop_assert!(!side.holders.is_empty());
                prop_assert!(side.holders.iter().all(|held| given.contains(held)));
            }
        }
        prop_assert!(found.windows(2).all(|two| !two[0].range.overlaps(&two[1].range)));

        let mut vacancies = Vacancies::beside(&territories);
        let mut proposed: Vec<IpNet> = Vec::new();
        for told in found.iter().chain(&found) {
            let Some(free) = vacancies.propose(told.range) else { continue };
            let (first, last) = told.range.bounds();
            let (begin, end) = AddressRange::from(free).bounds();
            prop_assert!(end - begin >= last - first, "{} is too small for {}", free, told.range);
            let held = one.iter().chain(&other).map(|(prefix, _)| *prefix).chain(proposed.iter().copied());
            prop_assert!(held.into_iter().all(|prefix| !meet(prefix, free)), "{} is not free", free);
            proposed.push(free);
        }
    }
}
