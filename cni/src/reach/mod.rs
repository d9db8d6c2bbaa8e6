//! The ways that a pod lacks under ipvlan and macvlan: to its own node, to Services, and back by the interface that was asked.
//!
//! ```text
//!   pod      eth0 (macvlan) ---- network card ---- the network: its subnet, its gateway
//!     '----- rs... (veth) ------ rs... ---- node: its addresses, Services, pods behind it
//! ```
//!
//! A child of a network card cannot talk to the machine that the card is in, and what never passes through that machine does not
//! meet kube-proxy. So each interface gets a veth pair to the node, routes to what lies there, and a table of its own, in which
//! packets from its addresses look: a network that takes only the addresses of its own card (every cloud) drops answers that leave by
//! another.
//!
//! Everything hangs on the veth pair, and its name follows from the call (`name.rs`): removing it removes the routes and neighbours at
//! both ends, and it goes by itself with the pod's network namespace. What is to be there is worked out without a kernel (`plan.rs`).

mod kernel;
mod name;
mod plan;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use netlink_packet_route::link::InfoKind;

use crate::socket::Attachment;
pub use kernel::KernelError;
use kernel::{Kernel, Link, MAIN, NODE_TABLE, VethEnd, within};
use plan::{Given, Plan, plan};

/// Packets are taken only from where an answer would be sent to.
const STRICT: &str = "1";
/// Packets are taken from wherever an answer can be sent to at all: behind the node's end there is everything.
const LOOSE: &str = "2";

/// An interface of a pod, as the plugin before this one made it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its addresses.
    pub addresses: Vec<GivenAddress>,
    /// Its routes, with their gateways where these were given.
    pub routes: Vec<(IpNet, Option<IpAddr>)>,
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenAddress {
    /// The address with its subnet's length.
    pub address: IpNet,
    /// The gateway of the subnet.
    pub gateway: Option<IpAddr>,
}

