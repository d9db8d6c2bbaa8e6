//! The floor: what the same bytes cost when nobody looks at them.
//!
//! It takes every session, and passes the UPDATEs of each sender on to each receiver as they are. It decodes nothing, keeps
//! no table and makes no messages: no route server can be faster through the same sockets.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, bail};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::load::{DEVICE, DEVICE_ASN, Role};
use crate::wire;

/// What the copying program is called by.
pub(crate) const ARGUMENT: &str = "--be-the-floor";

const LISTENER: u64 = u64::MAX;

struct Floor {
    epoll: OwnedFd,
    sessions: Vec<Session>,
    scratch: Vec<u8>,
}

struct Session {
    role: Role,
    stream: TcpStream,
    partial: Vec<u8>,
    outgoing: Vec<u8>,
    sent: usize,
}

/// Runs until it is killed.
pub(crate) fn run() -> Result<()> {
    let listener = TcpListener::bind((DEVICE, 179)).context("cannot listen")?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut floor = Floor { epoll, sessions: Vec::new(), scratch: vec![0; 256 * 1024] };
    let mut events: Vec<epoll::Event> = Vec::with_capacity(256);
    loop {
        events.clear();
        epoll::wait(&floor.epoll, spare_capacity(&mut events), None)?;
        for event in &events {
            let (flags, data) = (event.flags, event.data.u64());
            if data == LISTENER {
                let (stream, remote) = listener.accept().context("cannot accept")?;
                floor.accept(stream, remote.ip())?;
                continue;
            }
            let index = data as usize;
            if flags.contains(EventFlags::OUT) {
                floor.sessions[index].write()?;
            }
            if flags.contains(EventFlags::IN) {
                floor.pass_on(index)?;
            }
        }
    }
}

impl Floor {
    fn accept(&mut self, stream: TcpStream, remote: IpAddr) -> Result<()> {
        let IpAddr::V4(address) = remote else { bail!("a session from {remote}") };
        let role = Role::of(address).with_context(|| format!("a session from {remote}"))?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        epoll::add(&self.epoll, &stream, EventData::new_u64(self.sessions.len() as u64), flags)?;
        let mut outgoing = wire::open(DEVICE_ASN, DEVICE);
        outgoing.extend(wire::message(wire::KEEPALIVE, &[]));
        let mut session = Session { role, stream, partial: Vec::new(), outgoing, sent: 0 };
        session.write()?;
        self.sessions.push(session);
        Ok(())
    }

    fn pass_on(&mut self, from: usize) -> Result<()> {
        loop {
            let sender = &mut self.sessions[from];
            match sender.stream.read(&mut self.scratch) {
                // The tester has gone, and will end this program.
                Ok(0) => return Ok(()),
                Ok(count) => sender.partial.extend(&self.scratch[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("cannot read"),
            }
            let bytes = std::mem::take(&mut sender.partial);
            let mut updates = Vec::with_capacity(bytes.len());
            let taken = wire::messages(&bytes, |kind, message| {
                if kind == wire::UPDATE {
                    updates.extend(message);
                }
            });
            self.sessions[from].partial.extend(&bytes[taken..]);
            for (_, receiver) in
                self.sessions.iter_mut().enumerate().filter(|(index, other)| *index != from && other.role.receives())
            {
                receiver.outgoing.extend(&updates);
                receiver.write()?;
            }
        }
    }
}

impl Session {
    fn write(&mut self) -> Result<()> {
        while self.sent < self.outgoing.len() {
            match self.stream.write(&self.outgoing[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("cannot write"),
            }
        }
        self.outgoing.clear();
        self.sent = 0;
        Ok(())
    }
}
