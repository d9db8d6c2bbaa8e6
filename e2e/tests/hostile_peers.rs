//! Peers that mean harm, against the real process: what each of them costs it in memory, and that another session does not notice.
//!
//! Every attack is a router on loopback that the process dials, one after the other. While it goes on, a new Service's route must reach
//! the good router, whose session must be the same from beginning to end. Beside all of them go two that send an octet a second.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use roadstead_e2e::byte_peer::{BytePeer, message, open};
use roadstead_e2e::product::{self, Manifests};
use roadstead_e2e::{Process, scene};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const HOSTILE_ASN: u32 = 64666;
/// A loaded machine, an unoptimised build, and a route behind whatever the attack has put into the queues.
const SOON: Duration = Duration::from_secs(60);

/// What an attacker does with a connection, until it is told to stop or the connection is gone.
type Attack = fn(&mut TcpStream, &Progress) -> std::io::Result<()>;

struct Case {
    name: &'static str,
    attack: Attack,
    /// The import of the attacker's BGPPeer.
    import: &'static str,
    /// So many messages are to be sent.
    until: u64,
    /// What the peak of the process's memory may grow by, in KiB. Kernel buffers are not its memory.
    growth: u64,
}

/// However many connections an attack has had, these files and sockets are open beside those from before it: its own connection, the
/// next one, and manifests that are being read.
const FILES: usize = 16;

const CASES: &[Case] = &[
    Case { name: "a flood of OPENs", attack: opens, import: "{}", until: 20, growth: 8 * 1024 },
    Case {
        name: "a flood of prefixes that nobody wants",
        attack: prefixes,
        import: "{}",
        until: 2_000,
        growth: 8 * 1024,
    },
    Case {
        name: "a flood of prefixes beyond the maximum",
        attack: prefixes,
        import: "{accept: [{prefix: 0.0.0.0/0, le: 32}], maxPrefixes: 10000}",
        until: 100,
        growth: 8 * 1024,
    },
    Case {
        name: "a flood of attribute sets",
        attack: unknown_attributes,
        import: "{accept: [{prefix: 0.0.0.0/0, le: 32}]}",
        until: 20_000,
        growth: 8 * 1024,
    },
    Case {
        name: "a flood of ROUTE-REFRESH, and nothing read",
        attack: refreshes,
        import: "{}",
        until: 50_000,
        growth: 8 * 1024,
    },
];

