//! What the runtime asks: environment and standard input, checked.

mod chained;

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::answer::CallError;
use crate::socket::{
    AddRequest, Attachment, CheckRequest, DelRequest, GcRequest, NetworkIdentity, PodIdentity, StatusRequest,
};
use crate::version::Version;
pub use chained::{Chained, Link};

/// The speaker's socket where the configuration names none.
pub const DEFAULT_SOCKET: &str = "/run/roadstead/speaker.sock";

/// This program, as lists of plugins name it.
const PLUGIN: &str = "roadstead-cni";

/// The variables of the environment, section "Parameters".
const COMMAND: &str = "CNI_COMMAND";
const CONTAINER_ID: &str = "CNI_CONTAINERID";
const NETNS: &str = "CNI_NETNS";
const IFNAME: &str = "CNI_IFNAME";
const ARGS: &str = "CNI_ARGS";

/// A call that can be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The version that the answer is to have.
    pub version: Version,
    /// Where the speaker is.
    pub socket: PathBuf,
    /// What is asked.
    pub action: Action,
}

/// What a runtime asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Addresses for an interface.
    Add(AddRequest),
    /// The end of an interface.
    Del(DelRequest),
    /// Whether an interface has its addresses still.
    Check(CheckRequest),
    /// Whether ADD would be served.
    Status(StatusRequest),
    /// What is still in use.
    Gc(GcRequest),
    /// The same questions, asked of a plugin in a list behind the one that made the interface.
    Chained(Chained),
    /// Which versions are spoken.
    Version,
}

