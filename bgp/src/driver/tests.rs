//! The driver against itself, over loopback. Nothing here asserts how long something takes; a wait ends with the event that
//! it is for, and gives up after a time that only a failure needs.

mod tcp_ao;

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::{Driver, DriverConfig, EventReceiver, Handle};
use crate::{
    Asn, AsnRanges, Connect, DynamicPeers, Event, ExtendedNextHop, Family, GracefulRestart, NextHops, Password,
    PeerAsn, PeerConfig, PeerKey, PeerStatus, PrefixRule, RefusalReason, RouteAttributes, RouteChange, SessionState,
    Shutdown, Ttl,
};

const GIVE_UP: Duration = Duration::from_secs(20);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(GIVE_UP, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen within {GIVE_UP:?}"),
    }
}

fn start(listen: &[&str], seed: u64) -> (Handle, EventReceiver) {
    let listen = listen.iter().map(|address| address.parse().unwrap()).collect();
    Driver::start(DriverConfig { listen, seed, record: None }).unwrap()
}

/// A router at `127.0.0.1` and a node at `127.0.0.2` that dials it.
struct Pair {
    router: Handle,
    router_events: EventReceiver,
    node: Handle,
    node_events: EventReceiver,
}

fn node_config(router: SocketAddr) -> PeerConfig {
    let mut config = PeerConfig::new(Asn(64500), PeerAsn::Exactly(Asn(64512)), Ipv4Addr::new(10, 0, 0, 2), router);
    config.transport.source = Some("127.0.0.2".parse().unwrap());
    config.connect_retry = Duration::from_millis(300);
    config.next_hops = NextHops { ipv4: None, ipv6: Some("2001:db8::2".parse().unwrap()) };
    config
}

fn router_config() -> PeerConfig {
    let remote = "127.0.0.2:179".parse().unwrap();
    let mut config = PeerConfig::new(Asn(64512), PeerAsn::Exactly(Asn(64500)), Ipv4Addr::new(10, 0, 0, 1), remote);
    config.connect = Connect::Passive;
    for everything in ["0.0.0.0/0", "::/0"] {
        let prefix = everything.parse().unwrap();
        config.import.accept.push(PrefixRule { prefix, ge: Some(0), le: None });
    }
    config
}

async fn pair(adjust: impl FnOnce(&mut PeerConfig, &mut PeerConfig)) -> Pair {
    let (router, router_events) = start(&["127.0.0.1:0"], 1);
    let (node, node_events) = start(&[], 2);
    let (mut at_node, mut at_router) = (node_config(router.listening()[0]), router_config());
    adjust(&mut at_node, &mut at_router);
    router.set_peer("node".into(), at_router).await.unwrap();
    node.set_peer("router".into(), at_node).await.unwrap();
    Pair { router, router_events, node, node_events }
}

async fn next(events: &mut EventReceiver, wanted: impl Fn(&Event) -> bool) -> Event {
    within("an event", async {
        loop {
            match events.recv().await {
                Some(event) if wanted(&event) => return event,
                Some(_) => {}
                None => panic!("the engine has ended"),
            }
        }
    })
    .await
}

async fn up(events: &mut EventReceiver) {
    next(events, |event| matches!(event, Event::SessionUp { .. })).await;
}

async fn down(events: &mut EventReceiver) -> String {
    match next(events, |event| matches!(event, Event::SessionDown { .. })).await {
        Event::SessionDown { reason, .. } => reason,
        _ => unreachable!("the filter lets nothing else through"),
    }
}

async fn status(handle: &Handle) -> PeerStatus {
    handle.status().await.unwrap().remove(0)
}

fn announce(prefix: &str) -> RouteChange {
    RouteChange::Announce(prefix.parse().unwrap(), Arc::new(RouteAttributes::default()))
}

/// Waits until the router has learned exactly these prefixes; it says when something changes.
async fn learned(pair: &mut Pair, expected: &[&str]) {
    let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
    within("the routes", async {
        loop {
            let learned: Vec<String> = pair.router.learned().await.unwrap().keys().map(ToString::to_string).collect();
            if learned == expected {
                return;
            }
            pair.router_events.recv().await.expect("the router runs");
        }
    })
    .await;
}

