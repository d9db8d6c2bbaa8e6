//! The BFD Control packet (RFC 5880 section 4.1), in both directions.
//!
//! Reading one is the first half of section 6.8.6: everything that a packet can be refused for by what stands in it alone.
//! What needs a session comes after that, in [`Bfd::handle_datagram`](super::Bfd::handle_datagram).

use std::fmt;
use std::time::Duration;

use super::discard::Discard;

/// Without an authentication section, which we do not send.
pub(crate) const LENGTH: usize = 24;
/// The least with one: its type and its length are two octets more.
const LEAST_WITH_AUTHENTICATION: u8 = 26;
const VERSION: u8 = 1;

const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const CONTROL_PLANE_INDEPENDENT: u8 = 0x08;
const AUTHENTICATION_PRESENT: u8 = 0x04;
const DEMAND: u8 = 0x02;
const MULTIPOINT: u8 = 0x01;

/// Where a session stands. The numbers are those on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum State {
    /// Held down by an operator, or about to end.
    AdminDown = 0,
    /// Nothing heard, or nothing heard any more.
    Down = 1,
    /// The other side is heard; whether it hears us is not known.
    Init = 2,
    /// Both hear each other.
    Up = 3,
}

impl State {
    pub const fn name(self) -> &'static str {
        match self {
            Self::AdminDown => "AdminDown",
            Self::Down => "Down",
            Self::Init => "Init",
            Self::Up => "Up",
        }
    }

    const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::AdminDown,
            1 => Self::Down,
            2 => Self::Init,
            _ => Self::Up,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a side's state last changed, as it tells it. Unknown codes keep their numbers; there are 32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct Diagnostic(pub u8);

impl Diagnostic {
    pub const NONE: Self = Self(0);
    pub const DETECTION_TIME_EXPIRED: Self = Self(1);
    pub const NEIGHBOR_SIGNALED_DOWN: Self = Self(3);
    pub const ADMINISTRATIVELY_DOWN: Self = Self(7);
}

impl fmt::Display for Diagnostic {
    /// The words of RFC 5880 section 8, and the number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self.0 {
            0 => "no diagnostic",
            1 => "control detection time expired",
            2 => "echo function failed",
            3 => "neighbor signaled session down",
            4 => "forwarding plane reset",
            5 => "path down",
            6 => "concatenated path down",
            7 => "administratively down",
            8 => "reverse concatenated path down",
            _ => "unassigned diagnostic",
        };
        write!(f, "{words} ({})", self.0)
    }
}

/// One packet as it was read, or is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ControlPacket {
    pub(crate) diagnostic: Diagnostic,
    pub(crate) state: State,
    pub(crate) poll: bool,
    /// Answers a packet with P (RFC 5880 section 6.5).
    pub(crate) is_final: bool,
    pub(crate) control_plane_independent: bool,
    pub(crate) authentication_present: bool,
    pub(crate) demand: bool,
    pub(crate) detect_multiplier: u8,
    pub(crate) my_discriminator: u32,
    /// Zero as long as the sender does not know it.
    pub(crate) your_discriminator: u32,
    pub(crate) desired_min_tx: Duration,
    pub(crate) required_min_rx: Duration,
    pub(crate) required_min_echo_rx: Duration,
}

