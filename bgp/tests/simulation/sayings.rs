//! What one end of a connection says, message by message: what must never be among it, and what somebody adds to it on the way.
//!
//! Our speakers make no accumulated metrics (AIGP, RFC 7311), and none leaks a route (RFC 9234). So what some hosts announce passes
//! through hands that write such into it.

use roadstead_bgp::{Asn, Role};

/// What is written into every announcement of a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Added {
    pub(crate) aigp: Option<u64>,
    /// ONLY_TO_CUSTOMER where the host has not said it itself.
    pub(crate) mark: Option<Asn>,
}

/// What the two ends are to each other, as far as it says what may stand in a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Speaking {
    pub(crate) asn: Asn,
    pub(crate) role: Option<Role>,
    /// Whether accumulated metrics are told.
    pub(crate) aigp: bool,
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct Sayings {
    rest: Vec<u8>,
}

const UPDATE: u8 = 2;
const ORIGIN: u8 = 1;
const AIGP: u8 = 26;
const ONLY_TO_CUSTOMER: u8 = 35;

impl Sayings {
    /// Takes octets in, and gives those that go on: whole messages only.
    pub(crate) fn pass(&mut self, octets: &[u8], speaking: Speaking, added: Added) -> Vec<u8> {
        self.rest.extend_from_slice(octets);
        let mut passed = Vec::new();
        while let Some(length) =
            self.rest.get(16..18).map(|length| usize::from(length[0]) << 8 | usize::from(length[1]))
            && self.rest.len() >= length
        {
            let message: Vec<u8> = self.rest.drain(..length).collect();
            passed.extend(if message[18] == UPDATE { update(message, speaking, added) } else { message });
        }
        passed
    }

    /// What has been said of a message whose end will not come.
    pub(crate) fn take_rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.rest)
    }
}

fn update(mut message: Vec<u8>, speaking: Speaking, added: Added) -> Vec<u8> {
    let number = |at: usize| usize::from(message[at]) << 8 | usize::from(message[at + 1]);
    let length_at = 21 + number(19);
    let (from, length) = (length_at + 2, number(length_at));
    let attributes = attributes(&message[from..from + length]);
    let find = |kind: u8| attributes.iter().find(|(found, _)| *found == kind).map(|(_, value)| *value);
    let mark = find(ONLY_TO_CUSTOMER).map(|value| Asn(u32::from_be_bytes(value.try_into().unwrap())));
    // RFC 9234 section 5: to providers, peers and route servers goes nothing that others have marked, and our mark to peers alone.
    match speaking.role {
        Some(Role::Customer | Role::RouteServerClient) => assert_eq!(mark, None, "a leak of AS {}", speaking.asn),
        Some(Role::Peer) => assert!(mark.is_none_or(|mark| mark == speaking.asn), "AS {} leaks {mark:?}", speaking.asn),
        Some(Role::Provider | Role::RouteServer) if find(ORIGIN).is_some() => {
            assert!(mark.is_some(), "AS {} does not mark", speaking.asn);
        }
        Some(Role::Provider | Role::RouteServer) | None => {}
    }
    // RFC 7311 section 3.3
    assert!(speaking.aigp || find(AIGP).is_none(), "AS {} tells metrics where it should not", speaking.asn);
    if find(ORIGIN).is_none() {
        return message;
    }
    let mut more = Vec::new();
    if let Some(metric) = added.aigp {
        more.extend([0x80, AIGP, 11, 1, 0, 11]);
        more.extend(metric.to_be_bytes());
    }
    if let (None, Some(Asn(asn))) = (mark, added.mark) {
        more.extend([0xc0, ONLY_TO_CUSTOMER, 4]);
        more.extend(asn.to_be_bytes());
    }
    let end = from + length;
    message.splice(end..end, more.iter().copied());
    let set = |message: &mut Vec<u8>, at: usize, value: usize| {
        message[at..at + 2].copy_from_slice(&u16::try_from(value).unwrap().to_be_bytes());
    };
    set(&mut message, length_at, length + more.len());
    let whole = message.len();
    assert!(whole <= 4096, "no room for what is added");
    set(&mut message, 16, whole);
    message
}

fn attributes(mut octets: &[u8]) -> Vec<(u8, &[u8])> {
    let mut attributes = Vec::new();
    while let [flags, kind, rest @ ..] = octets {
        let (length, rest) = match (flags & 0x10 != 0, rest) {
            (true, [high, low, rest @ ..]) => (usize::from(*high) << 8 | usize::from(*low), rest),
            (false, [length, rest @ ..]) => (usize::from(*length), rest),
            (_, [] | [_]) => panic!("an attribute that ends early"),
        };
        attributes.push((*kind, &rest[..length]));
        octets = &rest[length..];
    }
    attributes
}
