//! Messages that nobody should send, and what becomes of each: the one table behind two runners.
//!
//! `errors` in this directory sends them to the engine without a socket; `e2e/tests/malformed.rs` includes this very module,
//! sends them over TCP to our binary and to four other implementations, and prints what each did into `docs/malformed.md`. So
//! nothing here may need our crates: cases are bytes, built by the few lines of [`bytes`].
//!
//! Each case is a story of four parts on a session of its own: a good UPDATE announces [`PREFIX_V4`] and [`PREFIX_V6`] with
//! MULTI_EXIT_DISC 1 (`earlier`); then comes the message of the case, which usually announces the same prefix again without
//! it; then another good UPDATE announces [`SENTINEL`], which says that the case has been digested. So there are four things
//! to be seen: the new route, the earlier one, none, or the end of the session.

pub(crate) mod attributes;
pub(crate) mod bytes;
pub(crate) mod incidents;
pub(crate) mod messages;
pub(crate) mod multiprotocol;
pub(crate) mod structure;

use self::bytes::{hex, message, update};

pub(crate) const LOCAL_ASN: u32 = 64500;
pub(crate) const EXTERNAL_ASN: u32 = 64512;
/// The receiver: its address on the session is its router ID too.
pub(crate) const LOCAL_ADDRESS: [u8; 4] = [10, 98, 255, 1];
pub(crate) const PEER_ROUTER_ID: [u8; 4] = [10, 98, 0, 254];

pub(crate) const PREFIX_V4: &str = "203.0.113.0/24";
pub(crate) const PREFIX_V6: &str = "2001:db8:1::/48";
pub(crate) const SENTINEL: &str = "198.51.100.0/24";
pub(crate) const NLRI_V4: &str = "18 cb0071";

pub(crate) const ORIGIN: &str = "40 01 01 00";
pub(crate) const NEXT_HOP: &str = "40 03 04 0a6200fe";
pub(crate) const LOCAL_PREF: &str = "40 05 04 00000064";
/// Of [`PREFIX_V6`] by way of fd00:98::fe.
pub(crate) const MP_REACH: &str = "80 0e 1c 0002 01 10 fd0000980000000000000000000000fe 00 30 20010db80001";
pub(crate) const MP_UNREACH: &str = "80 0f 0a 0002 01 30 20010db80001";

/// What the peer of a case is to the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Session {
    External,
    Internal,
    /// External, and without the capability of four-octet AS numbers (RFC 6793).
    TwoOctet,
    /// External, and takes messages of up to 65535 octets (RFC 8654).
    Extended,
}

impl Session {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::External => "eBGP",
            Self::Internal => "iBGP",
            Self::TwoOctet => "eBGP, two-octet AS numbers",
            Self::Extended => "eBGP, extended messages",
        }
    }

    pub(crate) const fn asn(self) -> u32 {
        match self {
            Self::Internal => LOCAL_ASN,
            Self::External | Self::TwoOctet | Self::Extended => EXTERNAL_ASN,
        }
    }

    /// With nothing wrong: one sequence, the peer's own number where that is not ours.
    pub(crate) const fn as_path(self) -> &'static str {
        match self {
            Self::External | Self::Extended => "40 02 06 0201 0000fc00",
            Self::TwoOctet => "40 02 04 0201 fc00",
            Self::Internal => "40 02 06 0201 0000fbf0",
        }
    }

    /// The mandatory attributes, with nothing wrong.
    pub(crate) fn good_attributes(self) -> Vec<&'static str> {
        let mut attributes = vec![ORIGIN, self.as_path(), NEXT_HOP];
        if self == Self::Internal {
            attributes.push(LOCAL_PREF);
        }
        attributes
    }

    /// Its OPEN, with nothing wrong.
    pub(crate) fn open(self) -> Vec<u8> {
        let mut capabilities = hex("01 04 0001 0001  01 04 0002 0001  02 00");
        match self {
            Self::TwoOctet => {}
            Self::External | Self::Internal | Self::Extended => {
                capabilities.extend([65, 4]);
                capabilities.extend(self.asn().to_be_bytes());
            }
        }
        if self == Self::Extended {
            capabilities.extend([6, 0]);
        }
        bytes::open(self.asn(), 240, PEER_ROUTER_ID, &bytes::capabilities(&capabilities))
    }

    /// Announces both prefixes, such that these announcements can be told from what the case makes of them.
    pub(crate) fn earlier(self) -> Vec<u8> {
        let attributes = self.good_attributes().concat() + "80 04 04 00000001";
        update("", &(attributes + MP_REACH), NLRI_V4)
    }

    pub(crate) fn sentinel(self) -> Vec<u8> {
        update("", &self.good_attributes().concat(), "18 c63364")
    }
}

/// When the message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Moment {
    /// Where the OPEN should be.
    OpenSent,
    /// Where the KEEPALIVE should be that answers the OPEN.
    OpenConfirm,
    Established,
}

/// What is to be looked at afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Look {
    /// Whether there is a session.
    Session,
    Ipv4,
    Ipv6,
}

