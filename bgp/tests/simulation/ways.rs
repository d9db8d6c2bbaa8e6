//! Which next hops a host can reach, as it has been told (RFC 4271 section 9.1.2.1).

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use roadstead_bgp::NextHopRoute;

use crate::random::Random;

/// Nothing was ever told: every next hop can be reached.
pub(crate) type Ways = Option<BTreeMap<IpNet, u32>>;

/// How far it is to an address, by the longest route that covers it. `None`: no route does.
pub(crate) fn cost(ways: &Ways, address: IpAddr) -> Option<u32> {
    let Some(ways) = ways else { return Some(0) };
    let covering = ways.iter().filter(|(prefix, _)| prefix.contains(&address));
    covering.max_by_key(|(prefix, _)| prefix.prefix_len()).map(|(_, metric)| *metric)
}

/// Takes over what is told.
pub(crate) fn change(ways: &mut Ways, changes: &[NextHopRoute]) {
    let ways = ways.get_or_insert_default();
    for change in changes {
        match change.metric {
            Some(metric) => ways.insert(change.prefix, metric),
            None => ways.remove(&change.prefix),
        };
    }
}

/// To all next hops there are, and nearer to some of the hosts.
pub(crate) fn to_everywhere(random: &mut Random, hosts: usize) -> Vec<NextHopRoute> {
    let mut routes = vec![route("192.0.2.0/24".to_owned(), Some(10)), route("2001:db8:ffff::/48".to_owned(), Some(10))];
    for host in 1..=hosts {
        if random.one_in(2) {
            routes.push(route(format!("192.0.2.{host}/32"), Some(random.below(10) as u32)));
        }
    }
    routes
}

/// Some routes come, some go: to all next hops there are, to one host, to some.
pub(crate) fn any_changes(random: &mut Random, hosts: usize) -> Vec<NextHopRoute> {
    let count = 1 + random.below(4);
    let any_change = |_| {
        let prefix = match random.below(8) {
            0 => "192.0.2.0/24".to_owned(),
            1 => "2001:db8:ffff::/48".to_owned(),
            2 | 3 => format!("2001:db8:ffff:{}::/64", random.below(3)),
            _ => format!("192.0.2.{}/32", 1 + random.below(hosts as u64)),
        };
        let metric = (!random.one_in(3)).then(|| random.below(20) as u32);
        route(prefix, metric)
    };
    (0..count).map(any_change).collect()
}

fn route(prefix: String, metric: Option<u32>) -> NextHopRoute {
    NextHopRoute { prefix: prefix.parse().unwrap(), metric }
}
