//! Kubernetes' own kinds, reduced to the fields that Roadstead reads.
//!
//! A speaker holds every Service and EndpointSlice of a cluster: whole objects would cost it ten times the memory, so fields that
//! nobody here reads are dropped while decoding. These are raw forms as the API gives them; what they mean is in [`crate::checked`].

mod endpoint_slice;
mod namespace;
mod node;
mod pod;
mod secret;
mod service;
mod service_cidr;
mod stateful_set;

pub use endpoint_slice::{Endpoint, EndpointConditions, EndpointSlice};
pub use namespace::Namespace;
pub use node::{Node, NodeAddress, NodeCondition, NodeSpec, NodeStatus};
pub use pod::{Pod, PodSpec, PodStatus};
pub use secret::Secret;
pub use service::{Ingress, LoadBalancerStatus, Service, ServicePort, ServiceSpec, ServiceStatus};
pub use service_cidr::{ServiceCidr, ServiceCidrSpec};
pub use stateful_set::{Ordinals, StatefulSet, StatefulSetSpec};

/// Names a reduced kind for kube, which needs to know where on the API server it lives.
macro_rules! resource {
    ($kind:ident, $group:literal, $version:literal, $plural:literal, $scope:ident) => {
        resource!($kind as stringify!($kind), $group, $version, $plural, $scope);
    };
    ($kind:ident as $name:expr, $group:literal, $version:literal, $plural:literal, $scope:ident) => {
        impl kube::Resource for $kind {
            type DynamicType = ();
            type Scope = kube::core::$scope;

            fn kind(_: &()) -> std::borrow::Cow<'_, str> {
                $name.into()
            }

            fn group(_: &()) -> std::borrow::Cow<'_, str> {
                $group.into()
            }

            fn version(_: &()) -> std::borrow::Cow<'_, str> {
                $version.into()
            }

            fn plural(_: &()) -> std::borrow::Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &kube::core::ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut kube::core::ObjectMeta {
                &mut self.metadata
            }
        }
    };
}
use resource;
