//! Why a packet was thrown away. Each reason is counted: per session from the moment on in which the session is known, else
//! for all of BFD.

use std::collections::BTreeMap;
use std::fmt;

/// The first check that a packet did not pass, in the order of RFC 5880 section 6.8.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Discard {
    /// It came from further away than the session allows (RFC 5881 section 5; RFC 5883 section 5).
    TimeToLive,
    /// Shorter than it says, or than a packet can be.
    Truncated,
    /// Not version 1.
    Version,
    /// Its Length is less than a packet needs.
    Length,
    /// Its Detect Mult is zero.
    ZeroMultiplier,
    Multipoint,
    /// Its My Discriminator is zero.
    ZeroDiscriminator,
    /// It knows no discriminator of ours, and yet is in a state that is not reached without one.
    StateWithoutDiscriminator,
    /// Its Your Discriminator is none of ours, or of a session over the other port.
    UnknownDiscriminator,
    /// It opens a session with an address that has none here.
    UnknownSource,
    /// It is authenticated, and no session of ours is.
    Authentication,
    /// Our side of the session is administratively down.
    AdminDown,
}

impl Discard {
    /// For metrics and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TimeToLive => "time-to-live",
            Self::Truncated => "truncated",
            Self::Version => "version",
            Self::Length => "length",
            Self::ZeroMultiplier => "zero-multiplier",
            Self::Multipoint => "multipoint",
            Self::ZeroDiscriminator => "zero-discriminator",
            Self::StateWithoutDiscriminator => "state-without-discriminator",
            Self::UnknownDiscriminator => "unknown-discriminator",
            Self::UnknownSource => "unknown-source",
            Self::Authentication => "authentication",
            Self::AdminDown => "admin-down",
        }
    }
}

impl fmt::Display for Discard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Packets thrown away, by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Discards(BTreeMap<Discard, u64>);

impl Discards {
    pub(crate) fn count(&mut self, reason: Discard) {
        *self.0.entry(reason).or_default() += 1;
    }

    pub(crate) fn by_reason(&self) -> BTreeMap<Discard, u64> {
        self.0.clone()
    }
}
