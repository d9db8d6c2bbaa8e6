//! What pods reach by way of their node alone: Services, and pods that are not on the network themselves.

use axum::Json;
use axum::extract::State;
use ipnet::IpNet;
use roadstead_api::kinds::PodAdvertisement;
use roadstead_api::store::Kind;
use roadstead_cni::socket::{Reach, ReachRequest, Refusal};

use super::Pods;
use super::server::{Answer, answer};
use super::world::World;

/// The ranges that lie behind the node. A range of pods that holds the subnet of a pool which no router is told of is not one of them:
/// those pods are on the network that the nodes' cards are on, and a node may be the wrong way there, or not allowed to pass on what
/// comes from another card's address.
fn behind(world: &World) -> Result<Reach, Refusal> {
    if world.unsynced().contains(&Kind::ClusterNetwork) {
        let message = "the speaker has just started, and has not read the ClusterNetwork yet".to_owned();
        return Err(Refusal { code: Refusal::TRY_LATER, message, details: String::new() });
    }
    let Some(network) = world.network() else { return Ok(Reach::default()) };
    let on_the_network = |range: &IpNet| {
        let mut pools = world.pod_pools().filter(|pool| pool.advertise == PodAdvertisement::None);
        pools.any(|pool| overlap(range, &pool.subnet))
    };
    let pods = network.pod_cidrs.iter().filter(|range| !on_the_network(range));
    Ok(Reach { cluster_cidrs: network.service_cidrs.iter().chain(pods).copied().collect() })
}

/// Answers the plugin.
pub(super) async fn reach(State(pods): State<Pods>, Json(_): Json<ReachRequest>) -> Answer<Reach> {
    answer(behind(&pods.state().world))
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use roadstead_api::store::{Event, Object};
    use serde_json::json;

    use super::super::book::Book;
    use super::*;

    #[test]
    fn services_and_pods_behind_the_node() {
        let (mut world, mut book) = (World::new("node-1", &[]), Book::new("node-1", Vec::new()));
        let mut handle = |world: &mut World, event| world.handle(&event, &mut book, &mut BTreeSet::new());
        assert_eq!(behind(&world).unwrap_err().code, Refusal::TRY_LATER);
        handle(&mut world, Event::Synced(Kind::ClusterNetwork));
        assert_eq!(behind(&world).unwrap(), Reach::default());

        let network = json!({
            "metadata": { "name": "default" },
            "spec": {
                "podCIDRs": ["10.88.0.0/16", "172.31.0.0/16", "10.64.0.0/14"],
                "serviceCIDRs": ["10.96.0.0/16", "fd96::/108"],
            },
        });
        let network = Object::ClusterNetwork(Arc::new(serde_json::from_value(network).unwrap()));
        handle(&mut world, Event::Applied(network));
        let pool = json!({ "metadata": { "name": "ens5" }, "spec": { "subnet": "172.31.16.0/20" } });
        handle(&mut world, Event::Applied(Object::PodPool(Arc::new(serde_json::from_value(pool).unwrap()))));
        let shown: Vec<String> = behind(&world).unwrap().cluster_cidrs.iter().map(ToString::to_string).collect();
        // Pods of 172.31.0.0/16 are on the network.
        assert_eq!(shown, ["10.96.0.0/16", "fd96::/108", "10.88.0.0/16", "10.64.0.0/14"]);
    }
}
