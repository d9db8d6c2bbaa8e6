//! `ClusterNetwork`: who this cluster is. One object, named `default`.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{AsnNumber, CidrText, ObjectName};

/// The cluster's name, its ASN and its address ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "roadstead.dev",
    version = "v1alpha1",
    kind = "ClusterNetwork",
    plural = "clusternetworks",
    category = "roadstead",
    derive = "PartialEq",
    doc = "Who this cluster is. One object, named default.",
    validation = Rule::new("self.metadata.name == 'default'").message("there is one ClusterNetwork, and its name is default"),
    printcolumn = r#"{"name":"Cluster","type":"string","jsonPath":".spec.clusterName"}"#,
    printcolumn = r#"{"name":"ASN","type":"integer","jsonPath":".spec.asn"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterNetworkSpec {
    /// The cluster's name among those that it is joined with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<ObjectName>,
    /// The ASN of every session whose `BGPPeer` names no `localASN`.
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
    /// Where the nodes have their addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "fabricCIDRs")]
    #[schemars(length(max = 64))]
    pub fabric_cidrs: Vec<CidrText>,
}
