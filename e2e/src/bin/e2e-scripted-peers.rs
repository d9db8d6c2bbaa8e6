//! Many BGP peers of one router, each with an address of its own and a script of messages; says how each session ended.
//!
//! It runs inside a network namespace, so it is a program of its own. Its one argument is a file with a line for each peer:
//! `<source> <router> <message> <message> …`, messages in hexadecimal digits. The first message is the OPEN, the second what
//! answers the router's OPEN; the others are sent once the router has confirmed. What happens is printed as
//! `<line> sent`, `<line> reset <code> <subcode>`, `<line> closed` or `<line> failed <reason>`. Sessions that survive are kept
//! alive until this program is killed.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};

/// How long a router may take until it accepts a connection of this peer.
const READY: Duration = Duration::from_secs(60);
const HEADER: usize = 19;

struct Peer {
    source: IpAddr,
    router: IpAddr,
    messages: Vec<Vec<u8>>,
}

/// What came from the router.
enum Heard {
    Message(u8, Vec<u8>),
    /// Nothing for a second.
    Silence,
    /// The connection has ended.
    Nothing,
}

/// How a session ended.
enum End {
    Reset(u8, u8),
    Closed,
    /// Before the router has sent its OPEN: it was not ready for us.
    NotReady,
}

fn main() -> Result<()> {
    let file = std::env::args().nth(1).context("no script is given")?;
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    let peers: Vec<Peer> = text.lines().map(peer).collect::<Result<_>>()?;
    std::thread::scope(|scope| {
        for (index, peer) in peers.iter().enumerate() {
            scope.spawn(move || {
                let end = match play(index, peer) {
                    Ok(End::Reset(code, subcode)) => format!("reset {code} {subcode}"),
                    Ok(End::Closed | End::NotReady) => "closed".to_owned(),
                    Err(error) => format!("failed {error:#}"),
                };
                say(index, &end);
            });
            // Some routers queue no more than eight connections, and a SYN that is dropped comes again after seconds.
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    Ok(())
}

/// One line at a time, also when many threads have something to say.
fn say(index: usize, what: &str) {
    let line = format!("{index} {what}\n");
    // Nobody is there to be told when standard output is gone.
    let _ = std::io::stdout().lock().write_all(line.as_bytes());
}

fn peer(line: &str) -> Result<Peer> {
    let mut words = line.split_whitespace();
    let mut address =
        || -> Result<IpAddr> { words.next().context("a line without addresses")?.parse().context(line.to_owned()) };
    let (source, router) = (address()?, address()?);
    let messages = words.map(octets).collect::<Result<_>>()?;
    Ok(Peer { source, router, messages })
}

fn octets(digits: &str) -> Result<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?)).collect()
}

fn play(index: usize, peer: &Peer) -> Result<End> {
    let deadline = Instant::now() + READY;
    loop {
        let outcome = connect(peer).and_then(|stream| session(index, peer, stream));
        match outcome {
            Ok(End::NotReady) | Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(200)),
            outcome => return outcome,
        }
    }
}

fn connect(peer: &Peer) -> Result<TcpStream> {
    let domain = Domain::for_address(SocketAddr::new(peer.router, 179));
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).context("no socket")?;
    socket.bind(&SocketAddr::new(peer.source, 0).into()).with_context(|| format!("cannot bind to {}", peer.source))?;
    socket.connect_timeout(&SocketAddr::new(peer.router, 179).into(), Duration::from_secs(2))?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    Ok(stream)
}

fn session(index: usize, peer: &Peer, mut stream: TcpStream) -> Result<End> {
    let mut rest = peer.messages.iter();
    let mut inbox = Vec::new();
    let mut greeted = false;
    let keepalive = [&[0xff; 16][..], &[0, 19, 4]].concat();
    // A router that has closed the connection may still have said why.
    let send = |stream: &mut TcpStream, message: Option<&Vec<u8>>| drop(message.map(|bytes| stream.write_all(bytes)));
    send(&mut stream, rest.next());
    loop {
        match next_message(&mut stream, &mut inbox)? {
            Heard::Nothing => return Ok(if greeted { End::Closed } else { End::NotReady }),
            Heard::Silence if rest.len() == 0 => send(&mut stream, Some(&keepalive)),
            Heard::Message(1, _) => {
                greeted = true;
                send(&mut stream, rest.next());
            }
            Heard::Message(3, body) => match body[..] {
                [code, subcode, ..] => return Ok(End::Reset(code, subcode)),
                _ => bail!("a NOTIFICATION of {body:?}"),
            },
            Heard::Message(4, _) if rest.len() > 0 => {
                rest.by_ref().for_each(|message| send(&mut stream, Some(message)));
                say(index, "sent");
            }
            // The router's own rhythm will do: it sends these three times in its hold time.
            Heard::Message(4, _) => send(&mut stream, Some(&keepalive)),
            Heard::Silence | Heard::Message(..) => {}
        }
    }
}

fn next_message(stream: &mut TcpStream, inbox: &mut Vec<u8>) -> Result<Heard> {
    let mut buffer = [0; 4096];
    loop {
        if let Some(header) = inbox.get(..HEADER) {
            let (length, kind) = (usize::from(u16::from_be_bytes([header[16], header[17]])), header[18]);
            if length < HEADER {
                bail!("the router has sent a message of {length} octets");
            }
            if inbox.len() >= length {
                let message: Vec<u8> = inbox.drain(..length).collect();
                return Ok(Heard::Message(kind, message.get(HEADER..).unwrap_or_default().to_vec()));
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(Heard::Nothing),
            Ok(count) => inbox.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(Heard::Silence);
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(Heard::Nothing),
            Err(error) => return Err(error.into()),
        }
    }
}
