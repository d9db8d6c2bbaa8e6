//! What putting learned routes into the kernel takes beside its budget: `cargo xtask bench clusters` runs this.
//!
//! In a network namespace of its own, so it takes root or a kernel that lets users have namespaces. Bare netlink writes are the same routes
//! in messages that were encoded before, one at a time with an answer to each, on a socket that does nothing else: what `ip` does, less
//! its encoding.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use roadstead_speaker::fib::{Ending, Fib, FibOptions, start};

const INSIDE: &str = "ROADSTEAD_FIB_BENCH";
const PREFIXES: u32 = 10_000;
const SINGLES: u32 = 1_000;
/// The best of so many runs counts: what else the machine does only adds.
const RUNS: usize = 5;

const BUDGET_SINGLE: Duration = Duration::from_millis(5);
const BUDGET_RATIO: f64 = 1.5;

fn main() -> ExitCode {
    if std::env::var_os(INSIDE).is_none() {
        return inside();
    }
    match measure() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        Err(error) => {
            report(&format!("cannot measure: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Once more, in a namespace of its own.
fn inside() -> ExitCode {
    let this = std::env::current_exe().unwrap_or_else(|_| "fib".into());
    let status = Command::new("unshare").args(["--map-root-user", "--net"]).arg(this).env(INSIDE, "1").status();
    if status.is_ok_and(|status| status.success()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn measure() -> io::Result<bool> {
    for line in
        ["link add v0 type veth peer name v1", "address add 192.0.2.1/24 dev v0", "link set v0 up", "link set v1 up"]
    {
        if !Command::new("ip").args(line.split(' ')).status()?.success() {
            return Err(io::Error::other(format!("ip {line} failed")));
        }
    }
    let link = rustix::net::netdevice::name_to_index(Socket::new(NETLINK_ROUTE)?, "v0")?;
    let (mut bare, mut ours) = (Duration::MAX, Duration::MAX);
    // In turn, so that whatever else the machine does hits both.
    for _ in 0..RUNS {
        bare = bare.min(bare_writes(link)?);
        let fib = fib()?;
        ours = ours.min(many(&fib));
        fib.close(Ending::Remove);
    }
    let fib = fib()?;
    let mut singles = singles(&fib);
    fib.close(Ending::Remove);
    singles.sort();
    let p99 = singles[singles.len() * 99 / 100];
    let ratio = ours.as_secs_f64() / bare.as_secs_f64();
    report(&format!("learned routes into the kernel, best of {RUNS} runs"));
    report(&row("one prefix, said to installed, p99 of 1,000", &format!("{p99:.3?}"), p99 < BUDGET_SINGLE, "5ms"));
    report(&row("10,000 prefixes", &format!("{ours:.3?}"), ratio < BUDGET_RATIO, ""));
    report(&row("10,000 bare netlink writes", &format!("{bare:.3?}"), ratio < BUDGET_RATIO, ""));
    report(&row("ratio", &format!("{ratio:.2}"), ratio < BUDGET_RATIO, "1.5"));
    Ok(p99 < BUDGET_SINGLE && ratio < BUDGET_RATIO)
}

fn row(what: &str, figure: &str, is_within: bool, budget: &str) -> String {
    let verdict = if budget.is_empty() {
        ""
    } else if is_within {
        "within"
    } else {
        "OVER"
    };
    format!("  {what:<58} {figure:>12}   {verdict} {budget}")
}

#[allow(clippy::print_stdout, reason = "this program is its output")]
fn report(line: &str) {
    println!("{line}");
}

fn fib() -> io::Result<Fib> {
    start(FibOptions { keep: Duration::from_secs(600) }).map_err(io::Error::other)
}

fn prefix(number: u32) -> IpNet {
    Ipv4Net::new_assert((0x0a00_0000 + number * 256).into(), 24).into()
}

fn next_hops() -> BTreeSet<IpAddr> {
    [IpAddr::from([192, 0, 2, 2])].into()
}

/// From saying all of them to the status that says that all are installed.
fn many(fib: &Fib) -> Duration {
    let changes: Vec<_> = (0..PREFIXES).map(|number| (prefix(number), next_hops())).collect();
    let began = Instant::now();
    fib.set(changes);
    wait(fib, PREFIXES as usize);
    began.elapsed()
}

/// Each from saying it to the status that counts it.
fn singles(fib: &Fib) -> Vec<Duration> {
    let single = |number| {
        let began = Instant::now();
        fib.set(vec![(prefix(number), next_hops())]);
        wait(fib, number as usize + 1);
        began.elapsed()
    };
    (0..SINGLES).map(single).collect()
}

fn wait(fib: &Fib, installed: usize) {
    while fib.status().installed != installed {
        // Asleep, it would be woken late; spinning, it would take the thread's core on a small machine.
        std::thread::sleep(Duration::from_micros(50));
    }
}

fn bare_writes(link: u32) -> io::Result<Duration> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let messages: Vec<Vec<u8>> = (0..PREFIXES).map(|number| message(number, link)).collect();
    let mut answer = Vec::with_capacity(4096);
    let began = Instant::now();
    for message in &messages {
        socket.send(message, 0)?;
        answer.clear();
        socket.recv(&mut answer, 0)?;
        if answer.get(16..20) != Some(&[0; 4]) {
            return Err(io::Error::other("the kernel refuses a bare write"));
        }
    }
    let took = began.elapsed();
    let flushed = Command::new("ip").args(["route", "flush", "table", "178"]).status()?;
    if flushed.success() { Ok(took) } else { Err(io::Error::other("ip route flush failed")) }
}

fn message(number: u32, link: u32) -> Vec<u8> {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.destination_prefix_length = 24;
    message.header.table = 178;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.header.flags = RouteFlags::Onlink;
    message.attributes.extend([
        RouteAttribute::Destination(RouteAddress::from(prefix(number).network())),
        RouteAttribute::Gateway(RouteAddress::from(IpAddr::from([192, 0, 2, 2]))),
        RouteAttribute::Oif(link),
    ]);
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(RouteNetlinkMessage::NewRoute(message)));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}
