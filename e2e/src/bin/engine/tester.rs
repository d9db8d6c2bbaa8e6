//! Feeders and monitors: one thread, one epoll, no allocation while the clock runs.
//!
//! A feeder pushes its prepared bytes into the socket and throws away what comes back; a monitor marks prefixes in an array
//! of bits. Neither builds a table, interns or compares anything, so what is measured is the device between them, and
//! what the tester itself costs is known from the floor.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddrV4, TcpStream};
use std::ops::Range;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::net::{AddressFamily, SocketType};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::load::{Client, DEVICE, Role};
use crate::wire;

const BGP_PORT: u16 = 179;
/// Nothing came for so long: then nothing more will.
const QUIET: Duration = Duration::from_millis(400);
/// Well below the hold time that the sessions' OPENs say.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// What is read at once. Larger than what a socket holds, mostly.
const READ: usize = 256 * 1024;

pub(crate) struct Tester {
    epoll: OwnedFd,
    sessions: Vec<Session>,
    scratch: Vec<u8>,
    events: Vec<epoll::Event>,
    /// When a monitor last heard of a prefix.
    last_heard: Instant,
    next_keepalive: Instant,
}

struct Session {
    client: Client,
    stream: TcpStream,
    table: Option<Table>,
    /// The beginning of a message whose rest is still to come.
    partial: Vec<u8>,
    outgoing: Arc<[u8]>,
    sent: usize,
}

/// The prefixes that a monitor has, of those that a load has.
struct Table {
    nodes: Range<u32>,
    bits: Vec<u64>,
    present: usize,
}

impl Tester {
    /// Opens a session for each client, each role from its own namespace, and waits until the device has taken all of them.
    pub(crate) fn connect(
        clients: &[Client],
        nodes: &Range<u32>,
        namespace: impl Fn(Role) -> std::path::PathBuf,
        limit: Duration,
    ) -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).context("cannot make an epoll")?;
        let deadline = Instant::now() + limit;
        let mut sessions = Vec::new();
        for role in Role::ALL {
            let clients: Vec<Client> = clients.iter().copied().filter(|client| client.role == role).collect();
            if clients.is_empty() {
                continue;
            }
            for (client, stream) in dial_from(&namespace(role), clients, deadline)? {
                stream.set_nonblocking(true).context("cannot make a socket non-blocking")?;
                let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
                epoll::add(&epoll, &stream, EventData::new_u64(sessions.len() as u64), flags)?;
                let table = role.receives().then(|| Table::new(nodes.clone()));
                sessions.push(Session {
                    client,
                    stream,
                    table,
                    partial: Vec::new(),
                    outgoing: Arc::default(),
                    sent: 0,
                });
            }
        }
        let now = Instant::now();
        let (scratch, events) = (vec![0; READ], Vec::with_capacity(256));
        Ok(Self { epoll, sessions, scratch, events, last_heard: now, next_keepalive: now + KEEPALIVE_INTERVAL })
    }

    /// Sends each feeder's bytes, and waits until every receiver has `expected` prefixes and nothing more comes. The time
    /// from the first byte sent to the last prefix received.
    pub(crate) fn run(&mut self, feeds: &[Arc<[u8]>], expected: usize, limit: Duration) -> Result<Duration> {
        let senders = self.sessions.iter_mut().filter(|session| session.client.role.sends());
        for (session, feed) in senders.zip(feeds) {
            (session.outgoing, session.sent) = (Arc::clone(feed), 0);
        }
        let started = Instant::now();
        self.last_heard = started;
        for index in 0..self.sessions.len() {
            self.sessions[index].write()?;
        }
        loop {
            let done = self.sessions.iter().all(|session| session.is_done(expected));
            if done && self.last_heard.elapsed() >= QUIET {
                return Ok(self.last_heard - started);
            }
            if started.elapsed() > limit {
                bail!("waited {limit:?} for {expected} prefixes at each receiver; there are {:?}", self.counts());
            }
            self.turn(QUIET / 4)?;
        }
    }

    /// Sends `message` from the first feeder, and waits until the first monitor has `expected` prefixes.
    pub(crate) fn ping(&mut self, message: &[u8], expected: usize, limit: Duration) -> Result<Duration> {
        let started = Instant::now();
        let feeder = self.sessions.iter_mut().find(|session| session.client.role.sends()).context("no feeder")?;
        feeder.stream.write_all(message).context("cannot send one message")?;
        while self.counts().first() != Some(&expected) {
            ensure!(started.elapsed() < limit, "waited {limit:?} for one prefix");
            self.turn(limit)?;
        }
        Ok(started.elapsed())
    }

    /// Does what is to be done for sessions that nobody measures just now.
    pub(crate) fn idle(&mut self, duration: Duration) -> Result<()> {
        let deadline = Instant::now() + duration;
        while Instant::now() < deadline {
            self.turn(deadline.saturating_duration_since(Instant::now()).min(Duration::from_secs(1)))?;
        }
        Ok(())
    }

    fn counts(&self) -> Vec<usize> {
        self.sessions.iter().filter_map(|session| session.table.as_ref()).map(|table| table.present).collect()
    }

    fn turn(&mut self, timeout: Duration) -> Result<()> {
        let now = Instant::now();
        if now >= self.next_keepalive {
            self.next_keepalive = now + KEEPALIVE_INTERVAL;
            let keepalive: Arc<[u8]> = wire::message(wire::KEEPALIVE, &[]).into();
            // What is being sent says as well that we are there.
            for session in self.sessions.iter_mut().filter(|session| session.has_sent_all()) {
                (session.outgoing, session.sent) = (Arc::clone(&keepalive), 0);
                session.write()?;
            }
        }
        self.events.clear();
        epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&timeout.try_into()?))?;
        for event in &self.events {
            let (flags, index) = (event.flags, event.data.u64() as usize);
            let session = &mut self.sessions[index];
            if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR)
                && session.read(&mut self.scratch)?
            {
                self.last_heard = Instant::now();
            }
            if flags.contains(EventFlags::OUT) {
                session.write()?;
            }
        }
        Ok(())
    }
}