/// The network configuration, as far as an IPAM plugin reads it; it is that of the plugin that calls it, whole.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NetworkConfig {
    cni_version: String,
    name: String,
    #[serde(rename = "type")]
    plugin: String,
    ipam: Ipam,
    runtime_config: RequestedIps,
    args: Args,
    prev_result: Option<Value>,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid_attachments: Option<Vec<Attachment>>,
    #[serde(flatten)]
    link: Link,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Ipam {
    socket: Option<PathBuf>,
    network: Option<String>,
    pools: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Args {
    cni: RequestedIps,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RequestedIps {
    ips: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PreviousResult {
    interfaces: Vec<PreviousInterface>,
    ips: Vec<PreviousIp>,
    routes: Vec<PreviousRoute>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PreviousInterface {
    name: String,
    sandbox: String,
}

#[derive(Debug, Deserialize)]
struct PreviousIp {
    address: IpNet,
    gateway: Option<IpAddr>,
    interface: Option<usize>,
}

#[derive(Debug, Deserialize)]
struct PreviousRoute {
    dst: IpNet,
    gw: Option<IpAddr>,
}

impl Call {
    /// Reads a call. With what is wrong comes the version that the answer is to have, as far as it is known.
    pub fn read(variable: &dyn Fn(&str) -> Option<String>, stdin: &[u8]) -> Result<Self, (Version, CallError)> {
        // By way of a map, because serde takes a list for a struct as well.
        let config: NetworkConfig = serde_json::from_slice::<Map<String, Value>>(stdin)
            .and_then(|config| serde_json::from_value(Value::Object(config)))
            .map_err(|error| (Version::NEWEST, CallError::Decode(error.to_string())))?;
        let command = variable(COMMAND).unwrap_or_default();
        let version = match config.cni_version.parse() {
            Ok(version) => version,
            // Whoever asks which versions are spoken may speak another.
            Err(_) if command == "VERSION" => Version::NEWEST,
            Err(error) => return Err((Version::NEWEST, CallError::from(error))),
        };
        let environment = Environment(variable);
        // As `ipam.type` it is told the configuration of the plugin that calls it, whose type is another.
        let is_chained = config.plugin == PLUGIN && command != "VERSION";
        let action = match is_chained {
            true => environment.chained(&command, &config, version).map(Action::Chained),
            false => environment.action(&command, &config, version),
        };
        let action = action.map_err(|error| (version, error))?;
        let socket = if is_chained { config.link.socket } else { config.ipam.socket };
        let socket = socket.unwrap_or_else(|| DEFAULT_SOCKET.into());
        Ok(Self { version, socket, action })
    }
}

struct Environment<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Environment<'_> {
    fn action(&self, command: &str, config: &NetworkConfig, version: Version) -> Result<Action, CallError> {
        Ok(match command {
            "ADD" => Action::Add(AddRequest {
                attachment: self.attachment()?,
                pod: self.pod(),
                netns: self.netns()?,
                network: network(config)?,
                requested: requested(config)?,
            }),
            "DEL" => Action::Del(DelRequest { attachment: self.attachment()?, network: name(config)? }),
            "CHECK" => {
                since(Version::V0_4_0, command, version)?;
                let previous = previous(config)?.unwrap_or_default();
                let addresses = previous.ips.iter().map(|ip| ip.address.addr()).collect();
                Action::Check(CheckRequest { attachment: self.attachment()?, network: name(config)?, addresses })
            }
            "STATUS" => {
                since(Version::V1_1_0, command, version)?;
                Action::Status(StatusRequest { network: network(config)? })
            }
            "GC" => {
                since(Version::V1_1_0, command, version)?;
                Action::Gc(GcRequest { network: name(config)?, valid: valid_attachments(config)? })
            }
            "VERSION" => Action::Version,
            _ => return Err(unknown_command(command, version)),
        })
    }

    fn value(&self, variable: &str) -> String {
        (self.0)(variable).unwrap_or_default()
    }

    fn attachment(&self) -> Result<Attachment, CallError> {
        let container_id = self.value(CONTAINER_ID);
        if !is_identifier(&container_id) {
            let expected =
                "must start with a letter or digit; behind it letters, digits, '_', '.' and '-'; at most 200";
            return Err(CallError::Environment { variable: CONTAINER_ID, given: container_id, expected });
        }
        let interface = self.value(IFNAME);
        if !is_interface(&interface) {
            let expected =
                "must be the name of an interface: 1 to 15 characters without '/', ':' and spaces, not '.' or '..'";
            return Err(CallError::Environment { variable: IFNAME, given: interface, expected });
        }
        Ok(Attachment { container_id, interface })
    }

    fn netns(&self) -> Result<String, CallError> {
        let netns = self.value(NETNS);
        if netns.is_empty() {
            let expected = "must be the path of the container's network namespace";
            return Err(CallError::Environment { variable: NETNS, given: netns, expected });
        }
        Ok(netns)
    }

    /// The pod, as kubelet's runtimes tell it; what else stands in `CNI_ARGS` is not for us.
    fn pod(&self) -> Option<PodIdentity> {
        let args = self.value(ARGS);
        let value = |key: &str| {
            let mut pairs = args.split(';').filter_map(|pair| pair.split_once('='));
            pairs.find(|(name, value)| *name == key && !value.is_empty()).map(|(_, value)| value.to_owned())
        };
        let (namespace, name) = (value("K8S_POD_NAMESPACE")?, value("K8S_POD_NAME")?);
        Some(PodIdentity { namespace, name, uid: value("K8S_POD_UID") })
    }
}

fn unknown_command(given: &str, version: Version) -> CallError {
    let expected = match version {
        Version::V0_3_1 => "must be ADD, DEL or VERSION in version 0.3.1",
        Version::V0_4_0 | Version::V1_0_0 => "must be ADD, DEL, CHECK or VERSION before version 1.1.0",
        Version::V1_1_0 => "must be ADD, DEL, CHECK, STATUS, GC or VERSION",
    };
    CallError::Environment { variable: COMMAND, given: given.to_owned(), expected }
}

/// Refuses a command that the version does not have yet.
fn since(first: Version, command: &str, version: Version) -> Result<(), CallError> {
    if version >= first { Ok(()) } else { Err(unknown_command(command, version)) }
}

/// Without the list nothing may be taken for gone.
fn valid_attachments(config: &NetworkConfig) -> Result<Vec<Attachment>, CallError> {
    config.valid_attachments.clone().ok_or_else(|| CallError::Config {
        field: "cni.dev/valid-attachments",
        given: "nothing".to_owned(),
        expected: "GC needs the list of the attachments that are in use".to_owned(),
    })
}

fn previous(config: &NetworkConfig) -> Result<Option<PreviousResult>, CallError> {
    let read = config.prev_result.clone().map(serde_json::from_value).transpose();
    read.map_err(|error| CallError::Decode(format!("prevResult: {error}")))
}

fn name(config: &NetworkConfig) -> Result<String, CallError> {
    if !is_identifier(&config.name) {
        let expected = "must start with a letter or digit; behind it letters, digits, '_', '.' and '-'".to_owned();
        return Err(CallError::Config { field: "name", given: format!("{:?}", config.name), expected });
    }
    Ok(config.name.clone())
}

fn network(config: &NetworkConfig) -> Result<NetworkIdentity, CallError> {
    let definition = config.ipam.network.clone();
    if let Some(given) = definition.as_ref().filter(|given| !is_definition(given)) {
        let expected = "must be namespace/name of a NetworkAttachmentDefinition".to_owned();
        return Err(CallError::Config { field: "ipam.network", given: format!("{given:?}"), expected });
    }
    Ok(NetworkIdentity { name: name(config)?, definition, pools: config.ipam.pools.clone() })
}

/// The addresses that are asked for, by the capability `ips` or by `args`; with or without a length, which the pool knows better.
fn requested(config: &NetworkConfig) -> Result<Vec<IpAddr>, CallError> {
    let fields = [("runtimeConfig.ips", &config.runtime_config.ips), ("args.cni.ips", &config.args.cni.ips)];
    let mut addresses = Vec::new();
    for (field, text) in fields.into_iter().flat_map(|(field, texts)| texts.iter().map(move |text| (field, text))) {
        let address = text.parse::<IpAddr>().or_else(|_| text.parse::<IpNet>().map(|net| net.addr()));
        let address = address.map_err(|_| CallError::Config {
            field,
            given: format!("{text:?}"),
            expected: "must be an address, with or without a length: 192.0.2.7, 192.0.2.7/24".to_owned(),
        })?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// Container IDs and network names, section "Parameters". The bound keeps both within a file name.
fn is_identifier(text: &str) -> bool {
    let is_inside = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    text.len() <= 200 && text.starts_with(|first: char| first.is_ascii_alphanumeric()) && text.bytes().all(is_inside)
}

/// What the kernel takes for an interface's name (`dev_valid_name`).
fn is_interface(text: &str) -> bool {
    let is_inside = |c: char| c != '/' && c != ':' && !c.is_whitespace() && !c.is_control();
    !matches!(text, "" | "." | "..") && text.len() <= 15 && text.chars().all(is_inside)
}

fn is_definition(text: &str) -> bool {
    text.split_once('/').is_some_and(|(namespace, name)| is_identifier(namespace) && is_identifier(name))
}

#[cfg(test)]
mod tests;