#[tokio::test]
async fn a_session_comes_up_and_routes_follow_what_is_wanted() {
    let mut pair = pair(|_, _| {}).await;
    pair.node.initial_set_complete("router".into()).await.unwrap();
    let changes = vec![announce("192.0.2.1/32"), announce("2001:db8:1::/64")];
    pair.node.update_routes("router".into(), changes).await.unwrap();
    learned(&mut pair, &["192.0.2.1/32", "2001:db8:1::/64"]).await;
    let table = pair.router.learned().await.unwrap();
    let next_hops: Vec<String> = table.values().map(|paths| paths[0].next_hop.to_string()).collect();
    assert_eq!(next_hops, ["127.0.0.2", "2001:db8::2"]);

    let withdrawal = RouteChange::Withdraw("192.0.2.1/32".parse().unwrap());
    pair.node.update_routes("router".into(), vec![withdrawal]).await.unwrap();
    learned(&mut pair, &["2001:db8:1::/64"]).await;

    let status = status(&pair.node).await;
    assert_eq!(status.state, SessionState::Established);
    assert_eq!(status.families, Family::ALL.into());
    assert_eq!((status.prefixes_wanted, status.prefixes_sent), (1, 1));
    assert_eq!(status.last_error, None);
}

#[tokio::test]
async fn a_family_without_a_next_hop_is_withheld() {
    let mut pair = pair(|node, _| node.next_hops.ipv6 = None).await;
    let changes = vec![announce("192.0.2.1/32"), announce("2001:db8:1::/64")];
    pair.node.update_routes("router".into(), changes).await.unwrap();
    learned(&mut pair, &["192.0.2.1/32"]).await;
    assert_eq!(status(&pair.node).await.withheld, [Family::Ipv6Unicast].into());
}