impl Session {
    fn has_sent_all(&self) -> bool {
        self.sent == self.outgoing.len()
    }

    fn is_done(&self, expected: usize) -> bool {
        self.has_sent_all() && self.table.as_ref().is_none_or(|table| table.present == expected)
    }

    /// Writes until the socket is full: then epoll says when it is not.
    fn write(&mut self) -> Result<()> {
        while !self.has_sent_all() {
            match self.stream.write(&self.outgoing[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).with_context(|| format!("cannot send as {:?}", self.client)),
            }
        }
        Ok(())
    }

    /// Reads until there is nothing left. Says whether a prefix was among it.
    fn read(&mut self, scratch: &mut [u8]) -> Result<bool> {
        let mut heard = false;
        loop {
            match self.stream.read(scratch) {
                Ok(0) => bail!("the device closed its session with {:?}", self.client),
                Ok(count) => heard |= self.take(&scratch[..count])?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(heard),
                Err(error) => return Err(error).with_context(|| format!("cannot read as {:?}", self.client)),
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<bool> {
        let Some(table) = &mut self.table else { return Ok(false) };
        let mut heard = false;
        let mut fault = None;
        let mut each = |kind, message: &[u8]| match kind {
            wire::UPDATE => match wire::update(&message[wire::HEADER..]) {
                Some((withdrawn, announced)) => {
                    withdrawn.for_each(|node| heard |= table.set(node, false));
                    announced.for_each(|node| heard |= table.set(node, true));
                }
                None => fault = Some(message.to_vec()),
            },
            wire::KEEPALIVE => {}
            _ => fault = Some(message.to_vec()),
        };
        if self.partial.is_empty() {
            let taken = wire::messages(bytes, &mut each);
            self.partial.extend(&bytes[taken..]);
        } else {
            self.partial.extend(bytes);
            let taken = wire::messages(&self.partial, &mut each);
            self.partial.drain(..taken);
        }
        match fault {
            Some(message) => bail!("the device sent to {:?}: {message:02x?}", self.client),
            None => Ok(heard),
        }
    }
}

impl Table {
    fn new(nodes: Range<u32>) -> Self {
        Self { bits: vec![0; nodes.len() / 64 + 1], nodes, present: 0 }
    }

    /// Says whether the prefix is one of the load's.
    fn set(&mut self, node: u32, present: bool) -> bool {
        if !self.nodes.contains(&node) {
            return false;
        }
        let place = (node - self.nodes.start) as usize;
        let (word, bit) = (&mut self.bits[place / 64], 1u64 << (place % 64));
        match (*word & bit != 0, present) {
            (false, true) => {
                *word |= bit;
                self.present += 1;
            }
            (true, false) => {
                *word &= !bit;
                self.present -= 1;
            }
            (true, true) | (false, false) => {}
        }
        true
    }
}

/// Sockets belong to the namespace that their thread was in when they were made, for ever: so one thread goes there, and
/// this one keeps them.
fn dial_from(namespace: &Path, clients: Vec<Client>, deadline: Instant) -> Result<Vec<(Client, TcpStream)>> {
    let file = std::fs::File::open(namespace).with_context(|| format!("cannot open {}", namespace.display()))?;
    let dialling = std::thread::spawn(move || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .context("cannot enter a network namespace: is this root?")?;
        clients.into_iter().map(|client| Ok((client, dial_until(client, deadline)?))).collect()
    });
    dialling.join().map_err(|_| anyhow::anyhow!("the thread that dials panicked"))?
}

/// A daemon that has just started may not listen yet, or refuse for a moment.
fn dial_until(client: Client, deadline: Instant) -> Result<TcpStream> {
    loop {
        match dial(client) {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() > deadline => return Err(error.context(format!("no session as {client:?}"))),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn dial(client: Client) -> Result<TcpStream> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(client.address, 0))?;
    rustix::net::connect(&socket, &SocketAddrV4::new(DEVICE, BGP_PORT)).context("cannot connect")?;
    let mut stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(&wire::open(client.asn, client.address))?;
    expect(&mut stream, wire::OPEN)?;
    stream.write_all(&wire::message(wire::KEEPALIVE, &[]))?;
    expect(&mut stream, wire::KEEPALIVE)?;
    Ok(stream)
}

/// Reads one message, and not a byte of the next.
fn expect(stream: &mut TcpStream, kind: u8) -> Result<()> {
    let mut header = [0; wire::HEADER];
    stream.read_exact(&mut header)?;
    let mut body = vec![0; usize::from(u16::from_be_bytes([header[16], header[17]])).saturating_sub(wire::HEADER)];
    stream.read_exact(&mut body)?;
    ensure!(header[18] != wire::NOTIFICATION, "refused with NOTIFICATION {body:?}");
    ensure!(header[18] == kind, "a message of type {} instead of {kind}", header[18]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_counts_what_is_there() {
        let mut table = Table::new(100..300);
        for (node, present, ours, count) in [
            (100, true, true, 1),
            (299, true, true, 2),
            (100, true, true, 2),
            (99, true, false, 2),
            (300, true, false, 2),
            (100, false, true, 1),
            (100, false, true, 1),
            (299, false, true, 0),
        ] {
            assert_eq!(table.set(node, present), ours, "{node}");
            assert_eq!(table.present, count, "{node}");
        }
    }
}