impl ControlPacket {
    /// RFC 5880 section 6.8.6, in its order, up to the choice of the session.
    pub(crate) fn decode(octets: &[u8]) -> Result<Self, Discard> {
        let &[version_and_diagnostic, bits, detect_multiplier, length, ..] = octets else {
            return Err(Discard::Truncated);
        };
        if version_and_diagnostic >> 5 != VERSION {
            return Err(Discard::Version);
        }
        let authentication_present = bits & AUTHENTICATION_PRESENT != 0;
        let least = if authentication_present { LEAST_WITH_AUTHENTICATION } else { LENGTH as u8 };
        if length < least {
            return Err(Discard::Length);
        }
        let Some(words) = octets.get(4..LENGTH) else { return Err(Discard::Truncated) };
        if usize::from(length) > octets.len() {
            return Err(Discard::Truncated);
        }
        if detect_multiplier == 0 {
            return Err(Discard::ZeroMultiplier);
        }
        if bits & MULTIPOINT != 0 {
            return Err(Discard::Multipoint);
        }
        let word = |index: usize| {
            // `words` has 20 octets, and no index is above 4.
            let octets = words.get(index * 4..index * 4 + 4).and_then(|octets| octets.try_into().ok());
            u32::from_be_bytes(octets.unwrap_or_default())
        };
        let interval = |index: usize| Duration::from_micros(word(index).into());
        let packet = Self {
            diagnostic: Diagnostic(version_and_diagnostic & 0x1f),
            state: State::from_bits(bits >> 6),
            poll: bits & POLL != 0,
            is_final: bits & FINAL != 0,
            control_plane_independent: bits & CONTROL_PLANE_INDEPENDENT != 0,
            authentication_present,
            demand: bits & DEMAND != 0,
            detect_multiplier,
            my_discriminator: word(0),
            your_discriminator: word(1),
            desired_min_tx: interval(2),
            required_min_rx: interval(3),
            required_min_echo_rx: interval(4),
        };
        if packet.my_discriminator == 0 {
            return Err(Discard::ZeroDiscriminator);
        }
        if packet.your_discriminator == 0 && !matches!(packet.state, State::Down | State::AdminDown) {
            return Err(Discard::StateWithoutDiscriminator);
        }
        Ok(packet)
    }

    pub(crate) fn encode(&self) -> [u8; LENGTH] {
        let mut octets = [0; LENGTH];
        octets[0] = VERSION << 5 | self.diagnostic.0 & 0x1f;
        let bit = |set: bool, mask: u8| if set { mask } else { 0 };
        octets[1] = (self.state as u8) << 6
            | bit(self.poll, POLL)
            | bit(self.is_final, FINAL)
            | bit(self.control_plane_independent, CONTROL_PLANE_INDEPENDENT)
            | bit(self.demand, DEMAND);
        octets[2] = self.detect_multiplier;
        octets[3] = LENGTH as u8;
        let words = [
            self.my_discriminator,
            self.your_discriminator,
            microseconds(self.desired_min_tx),
            microseconds(self.required_min_rx),
            microseconds(self.required_min_echo_rx),
        ];
        for (place, word) in octets[4..].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        octets
    }
}

