//! The calls to a plugin that stands in a list behind the one that made the interface.

use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use super::{Environment, NETNS, NetworkConfig, name, previous, since, unknown_command, valid_attachments};
use crate::answer::CallError;
use crate::reach::{GivenAddress, Interface};
use crate::socket::Attachment;
use crate::version::Version;

/// The keys of the plugin's own entry in the list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Link {
    /// Where the speaker listens.
    pub socket: Option<PathBuf>,
    /// Whether this network's interfaces get ways to their node; by default they do.
    pub tune_pod_routes: Option<bool>,
    /// What lies behind the node; by default what the speaker says.
    #[serde(rename = "clusterCIDRs")]
    pub cluster_cidrs: Option<Vec<IpNet>>,
}

/// A call to a plugin in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chained {
    /// The interface is there: make its ways.
    Add {
        /// The name of the network.
        network: String,
        /// The interface.
        attachment: Attachment,
        /// The path of the network namespace.
        netns: PathBuf,
        /// The interface as the plugin before this one made it; `None` where this network's are left as they are.
        interface: Option<Interface>,
        /// What lies behind the node, where the configuration says so.
        cluster: Option<Vec<IpNet>>,
        /// What that plugin answered, to be answered again.
        previous: Value,
    },
    /// The interface goes.
    Del {
        /// The name of the network.
        network: String,
        /// The interface.
        attachment: Attachment,
        /// The path of the network namespace; `None` when the runtime has forgotten it.
        netns: Option<PathBuf>,
    },
    /// Are its ways all there?
    Check {
        /// The name of the network.
        network: String,
        /// The interface.
        attachment: Attachment,
        /// The path of the network namespace.
        netns: PathBuf,
        /// The interface; `None` as in ADD.
        interface: Option<Interface>,
    },
    /// Could ADD be served?
    Status {
        /// The name of the network.
        network: String,
        /// Whether the speaker has to be asked for it.
        needs_speaker: bool,
    },
    /// Which interfaces are there still.
    Gc {
        /// The name of the network.
        network: String,
        /// Those that are.
        valid: Vec<Attachment>,
    },
}

impl Environment<'_> {
    pub(super) fn chained(
        &self,
        command: &str,
        config: &NetworkConfig,
        version: Version,
    ) -> Result<Chained, CallError> {
        let network = name(config)?;
        let Link { tune_pod_routes, cluster_cidrs, .. } = &config.link;
        let is_on = tune_pod_routes.unwrap_or(true);
        Ok(match command {
            "ADD" => {
                let attachment = self.attachment()?;
                let interface = interface(config, &attachment)?;
                Chained::Add {
                    network,
                    attachment,
                    netns: self.netns()?.into(),
                    interface: is_on.then_some(interface),
                    cluster: cluster_cidrs.clone(),
                    previous: config.prev_result.clone().unwrap_or_default(),
                }
            }
            "DEL" => {
                let netns = Some(self.value(NETNS)).filter(|netns| !netns.is_empty()).map(PathBuf::from);
                Chained::Del { network, attachment: self.attachment()?, netns }
            }
            "CHECK" => {
                since(Version::V0_4_0, command, version)?;
                let attachment = self.attachment()?;
                let interface = Some(interface(config, &attachment)?).filter(|_| is_on);
                Chained::Check { network, attachment, netns: self.netns()?.into(), interface }
            }
            "STATUS" => {
                since(Version::V1_1_0, command, version)?;
                Chained::Status { network, needs_speaker: is_on && cluster_cidrs.is_none() }
            }
            "GC" => {
                since(Version::V1_1_0, command, version)?;
                Chained::Gc { network, valid: valid_attachments(config)? }
            }
            _ => return Err(unknown_command(command, version)),
        })
    }
}

/// The interface, as the plugin before this one says that it made it.
fn interface(config: &NetworkConfig, attachment: &Attachment) -> Result<Interface, CallError> {
    let previous = previous(config)?.ok_or_else(|| CallError::Config {
        field: "prevResult",
        given: "nothing".to_owned(),
        expected:
            "in a list, roadstead-cni stands behind the plugin that makes the interface; before it, as ipam.type, \
                   it hands out the addresses"
                .to_owned(),
    })?;
    let is_own = |index: Option<usize>| match index.map(|index| previous.interfaces.get(index)) {
        // Where nothing is said there is one interface.
        None => true,
        Some(found) => found.is_some_and(|one| one.name == attachment.interface && !one.sandbox.is_empty()),
    };
    let own = previous.ips.iter().filter(|ip| is_own(ip.interface));
    Ok(Interface {
        addresses: own.map(|ip| GivenAddress { address: ip.address, gateway: ip.gateway }).collect(),
        routes: previous.routes.iter().map(|route| (route.dst, route.gw)).collect(),
    })
}