#[test]
fn a_hostile_peer_costs_bounded_memory_and_no_other_session() -> Result<()> {
    scene("hostile peers", |scene| {
        let good = BytePeer::listen(LOOPBACK, 64512)?;
        let manifests = Manifests::with(scene, "manifests", &[("objects.yaml", OBJECTS)])?;
        manifests.write("good.yaml", &peer("good", 64512, good.address(), "{}", 90))?;
        manifests.write("first.yaml", &service("first", 10))?;
        // One that is waited for, so that the process listens.
        let port = TcpListener::bind((LOOPBACK, 0)).context("no free port")?.local_addr().context("no port")?.port();
        manifests.write("awaited.yaml", AWAITED)?;
        let mut command = product::command("roadstead", None)?;
        command.arg("run").arg("--manifests").arg(manifests.path()).args(["--node", "node-1"]);
        // At the usual level: a log line for each message is somebody else's memory, but takes time.
        command.args(["--listen-port", &port.to_string()]).env("RUST_LOG", "info");
        let mut ours = Process::start(scene, "roadstead", &command)?;
        good.wait_for("203.0.113.10/32", SOON).with_context(|| ours.log())?;
        let slow = SlowPeers::begin(&manifests)?;

        for (number, case) in (11..).zip(CASES) {
            let (before, files) = (ours.peak_memory()?, ours.open_files()?);
            let attacker = Attacker::listen(case.attack)?;
            manifests.write("hostile.yaml", &peer("hostile", HOSTILE_ASN, attacker.address, case.import, 90))?;
            ours.wait_until(case.name, SOON, || attacker.progress.ensure_sent(case.until))?;
            // In the middle of it.
            let name = format!("service-{number}");
            manifests.write(&format!("{name}.yaml"), &service(&name, number))?;
            good.wait_for(&format!("203.0.113.{number}/32"), SOON).with_context(|| case.name)?;
            let grown = growth(&ours, before)?;
            let opened = ours.open_files()?.saturating_sub(files);
            let Progress { sent, connections, .. } = &*attacker.progress;
            scene.step(&format!(
                "{}: {} sent over {} connections, {opened} more open, peak memory grew by {grown} KiB",
                case.name,
                sent.load(Ordering::Relaxed),
                connections.load(Ordering::Relaxed)
            ));
            ensure!(grown <= case.growth, "{}: {grown} KiB, allowed are {} KiB", case.name, case.growth);
            ensure!(opened <= FILES, "{}: {opened} more files and sockets are open", case.name);
            ensure!(good.sessions() == 1, "{}: the other session was lost", case.name);
            manifests.remove("hostile.yaml")?;
        }

        let (before, files) = (ours.peak_memory()?, ours.open_files()?);
        let streams = strangers(port)?;
        manifests.write("last.yaml", &service("last", 99))?;
        good.wait_for("203.0.113.99/32", SOON).context("a flood of connections")?;
        let (grown, opened) = (growth(&ours, before)?, ours.open_files()?.saturating_sub(files));
        let count = streams.len();
        scene.step(&format!("{count} connections of strangers: {opened} open, peak memory grew by {grown} KiB"));
        ensure!(grown <= 8 * 1024, "a flood of connections costs {grown} KiB");
        ensure!(opened <= HEARD_OUT + FILES, "of a flood of connections {opened} are open");

        slow.wait(&mut ours)?;
        ensure!(good.sessions() == 1, "the other session was lost");
        ours.ensure_running()?;
        ensure!(!ours.log().contains("panicked"), "something panicked:\n{}", ours.log());
        Ok(())
    })
}

/// KiB by which the peak has grown. The kernel counts pages for each processor and adds them up now and then, so a peak that did
/// not grow can look smaller later by some pages.
fn growth(ours: &Process, before: u64) -> Result<u64> {
    Ok(ours.peak_memory()?.saturating_sub(before))
}

/// Connections from an address that is a peer's, though not in this direction, and each stays as long as it may.
const STRANGERS: usize = 1500;

/// So many of them are told why before they are closed, and as many may just have been accepted.
const HEARD_OUT: usize = 256;

fn strangers(port: u16) -> Result<Vec<TcpStream>> {
    let address = SocketAddr::new(LOOPBACK, port);
    (0..STRANGERS).map(|_| TcpStream::connect_timeout(&address, SOON).context("cannot connect")).collect()
}

/// What an attacker has done so far.
#[derive(Default)]
struct Progress {
    stop: AtomicBool,
    connections: AtomicU64,
    /// Messages, or octets of those that are slow.
    sent: AtomicU64,
    /// How often it was told that its hold time is over (RFC 4271 section 6.5).
    expired: AtomicU64,
}

impl Progress {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn note_sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    fn ensure_sent(&self, until: u64) -> Result<()> {
        let sent = self.sent.load(Ordering::Relaxed);
        ensure!(sent >= until, "{sent} of {until} sent");
        Ok(())
    }
}

struct Attacker {
    address: SocketAddr,
    progress: Arc<Progress>,
}

