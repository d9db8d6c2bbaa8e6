//! What the runtime is answered: addresses in the form of its version, or an error with its code.

use serde_json::{Value, json};

use crate::reach::ReachError;
use crate::socket::{Assignment, Refusal};
use crate::version::{UnknownVersion, Version};

/// Why a call failed. The codes up to 99 are the specification's ("Error"), those from 100 are ours.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The runtime speaks another version.
    #[error(transparent)]
    Version(#[from] UnknownVersion),
    /// A variable of the environment is missing or malformed.
    #[error("{variable}={given:?}: {expected}")]
    Environment {
        /// Its name.
        variable: &'static str,
        /// Its value; empty where it is not set.
        given: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// Standard input could not be read, or is larger than any configuration.
    #[error("cannot read the network configuration from standard input: {0}")]
    Input(String),
    /// Standard input is no network configuration.
    #[error("standard input is no network configuration: {0}")]
    Decode(String),
    /// A field of the network configuration cannot be.
    #[error("network configuration: {field}: {given}: {expected}")]
    Config {
        /// The field.
        field: &'static str,
        /// Its value.
        given: String,
        /// What is allowed.
        expected: String,
    },
    /// The speaker cannot be asked now.
    #[error("the speaker of this node cannot be asked at {socket}: {reason}")]
    Speaker {
        /// Its socket.
        socket: String,
        /// What happened.
        reason: String,
    },
    /// The speaker refuses.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// The ways between an interface and its node cannot be made, or are gone.
    #[error("the ways between {of} and the node: {source}")]
    Ways {
        /// The interface, or the interfaces.
        of: String,
        /// Why not.
        source: ReachError,
    },
}

impl CallError {
    /// The specification's code, section "Error".
    pub fn code(&self) -> u32 {
        match self {
            Self::Version(_) => 1,
            Self::Environment { .. } => 4,
            Self::Input(_) => 5,
            Self::Decode(_) => 6,
            Self::Config { .. } => 7,
            Self::Speaker { .. } => 11,
            Self::Refused(refusal) => refusal.code,
            Self::Ways { .. } => Refusal::WAYS,
        }
    }

    /// As it goes to standard output, where runtimes read it.
    pub fn json(&self, version: Version) -> Value {
        let details = match self {
            Self::Refused(refusal) => refusal.details.as_str(),
            _ => "",
        };
        json!({ "cniVersion": version.as_str(), "code": self.code(), "msg": self.to_string(), "details": details })
    }
}

/// The answer to ADD: the abbreviated result of an IPAM plugin, which has no interfaces.
pub fn assigned(assignment: &Assignment, version: Version) -> Value {
    let address = |given: &crate::socket::AssignedAddress| {
        let mut address = json!({ "address": given.address.to_string() });
        if let Some(gateway) = given.gateway {
            address["gateway"] = gateway.to_string().into();
        }
        // Up to 0.4.0 the family stands beside the address.
        if version <= Version::V0_4_0 {
            address["version"] = if given.address.addr().is_ipv4() { "4" } else { "6" }.into();
        }
        address
    };
    let route = |route: &crate::socket::Route| match route.gateway {
        Some(gateway) => json!({ "dst": route.destination.to_string(), "gw": gateway.to_string() }),
        None => json!({ "dst": route.destination.to_string() }),
    };
    json!({
        "cniVersion": version.as_str(),
        "ips": assignment.addresses.iter().map(address).collect::<Vec<_>>(),
        "routes": assignment.routes.iter().map(route).collect::<Vec<_>>(),
        "dns": {},
    })
}

/// The answer to VERSION.
pub fn versions(asked: Version) -> Value {
    json!({ "cniVersion": asked.as_str(), "supportedVersions": Version::ALL.map(Version::as_str) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignment() -> Assignment {
        serde_json::from_value(json!({
            "addresses": [
                { "address": "172.31.16.11/20", "gateway": "172.31.16.1" },
                { "address": "2001:db8::b/64" },
            ],
            "routes": [{ "destination": "0.0.0.0/0", "gateway": "172.31.16.1" }, { "destination": "10.0.0.0/8" }],
        }))
        .unwrap()
    }

    #[test]
    fn a_result_has_the_form_of_its_version() {
        let routes = json!([{ "dst": "0.0.0.0/0", "gw": "172.31.16.1" }, { "dst": "10.0.0.0/8" }]);
        for version in Version::ALL {
            let mut ips = json!([
                { "address": "172.31.16.11/20", "gateway": "172.31.16.1" },
                { "address": "2001:db8::b/64" },
            ]);
            if version <= Version::V0_4_0 {
                ips[0]["version"] = "4".into();
                ips[1]["version"] = "6".into();
            }
            let expected = json!({ "cniVersion": version.as_str(), "ips": ips, "routes": routes, "dns": {} });
            assert_eq!(assigned(&assignment(), version), expected, "{version}");
        }
    }

    #[test]
    fn an_error_has_its_code_and_a_sentence() {
        let error = CallError::from("0.2.0".parse::<Version>().unwrap_err());
        let expected = json!({
            "cniVersion": "1.1.0",
            "code": 1,
            "msg": "cniVersion \"0.2.0\" is not spoken here; spoken are 0.3.1, 0.4.0, 1.0.0 and 1.1.0",
            "details": "",
        });
        assert_eq!(error.json(Version::NEWEST), expected);
    }
}
