//! The objects of group `roadstead.dev/v1alpha1` as users write them: serde and schema, nothing else.
//!
//! What one object can say about itself is a CEL rule here, so that the API server refuses it on the spot. The same rules, and those
//! that CEL cannot state, are in [`crate::checked`], which is what the directory store and the running components go by.
//! All kinds are cluster-scoped, in the category `roadstead`, and bounded in every list and text (else CEL's cost estimate refuses
//! the CRD). Defaults are serde defaults, and the schema shows them to the API server.

// The derive macros emit private copies of these structs with the span, and so the `pub`, of the original.
#![allow(unreachable_pub)]

mod address_claim;
mod address_pool;
mod advertisement;
mod bgp_peer;
mod cluster_link;
mod cluster_network;
mod condition;
mod edge_host;
mod node_report;
mod pod_pool;
mod route_server;
mod selector;
mod text;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub use address_claim::*;
pub use address_pool::*;
pub use advertisement::*;
pub use bgp_peer::*;
pub use cluster_link::*;
pub use cluster_network::*;
pub use condition::*;
pub use edge_host::*;
pub use node_report::*;
pub use pod_pool::*;
pub use route_server::*;
pub use selector::*;
pub use text::*;

/// The definitions of all our kinds, in alphabetical order.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![
        AddressClaim::crd(),
        AddressPool::crd(),
        Advertisement::crd(),
        BgpPeer::crd(),
        ClusterLink::crd(),
        ClusterNetwork::crd(),
        EdgeHost::crd(),
        NodeReport::crd(),
        PodPool::crd(),
        RouteServer::crd(),
    ]
}
