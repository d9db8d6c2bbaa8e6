//! Many changes in one send. The kernel works through all of them before the send returns; it speaks of those that failed and of the last
//! one of each send, so that ten thousand routes cost fifty answers.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::net::sockopt::{Timeout, set_socket_timeout};

/// Changes in one send. If every one of them fails, the answers still fit into the buffer of a socket that nobody made larger.
const IN_ONE_SEND: usize = 128;
/// The kernel answers before a send returns, so whoever waits this long has lost the answer.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct Writer {
    socket: Socket,
    port: u32,
    sequence: u32,
}

/// A change and the flags that it goes with, beside `NLM_F_REQUEST` and `NLM_F_ACK`.
pub(super) type Write = (RouteNetlinkMessage, u16);

impl Writer {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        let port = socket.bind_auto()?.port_number();
        socket.connect(&SocketAddr::new(0, 0))?;
        // A failure would be answered with the whole question.
        socket.set_cap_ack(true)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        Ok(Self { socket, port, sequence: 0 })
    }

    /// The number that the kernel's notifications of these changes carry.
    pub(super) fn port(&self) -> u32 {
        self.port
    }

    /// What came of each of them, in their order. An error of the whole is the socket's own: then nobody knows what came of any.
    pub(super) fn write(&mut self, writes: Vec<Write>) -> io::Result<Vec<io::Result<()>>> {
        let mut outcomes = Vec::with_capacity(writes.len());
        let mut writes = writes.into_iter().peekable();
        let mut bytes = Vec::new();
        while writes.peek().is_some() {
            bytes.clear();
            let first = self.sequence.wrapping_add(1);
            let mut count = 0;
            while count < IN_ONE_SEND
                && let Some((message, flags)) = writes.next()
            {
                count += 1;
                self.sequence = self.sequence.wrapping_add(1);
                let is_last = count == IN_ONE_SEND || writes.peek().is_none();
                append(&mut bytes, message, flags | if is_last { NLM_F_ACK } else { 0 }, self.sequence);
            }
            self.socket.send(&bytes, 0)?;
            let mut failed = self.failures(self.sequence)?;
            outcomes
                .extend((0..count as u32).map(|offset| failed.remove(&first.wrapping_add(offset)).map_or(Ok(()), Err)));
        }
        Ok(outcomes)
    }

    /// Reads until the kernel speaks of the last one.
    fn failures(&self, last: u32) -> io::Result<BTreeMap<u32, io::Error>> {
        let mut failures = BTreeMap::new();
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
                let length = (message.header.length as usize).next_multiple_of(4);
                rest = rest.get(length.max(4)..).unwrap_or_default();
                let NetlinkPayload::Error(error) = message.payload else { continue };
                let sequence = message.header.sequence_number;
                if error.code.is_some() {
                    failures.insert(sequence, error.to_io());
                }
                if sequence == last {
                    return Ok(failures);
                }
            }
        }
    }
}

fn append(bytes: &mut Vec<u8>, message: RouteNetlinkMessage, flags: u16, sequence: u32) {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let start = bytes.len();
    bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
    message.serialize(&mut bytes[start..]);
}
