//! The few messages of nf_tables that make our table, byte by byte: linux/netfilter/nfnetlink.h and nf_tables.h. All numbers in attributes are
//! in the network's order. There is a library for each of the other protocols of netlink and none for this one that may be used here.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::ranges::Range;

/// The name of table, and of the program that it is of.
pub(super) const TABLE: &str = "roadstead";
const CHAIN: &str = "postrouting";
/// Before masquerading, which is at `srcnat`, 100.
const PRIORITY: i32 = 90;

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// NFNL_SUBSYS_NFTABLES, in the upper byte of a type.
pub(super) const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const DELETE_TABLE: u16 = SUBSYSTEM << 8 | 2;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
const NEW_SET: u16 = SUBSYSTEM << 8 | 9;
const NEW_ELEMENTS: u16 = SUBSYSTEM << 8 | 12;

const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const NESTED: u16 = 0x8000;

const INET: u8 = 1;
const POSTROUTING_HOOK: u32 = 4;
const ACCEPT: u32 = 1;
const INTERVAL_SET: u32 = 0x4;
const INTERVAL_END: u32 = 0x1;
/// An attribute has 65,535 bytes for its elements, and each takes up to 52.
const ELEMENTS_IN_A_MESSAGE: usize = 1000;

/// Everything that differs between IPv4 and IPv6.
struct Family {
    /// NFPROTO_IPV4 or NFPROTO_IPV6, which are the numbers of the address families.
    number: u8,
    sources: &'static str,
    destinations: &'static str,
    /// What nft calls the type of a set's elements: ipv4_addr or ipv6_addr.
    set_type: u32,
    address_length: u32,
    source_at: u32,
    destination_at: u32,
}

const IPV4: Family = Family {
    number: 2,
    sources: "sources4",
    destinations: "destinations4",
    set_type: 7,
    address_length: 4,
    source_at: 12,
    destination_at: 16,
};

const IPV6: Family = Family {
    number: 10,
    sources: "sources6",
    destinations: "destinations6",
    set_type: 8,
    address_length: 16,
    source_at: 8,
    destination_at: 24,
};

/// Ranges of one family.
#[derive(Clone, Copy)]
pub(super) struct Between<'a> {
    pub(super) sources: &'a [Range],
    pub(super) destinations: &'a [Range],
}

/// One transaction: the kernel does all of it or nothing, and a packet sees what was before or what is after.
pub(super) struct Transaction {
    bytes: Vec<u8>,
    sequence: u32,
}

impl Transaction {
    /// Leaves no table of ours. To delete one that is not there would be an error, and to make one that is there is none.
    pub(super) fn remove(sequence: u32) -> Self {
        let mut transaction = Self::begin(sequence);
        transaction.message(NEW_TABLE, CREATE, |message| message.text(1, TABLE));
        transaction.message(DELETE_TABLE, ACKNOWLEDGE, |message| message.text(1, TABLE));
        transaction.end()
    }

