//! What pods reach by way of their node alone: Services, and pods that are not on the network themselves.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use ipnet::IpNet;
use roadstead_api::checked::{Network, PodPool};
use roadstead_api::kinds::PodAdvertisement;
use roadstead_api::store::{Event, Kind, Object};
use roadstead_cni::socket::{Reach, ReachRequest, Refusal};

use super::Pods;
use super::server::{Answer, answer};

/// What the store knows that says so.
#[derive(Default)]
pub(super) struct Behind {
    network: Option<Network>,
    /// The subnets of pools whose addresses no router is told: they are on the network that the nodes' cards are on.
    on_the_network: BTreeMap<String, IpNet>,
    is_known: bool,
}

impl Behind {
    /// Takes an event in.
    pub(super) fn handle(&mut self, event: &Event) {
        match event {
            Event::Synced(Kind::ClusterNetwork) => self.is_known = true,
            Event::Applied(Object::ClusterNetwork(raw)) => {
                // What is wrong with it is said where the sessions are; its last good version stays in force.
                if let Ok(network) = Network::check(raw) {
                    self.network = Some(network);
                }
            }
            Event::Applied(Object::PodPool(raw)) => {
                let Ok(pool) = PodPool::check(raw) else { return };
                if raw.spec.advertise == PodAdvertisement::None {
                    self.on_the_network.insert(pool.name, pool.subnet);
                } else {
                    self.on_the_network.remove(&pool.name);
                }
            }
            Event::Deleted(key, _) => match key.kind {
                Kind::ClusterNetwork if key.name == Network::NAME => self.network = None,
                Kind::PodPool => drop(self.on_the_network.remove(&key.name)),
                _ => {}
            },
            _ => {}
        }
    }

    /// The ranges that lie behind the node. A range of pods that holds a subnet of the network is not one of them: a node may
    /// be the wrong way, or not allowed to pass on what comes from another card's address.
    fn ranges(&self) -> Result<Reach, Refusal> {
        if !self.is_known {
            let message = "the speaker has just started, and has not read the ClusterNetwork yet".to_owned();
            return Err(Refusal { code: Refusal::TRY_LATER, message, details: String::new() });
        }
        let Some(network) = &self.network else { return Ok(Reach::default()) };
        let is_behind = |range: &&IpNet| !self.on_the_network.values().any(|subnet| overlap(range, subnet));
        let pods = network.pod_cidrs.iter().filter(is_behind);
        Ok(Reach { cluster_cidrs: network.service_cidrs.iter().chain(pods).copied().collect() })
    }
}

/// Answers the plugin.
pub(super) async fn reach(State(pods): State<Pods>, Json(_): Json<ReachRequest>) -> Answer<Reach> {
    answer(pods.state().behind.ranges())
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    #[test]
    fn services_and_pods_behind_the_node() {
        let mut behind = Behind::default();
        assert_eq!(behind.ranges().unwrap_err().code, Refusal::TRY_LATER);
        behind.handle(&Event::Synced(Kind::ClusterNetwork));
        assert_eq!(behind.ranges().unwrap(), Reach::default());

        let network = json!({
            "metadata": { "name": "default" },
            "spec": {
                "podCIDRs": ["10.88.0.0/16", "172.31.0.0/16", "10.64.0.0/14"],
                "serviceCIDRs": ["10.96.0.0/16", "fd96::/108"],
            },
        });
        behind.handle(&Event::Applied(Object::ClusterNetwork(Arc::new(serde_json::from_value(network).unwrap()))));
        let pool = json!({ "metadata": { "name": "ens5" }, "spec": { "subnet": "172.31.16.0/20" } });
        behind.handle(&Event::Applied(Object::PodPool(Arc::new(serde_json::from_value(pool).unwrap()))));
        let shown = |behind: &Behind| -> Vec<String> {
            behind.ranges().unwrap().cluster_cidrs.iter().map(ToString::to_string).collect()
        };
        // Pods of 172.31.0.0/16 are on the network.
        assert_eq!(shown(&behind), ["10.96.0.0/16", "fd96::/108", "10.88.0.0/16", "10.64.0.0/14"]);
    }
}
