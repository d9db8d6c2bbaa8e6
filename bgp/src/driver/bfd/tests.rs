//! The driver's BFD against itself and against a machine in the test's hands, over loopback. As in the driver's other tests
//! nothing here asserts how long something takes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use super::super::{Driver, DriverConfig, EventReceiver, Handle};
use crate::bfd::{Bfd, BfdConfig, BfdOutput, BfdSessionStatus, Datagram, Diagnostic, Hops, Path, Port, State};
use crate::{Asn, Connect, DynamicPeers, Event, GracefulRestart, PeerAsn, PeerConfig, SessionState, Shutdown};

const GIVE_UP: Duration = Duration::from_secs(30);

/// An address that no other test has, in this process or in another: BFD's port is the same for all.
fn address(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x7f00_0000 | (std::process::id() & 0xf_ffff) << 4 | number))
}

fn bfd() -> Option<BfdConfig> {
    Some(BfdConfig { multiplier: 10, ..BfdConfig::new() })
}

fn start(listen: Option<IpAddr>) -> (Handle, EventReceiver) {
    let listen = listen.into_iter().map(|address| SocketAddr::new(address, 0)).collect();
    Driver::start(DriverConfig { listen, seed: 1, record: None }).unwrap()
}

fn dialling(local: IpAddr, remote: SocketAddr) -> PeerConfig {
    let mut config = PeerConfig::new(Asn(64500), PeerAsn::Exactly(Asn(64512)), Ipv4Addr::new(10, 0, 0, 2), remote);
    config.transport.source = Some(local);
    config.connect_retry = Duration::from_millis(300);
    config
}

fn waiting(local: IpAddr, remote: IpAddr) -> PeerConfig {
    let remote = SocketAddr::new(remote, 179);
    let mut config = PeerConfig::new(Asn(64512), PeerAsn::Exactly(Asn(64500)), Ipv4Addr::new(10, 0, 0, 1), remote);
    config.connect = Connect::Passive;
    config.transport.source = Some(local);
    config
}

async fn next(events: &mut EventReceiver, wanted: impl Fn(&Event) -> bool) -> Event {
    let waited = tokio::time::timeout(GIVE_UP, async {
        loop {
            let event = events.recv().await.expect("the engine runs");
            if wanted(&event) {
                return event;
            }
        }
    });
    waited.await.expect("the event comes")
}