    /// Leaves the table with these in it, whatever was before.
    pub(super) fn replace(sequence: u32, ipv4: Between<'_>, ipv6: Between<'_>) -> Self {
        let mut transaction = Self::begin(sequence);
        transaction.message(NEW_TABLE, CREATE, |message| message.text(1, TABLE));
        transaction.message(DELETE_TABLE, 0, |message| message.text(1, TABLE));
        transaction.message(NEW_TABLE, CREATE, |message| message.text(1, TABLE));
        for (id, (family, between)) in [(&IPV4, ipv4), (&IPV6, ipv6)].into_iter().enumerate() {
            let id = 2 * id as u32 + 1;
            transaction.set(family, family.sources, id, between.sources);
            transaction.set(family, family.destinations, id + 1, between.destinations);
        }
        transaction.message(NEW_CHAIN, CREATE, |message| {
            message.text(1, TABLE);
            message.text(3, CHAIN);
            message.nested(4, |hook| {
                hook.number(1, POSTROUTING_HOOK);
                hook.number(2, PRIORITY as u32);
            });
            message.number(5, ACCEPT);
            message.text(7, "nat");
        });
        transaction.rule(&IPV4, 0);
        transaction.rule(&IPV6, ACKNOWLEDGE);
        transaction.end()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The number of the message that is acknowledged.
    pub(super) fn last(&self) -> u32 {
        self.sequence
    }

    fn begin(sequence: u32) -> Self {
        let mut transaction = Self { bytes: Vec::new(), sequence };
        transaction.frame(BATCH_BEGIN);
        transaction
    }

    fn end(mut self) -> Self {
        self.frame(BATCH_END);
        // What is acknowledged is the message before.
        self.sequence = self.sequence.wrapping_sub(1);
        self
    }

    fn frame(&mut self, kind: u16) {
        self.header(kind, 0, 0, SUBSYSTEM, |_| {});
    }

    fn message(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Attributes<'_>)) {
        self.header(kind, flags, INET, 0, body);
    }

    /// `struct nlmsghdr`, and `struct nfgenmsg` behind it.
    fn header(&mut self, kind: u16, flags: u16, family: u8, resource: u16, body: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.bytes.len();
        self.sequence = self.sequence.wrapping_add(1);
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | REQUEST).to_ne_bytes());
        self.bytes.extend(self.sequence.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        body(&mut Attributes { bytes: &mut self.bytes });
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    fn set(&mut self, family: &Family, name: &str, id: u32, ranges: &[Range]) {
        self.message(NEW_SET, CREATE, |message| {
            message.text(1, TABLE);
            message.text(2, name);
            message.number(3, INTERVAL_SET);
            message.number(4, family.set_type);
            message.number(5, family.address_length);
            message.number(10, id);
        });
        for elements in elements(family, ranges).chunks(ELEMENTS_IN_A_MESSAGE) {
            self.message(NEW_ELEMENTS, CREATE, |message| {
                message.text(1, TABLE);
                message.text(2, name);
                message.number(4, id);
                message.nested(3, |list| {
                    for element in elements {
                        list.nested(1, |attributes| element.write(attributes));
                    }
                });
            });
        }
    }

    /// `ip saddr @sources4 ip daddr @destinations4 snat ip to ip saddr`
    fn rule(&mut self, family: &Family, flags: u16) {
        self.message(NEW_RULE, CREATE | APPEND | flags, |message| {
            message.text(1, TABLE);
            message.text(2, CHAIN);
            message.nested(4, |rule| {
                rule.expression("meta", |meta| {
                    meta.number(1, 1);
                    // NFT_META_NFPROTO
                    meta.number(2, 15);
                });
                rule.expression("cmp", |comparison| {
                    comparison.number(1, 1);
                    comparison.number(2, 0);
                    comparison.nested(3, |data| data.bytes(1, &[family.number]));
                });
                for (at, set) in [(family.source_at, family.sources), (family.destination_at, family.destinations)] {
                    rule.load(family, at);
                    rule.expression("lookup", |lookup| {
                        lookup.text(1, set);
                        lookup.number(2, 1);
                    });
                }
                rule.load(family, family.source_at);
                rule.expression("nat", |nat| {
                    nat.number(1, 0);
                    nat.number(2, u32::from(family.number));
                    nat.number(3, 1);
                });
            });
        });
    }
}

/// A border: from here on, inside or outside.
struct Element {
    key: Vec<u8>,
    is_end: bool,
    /// Nothing follows up to the last address there is: nft shows such a range by this note of its own.
    is_open: bool,
}

impl Element {
    fn write(&self, attributes: &mut Attributes<'_>) {
        attributes.nested(1, |data| data.bytes(1, &self.key));
        if self.is_end {
            attributes.number(3, INTERVAL_END);
        }
        if self.is_open {
            attributes.bytes(6, &[1, 4, 1, 0, 0, 0]);
        }
    }
}

fn elements(family: &Family, ranges: &[Range]) -> Vec<Element> {
    let border = |address: u128, is_end, is_open| {
        let key = if family.address_length == 4 {
            Ipv4Addr::from_bits(address as u32).octets().to_vec()
        } else {
            Ipv6Addr::from_bits(address).octets().to_vec()
        };
        Element { key, is_end, is_open }
    };
    let highest = if family.address_length == 4 { u128::from(u32::MAX) } else { u128::MAX };
    let mut elements = Vec::with_capacity(2 * ranges.len() + 1);
    if ranges.first().is_some_and(|range| range.first > 0) {
        elements.push(border(0, true, false));
    }
    for range in ranges {
        let is_open = range.last == highest;
        elements.push(border(range.first, false, is_open));
        if !is_open {
            elements.push(border(range.last + 1, true, false));
        }
    }
    elements
}

/// Attributes, each of which is padded to four bytes.
struct Attributes<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Attributes<'_> {
    fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |attributes| attributes.bytes.extend(value));
    }

    fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    fn text(&mut self, kind: u16, value: &str) {
        self.attribute(kind, |attributes| {
            attributes.bytes.extend(value.as_bytes());
            attributes.bytes.push(0);
        });
    }

    fn nested(&mut self, kind: u16, body: impl FnOnce(&mut Attributes<'_>)) {
        self.attribute(kind | NESTED, body);
    }

    fn attribute(&mut self, kind: u16, body: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        body(&mut Attributes { bytes: self.bytes });
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn expression(&mut self, name: &str, body: impl FnOnce(&mut Attributes<'_>)) {
        self.nested(1, |expression| {
            expression.text(1, name);
            expression.nested(2, body);
        });
    }

    /// An address of the network header into the register.
    fn load(&mut self, family: &Family, at: u32) {
        self.expression("payload", |payload| {
            payload.number(1, 1);
            payload.number(2, 1);
            payload.number(3, at);
            payload.number(4, family.address_length);
        });
    }
}