#[tokio::test]
async fn a_session_over_ipv6_takes_its_own_address_as_next_hop() {
    let (router, router_events) = start(&["[::1]:0"], 1);
    let (node, node_events) = start(&[], 2);
    let mut at_router = router_config();
    at_router.transport.remote = "[::1]:179".parse().unwrap();
    let mut at_node = node_config(router.listening()[0]);
    at_node.transport.source = None;
    at_node.next_hops = NextHops::default();
    at_node.extended_next_hop = ExtendedNextHop::Withheld;
    at_node.fallback_next_hops.ipv4 = Some("192.0.2.77".parse().unwrap());
    router.set_peer("node".into(), at_router).await.unwrap();
    node.set_peer("router".into(), at_node).await.unwrap();
    let changes = vec![announce("192.0.2.1/32"), announce("2001:db8:1::/64")];
    node.update_routes("router".into(), changes).await.unwrap();
    let mut pair = Pair { router, router_events, node, node_events };
    learned(&mut pair, &["192.0.2.1/32"]).await;
    let table = pair.router.learned().await.unwrap();
    assert_eq!(table.values().next().unwrap()[0].next_hop.to_string(), "192.0.2.77");
    // The session's own address: it is the router's own too, as there is only one on loopback.
    within("the refusal", async {
        while !status(&pair.router).await.refused.contains_key(&RefusalReason::NextHopIsOurs) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_shutdown_reaches_the_peer_with_its_text() {
    let mut pair = pair(|_, _| {}).await;
    up(&mut pair.router_events).await;
    within("the shutdown", pair.node.shutdown(Shutdown::Leave("node is going for maintenance".into()))).await;
    let reason = down(&mut pair.router_events).await;
    assert!(reason.contains("(6/2)") && reason.contains("node is going for maintenance"), "{reason}");
    assert!(pair.node.status().await.is_err(), "the engine has ended");
}

#[tokio::test]
async fn a_restart_leaves_the_routes_and_the_next_start_confirms_them() {
    let restart = |config: &mut PeerConfig| {
        let forwarding_preserved = Family::ALL.into();
        let restart = GracefulRestart { forwarding_preserved, ..GracefulRestart::new(Duration::from_secs(120)) };
        config.graceful_restart = Some(restart);
    };
    let mut pair = pair(|node, router| {
        restart(node);
        restart(router);
        // A session that lasted less than a second is damped for so long.
        router.connect_retry = Duration::from_millis(300);
    })
    .await;
    up(&mut pair.router_events).await;
    pair.node
        .update_routes("router".into(), vec![announce("192.0.2.0/24"), announce("198.51.100.0/24")])
        .await
        .unwrap();
    learned(&mut pair, &["192.0.2.0/24", "198.51.100.0/24"]).await;
    within("the shutdown", pair.node.shutdown(Shutdown::Restart("upgrade".into()))).await;
    let reason = down(&mut pair.router_events).await;
    assert!(reason.contains("without a NOTIFICATION"), "{reason}");
    let table = pair.router.learned().await.unwrap();
    assert!(table.len() == 2 && table.values().all(|paths| paths[0].stale), "{table:?}");

    // Started again, with one of the routes.
    (pair.node, pair.node_events) = start(&[], 3);
    let mut config = node_config(pair.router.listening()[0]);
    restart(&mut config);
    pair.node.set_peer("router".into(), config).await.unwrap();
    pair.node.update_routes("router".into(), vec![announce("192.0.2.0/24")]).await.unwrap();
    pair.node.initial_set_complete("router".into()).await.unwrap();
    learned(&mut pair, &["192.0.2.0/24"]).await;
    let table = pair.router.learned().await.unwrap();
    assert!(table.values().all(|paths| !paths[0].stale), "{table:?}");
}

#[tokio::test]
async fn a_shutdown_reaches_a_peer_that_was_just_sent_a_large_table() {
    let mut pair = pair(|_, _| {}).await;
    up(&mut pair.router_events).await;
    let attributes = Arc::new(RouteAttributes::default());
    let table = (0..50_000u32).map(|index| {
        let address = Ipv4Addr::from(0x1400_0000 + (index << 8));
        RouteChange::Announce(format!("{address}/24").parse().unwrap(), Arc::clone(&attributes))
    });
    pair.node.update_routes("router".into(), table.collect()).await.unwrap();
    within("the shutdown", pair.node.shutdown(Shutdown::Leave(String::new()))).await;
    let reason = down(&mut pair.router_events).await;
    assert!(reason.contains("(6/2)"), "{reason}");
}

#[tokio::test]
async fn passwords_must_be_the_same() {
    let password = |text: &str| Some(Password::new(text));
    let mut same = pair(|node, router| {
        node.transport.password = password("s3cret");
        router.transport.password = password("s3cret");
    })
    .await;
    up(&mut same.node_events).await;

    let mut different = pair(|node, router| {
        node.transport.password = password("s3cret");
        router.transport.password = password("another");
    })
    .await;
    // A SYN with a wrong signature is not answered, so the dial ends by its timer.
    let reason = down(&mut different.node_events).await;
    assert!(reason.contains("no answer"), "{reason}");

    // Made the same while both are running.
    let mut config = router_config();
    config.transport.password = password("s3cret");
    different.router.set_peer("node".into(), config).await.unwrap();
    up(&mut different.node_events).await;
}

#[tokio::test]
async fn gtsm_lets_a_direct_peer_in_and_a_lower_ttl_out() {
    let mut direct = pair(|node, router| {
        node.transport.ttl = Ttl::Security { hops: 1 };
        router.transport.ttl = Ttl::Security { hops: 1 };
    })
    .await;
    up(&mut direct.node_events).await;

    let mut low = pair(|node, router| {
        node.transport.ttl = Ttl::Multihop(64);
        node.hold_time = Duration::from_secs(3);
        router.transport.ttl = Ttl::Security { hops: 1 };
    })
    .await;
    // The node hears the router's OPEN, but nothing that the node says gets through.
    let reason = down(&mut low.node_events).await;
    assert!(reason.contains("hold timer expired"), "{reason}");
}

#[tokio::test]
async fn a_wrong_asn_is_told_in_words_on_both_sides() {
    let mut pair = pair(|node, _| node.peer_asn = PeerAsn::Exactly(Asn(64999))).await;
    let at_node = down(&mut pair.node_events).await;
    assert!(at_node.contains("peer says AS 64512 in its OPEN, configured peerASN is 64999"), "{at_node}");
    let at_router = down(&mut pair.router_events).await;
    assert!(at_router.contains("bad peer AS (2/2): we are AS 64512"), "{at_router}");
    assert!(at_router.starts_with("node (127.0.0.2): "), "{at_router}");
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let (first, _events) = start(&["127.0.0.1:0"], 1);
    let taken = first.listening()[0];
    let error =
        Driver::start(DriverConfig { listen: vec![taken], seed: 2, record: None }).expect_err("the port is taken");
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&format!("127.0.0.1 port {}", taken.port())), "{error}");
}

#[tokio::test]
async fn listening_can_begin_when_there_is_somebody_to_wait_for() {
    let (router, mut router_events) = start(&[], 1);
    let (node, _node_events) = start(&[], 2);
    let mut at_router = router_config();
    at_router.transport.password = Some(Password::new("s3cret"));
    router.set_peer("node".into(), at_router).await.unwrap();
    let address = router.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    assert_eq!(router.listen(address).await.unwrap(), address, "once is enough");
    let mut at_node = node_config(address);
    at_node.transport.password = Some(Password::new("s3cret"));
    node.set_peer("router".into(), at_node).await.unwrap();
    up(&mut router_events).await;

    let error = node.listen(address).await.expect_err("the port is taken");
    assert!(error.to_string().contains(&format!("127.0.0.1 port {}", address.port())), "{error}");
}

#[tokio::test]
async fn both_sides_dialling_end_with_one_session() {
    let (left, mut left_events) = start(&["127.0.0.3:0"], 1);
    let (right, mut right_events) = start(&["127.0.0.4:0"], 2);
    let mut at_left = node_config(right.listening()[0]);
    at_left.transport.source = Some("127.0.0.3".parse().unwrap());
    at_left.connect = Connect::Both;
    let mut at_right = node_config(left.listening()[0]);
    at_right.local_asn = Asn(64512);
    at_right.peer_asn = PeerAsn::Exactly(Asn(64500));
    at_right.router_id = Ipv4Addr::new(10, 0, 0, 9);
    at_right.transport.source = Some("127.0.0.4".parse().unwrap());
    at_right.connect = Connect::Both;
    let key = || PeerKey::from("other");
    let (one, other) = tokio::join!(left.set_peer(key(), at_left), right.set_peer(key(), at_right));
    one.unwrap();
    other.unwrap();
    up(&mut left_events).await;
    up(&mut right_events).await;
    left.update_routes(key(), vec![announce("192.0.2.0/24")]).await.unwrap();
    within("the route", async {
        while status(&right).await.refused.is_empty() {
            right_events.events.try_recv().ok();
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_unreachable_peer_and_an_impossible_source_are_told_in_words() {
    let (node, mut events) = start(&[], 1);
    let (closed, _events) = start(&["127.0.0.1:0"], 1);
    let nobody = closed.listening()[0];
    within("the shutdown", closed.shutdown(Shutdown::Leave(String::new()))).await;
    node.set_peer("nobody".into(), node_config(nobody)).await.unwrap();
    let reason = down(&mut events).await;
    assert!(reason.contains("cannot connect") && reason.contains("refused"), "{reason}");

    let mut config = node_config(nobody);
    config.transport.source = Some("192.0.2.200".parse().unwrap());
    node.set_peer("nobody".into(), config).await.unwrap();
    let reason = down(&mut events).await;
    assert!(reason.contains("cannot bind to source address 192.0.2.200"), "{reason}");
}

/// A hub at `127.0.0.1` that takes whoever comes from 127.1.0.0/16.
async fn hub(adjust: impl FnOnce(&mut DynamicPeers)) -> (Handle, EventReceiver) {
    let (hub, events) = start(&["127.0.0.1:0"], 1);
    let mut peers = DynamicPeers {
        prefix: "127.1.0.0/16".parse().unwrap(),
        max_sessions: 3,
        template: PeerConfig { peer_asn: PeerAsn::Within(AsnRanges(vec![Asn(64500)..=Asn(64509)])), ..router_config() },
    };
    adjust(&mut peers);
    hub.set_dynamic_peers("clients".into(), peers).await.unwrap();
    (hub, events)
}

async fn client(hub: &Handle, source: &str, password: Option<&str>) -> (Handle, EventReceiver) {
    let (client, events) = start(&[], 2);
    let mut config = node_config(hub.listening()[0]);
    config.transport.source = Some(source.parse().unwrap());
    config.transport.password = password.map(Password::new);
    client.set_peer("hub".into(), config).await.unwrap();
    (client, events)
}

async fn names(handle: &Handle) -> Vec<String> {
    handle.status().await.unwrap().into_iter().map(|status| status.key.to_string()).collect()
}

#[tokio::test]
async fn peers_of_a_prefix_come_and_go() {
    let (hub, mut hub_events) = hub(|_| {}).await;
    let mut clients = Vec::new();
    for source in ["127.1.0.1", "127.1.0.2", "127.1.3.3"] {
        clients.push(client(&hub, source, None).await);
        up(&mut hub_events).await;
    }
    assert_eq!(names(&hub).await, ["clients/127.1.0.1", "clients/127.1.0.2", "clients/127.1.3.3"]);
    let (one_too_many, mut events) = client(&hub, "127.1.0.4", None).await;
    let reason = down(&mut events).await;
    assert!(reason.contains("(6/8)"), "{reason}");
    drop(one_too_many);
    let (elsewhere, mut events) = client(&hub, "127.2.0.1", None).await;
    let reason = down(&mut events).await;
    assert!(reason.contains("(6/5)"), "{reason}");
    drop(elsewhere);

    clients[0].0.update_routes("hub".into(), vec![announce("192.0.2.0/24")]).await.unwrap();
    next(&mut hub_events, |event| *event == Event::RoutesChanged).await;
    assert_eq!(hub.learned().await.unwrap().len(), 1);
    within("the shutdown", clients[0].0.shutdown(Shutdown::Leave(String::new()))).await;
    down(&mut hub_events).await;
    assert_eq!(names(&hub).await, ["clients/127.1.0.2", "clients/127.1.3.3"]);
    let ranges = hub.dynamic_status().await.unwrap();
    assert_eq!((ranges.len(), ranges[0].sessions, ranges[0].ended), (1, 2, 1));
    assert!(ranges[0].refused_at_limit >= 1);
    hub.remove_dynamic_peers("clients".into()).await.unwrap();
    let reason = down(&mut clients[1].1).await;
    assert!(reason.contains("(6/3)"), "{reason}");
    assert!(names(&hub).await.is_empty());
}

#[tokio::test]
async fn a_flood_of_connections_costs_a_bounded_number_of_sessions() {
    let (hub, mut hub_events) = hub(|_| {}).await;
    let (_client, _events) = client(&hub, "127.1.0.1", None).await;
    up(&mut hub_events).await;
    // Each from an address of its own, and kept open without a word.
    let mut flood = Vec::new();
    for host in 0..200u8 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(Ipv4Addr::new(127, 1, 1, host).into(), 0)).unwrap();
        flood.push(within("a connection", socket.connect(hub.listening()[0])).await.unwrap());
    }
    let range = within("the last of them", async {
        loop {
            let range = hub.dynamic_status().await.unwrap().remove(0);
            if range.refused_at_limit + range.ended + range.sessions as u64 == 201 {
                return range;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(range.sessions <= 3 && range.refused_at_limit > 100, "{range:?}");
    let first = status(&hub).await;
    assert_eq!(
        (first.key.as_str(), first.state),
        ("clients/127.1.0.1", SessionState::Established),
        "who was there stays"
    );
}

/// Rows 15 and 16 of the list of classic bugs: the keys of prefixes and peers on one listener, changed while it runs.
#[tokio::test]
async fn every_caller_has_its_own_password() {
    let (hub, mut hub_events) = hub(|peers| peers.template.password("everybody")).await;
    let mut special = router_config();
    special.transport.remote = "127.1.0.9:179".parse().unwrap();
    special.password("s3cret");
    special.connect_retry = Duration::from_millis(300);
    hub.set_peer("special".into(), special.clone()).await.unwrap();

    let (_everybody, mut everybody_events) = client(&hub, "127.1.0.1", Some("everybody")).await;
    up(&mut hub_events).await;
    let (at_special, mut special_events) = client(&hub, "127.1.0.9", Some("s3cret")).await;
    up(&mut special_events).await;
    up(&mut hub_events).await;
    // Neither without, nor with another's.
    for (source, password) in [("127.1.0.2", None), ("127.1.0.3", Some("s3cret"))] {
        let (_stranger, mut events) = client(&hub, source, password).await;
        let reason = down(&mut events).await;
        assert!(reason.contains("no answer"), "{source}: {reason}");
    }
    let both = ["clients/127.1.0.1", "special"];
    assert_eq!(names(&hub).await, both);

    // Changed on both sides; everybody else's session never notices.
    special.password("changed");
    hub.set_peer("special".into(), special.clone()).await.unwrap();
    down(&mut hub_events).await;
    let mut config = node_config(hub.listening()[0]);
    config.transport.source = Some("127.1.0.9".parse().unwrap());
    config.password("changed");
    at_special.set_peer("hub".into(), config).await.unwrap();
    up(&mut hub_events).await;
    assert!(everybody_events.events.try_recv().is_ok_and(|event| matches!(event, Event::SessionUp { .. })));
    assert!(everybody_events.events.try_recv().is_err(), "one session, and no word since");

    // What the kernel could not tell apart is not set, and what is there stays.
    let mut unsigned = special.clone();
    unsigned.transport.password = None;
    let error = hub.set_peer("special".into(), unsigned).await.expect_err("inside a prefix with a password");
    assert!(
        error.to_string().contains("127.1.0.9/32 cannot have another password than 127.1.0.0/16 of clients"),
        "{error}"
    );
    special.password("another");
    let error = hub.set_peer("twin".into(), special).await.expect_err("the same address");
    assert!(error.to_string().contains("127.1.0.9/32 of special"), "{error}");
    assert_eq!(names(&hub).await, both);
    let changed_nothing = hub.status().await.unwrap().iter().all(|status| status.state == SessionState::Established);
    assert!(changed_nothing);
}

impl PeerConfig {
    fn password(&mut self, password: &str) {
        self.transport.password = Some(Password::new(password));
    }
}

#[tokio::test]
async fn a_prefix_of_ipv6_addresses_has_its_password_too() {
    let (hub, mut hub_events) = start(&["[::1]:0"], 1);
    let mut template = router_config();
    template.password("s3cret");
    template.connect_retry = Duration::from_millis(300);
    let mut peers = DynamicPeers { prefix: "::/64".parse().unwrap(), max_sessions: 1, template };
    hub.set_dynamic_peers("clients".into(), peers.clone()).await.unwrap();
    let (_node, mut node_events) = client(&hub, "::1", Some("s3cret")).await;
    up(&mut hub_events).await;
    up(&mut node_events).await;
    assert_eq!(names(&hub).await, ["clients/::1"]);
    // Another password for all of them: the session ends, and the old one does not do any more.
    peers.template.password("changed");
    hub.set_dynamic_peers("clients".into(), peers).await.unwrap();
    let reason = down(&mut node_events).await;
    assert!(reason.contains("(6/6)"), "{reason}");
    let reason = down(&mut node_events).await;
    assert!(reason.contains("no answer"), "{reason}");
}