/// Why a way is not there.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// The kernel refuses.
    #[error("cannot {0}")]
    Kernel(#[from] KernelError),
    /// The container's network namespace cannot be opened.
    #[error("cannot open the network namespace {}: {source}", path.display())]
    Netns {
        /// Its path.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// A setting of the kernel cannot be written.
    #[error("cannot write {value} to {path}: {source}")]
    Setting {
        /// Where.
        path: String,
        /// What.
        value: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
    /// The plugin before this one made no such interface.
    #[error("the container has no interface {0}")]
    NoInterface(String),
    /// CHECK finds that something is gone.
    #[error("{0} is gone")]
    Gone(String),
}

/// One interface's ways.
pub struct Ways<'a> {
    /// The name of the network.
    pub network: &'a str,
    /// The interface.
    pub attachment: &'a Attachment,
}

impl Ways<'_> {
    /// Makes them, whatever was there before; all or none.
    pub fn make(&self, netns: &Path, interface: &Interface, cluster: &[IpNet]) -> Result<(), ReachError> {
        let file = open(netns)?;
        let made = self.remove_from(Some(&file)).and_then(|()| self.make_in(&file, interface, cluster));
        made.inspect_err(|_| {
            // What the first error says is what matters.
            let _ = self.remove_from(Some(&file));
        })
    }

    /// Removes what is left of them. A network namespace that is gone has taken its end with it.
    pub fn remove(&self, netns: Option<&Path>) -> Result<(), ReachError> {
        let file = netns.and_then(|netns| open(netns).ok());
        self.remove_from(file.as_ref())
    }

    /// Fails when something of them is missing.
    pub fn check(&self, netns: &Path, interface: &Interface) -> Result<(), ReachError> {
        let name = self.name();
        let mut node = Kernel::here()?;
        let node_end = node.link(&name)?.ok_or_else(|| ReachError::Gone(format!("interface {name} of the node")))?;
        let node_routes = node.routes(NODE_TABLE)?;
        let (link, rules) = within(&open(netns)?, || {
            let mut pod = Kernel::here()?;
            Ok::<_, ReachError>((self.link(&mut pod)?, pod.rules()?))
        })??;
        for address in interface.addresses.iter().map(|given| given.address.addr()) {
            let is_way = |route: &kernel::FoundRoute| {
                route.destination == IpNet::from(address) && route.link == Some(node_end.index)
            };
            if !node_routes.iter().any(is_way) {
                return Err(ReachError::Gone(format!("the node's route to {address}")));
            }
            if !rules.contains(&kernel::Rule { source: address, table: plan::table(link.index) }) {
                return Err(ReachError::Gone(format!("the pod's rule for packets from {address}")));
            }
        }
        Ok(())
    }

    /// Removes those of a network whose interfaces are not among the valid ones.
    pub fn collect(network: &str, valid: &[Attachment]) -> Result<(), ReachError> {
        let valid: BTreeSet<String> = valid.iter().map(|attachment| name::link_name(network, attachment)).collect();
        let mut node = Kernel::here()?;
        let ours = name::of_network(network);
        let is_left = |link: &Link| {
            link.kind == Some(InfoKind::Veth) && link.name.starts_with(&ours) && !valid.contains(&link.name)
        };
        for link in node.links()?.into_iter().filter(is_left) {
            node.delete_link(&link.name)?;
        }
        Ok(())
    }

    fn name(&self) -> String {
        name::link_name(self.network, self.attachment)
    }

    fn link(&self, pod: &mut Kernel) -> Result<Link, ReachError> {
        let name = &self.attachment.interface;
        pod.link(name)?.ok_or_else(|| ReachError::NoInterface(name.clone()))
    }

    fn make_in(&self, netns: &File, interface: &Interface, cluster: &[IpNet]) -> Result<(), ReachError> {
        let name = self.name();
        let [node_mac, pod_mac] = name::macs(self.network, self.attachment);
        let mut node = Kernel::here()?;
        let (mut pod, link) = within(netns, || {
            let mut pod = Kernel::here()?;
            let link = self.link(&mut pod)?;
            Ok::<_, ReachError>((pod, link))
        })??;
        let (near, far) = (VethEnd { name: &name, mac: node_mac }, VethEnd { name: &name, mac: pod_mac });
        node.add_veth(&near, &far, netns, link.mtu)?;
        let end = |kernel: &mut Kernel| kernel.link(&name)?.ok_or_else(|| ReachError::NoInterface(name.clone()));
        let (node_end, pod_end) = (end(&mut node)?.index, end(&mut pod)?.index);
        node.bring_up(node_end)?;
        pod.bring_up(pod_end)?;
        let main = pod.routes(MAIN)?;
        let node_addresses = addresses_of_node(&mut node)?;
        let Plan { node_routes, pod_routes, rules, hops } = plan(&Given {
            interface,
            link: link.index,
            pod_end,
            node_end,
            node: &node_addresses,
            cluster,
            main: &main,
        });

        set("ipv4", &name, "rp_filter", STRICT)?;
        set("ipv4", &name, "forwarding", "1")?;
        // A pod is no router of the node's.
        set("ipv6", &name, "accept_ra", "0")?;
        for route in &node_routes {
            node.add_neighbour(route.destination.addr(), pod_mac, node_end)?;
            node.add_route(route)?;
            node.look_for_pods(route.destination.addr().is_ipv6())?;
        }

        within(netns, || {
            set("ipv4", &name, "rp_filter", LOOSE)?;
            set("ipv4", &self.attachment.interface, "rp_filter", LOOSE)
        })??;
        for hop in hops {
            pod.add_neighbour(hop, node_mac, pod_end)?;
        }
        for route in &pod_routes {
            pod.add_route(route)?;
        }
        // Last, because a rule turns packets away from what has worked so far.
        for rule in rules {
            pod.add_rule(rule)?;
        }
        Ok(())
    }

    fn remove_from(&self, netns: Option<&File>) -> Result<(), ReachError> {
        Kernel::here()?.delete_link(&self.name())?;
        let Some(netns) = netns else { return Ok(()) };
        within(netns, || {
            let mut pod = Kernel::here()?;
            let own = pod.link(&self.attachment.interface)?.map(|link| plan::table(link.index));
            for rule in pod.rules()? {
                let is_own = own == Some(rule.table);
                // Of an interface that is gone nobody knows the index any more.
                let is_stale = match plan::link_of(rule.table) {
                    Some(index) if !is_own => pod.link_of(index)?.is_none(),
                    _ => false,
                };
                if is_own || is_stale {
                    pod.delete_rule(rule)?;
                }
            }
            own.map_or(Ok(()), |table| pod.flush(table)).map_err(ReachError::from)
        })?
    }
}

/// The addresses by which pods know their node. Not those of dummy interfaces: kube-proxy keeps every Service's on one.
fn addresses_of_node(node: &mut Kernel) -> Result<Vec<IpNet>, ReachError> {
    let mut found = Vec::new();
    for (index, address) in node.addresses()? {
        let kind = node.link_of(index)?.and_then(|link| link.kind);
        if kind != Some(InfoKind::Dummy) && !address.addr().is_loopback() {
            found.push(address);
        }
    }
    Ok(found)
}

fn open(netns: &Path) -> Result<File, ReachError> {
    File::open(netns).map_err(|source| ReachError::Netns { path: netns.to_owned(), source })
}

/// Writes a setting of an interface. A family that the kernel does not have needs none.
fn set(family: &str, link: &str, setting: &str, value: &'static str) -> Result<(), ReachError> {
    let path = format!("/proc/sys/net/{family}/conf/{link}/{setting}");
    match fs::write(&path, value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && family == "ipv6" => Ok(()),
        done => done.map_err(|source| ReachError::Setting { path, value, source }),
    }
}
