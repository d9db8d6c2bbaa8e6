//! What a BFD session is made of, as the embedder gives it, and which sessions are the same one.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::{ConfigError, Endpoints, Transport};

/// BFD beside a BGP session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct BfdConfig {
    /// How often we would like to send once the session is up; 10 ms to 60 s. The slower of this and what the peer bears
    /// counts.
    pub transmit_interval: Duration,
    /// How often we bear packets; 10 ms to 60 s.
    pub receive_interval: Duration,
    /// So many packets of ours in a row may be lost before the peer takes the session down, at least 1. How many of its
    /// packets may be lost, the peer says.
    pub multiplier: u8,
    pub hops: Hops,
}

/// How far away the other end of a session may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub enum Hops {
    /// On the same link (RFC 5881): port 3784, and only packets that no router has touched (TTL 255).
    Single,
    /// Behind routers (RFC 5883): port 4784.
    Multi {
        /// Packets with a lower TTL are discarded. How many routers that allows for depends on what the peer sends with: FRR
        /// with 255, BIRD with 64.
        minimum_ttl: u8,
    },
}

impl BfdConfig {
    /// Shorter would be thousands of packets a second for nothing that the next hop's convergence could use.
    pub const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);
    pub const LONGEST_INTERVAL: Duration = Duration::from_secs(60);

    /// 3 x 300 ms over a single hop.
    pub const fn new() -> Self {
        Self {
            transmit_interval: Duration::from_millis(300),
            receive_interval: Duration::from_millis(300),
            multiplier: 3,
            hops: Hops::Single,
        }
    }

    /// Refuses what no session could run with.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (field, given) in
            [("transmit interval", self.transmit_interval), ("receive interval", self.receive_interval)]
        {
            if !(Self::SHORTEST_INTERVAL..=Self::LONGEST_INTERVAL).contains(&given) {
                return Err(ConfigError::BfdInterval { field, given });
            }
        }
        if self.multiplier == 0 {
            return Err(ConfigError::BfdMultiplier);
        }
        Ok(())
    }
}

impl Default for BfdConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// The UDP port that a packet goes to: which of the two kinds of session it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    SingleHop,
    Multihop,
}

impl Port {
    /// RFC 5881 section 4, RFC 5883 section 5.
    pub const fn number(self) -> u16 {
        match self {
            Self::SingleHop => 3784,
            Self::Multihop => 4784,
        }
    }
}

impl From<Hops> for Port {
    fn from(hops: Hops) -> Self {
        match hops {
            Hops::Single => Self::SingleHop,
            Hops::Multi { .. } => Self::Multihop,
        }
    }
}

/// Between which ends a session runs. Whatever relies on BFD between the same ends shares one session (RFC 5882 section 2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    pub remote: IpAddr,
    /// The scope of a link-local `remote`, else zero.
    pub scope: u32,
    /// `None`: whichever the kernel takes.
    pub local: Option<IpAddr>,
    /// `None`: whichever leads there.
    pub interface: Option<String>,
    pub port: Port,
}

impl Path {
    /// The path to a peer whose address is configured, whether there is a BGP session with it or not.
    pub fn of(transport: &Transport, hops: Hops) -> Self {
        let scope = match transport.remote {
            SocketAddr::V6(remote) => remote.scope_id(),
            SocketAddr::V4(_) => 0,
        };
        Self {
            remote: transport.remote.ip().to_canonical(),
            scope,
            local: transport.source.map(|source| source.to_canonical()),
            interface: transport.source_interface.clone(),
            port: hops.into(),
        }
    }

    /// The path between the ends of a BGP session that is up, for a peer that only its session tells the address of.
    pub fn between(endpoints: Endpoints, transport: &Transport, hops: Hops) -> Self {
        let scope = match endpoints.remote {
            SocketAddr::V6(remote) if remote.ip().is_unicast_link_local() => remote.scope_id(),
            SocketAddr::V4(_) | SocketAddr::V6(_) => 0,
        };
        Self {
            remote: endpoints.remote.ip().to_canonical(),
            scope,
            local: Some(endpoints.local.ip().to_canonical()),
            interface: transport.source_interface.clone(),
            port: hops.into(),
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.remote)?;
        if let Some(local) = self.local {
            write!(f, " from {local}")?;
        }
        if let Some(interface) = &self.interface {
            write!(f, " over {interface}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_that_cannot_work_is_refused_in_words() {
        let ms = Duration::from_millis;
        let good = BfdConfig::new();
        let cases = [
            (good, None),
            (BfdConfig { transmit_interval: ms(10), receive_interval: ms(60_000), multiplier: 1, ..good }, None),
            (BfdConfig { transmit_interval: ms(9), ..good }, Some("transmit interval 9ms")),
            (BfdConfig { receive_interval: ms(60_001), ..good }, Some("receive interval 60.001s")),
            (BfdConfig { multiplier: 0, ..good }, Some("multiplier")),
        ];
        for (config, expected) in cases {
            match (config.check(), expected) {
                (Ok(()), None) => {}
                (Err(error), Some(part)) => assert!(error.to_string().contains(part), "{error}"),
                (outcome, _) => panic!("{config:?}: {outcome:?}"),
            }
        }
    }
}