impl Attacker {
    fn listen(attack: Attack) -> Result<Self> {
        let listener = TcpListener::bind((LOOPBACK, 0)).context("cannot listen")?;
        let address = listener.local_addr().context("cannot tell the port")?;
        let progress = Arc::<Progress>::default();
        let noted = Arc::clone(&progress);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                if noted.is_over() {
                    return;
                }
                noted.connections.fetch_add(1, Ordering::Relaxed);
                // However it ends: the next connection gets the same.
                let _ = attack(&mut stream, &noted);
            }
        });
        Ok(Self { address, progress })
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        self.progress.stop.store(true, Ordering::Relaxed);
        // Wakes who waits for a connection; there may be nobody.
        let _ = TcpStream::connect(self.address);
    }
}

/// Two that send an octet a second, as long as everything else goes on. One sends its OPEN so, which may take four minutes (RFC 4271
/// section 8.2.2); the other has a session with the shortest hold time, and no message of it is ever complete in that.
struct SlowPeers {
    opening: Attacker,
    holding: Attacker,
}

impl SlowPeers {
    fn begin(manifests: &Manifests) -> Result<Self> {
        let (opening, holding) = (Attacker::listen(open_slowly)?, Attacker::listen(say_nothing_slowly)?);
        manifests.write("opening.yaml", &peer("opening", HOSTILE_ASN, opening.address, "{}", 90))?;
        manifests.write("holding.yaml", &peer("holding", HOSTILE_ASN, holding.address, "{}", 3))?;
        Ok(Self { opening, holding })
    }

    /// Until both have been slow for a while, and what ends the second one's session is that it is.
    fn wait(&self, ours: &mut Process) -> Result<()> {
        ours.wait_until("an octet a second", SOON, || {
            self.opening.progress.ensure_sent(10)?;
            self.holding.progress.ensure_sent(6)?;
            let expired = self.holding.progress.expired.load(Ordering::Relaxed);
            ensure!(expired >= 2, "{expired} of its sessions ended with an expired hold timer");
            let connections = self.holding.progress.connections.load(Ordering::Relaxed);
            ensure!(connections - expired <= 1, "{expired} of {connections} sessions ended with an expired hold timer");
            Ok(())
        })
    }
}

fn open_slowly(stream: &mut TcpStream, progress: &Progress) -> std::io::Result<()> {
    for octet in open(HOSTILE_ASN) {
        if progress.is_over() {
            break;
        }
        stream.write_all(&[octet])?;
        progress.note_sent();
        std::thread::sleep(SLOW);
    }
    Ok(())
}