/// What becomes of a message, by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// Taken as it is.
    Ok,
    /// Nothing in it concerns us: the earlier route stays.
    Ignored,
    /// The attribute is one that we do not read, and its class says that nobody need know: the route is taken without it.
    Unread,
    /// The attribute is wrong; the route is taken without it (RFC 7606 section 2, "attribute discard").
    Discarded,
    /// Well-formed, but the route is one that we do not want: a loop, a next hop that leads nowhere.
    Refused,
    /// RFC 7606 section 2, "treat-as-withdraw".
    Withdrawn,
    /// NOTIFICATION with this code and subcode, and the end of the session.
    Reset(u8, u8),
    /// The end of the session without a word: the message was the peer's NOTIFICATION.
    Closed,
}

impl Outcome {
    pub(crate) fn in_words(self) -> String {
        match self {
            Self::Ok => "accepted".to_owned(),
            Self::Ignored => "ignored".to_owned(),
            Self::Unread => "attribute ignored".to_owned(),
            Self::Discarded => "attribute discarded".to_owned(),
            Self::Refused => "route refused".to_owned(),
            Self::Withdrawn => "treated as withdrawn".to_owned(),
            Self::Reset(code, subcode) => format!("reset {code}/{subcode}"),
            Self::Closed => "closed".to_owned(),
        }
    }
}

/// One message on one kind of session.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// Where it is written what should become of it.
    pub(crate) source: &'static str,
    pub(crate) session: Session,
    pub(crate) moment: Moment,
    pub(crate) bytes: Vec<u8>,
    pub(crate) look: Look,
    /// The attribute whose presence tells acceptance from discard.
    pub(crate) attribute: Option<u8>,
    pub(crate) outcome: Outcome,
}

/// How a row of a table differs from a good UPDATE.
#[derive(Debug, Clone)]
pub(crate) enum Edit<'a> {
    /// Instead of the good attribute of this type.
    Instead(u8, &'a str),
    Without(u8),
    /// Behind the good attributes.
    Also(&'a str),
    /// Before them.
    First(&'a str),
    Nlri(&'a str),
    Withdrawn(&'a str),
    LookAtIpv6,
    /// The attribute whose presence matters, where no other edit says so.
    Shows(u8),
}

/// The rows of one UPDATE: one for external peers and one for internal ones, where each makes sense.
pub(crate) fn rows(name: &str, source: &'static str, edits: &[Edit<'_>], outcomes: &[(Session, Outcome)]) -> Vec<Case> {
    outcomes.iter().map(|&(session, outcome)| row(name, source, edits, session, outcome)).collect()
}

fn row(name: &str, source: &'static str, edits: &[Edit<'_>], session: Session, outcome: Outcome) -> Case {
    let mut attributes: Vec<String> = session.good_attributes().into_iter().map(str::to_owned).collect();
    let type_of = |text: &str| hex(text).get(1).copied();
    let (mut nlri, mut withdrawn, mut look, mut attribute) = (NLRI_V4, "", Look::Ipv4, None);
    for edit in edits {
        match *edit {
            Edit::Instead(kind, text) => {
                attribute = Some(kind);
                match attributes.iter_mut().find(|good| type_of(good) == Some(kind)) {
                    Some(good) => text.clone_into(good),
                    None => attributes.push(text.to_owned()),
                }
            }
            Edit::Without(kind) => attributes.retain(|good| type_of(good) != Some(kind)),
            Edit::Also(text) => {
                attribute = type_of(text);
                attributes.push(text.to_owned());
            }
            Edit::First(text) => attributes.insert(0, text.to_owned()),
            Edit::Nlri(text) => nlri = text,
            Edit::Withdrawn(text) => withdrawn = text,
            Edit::LookAtIpv6 => look = Look::Ipv6,
            Edit::Shows(kind) => attribute = Some(kind),
        }
    }
    Case {
        name: name.to_owned(),
        source,
        session,
        moment: Moment::Established,
        bytes: update(withdrawn, &attributes.concat(), nlri),
        look,
        attribute,
        outcome,
    }
}

/// A message that is no UPDATE, or one that no edit of a good one leads to.
pub(crate) fn other(
    name: &str,
    source: &'static str,
    (session, moment, look): (Session, Moment, Look),
    bytes: Vec<u8>,
    outcome: Outcome,
) -> Case {
    Case { name: name.to_owned(), source, session, moment, bytes, look, attribute: None, outcome }
}

/// The same from external and internal peers.
pub(crate) const fn both(outcome: Outcome) -> [(Session, Outcome); 2] {
    [(Session::External, outcome), (Session::Internal, outcome)]
}

pub(crate) const fn external(outcome: Outcome) -> [(Session, Outcome); 1] {
    [(Session::External, outcome)]
}

pub(crate) fn keepalive() -> Vec<u8> {
    message(4, &[])
}

/// Every case there is.
pub(crate) fn all() -> Vec<Case> {
    [attributes::cases(), multiprotocol::cases(), structure::cases(), messages::cases(), incidents::cases()].concat()
}
