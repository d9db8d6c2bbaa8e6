//! Routers that other people wrote, as one would meet them: started from a configuration file, asked over their own
//! command line.

mod bird;
mod config;
mod exabgp;
mod frr;
mod gobgp;
mod openbgpd;

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::scene::Scene;

pub use bird::Bird;
pub use config::{AsnOctets, Bfd, Connect, GracefulRestart, Hops, Neighbor, Role, RouterConfig, Wanted};
pub use exabgp::Exabgp;
pub use frr::Frr;
pub use gobgp::Gobgp;
pub use openbgpd::Openbgpd;

/// A path to a prefix, as a router tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The neighbour that it came from; unspecified for the router's own.
    pub from: IpAddr,
    pub next_hop: IpAddr,
    /// AS numbers, separated by blanks.
    pub as_path: String,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    pub local_preference: Option<u32>,
    /// Only to Customer (RFC 9234).
    pub otc: Option<u32>,
    /// The accumulated metric (RFC 7311); of BIRD alone.
    pub aigp: Option<u64>,
    pub communities: BTreeSet<String>,
    pub large_communities: BTreeSet<String>,
    /// In the router's own words; not of every router.
    pub extended_communities: BTreeSet<String>,
}

impl Path {
    /// With nothing but where it comes from and where it leads to.
    fn bare(from: IpAddr, next_hop: IpAddr) -> Self {
        Self {
            from,
            next_hop,
            as_path: String::new(),
            med: None,
            local_preference: None,
            otc: None,
            aigp: None,
            communities: BTreeSet::new(),
            large_communities: BTreeSet::new(),
            extended_communities: BTreeSet::new(),
        }
    }
}

/// What the scenarios ask of any router.
pub trait Router {
    /// Its name, for messages.
    fn name(&self) -> &'static str;

    /// All paths that it has learned for a prefix.
    fn paths(&self, prefix: &str) -> Result<Vec<Path>>;

    /// The state of the session with a neighbour, in the router's own word.
    fn session(&self, neighbor: IpAddr) -> Result<String>;

    /// Has it ask a neighbour for everything again (RFC 2918).
    fn ask_again(&self, neighbor: IpAddr) -> Result<()>;

    /// Has it close the session with a neighbour by hand, and say why (RFC 9003).
    fn shut_down(&self, neighbor: IpAddr, text: &str) -> Result<()>;

    /// Has it try again at once where it rests after an error.
    fn hurry(&self, _neighbor: IpAddr) -> Result<()> {
        Ok(())
    }

    /// All that it has logged: what it was told when a session ended stands nowhere else in some of them.
    fn log(&self) -> String;

    /// Ends it as a crash does.
    fn crash(&mut self) -> Result<()>;

    /// Starts it again after [`Router::crash`], with the same configuration.
    fn start_again(&mut self, scene: &Scene) -> Result<()>;

    /// The state of the BFD session with a neighbour, in the router's own word.
    fn bfd(&self, neighbor: IpAddr) -> Result<String> {
        anyhow::bail!("{} has no BFD with {neighbor}", self.name())
    }

    /// Fails, saying what it saw, unless the session is up.
    fn ensure_established(&self, neighbor: IpAddr) -> Result<()> {
        let state = self.session(neighbor)?;
        ensure!(state.eq_ignore_ascii_case("established"), "{}'s session with {neighbor} is {state}", self.name());
        Ok(())
    }

    /// The one path to a prefix that came from a neighbour.
    fn path_from(&self, neighbor: IpAddr, prefix: &str) -> Result<Path> {
        let mut paths = self.paths(prefix)?;
        paths.retain(|path| path.from == neighbor);
        ensure!(paths.len() == 1, "{} has {} paths for {prefix} from {neighbor}", self.name(), paths.len());
        Ok(paths.remove(0))
    }

    /// Fails, saying what it saw, unless exactly these next hops lead to the prefix.
    fn ensure_next_hops(&self, prefix: &str, expected: &[&str]) -> Result<()> {
        let paths = self.paths(prefix)?;
        let found: BTreeSet<String> = paths.iter().map(|path| path.next_hop.to_string()).collect();
        let expected: BTreeSet<String> = expected.iter().map(|&next_hop| next_hop.to_owned()).collect();
        ensure!(found == expected, "{}'s next hops for {prefix} are {found:?}, not {expected:?}", self.name());
        Ok(())
    }
}

/// The member `path` (`a/b/0`) of a JSON document, and what there was instead when it lacks.
fn member<'a>(document: &'a Value, path: &str) -> Result<&'a Value> {
    document.pointer(&format!("/{path}")).with_context(|| format!("no {path} in {document}"))
}

/// An address, without the link behind a link-local one (`fe80::1%eth0`).
fn address(text: &str) -> Result<IpAddr> {
    let address = text.split_once('%').map_or(text, |(address, _)| address);
    address.parse().with_context(|| format!("{text} is no address"))
}