fn say_nothing_slowly(stream: &mut TcpStream, progress: &Progress) -> std::io::Result<()> {
    establish(stream)?;
    stream.set_read_timeout(Some(SLOW))?;
    let mut heard = Vec::new();
    for octet in message(4, &[]).into_iter().cycle() {
        if progress.is_over() {
            break;
        }
        stream.write_all(&[octet])?;
        progress.note_sent();
        // Its own KEEPALIVEs, until the NOTIFICATION behind which the connection ends.
        let mut buffer = [0; 4096];
        let until = Instant::now() + SLOW;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            stream.set_read_timeout(Some(left))?;
            match stream.read(&mut buffer) {
                Ok(0) => {
                    progress.expired.fetch_add(u64::from(heard.ends_with(&message(3, &[4, 0]))), Ordering::Relaxed);
                    return Ok(());
                }
                Ok(count) => heard.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

const SLOW: Duration = Duration::from_secs(1);

/// Both OPENs and the first KEEPALIVE of ours.
fn establish(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(&[open(HOSTILE_ASN), message(4, &[])].concat())?;
    // Our OPEN and a KEEPALIVE are behind it; what else comes is not read.
    stream.read_exact(&mut [0; 29 + 19])
}

/// Sends `next` again and again. What comes back is read, so that only our own speed is the limit.
fn flood(stream: &mut TcpStream, progress: &Progress, mut next: impl FnMut(u64) -> Vec<u8>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_millis(1)))?;
    let mut buffer = [0; 64 * 1024];
    for number in 0.. {
        if progress.is_over() {
            break;
        }
        stream.write_all(&next(number))?;
        progress.note_sent();
        if number % 64 == 0 {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
    }
    Ok(())
}

fn opens(stream: &mut TcpStream, progress: &Progress) -> std::io::Result<()> {
    flood(stream, progress, |_| open(HOSTILE_ASN))
}

/// A thousand /24 in each UPDATE, never the same.
fn prefixes(stream: &mut TcpStream, progress: &Progress) -> std::io::Result<()> {
    establish(stream)?;
    flood(stream, progress, |number| {
        let nlri = (0..1000u32).flat_map(|index| {
            let prefix = 0x0100_0000 + (((number as u32 * 1000 + index) % 0xd0_0000) << 8);
            let [a, b, c, _] = prefix.to_be_bytes();
            [24, a, b, c]
        });
        update(&[], &nlri.collect::<Vec<u8>>())
    })
}

/// One prefix with other attributes each time: forty that nobody knows, and a community.
fn unknown_attributes(stream: &mut TcpStream, progress: &Progress) -> std::io::Result<()> {
    establish(stream)?;
    flood(stream, progress, |number| {
        let number = number as u32;
        let mut attributes = vec![0xc0, 8, 4];
        attributes.extend(number.to_be_bytes());
        for kind in 100..140 {
            attributes.extend([0xc0, kind, 8]);
            attributes.extend(number.to_be_bytes());
            attributes.extend(number.to_le_bytes());
        }
        update(&attributes, &[24, 198, 51, (number % 100) as u8])
    })
}

/// And never a byte of the answers is read.
fn refreshes(stream: &mut TcpStream, progress: &Progress) -> std::io::Result<()> {
    establish(stream)?;
    while !progress.is_over() {
        stream.write_all(&message(5, &[0, 1, 0, 1]))?;
        progress.note_sent();
    }
    Ok(())
}

fn update(more: &[u8], nlri: &[u8]) -> Vec<u8> {
    let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2, 6, 2, 1];
    attributes.extend(HOSTILE_ASN.to_be_bytes());
    attributes.extend([0x40, 3, 4, 127, 0, 0, 9]);
    attributes.extend(more);
    let mut body = vec![0, 0];
    body.extend((attributes.len() as u16).to_be_bytes());
    body.extend(attributes);
    body.extend(nlri);
    message(2, &body)
}

const OBJECTS: &str = "
apiVersion: v1
kind: Node
metadata: {name: node-1}
status: {addresses: [{type: InternalIP, address: 192.0.2.11}]}
---
apiVersion: roadstead.dev/v1alpha1
kind: AddressPool
metadata: {name: public}
spec: {addresses: [203.0.113.10-203.0.113.100]}
---
apiVersion: roadstead.dev/v1alpha1
kind: Advertisement
metadata: {name: all}
spec: {from: [{loadBalancers: {}}]}
";

const AWAITED: &str = "
apiVersion: roadstead.dev/v1alpha1
kind: BGPPeer
metadata: {name: awaited}
spec: {localASN: 64500, peerASN: 64513, address: 127.0.0.7, passive: true, nextHop: {ipv4: 192.0.2.11}}
";

fn peer(name: &str, asn: u32, address: SocketAddr, import: &str, hold: u16) -> String {
    let port = address.port();
    format!(
        "apiVersion: roadstead.dev/v1alpha1
kind: BGPPeer
metadata: {{name: {name}}}
spec: {{localASN: 64500, peerASN: {asn}, address: 127.0.0.1, port: {port}, nextHop: {{ipv4: 192.0.2.11}}, import: {import}, timers: {{connectRetrySeconds: 1, holdSeconds: {hold}}}}}
"
    )
}

fn service(name: &str, address: u8) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default, annotations: {{roadstead.dev/addresses: 203.0.113.{address}}}}}
spec: {{type: LoadBalancer, ports: [{{port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, namespace: default, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
endpoints: [{{addresses: [10.88.1.5], nodeName: node-1, conditions: {{ready: true}}}}]
"
    )
}