async fn until(handle: &Handle, what: &str, holds: impl Fn(&BfdSessionStatus) -> bool) -> BfdSessionStatus {
    let deadline = Instant::now() + GIVE_UP;
    loop {
        let status = handle.bfd().await.unwrap();
        let session = status.bfd.sessions.into_values().next();
        if let Some(session) = session.clone().filter(|session| holds(session)) {
            return session;
        }
        assert!(Instant::now() < deadline, "{what}: {session:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn is_up(session: &BfdSessionStatus) -> bool {
    session.state == State::Up
}

const SPEAKS: u8 = 0;
const SILENT: u8 = 1;
const LEAVES: u8 = 2;

/// A remote side that does what the test says.
struct Puppet(Arc<AtomicU8>);

impl Puppet {
    fn start(local: IpAddr, remote: IpAddr) -> Self {
        let mood = Arc::new(AtomicU8::new(SPEAKS));
        let shared = Arc::clone(&mood);
        let socket = UdpSocket::bind((local, Port::SingleHop.number())).unwrap();
        socket.set_ttl(255).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        // It ends with the test's hold on it.
        std::thread::spawn(move || {
            let mut machine = Bfd::new(9);
            let path = Path { remote, scope: 0, local: None, interface: None, port: Port::SingleHop };
            machine.set_session(
                Instant::now(),
                "puppet".into(),
                path,
                BfdConfig { multiplier: 10, ..BfdConfig::new() },
            );
            let mut buffer = [0; 64];
            while Arc::strong_count(&shared) > 1 {
                let received = socket.recv_from(&mut buffer);
                let mood = shared.load(Ordering::Relaxed);
                if mood == LEAVES {
                    machine.shutdown(Instant::now());
                }
                if let Ok((length, from)) = received {
                    let payload = &buffer[..length];
                    let datagram = Datagram {
                        source: from.ip(),
                        destination: local,
                        interface_index: 1,
                        interface: None,
                        ttl: 255,
                        port: Port::SingleHop,
                        payload,
                    };
                    let _ = machine.handle_datagram(Instant::now(), datagram);
                }
                machine.handle_timeout(Instant::now());
                while let Some(output) = machine.poll_output() {
                    if let BfdOutput::Send { path, packet } = output
                        && mood != SILENT
                    {
                        socket.send_to(&packet, (path.remote, path.port.number())).unwrap();
                    }
                }
            }
        });
        Self(mood)
    }

    fn set(&self, mood: u8) {
        self.0.store(mood, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_ends_the_bgp_session_and_a_farewell_does_not() {
    let (node_address, router_address) = (address(0), address(1));
    let (router, mut router_events) = start(Some(router_address));
    let (node, mut node_events) = start(None);
    router.set_peer("node".into(), waiting(router_address, node_address)).await.unwrap();
    let mut config = dialling(node_address, router.listening()[0]);
    config.bfd = bfd();
    node.set_peer("router".into(), config).await.unwrap();
    // BGP does not wait for BFD.
    next(&mut node_events, |event| matches!(event, Event::SessionUp { .. })).await;
    let alone = until(&node, "a session with nobody", |session| session.packets_out > 0).await;
    assert_eq!((alone.state, alone.remote), (State::Down, None));

    let puppet = Puppet::start(router_address, node_address);
    let session = until(&node, "the session", is_up).await;
    assert_eq!(session.obstacle, None);
    puppet.set(LEAVES);
    let left = until(&node, "the farewell", |session| session.state == State::Down).await;
    assert_eq!(left.diagnostic, Diagnostic::NEIGHBOR_SIGNALED_DOWN);
    assert_eq!(left.remote.map(|remote| remote.state), Some(State::AdminDown));
    assert_eq!(node.status().await.unwrap()[0].state, SessionState::Established);
    drop(puppet);

    // Its socket is free as soon as its thread has ended.
    let puppet = tokio::task::spawn_blocking(move || {
        let deadline = Instant::now() + GIVE_UP;
        while UdpSocket::bind((router_address, Port::SingleHop.number())).is_err() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        Puppet::start(router_address, node_address)
    });
    let puppet = puppet.await.unwrap();
    until(&node, "the session again", is_up).await;
    puppet.set(SILENT);
    let Event::SessionDown { reason, .. } =
        next(&mut node_events, |event| matches!(event, Event::SessionDown { .. })).await
    else {
        unreachable!("the filter lets nothing else through");
    };
    assert!(reason.contains("BFD session down: control detection time expired (1): no packet for"), "{reason}");
    let Event::SessionDown { reason, .. } =
        next(&mut router_events, |event| matches!(event, Event::SessionDown { .. })).await
    else {
        unreachable!("the filter lets nothing else through");
    };
    assert!(reason.contains("(6/10)"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_engines_agree_and_the_one_that_stops_says_so_first() {
    let (node_address, router_address) = (address(2), address(3));
    let (router, mut router_events) = start(Some(router_address));
    let (node, _node_events) = start(None);
    let mut at_router = waiting(router_address, node_address);
    at_router.bfd =
        Some(BfdConfig { transmit_interval: Duration::from_millis(500), multiplier: 7, ..BfdConfig::new() });
    router.set_peer("node".into(), at_router.clone()).await.unwrap();
    let mut config = dialling(node_address, router.listening()[0]);
    config.bfd = bfd();
    node.set_peer("router".into(), config).await.unwrap();
    until(&router, "the session at the router", is_up).await;
    let agreed =
        |session: &BfdSessionStatus| is_up(session) && session.detection_time == Some(Duration::from_millis(7 * 500));
    let session = until(&node, "the router's pace", agreed).await;
    assert_eq!(session.transmit_interval, Some(Duration::from_millis(300)));
    // Another pace, under a session that goes on.
    at_router.bfd =
        Some(BfdConfig { transmit_interval: Duration::from_millis(300), multiplier: 9, ..BfdConfig::new() });
    router.set_peer("node".into(), at_router).await.unwrap();
    let agreed = |session: &BfdSessionStatus| session.detection_time == Some(Duration::from_millis(9 * 300));
    let session = until(&node, "the router's new pace", agreed).await;
    assert_eq!((session.state, session.downs), (State::Up, 0));

    next(&mut router_events, |event| matches!(event, Event::SessionUp { .. })).await;
    node.shutdown(Shutdown::Leave("maintenance".to_owned())).await;
    let Event::SessionDown { reason, .. } =
        next(&mut router_events, |event| matches!(event, Event::SessionDown { .. })).await
    else {
        unreachable!("the filter lets nothing else through");
    };
    assert!(reason.contains("(6/2)"), "{reason}");
    let session = until(&router, "the farewell", |session| session.state == State::Down).await;
    assert_eq!(session.diagnostic, Diagnostic::NEIGHBOR_SIGNALED_DOWN);
    assert!(node.bfd().await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_somebody_else_has_is_told_and_taken_when_it_is_free() {
    let (node_address, router_address) = (address(4), address(5));
    let other = UdpSocket::bind((node_address, Port::Multihop.number())).unwrap();
    let (node, _events) = start(None);
    let mut config = dialling(node_address, SocketAddr::new(router_address, 1));
    config.bfd = Some(BfdConfig { hops: Hops::Multi { minimum_ttl: 1 }, ..BfdConfig::new() });
    node.set_peer("router".into(), config.clone()).await.unwrap();
    let session = until(&node, "the obstacle", |session| session.obstacle.is_some()).await;
    let told = session.obstacle.unwrap();
    assert!(told.contains("port 4784") && told.contains("another BFD daemon"), "{told}");
    drop(other);
    until(&node, "the port", |session| session.obstacle.is_none()).await;
    // Without BFD there is nothing to see, and nothing that holds the port.
    config.bfd = None;
    node.set_peer("router".into(), config).await.unwrap();
    let deadline = Instant::now() + GIVE_UP;
    while UdpSocket::bind((node_address, Port::Multihop.number())).is_err() {
        assert!(Instant::now() < deadline, "the port is still taken");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(node.bfd().await.unwrap().bfd.sessions.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_a_range_has_bfd_as_long_as_it_has_a_session() {
    let (node_address, router_address) = (address(6), address(7));
    let (router, mut router_events) = start(Some(router_address));
    let (node, _node_events) = start(None);
    let template = PeerConfig { bfd: bfd(), ..waiting(router_address, node_address) };
    let range = DynamicPeers { prefix: node_address.into(), max_sessions: 1, template };
    router.set_dynamic_peers("nodes".into(), range).await.unwrap();
    assert!(router.bfd().await.unwrap().bfd.sessions.is_empty(), "nobody is there yet");
    let config = PeerConfig { bfd: bfd(), ..dialling(node_address, router.listening()[0]) };
    for _ in 0..2 {
        node.set_peer("router".into(), config.clone()).await.unwrap();
        next(&mut router_events, |event| matches!(event, Event::SessionUp { .. })).await;
        let session = until(&router, "the member's session", is_up).await;
        assert_eq!((session.path.remote, session.path.local), (node_address, Some(router_address)));
        let sessions = router.bfd().await.unwrap().bfd.sessions;
        assert_eq!(sessions.keys().map(|key| key.to_string()).collect::<Vec<_>>(), [format!("nodes/{node_address}")]);
        node.remove_peer("router".into()).await.unwrap();
        next(&mut router_events, |event| matches!(event, Event::SessionDown { .. })).await;
        assert!(router.bfd().await.unwrap().bfd.sessions.is_empty(), "it goes with its session");
    }
}

/// Who keeps our routes while we restart sees TCP end first, and only then BFD.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_keeps_our_routes_hears_of_bfds_end_last() {
    let (node_address, router_address) = (address(8), address(9));
    let (router, mut router_events) = start(Some(router_address));
    let (node, _node_events) = start(None);
    let restart = Some(GracefulRestart::new(Duration::from_secs(120)));
    let at_router =
        PeerConfig { bfd: bfd(), graceful_restart: restart.clone(), ..waiting(router_address, node_address) };
    router.set_peer("node".into(), at_router).await.unwrap();
    let at_node = PeerConfig { bfd: bfd(), graceful_restart: restart, ..dialling(node_address, router.listening()[0]) };
    node.set_peer("router".into(), at_node).await.unwrap();
    next(&mut router_events, |event| matches!(event, Event::SessionUp { .. })).await;
    until(&router, "the session at the router", is_up).await;
    until(&node, "the session at the node", is_up).await;
    while let Ok(Some(_)) = tokio::time::timeout(Duration::ZERO, router_events.recv()).await {}
    node.shutdown(Shutdown::Restart("upgrade".to_owned())).await;
    // What happened first was told first.
    let first = next(&mut router_events, |event| !matches!(event, Event::RoutesChanged)).await;
    let Event::SessionDown { reason, .. } = first else { panic!("{first:?} came before the end of BGP") };
    assert!(reason.contains("without a NOTIFICATION"), "{reason}");
    next(&mut router_events, |event| matches!(event, Event::BfdChanged { .. })).await;
    let left = until(&router, "the farewell", |session| session.state == State::Down).await;
    assert_eq!(left.remote.map(|remote| remote.state), Some(State::AdminDown));
}
