//! Reading tables from outside: everything is shown once, however small the pages, and what a peer has is shown as it has it.

use roadstead_bgp::{
    AsPath, Asn, Cursor, NextHops, RouteAttributes, RouteChange, RouteFilter, RouteQuery, RouteTable, ShownRoute,
    Standing,
};
use std::net::Ipv4Addr;
use std::sync::Arc;

use super::script::{Script, announce, announcement, config, key, withdraw};

fn query(table: RouteTable, filter: RouteFilter, after: Option<Cursor>, limit: usize) -> RouteQuery {
    RouteQuery { table, filter, after, limit }
}

/// All pages.
fn read(script: &Script, table: &RouteTable, filter: RouteFilter, limit: usize) -> Vec<ShownRoute> {
    let (mut routes, mut after) = (Vec::new(), None);
    loop {
        let page = script.speaker.routes(&query(table.clone(), filter, after, limit)).unwrap();
        assert!(page.routes.len() <= limit, "{} routes", page.routes.len());
        routes.extend(page.routes);
        after = page.next;
        if after.is_none() {
            return routes;
        }
    }
}

fn prefixes(routes: &[ShownRoute]) -> Vec<String> {
    let mut prefixes: Vec<String> = routes.iter().map(|route| route.prefix.to_string()).collect();
    prefixes.sort();
    prefixes
}

#[test]
fn accepted_routes_are_shown_once_however_small_the_pages() {
    let mut script = Script::established(config());
    script.send(&announcement("080a 100a01 180a0101 18c00002"));
    for limit in [1, 3, 1000] {
        let all = read(&script, &RouteTable::In(None), RouteFilter::All, limit);
        assert_eq!(prefixes(&all), ["10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "192.0.2.0/24"], "{limit}");
        assert!(all.iter().all(|route| route.standing == Standing::Best && route.path.peer == key()));
    }
    let table = RouteTable::In(Some(key()));
    let within = RouteFilter::Within("10.1.0.0/16".parse().unwrap());
    assert_eq!(prefixes(&read(&script, &table, within, 1)), ["10.1.0.0/16", "10.1.1.0/24"]);
    let covering = RouteFilter::Covering("10.1.2.3".parse().unwrap());
    assert_eq!(prefixes(&read(&script, &table, covering, 1000)), ["10.0.0.0/8", "10.1.0.0/16"]);
    let stranger = query(RouteTable::In(Some("stranger".into())), RouteFilter::All, None, 1);
    assert!(script.speaker.routes(&stranger).is_err());
}

#[test]
fn what_the_peer_was_told_is_shown_as_it_has_it() {
    let mut script = Script::established(config());
    let attributes = RouteAttributes { prepend: 2, med: Some(7), ..RouteAttributes::default() };
    script.update_routes(vec![
        RouteChange::Announce("203.0.113.1/32".parse().unwrap(), Arc::new(attributes)),
        announce("203.0.113.2/32"),
        announce("2001:db8:1::/48"),
    ]);
    script.read();
    let out = RouteTable::Out(key());
    for limit in [1, 1000] {
        let told = read(&script, &out, RouteFilter::All, limit);
        assert_eq!(prefixes(&told), ["2001:db8:1::/48", "203.0.113.1/32", "203.0.113.2/32"]);
        assert!(told.iter().all(|route| route.standing == Standing::Told));
        let first = told.iter().find(|route| route.path.med == Some(7)).unwrap();
        assert_eq!(
            (first.path.as_path.to_string(), first.path.next_hop.to_string()),
            ("64500 64500 64500".to_owned(), "192.0.2.10".to_owned())
        );
    }
    let next_hops = NextHops { ipv4: Some("192.0.2.66".parse().unwrap()), ..NextHops::default() };
    let passed_on = RouteAttributes { as_path: AsPath(vec![Asn(7)]), next_hops, ..RouteAttributes::default() };
    script.update_routes(vec![RouteChange::Announce("203.0.113.9/32".parse().unwrap(), Arc::new(passed_on))]);
    script.read();
    let told = read(&script, &out, RouteFilter::Within("203.0.113.9/32".parse().unwrap()), 1);
    assert_eq!(
        (told[0].path.as_path.to_string(), told[0].path.next_hop.to_string()),
        ("64500 7".into(), "192.0.2.66".into())
    );
    script.update_routes(vec![withdraw("203.0.113.9/32")]);
    script.read();
    // What waits for a socket that is full is not what the peer has.
    script.reading = false;
    script.update_routes(vec![announce("203.0.113.1/32"), announce("203.0.113.3/32"), withdraw("203.0.113.2/32")]);
    let mut moved = config();
    moved.next_hops = NextHops { ipv4: Some("192.0.2.77".parse().unwrap()), ..moved.next_hops };
    script.speaker.set_peer(script.now, key(), moved).unwrap();
    let told = read(&script, &out, RouteFilter::Within("203.0.113.0/24".parse().unwrap()), 1000);
    assert!(told.iter().all(|route| route.standing == Standing::Outdated), "{told:?}");
}

/// Whether a peer knows one prefix is one look, however many others stand before it.
#[test]
fn what_lies_in_a_prefix_is_asked_for_at_its_place() {
    let mut script = Script::established(config());
    let many = (0..20_000u32).map(|number| announce(&format!("{}/24", Ipv4Addr::from((10 << 24) + (number << 8)))));
    let inside = ["203.0.113.0/24", "203.0.113.0/25", "203.0.113.255/32"];
    script.update_routes(many.chain(inside.into_iter().chain(["203.0.114.0/24"]).map(announce)).collect());
    let ask = |within: &str, limit| {
        let within = RouteFilter::Within(within.parse().unwrap());
        let page = script.speaker.routes(&query(RouteTable::Out(key()), within, None, limit)).unwrap();
        (prefixes(&page.routes), page.next)
    };
    assert_eq!(ask("203.0.113.0/24", 1).0, ["203.0.113.0/24"]);
    assert_eq!(ask("203.0.113.0/24", 1000), (inside.map(str::to_owned).into(), None));
    assert_eq!(ask("203.0.113.128/25", 1).0, ["203.0.113.255/32"]);
    assert_eq!(ask("203.0.115.0/24", 1000), (Vec::new(), None));
}
