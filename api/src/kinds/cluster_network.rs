//! `ClusterNetwork`: who this cluster is. One object, named `default`.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AsnNumber, CidrText, Condition, ObjectName};

/// The cluster's name, its ASN and its address ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "roadstead.dev",
    version = "v1alpha1",
    kind = "ClusterNetwork",
    plural = "clusternetworks",
    category = "roadstead",
    status = "ClusterNetworkStatus",
    derive = "PartialEq",
    doc = "Who this cluster is. One object, named default.",
    validation = Rule::new("self.metadata.name == 'default'").message("there is one ClusterNetwork, and its name is default"),
    printcolumn = r#"{"name":"Cluster","type":"string","jsonPath":".spec.clusterName"}"#,
    printcolumn = r#"{"name":"ASN","type":"integer","jsonPath":".status.asn"}"#,
    printcolumn = r#"{"name":"Pods","type":"string","jsonPath":".status.podCIDRs"}"#,
    printcolumn = r#"{"name":"Services","type":"string","jsonPath":".status.serviceCIDRs"}"#,
    printcolumn = r#"{"name":"AsDeclared","type":"string","jsonPath":".status.conditions[?(@.type==\"AsDeclared\")].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterNetworkSpec {
    /// The cluster's name among those that it is joined with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<ObjectName>,
    /// The ASN of every session whose `BGPPeer` names no `localASN`. Not given: a private one is derived from the cluster's UID; the
    /// status has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asn: Option<AsnNumber>,
    /// Where pods have their addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "podCIDRs")]
    #[schemars(length(max = 64))]
    pub pod_cidrs: Vec<CidrText>,
    /// Where ClusterIPs come from.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "serviceCIDRs")]
    #[schemars(length(max = 16))]
    pub service_cidrs: Vec<CidrText>,
    /// Where Services of type LoadBalancer have their addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "loadBalancerCIDRs")]
    #[schemars(length(max = 64))]
    pub load_balancer_cidrs: Vec<CidrText>,
    /// Where the nodes have their addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "fabricCIDRs")]
    #[schemars(length(max = 64))]
    pub fabric_cidrs: Vec<CidrText>,
}

/// Who the cluster is in effect: what was declared, and what is in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterNetworkStatus {
    /// The ASN in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asn: Option<AsnNumber>,
    /// Where pods have their addresses: the nodes' podCIDRs and the pools for pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "podCIDRs")]
    #[schemars(length(max = 1024))]
    pub pod_cidrs: Vec<CidrText>,
    /// Where ClusterIPs come from.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "serviceCIDRs")]
    #[schemars(length(max = 64))]
    pub service_cidrs: Vec<CidrText>,
    /// Where Services of type LoadBalancer have their addresses: the pools in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "loadBalancerCIDRs")]
    #[schemars(length(max = 1024))]
    pub load_balancer_cidrs: Vec<CidrText>,
    /// Where the nodes have their addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "fabricCIDRs")]
    #[schemars(length(max = 1024))]
    pub fabric_cidrs: Vec<CidrText>,
    /// `AsDeclared`: what is in use lies within what was declared; else what does not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}
