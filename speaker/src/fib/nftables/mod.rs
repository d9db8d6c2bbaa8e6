//! Packets that keep their source address, though a CNI plugin masquerades everything that leaves the cluster.
//!
//! Our chain stands before those that masquerade and maps a source address to itself. To the kernel that is the one translation that a
//! connection gets, so the chains behind it change nothing any more. To *accept* the packet would not do: that ends our chain alone.
//! A connection is translated by its first packet: those that are under way when a prefix is added stay as they are.
//!
//! The whole table is replaced in one transaction, so there is nothing to compare and nothing to repair: what somebody else has changed
//! in it is gone with the next replacement, which follows at once.

mod message;
mod ranges;

use std::io;
use std::time::Duration;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use rustix::net::sockopt::{Timeout, set_socket_send_buffer_size_force, set_socket_timeout};

use super::events::{kind, messages, subscribe};
use super::handle::Unmasqueraded;
use message::{Between, SUBSYSTEM, TABLE, Transaction};
use ranges::ranges;

/// NFNLGRP_NFTABLES of linux/netfilter/nfnetlink.h.
const GROUP: u32 = 7;
/// NLMSG_ERROR of linux/netlink.h.
const ERROR: u16 = 2;
/// The kernel answers before a send returns.
const PATIENCE: Duration = Duration::from_secs(1);

/// A way to the kernel's nf_tables, and what others do there.
pub(super) struct Nftables {
    socket: Socket,
    events: Socket,
    sequence: u32,
}

impl Nftables {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        let port = socket.bind_auto()?.port_number();
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_cap_ack(true)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        let events = subscribe(NETLINK_NETFILTER, &[GROUP], port)?;
        Ok(Self { socket, events, sequence: 0 })
    }

    /// Becomes readable when somebody else has changed something.
    pub(super) fn events(&self) -> &Socket {
        &self.events
    }

    /// Whether anybody else has changed our table, as far as can be told.
    pub(super) fn is_disturbed(&self) -> bool {
        let mut is_disturbed = false;
        loop {
            match self.events.recv_from_full() {
                Ok((bytes, _)) => is_disturbed |= messages(&bytes).any(is_about_us),
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => {
                    is_disturbed = true
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return is_disturbed,
            }
        }
    }

    /// Has the kernel do this and nothing else of ours; without sources or destinations there is no table.
    pub(super) fn replace(&mut self, wanted: &Unmasqueraded) -> io::Result<()> {
        if wanted.is_empty() {
            return self.commit(&Transaction::remove(self.sequence));
        }
        let (sources, destinations) = (ranges(&wanted.sources), ranges(&wanted.destinations));
        let ipv4 = Between { sources: &sources.0, destinations: &destinations.0 };
        let ipv6 = Between { sources: &sources.1, destinations: &destinations.1 };
        self.commit(&Transaction::replace(self.sequence, ipv4, ipv6))
    }

    fn commit(&mut self, transaction: &Transaction) -> io::Result<()> {
        let first = self.sequence;
        self.sequence = transaction.last().wrapping_add(1);
        let bytes = transaction.bytes();
        // A transaction is one send. What does not fit into the buffer is refused there.
        let _ = set_socket_send_buffer_size_force(&self.socket, bytes.len().max(1 << 17));
        self.socket.send(bytes, 0)?;
        let mut outcome = Ok(());
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            for message in messages(&bytes).filter(|message| kind(message) == Some(ERROR)) {
                let Some((sequence, code)) = error(message) else { continue };
                let is_older = first.wrapping_sub(sequence) < u32::MAX / 2;
                if is_older {
                    continue;
                }
                if code != 0 && outcome.is_ok() {
                    outcome = Err(io::Error::from_raw_os_error(code.saturating_abs()));
                }
                // Without the right to change anything, the kernel speaks of the beginning and nothing more.
                if sequence == transaction.last() || sequence == first.wrapping_add(1) {
                    return outcome;
                }
            }
        }
    }
}

/// Whose name the first attribute is, as in every message about tables, chains, rules, sets and elements.
fn is_about_us(message: &[u8]) -> bool {
    let is_of_nftables = kind(message).is_some_and(|kind| kind >> 8 == SUBSYSTEM);
    let name = message.get(20..).and_then(|attribute| {
        let length = usize::from(u16::from_ne_bytes(*attribute.first_chunk()?));
        attribute.get(4..length)
    });
    is_of_nftables && name.is_some_and(|name| name.strip_suffix(&[0]) == Some(TABLE.as_bytes()))
}

/// The number of the message that an answer is about, and what came of it.
fn error(message: &[u8]) -> Option<(u32, i32)> {
    let sequence = u32::from_ne_bytes(*message.get(8..)?.first_chunk()?);
    let code = i32::from_ne_bytes(*message.get(16..)?.first_chunk()?);
    Some((sequence, code))
}