/// What the field holds; 71 minutes is the most, and beyond every configuration.
fn microseconds(interval: Duration) -> u32 {
    u32::try_from(interval.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Down, 3 x 1 s, 300 ms wanted in, as FRR 8.4 opens a session.
    const DOWN: [u8; 24] = [
        0x20, 0x40, 0x03, 0x18, 0x11, 0x22, 0x33, 0x44, 0, 0, 0, 0, 0x00, 0x0f, 0x42, 0x40, 0x00, 0x04, 0x93, 0xe0, 0,
        0, 0, 0,
    ];

    fn down() -> ControlPacket {
        ControlPacket {
            diagnostic: Diagnostic::NONE,
            state: State::Down,
            poll: false,
            is_final: false,
            control_plane_independent: false,
            authentication_present: false,
            demand: false,
            detect_multiplier: 3,
            my_discriminator: 0x1122_3344,
            your_discriminator: 0,
            desired_min_tx: Duration::from_secs(1),
            required_min_rx: Duration::from_millis(300),
            required_min_echo_rx: Duration::ZERO,
        }
    }

    #[test]
    fn golden_octets_in_both_directions() {
        let up = ControlPacket {
            diagnostic: Diagnostic::NEIGHBOR_SIGNALED_DOWN,
            state: State::Up,
            poll: true,
            your_discriminator: 0xdead_beef,
            desired_min_tx: Duration::from_micros(50_000),
            ..down()
        };
        let answer = ControlPacket { poll: false, is_final: true, ..up };
        let with = |edits: &[(usize, u8)]| {
            let mut octets = DOWN;
            for (index, octet) in edits {
                octets[*index] = *octet;
            }
            octets
        };
        let your = [(8, 0xde), (9, 0xad), (10, 0xbe), (11, 0xef), (13, 0x00), (14, 0xc3), (15, 0x50)];
        let cases = [
            ("down", down(), DOWN),
            ("up, poll", up, with(&[&[(0, 0x23), (1, 0xe0)][..], &your].concat())),
            ("up, final", answer, with(&[&[(0, 0x23), (1, 0xd0)][..], &your].concat())),
            (
                "admin down",
                ControlPacket {
                    state: State::AdminDown,
                    diagnostic: Diagnostic::ADMINISTRATIVELY_DOWN,
                    detect_multiplier: 255,
                    ..down()
                },
                with(&[(0, 0x27), (1, 0x00), (2, 255)]),
            ),
        ];
        for (name, packet, octets) in cases {
            assert_eq!(packet.encode(), octets, "{name}");
            assert_eq!(ControlPacket::decode(&octets), Ok(packet), "{name}");
        }
    }

    #[test]
    fn bits_that_we_never_send_are_read() {
        let mut octets = DOWN;
        octets[1] |= CONTROL_PLANE_INDEPENDENT | DEMAND;
        let packet = ControlPacket::decode(&octets).unwrap();
        assert!(packet.control_plane_independent && packet.demand);
    }

    /// One row for each check of section 6.8.6 that needs no session; each spoils one thing of a good packet.
    #[test]
    fn each_check_has_its_own_reason() {
        let cases: [(&str, fn(&mut Vec<u8>), Discard); 14] = [
            ("nothing", |octets| octets.clear(), Discard::Truncated),
            ("three octets", |octets| octets.truncate(3), Discard::Truncated),
            ("version 0", |octets| octets[0] &= 0x1f, Discard::Version),
            ("version 2", |octets| octets[0] = 0x40, Discard::Version),
            ("length 23", |octets| octets[3] = 23, Discard::Length),
            ("length 0", |octets| octets[3] = 0, Discard::Length),
            ("length 24 with A", |octets| octets[1] |= AUTHENTICATION_PRESENT, Discard::Length),
            ("length beyond the payload", |octets| octets[3] = 25, Discard::Truncated),
            ("payload before the length", |octets| octets.truncate(23), Discard::Truncated),
            ("multiplier 0", |octets| octets[2] = 0, Discard::ZeroMultiplier),
            ("multipoint", |octets| octets[1] |= MULTIPOINT, Discard::Multipoint),
            ("my discriminator 0", |octets| octets[4..8].fill(0), Discard::ZeroDiscriminator),
            ("init without your discriminator", |octets| octets[1] = 0x80, Discard::StateWithoutDiscriminator),
            ("up without your discriminator", |octets| octets[1] = 0xc0, Discard::StateWithoutDiscriminator),
        ];
        for (name, spoil, expected) in cases {
            let mut octets = DOWN.to_vec();
            spoil(&mut octets);
            assert_eq!(ControlPacket::decode(&octets), Err(expected), "{name}");
        }
    }

    /// What is wrong first is what is said.
    #[test]
    fn the_checks_have_the_order_of_the_rfc() {
        let wrong: [(fn(&mut [u8; 24]), Discard); 5] = [
            (|octets| octets[0] = 0, Discard::Version),
            (|octets| octets[3] = 0, Discard::Length),
            (|octets| octets[2] = 0, Discard::ZeroMultiplier),
            (|octets| octets[1] |= MULTIPOINT, Discard::Multipoint),
            (|octets| octets[4..8].fill(0), Discard::ZeroDiscriminator),
        ];
        for first in 0..wrong.len() {
            let mut octets = DOWN;
            for (spoil, _) in &wrong[first..] {
                spoil(&mut octets);
            }
            assert_eq!(ControlPacket::decode(&octets), Err(wrong[first].1), "everything from check {first} on");
        }
    }

    #[test]
    fn what_follows_the_length_is_not_read() {
        let mut octets = DOWN.to_vec();
        octets.extend([0xff; 40]);
        assert_eq!(ControlPacket::decode(&octets), Ok(down()));
    }
}
