//! A network namespace for each test, in which the kernel is ours: the test starts itself again there, and everything that it makes is gone
//! with that process. Takes root, or a kernel that lets users have namespaces.

use std::fs::File;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use roadstead_speaker::fib::{Fib, FibOptions, FibStatus, start};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

const INSIDE: &str = "ROADSTEAD_FIB_INSIDE";
const LIMIT: Duration = Duration::from_secs(10);

/// Runs a test in namespaces of its own, where its user is root.
#[track_caller]
pub(crate) fn in_a_namespace(test: &str, story: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        run("mount --make-rprivate /");
        run("mount -t tmpfs none /run");
        run("ip link set lo up");
        return story();
    }
    // Root as it is has rights that the root of a namespace of users has not, to large buffers for one.
    let is_root = std::fs::metadata("/proc/self").expect("a process").uid() == 0;
    again(test, if is_root { &["--net", "--mount"] } else { &["--map-root-user", "--net", "--mount"] });
}

/// Runs the test once more by way of `unshare`, and is content when it is.
#[track_caller]
fn again(test: &str, namespaces: &[&str]) {
    let this = std::env::current_exe().expect("this program lies somewhere");
    let mut command = Command::new("unshare");
    command.args(namespaces).arg(this).args(["--exact", test, "--nocapture"]).env(INSIDE, "1").stdin(Stdio::null());
    let output = command.output().expect("unshare can be started");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{command:?}: {}\n{out}\n{err}", output.status);
}

/// Runs a command whose arguments are separated by blanks, and gives what it printed.
#[track_caller]
pub(crate) fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().expect("a program"));
    done(command.args(words), line)
}

/// Runs some lines of a shell.
#[track_caller]
pub(crate) fn shell(lines: &str) -> String {
    done(Command::new("sh").args(["-ec", lines]), lines)
}

#[track_caller]
fn done(command: &mut Command, line: &str) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{line}: {error}"));
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A machine on the other end of a cable: interface `name` here, `eth0` there.
pub(crate) fn neighbour(name: &str, here: &[&str], there: &[&str]) {
    run(&format!("ip netns add {name}"));
    run(&format!("ip -n {name} link set lo up"));
    run(&format!("ip link add name {name} type veth peer name eth0 netns {name}"));
    for address in here {
        run(&format!("ip address add {address} dev {name} {}", nodad(address)));
    }
    for address in there {
        run(&format!("ip -n {name} address add {address} dev eth0 {}", nodad(address)));
    }
    run(&format!("ip link set {name} up"));
    run(&format!("ip -n {name} link set eth0 up"));
    // The carrier comes a moment later, and until then the cable is none to us.
    eventually(|| run(&format!("ip link show {name}")).contains("state UP"), true);
}

/// An IPv6 address is usable at once only where nobody is asked whether it is in use.
fn nodad(address: &str) -> &'static str {
    if address.contains(':') { "nodad" } else { "" }
}

/// With a minute before anything of an earlier run goes.
pub(crate) fn fib() -> Fib {
    start(FibOptions { keep: Duration::from_secs(60) }).expect("it starts")
}

/// What is wanted of one prefix.
pub(crate) fn set(fib: &Fib, prefix: &str, hops: &[&str]) {
    let hops = hops.iter().map(|hop| hop.parse().expect("an address")).collect();
    fib.set(vec![(prefix.parse().expect("a prefix"), hops)]);
}

/// Our table of one family, without what `ip` says of metrics and flags: one line for each route, one for each of several hops.
pub(crate) fn table(family: &str) -> Vec<String> {
    // Until somebody has used it, there is no such table.
    let text = shell(&format!("ip {family} route show table 179 2>&1 || true"));
    if text.contains("FIB table does not exist") {
        return Vec::new();
    }
    text.lines()
        .map(|line| {
            let line = line
                .replace("proto 179", "")
                .replace("metric 1024", "")
                .replace("pref medium", "")
                .replace("linkdown", "");
            let line = line.replace("weight 1", "").replace("onlink", "").replace("dev lo", "");
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        })
        .collect()
}

/// Everything that is not ours: rules, the main table and chains. A carrier that comes late is no change of them.
pub(crate) fn of_others() -> String {
    let all =
        "ip rule; ip -6 rule; ip route show table main; ip -6 route show table main proto static; nft list ruleset";
    shell(all).replace(" linkdown", "")
}

/// Waits until something is as expected, and shows what it was instead.
#[track_caller]
pub(crate) fn eventually<T: PartialEq + std::fmt::Debug>(mut seen: impl FnMut() -> T, expected: impl Into<T>) {
    let (deadline, expected) = (Instant::now() + LIMIT, expected.into());
    loop {
        let seen = seen();
        if seen == expected {
            return;
        }
        assert!(Instant::now() < deadline, "it is {seen:#?}\nand not {expected:#?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until a table is these lines.
#[track_caller]
pub(crate) fn table_becomes(family: &str, expected: &[&str]) {
    eventually(|| table(family), expected.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>());
}

/// Waits for a status.
#[track_caller]
pub(crate) fn status_becomes(fib: &Fib, what: &str, is_it: impl Fn(&FibStatus) -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_it(&fib.status()) {
        assert!(Instant::now() < deadline, "no {what} in {:#?}", fib.status());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a function on one of the machines.
pub(crate) fn on<T: Send + 'static>(machine: &str, function: impl FnOnce() -> T + Send + 'static) -> T {
    let file = File::open(format!("/run/netns/{machine}")).expect("the machine is there");
    let visit = move || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("it can be entered");
        function()
    };
    std::thread::spawn(visit).join().expect("no panic")
}

/// The source address that `to`, an address of machine `there`, sees of a packet that `here` sends from an address of its own.
pub(crate) fn source_seen(here: &str, from: IpAddr, there: &str, to: IpAddr) -> IpAddr {
    let receiver = on(there, move || UdpSocket::bind(SocketAddr::new(to, 0)).expect("the address is there"));
    receiver.set_read_timeout(Some(LIMIT)).expect("a timeout");
    let target = receiver.local_addr().expect("it has one");
    on(here, move || {
        let sender = UdpSocket::bind(SocketAddr::new(from, 0)).expect("the address is there");
        sender.send_to(b"who am I", target).expect("there is a way");
    });
    let (_, source) = receiver.recv_from(&mut [0; 16]).expect("the packet comes");
    source.ip()
}
