//! What the engine may take, load by load: the one list of its budgets. Shares are of what BIRD takes in the same run, because
//! times of different machines compare to nothing.

use std::fmt;
use std::time::Duration;

use crate::load::Name;

/// Of one load.
pub(crate) struct Budget {
    pub(crate) announce: Share,
    pub(crate) withdraw: Share,
    /// Of BIRD's peak.
    pub(crate) memory: f64,
}

/// Of BIRD's time.
#[derive(Clone, Copy)]
pub(crate) enum Share {
    /// After the floor was taken off both.
    AboveFloor(f64),
    /// As it is: a floor that writes each message by itself to two hundred sockets is slower than what collects them.
    Whole(f64),
}

/// The part of one core that may be taken with nothing to do.
pub(crate) const IDLE: f64 = 0.01;
/// From feeder to monitor, of ninety-nine in a hundred single prefixes.
pub(crate) const ONE_PREFIX: Duration = Duration::from_millis(1);

pub(crate) const fn of(load: Name) -> Budget {
    let (announce, withdraw) = match load {
        Name::OneFeeder => (Share::AboveFloor(0.25), Share::AboveFloor(0.5)),
        Name::TenFeeders | Name::SamePrefixes => (Share::AboveFloor(0.25), Share::AboveFloor(0.25)),
        Name::FullTable => (Share::AboveFloor(0.5), Share::AboveFloor(0.5)),
        Name::Mesh => (Share::Whole(1.0), Share::Whole(1.0)),
    };
    Budget { announce, withdraw, memory: 1.5 }
}

/// Whether a figure is within its budget, in words.
pub(crate) struct Verdict {
    pub(crate) measured: f64,
    pub(crate) most: f64,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { measured, most } = self;
        if measured <= most { f.pad("within") } else { f.pad(&format!("over by {:.2}", measured - most)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        for (measured, expected) in [(0.1, "within"), (0.25, "within"), (0.29, "over by 0.04"), (1.5, "over by 1.25")] {
            assert_eq!(Verdict { measured, most: 0.25 }.to_string(), expected, "{measured}");
        }
    }
}
