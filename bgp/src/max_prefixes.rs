//! Maximum prefixes: how many routes of each family a peer may have here, and what becomes of those beyond.
//!
//! What counts is what is kept: accepted routes, each prefix once. Refused ones cost nothing and count nothing, and routes that
//! outlived their session do not count until the peer has told them again.

use std::time::Duration;

use crate::error::ConfigError;

/// The limit on each family, and what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct MaxPrefixes {
    /// So many accepted prefixes of each family are in order; at least 1.
    pub limit: u32,
    /// In percent of `limit`, 1 to 100: from so many prefixes on the operator is warned.
    pub warn_at: u8,
    pub excess: Excess,
}

/// What the first prefix too many costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub enum Excess {
    /// The session: Cease 6/1 with family and limit (RFC 4486 section 4). It stays Idle for the time of `restart`; without one until
    /// it gets another configuration (a peer of a range: or for a week), and until then whoever dials us is refused.
    Close { restart: Option<Duration> },
    /// That prefix, as every further one: refused until there is room. Routes that are there already can be replaced. When routes
    /// go the peer is asked for what was refused (RFC 2918), if it can be asked.
    Drop,
}

impl MaxPrefixes {
    /// In percent.
    pub const DEFAULT_WARN_AT: u8 = 75;
    /// Sessions carry what we announce, too: a router that leaked a table for a moment must not keep a node's addresses off the
    /// network until a person comes. Long enough that neither side works for nothing, should it do so again.
    pub const DEFAULT_RESTART: Duration = Duration::from_secs(300);

    /// With the defaults: a warning at three quarters, and beyond the limit the session is closed for five minutes.
    pub const fn new(limit: u32) -> Self {
        Self { limit, warn_at: Self::DEFAULT_WARN_AT, excess: Excess::Close { restart: Some(Self::DEFAULT_RESTART) } }
    }

    /// From how many prefixes on there is a warning: the share rounded up, so never from none.
    pub(crate) fn mark(&self) -> usize {
        (u64::from(self.limit) * u64::from(self.warn_at)).div_ceil(100) as usize
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.limit == 0 || !(1..=100).contains(&self.warn_at) {
            return Err(ConfigError::MaxPrefixes { given: *self });
        }
        match self.excess {
            Excess::Close { restart: Some(restart) } if restart < Duration::from_secs(1) => {
                Err(ConfigError::MaxPrefixesRestart { given: restart })
            }
            Excess::Close { .. } | Excess::Drop => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_comes_at_its_share_rounded_up() {
        for (limit, warn_at, expected) in
            [(1, 75, 1), (4, 75, 3), (10, 75, 8), (1000, 100, 1000), (3, 1, 1), (u32::MAX, 100, u32::MAX as usize)]
        {
            let mark = MaxPrefixes { warn_at, ..MaxPrefixes::new(limit) }.mark();
            assert_eq!(mark, expected, "{warn_at} % of {limit}");
        }
    }
}
