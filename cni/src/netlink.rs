//! A blocking netlink socket: questions to the kernel about links, routes and rules, and its answers.

use std::io;

use netlink_packet_core::{NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::RouteProtocol;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// Whose routes and rules ours are: `ip route show protocol 179`. The kernel knows no owner of this number.
pub const PROTOCOL: RouteProtocol = RouteProtocol::Other(179);

/// How often a list is asked for that changes while it is read.
const DUMPS: usize = 20;

/// The kernel, as it is in one network namespace.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// In the namespace of this thread: a socket belongs for ever to where it was made.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// From now on the kernel heeds what a question says of the answers that are wanted, the table of routes for one. Without, it lists
    /// everything whatever was asked for.
    pub fn strict(self) -> io::Result<Self> {
        self.socket.set_netlink_get_strict_chk(true)?;
        Ok(self)
    }

    /// Asks, and reads until the kernel says that this was all. `flags` are those beside `NLM_F_REQUEST`, `NLM_F_ACK` or `NLM_F_DUMP`
    /// among them: without, there is no end. A list during which something changed may lack what was there all along: it is asked for again.
    pub fn ask(&mut self, question: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        for _ in 0..DUMPS {
            let (answers, is_whole) = self.ask_once(question.clone(), flags)?;
            if is_whole {
                return Ok(answers);
            }
        }
        Err(io::Error::new(io::ErrorKind::Interrupted, format!("the list changed {DUMPS} times while it was read")))
    }

    /// One question, and whether its answer is one of a single moment.
    fn ask_once(&mut self, question: RouteNetlinkMessage, flags: u16) -> io::Result<(Vec<RouteNetlinkMessage>, bool)> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(question));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let (mut answers, mut is_whole) = (Vec::new(), true);
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
                let length = (message.header.length as usize).next_multiple_of(4);
                rest = rest.get(length.max(4)..).unwrap_or_default();
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                is_whole &= message.header.flags & NLM_F_DUMP_INTR == 0;
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok((answers, is_whole)),
                    // Without a code it is what NLM_F_ACK asks for.
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok((answers, is_whole)),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                    _ => {}
                }
            }
        }
    }
}
