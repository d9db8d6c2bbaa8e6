//! Routers that other people wrote, as one would meet them: started from a configuration file, asked over their own
//! command line.

mod bird;
mod frr;
mod gobgp;

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

pub use bird::Bird;
pub use frr::Frr;
pub use gobgp::Gobgp;

/// What a router is told: itself and its neighbours.
#[derive(Clone, Debug)]
pub struct RouterConfig {
    pub asn: u32,
    /// An IPv4 address, in every family: it is only a number (RFC 4271 section 4.2).
    pub router_id: &'static str,
    pub neighbors: Vec<Neighbor>,
}

/// One neighbour of a router.
#[derive(Clone, Debug)]
pub struct Neighbor {
    pub address: IpAddr,
    pub asn: u32,
    /// TCP MD5 (RFC 2385).
    pub password: Option<&'static str>,
}

impl Neighbor {
    /// Without a password.
    pub fn new(address: &str, asn: u32) -> Result<Self> {
        let address = address.parse().with_context(|| format!("{address} is no IP address"))?;
        Ok(Self { address, asn, password: None })
    }

    /// With a TCP MD5 password.
    pub fn with_password(self, password: &'static str) -> Self {
        Self { password: Some(password), ..self }
    }
}

/// A path to a prefix, as a router tells it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    pub next_hop: IpAddr,
    pub communities: BTreeSet<String>,
    pub large_communities: BTreeSet<String>,
}

/// What the scenarios ask of any router.
pub trait Router {
    /// Its name, for messages.
    fn name(&self) -> &'static str;

    /// All paths that it has learned for a prefix.
    fn paths(&self, prefix: &str) -> Result<Vec<Path>>;

    /// The state of the session with a neighbour, in the router's own word.
    fn session(&self, neighbor: IpAddr) -> Result<String>;

    /// Fails, saying what it saw, unless the session is up.
    fn ensure_established(&self, neighbor: IpAddr) -> Result<()> {
        let state = self.session(neighbor)?;
        ensure!(state.eq_ignore_ascii_case("established"), "{}'s session with {neighbor} is {state}", self.name());
        Ok(())
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
