//! A thousand machines that all want a session with a route server: as many get one as are allowed, and who had one keeps it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use roadstead_e2e::byte_peer::{message, open};
use roadstead_e2e::product::{self, Manifests};
use roadstead_e2e::{Process, output_of, scene, wait_until};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

const SOON: Duration = Duration::from_secs(60);
const CLIENT_ASN: u32 = 64600;
const KEEPALIVE: u8 = 4;
/// Dials from each of so many addresses.
const MACHINES: u16 = 1000;
const MAX_SESSIONS: usize = 50;
/// What the peak of the process's memory may grow by, in KiB.
const GROWTH: u64 = 8 * 1024;

#[test]
fn a_flood_of_sessions_gets_as_many_as_are_allowed() -> Result<()> {
    scene("a flood of sessions", |scene| {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let spec = format!(
            "apiVersion: roadstead.dev/v1alpha1
kind: RouteServer
metadata: {{name: default}}
spec:
  asn: 64999
  routerID: 10.77.0.1
  listen: [\"127.0.0.1:{port}\"]
  clients:
  - {{name: flood, prefix: 127.1.0.0/16, asnRanges: [{{from: 64600, to: 64700}}], maxSessions: {MAX_SESSIONS}}}
  - {{name: good, prefix: 127.2.0.0/16, asnRanges: [{{from: 64600, to: 64700}}]}}
"
        );
        let manifests = Manifests::with(scene, "manifests", &[("server.yaml", &spec)])?;
        let mut command = product::command("roadstead", None)?;
        command.args(["route-server", "--manifests"]).arg(manifests.path()).env("RUST_LOG", "info");
        let mut server = Process::start(scene, "route-server", &command)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut good = server.wait_until("a session", SOON, || client(Ipv4Addr::new(127, 2, 0, 1), address))?;
        let before = server.peak_memory()?;

        // All are held open: who was refused reads that, and comes again in vain.
        let mut taken = Vec::new();
        let mut refused = 0;
        for machine in 0..MACHINES {
            let [high, low] = machine.to_be_bytes();
            match client(Ipv4Addr::new(127, 1, high, low), address) {
                Ok(stream) => taken.push(stream),
                Err(_) => refused += 1,
            }
        }
        ensure!(taken.len() == MAX_SESSIONS, "{} were taken, and {refused} refused", taken.len());
        let sessions = sessions(&manifests)?;
        let of = |name: &str| sessions.iter().filter(|peer| peer.starts_with(name)).count();
        ensure!((of("flood/"), of("good/")) == (MAX_SESSIONS, 1), "{sessions:?}");
        let grown = server.peak_memory()?.saturating_sub(before);
        scene.step(&format!("{} taken, {refused} refused: peak memory grew by {grown} KiB", taken.len()));
        ensure!(grown <= GROWTH, "{grown} KiB, allowed are {GROWTH} KiB");

        // Who had a session hears of a newcomer's route over it, and a place that is given up is taken by somebody else.
        let mut newcomer = client(Ipv4Addr::new(127, 2, 0, 2), address)?;
        newcomer.write_all(&announcement())?;
        good.set_read_timeout(Some(SOON))?;
        let mut heard = Vec::new();
        while !heard.windows(PREFIX.len()).any(|octets| octets == PREFIX) {
            let mut buffer = [0; 4096];
            let count = good.read(&mut buffer).context("the good session")?;
            ensure!(count > 0, "the good session ended");
            heard.extend_from_slice(&buffer[..count]);
        }
        drop(taken.pop());
        let late = Ipv4Addr::new(127, 1, 255, 1);
        wait_until("a place", SOON, || client(late, address)).map(drop)?;
        server.ensure_running()
    })
}

/// 198.51.100.0/24 as NLRI.
const PREFIX: [u8; 4] = [24, 198, 51, 100];

fn announcement() -> Vec<u8> {
    let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2, 6, 2, 1];
    attributes.extend(CLIENT_ASN.to_be_bytes());
    attributes.extend([0x40, 3, 4, 127, 2, 0, 2]);
    let body = [&[0, 0, 0, attributes.len() as u8][..], &attributes, &PREFIX].concat();
    message(2, &body)
}

/// A session from an address of loopback; fails when it is refused.
fn client(from: Ipv4Addr, to: SocketAddr) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).context("no socket")?;
    socket.bind(&SocketAddr::from((from, 0)).into()).with_context(|| format!("cannot bind to {from}"))?;
    socket.connect_timeout(&to.into(), SOON).context("cannot connect")?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(&[open(CLIENT_ASN), message(KEEPALIVE, &[])].concat())?;
    // Of each message the length and the type; a NOTIFICATION is no KEEPALIVE.
    for _ in 0..2 {
        let mut header = [0; 19];
        stream.read_exact(&mut header).context("refused")?;
        ensure!(header[18] == 1 || header[18] == KEEPALIVE, "refused by a message of type {}", header[18]);
        let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
        stream.read_exact(&mut vec![0; length - header.len()])?;
    }
    Ok(stream)
}

/// The names of all that are established.
fn sessions(manifests: &Manifests) -> Result<Vec<String>> {
    let socket = manifests.path().join(".roadstead/route-server-default/speaker.sock");
    let mut command = product::command("roadstead", None)?;
    let answer = output_of(command.args(["status", "-o", "json"]).arg("--socket").arg(socket))?;
    let answer: Value = serde_json::from_str(&answer).context("no JSON")?;
    let sessions =
        answer.get("sessions").and_then(Value::as_array).with_context(|| format!("no sessions in {answer}"))?;
    let established = |session: &&Value| session.get("state").and_then(Value::as_str) == Some("Established");
    let names = sessions.iter().filter(established).filter_map(|session| session.get("peer")?.as_str());
    Ok(names.map(str::to_owned).collect())
}
