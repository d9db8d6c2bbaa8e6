use super::*;

/// The indexes of the interface and of both ends of its veth pair.
const LINK: u32 = 2;
const POD_END: u32 = 3;
const NODE_END: u32 = 40;
const TABLE: u32 = 1002;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| net(text)).collect()
}

/// An interface with these addresses, each with or without a gateway.
fn interface(addresses: &[(&str, &str)]) -> Interface {
    let address =
        |(address, gateway): &(&str, &str)| GivenAddress { address: net(address), gateway: gateway.parse().ok() };
    Interface { addresses: addresses.iter().map(address).collect(), routes: Vec::new() }
}

fn found(destination: &str, link: u32, is_ours: bool) -> FoundRoute {
    FoundRoute { destination: net(destination), link: Some(link), is_ours }
}

/// The plan for an interface of a node with two cards.
fn planned(interface: &Interface, cluster: &[&str], main: &[FoundRoute]) -> Plan {
    let (node, cluster) = (nets(&["172.31.32.2/20", "172.31.16.2/20", "2001:db8::2/64"]), nets(cluster));
    let (link, pod_end, node_end) = (LINK, POD_END, NODE_END);
    plan(&Given { interface, link, pod_end, node_end, node: &node, cluster: &cluster, main })
}

/// Routes as `ip route` would show them.
fn shown(routes: &[KernelRoute], table: u32) -> Vec<String> {
    let show = |route: &KernelRoute| {
        let via = route.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
        let source = route.source.map(|source| format!(" src {source}")).unwrap_or_default();
        format!("{}{via} dev {}{source}", route.destination, route.link)
    };
    routes.iter().filter(|route| route.table == table).map(show).collect()
}

#[test]
fn the_interface_with_the_default_route_leads_to_the_node_and_its_services() {
    let main = [found("0.0.0.0/0", LINK, false), found("172.31.16.0/20", LINK, false)];
    let plan = planned(&interface(&[("172.31.16.11/20", "172.31.16.1")]), &["10.96.0.0/16", "fd96::/108"], &main);
    assert_eq!(plan.rules, [Rule { source: "172.31.16.11".parse().unwrap(), table: TABLE }]);
    // The node calls from its address in the same subnet.
    assert_eq!(shown(&plan.node_routes, NODE_TABLE), ["172.31.16.11/32 dev 40 src 172.31.16.2"]);
    let behind = ["172.31.32.2/32", "172.31.16.2/32", "10.96.0.0/16"];
    let own: Vec<String> = ["172.31.16.0/20 dev 2".to_owned(), "0.0.0.0/0 via 172.31.16.1 dev 2".to_owned()]
        .into_iter()
        .chain(behind.map(|range| format!("{range} via 169.254.1.1 dev 3")))
        .collect();
    assert_eq!(shown(&plan.pod_routes, TABLE), own);
    let main = behind.map(|range| format!("{range} via 169.254.1.1 dev 3 src 172.31.16.11"));
    assert_eq!(shown(&plan.pod_routes, MAIN), main);
}

#[test]
fn a_further_interface_touches_its_own_table_alone() {
    let main = [found("0.0.0.0/0", 7, false)];
    let plan = planned(&interface(&[("172.31.32.11/20", "172.31.32.1")]), &["10.96.0.0/16"], &main);
    assert_eq!(shown(&plan.pod_routes, MAIN), Vec::<String>::new());
    assert!(shown(&plan.pod_routes, TABLE).contains(&"10.96.0.0/16 via 169.254.1.1 dev 3".to_owned()));
    assert_eq!(shown(&plan.node_routes, NODE_TABLE), ["172.31.32.11/32 dev 40 src 172.31.32.2"]);
}

#[test]
fn each_family_goes_its_own_way() {
    // The default route of IPv4 is another interface's; IPv6 has none.
    let main = [found("0.0.0.0/0", 7, false)];
    let both = interface(&[("172.31.16.11/20", "172.31.16.1"), ("2001:db8::b/64", "")]);
    let plan = planned(&both, &["10.96.0.0/16", "fd96::/108"], &main);
    let main = ["2001:db8::2/128 via fe80::1 dev 3 src 2001:db8::b", "fd96::/108 via fe80::1 dev 3 src 2001:db8::b"];
    assert_eq!(shown(&plan.pod_routes, MAIN), main);
    assert_eq!(plan.hops, HOPS);
}

#[test]
fn what_is_on_the_network_is_not_sent_to_the_node() {
    // One range holds the subnet, one is it, and of one the user says where it lies.
    let main =
        [found("0.0.0.0/0", LINK, false), found("10.1.0.0/16", LINK, false), found("10.96.0.0/16", POD_END, true)];
    let mut interface = interface(&[("172.31.16.11/20", "172.31.16.1")]);
    interface.routes =
        vec![(net("10.1.0.0/16"), None), (net("0.0.0.0/0"), None), (net("10.2.0.0/16"), "10.9.9.9".parse().ok())];
    let plan = planned(&interface, &["172.31.0.0/16", "172.31.16.0/20", "10.1.0.0/16", "10.96.0.0/16"], &main);
    let by_node = |range: &str| format!("{range} via 169.254.1.1 dev 3 src 172.31.16.11");
    assert_eq!(shown(&plan.pod_routes, MAIN), ["172.31.32.2/32", "172.31.16.2/32", "10.96.0.0/16"].map(by_node));
    assert!(shown(&plan.pod_routes, TABLE).contains(&"10.1.0.0/16 via 172.31.16.1 dev 2".to_owned()));
    assert!(!shown(&plan.pod_routes, TABLE).iter().any(|route| route.starts_with("10.2.")));
}

#[test]
fn tables_tell_their_interfaces() {
    assert_eq!((table(LINK), link_of(TABLE), link_of(254)), (TABLE, Some(LINK), None));
}
