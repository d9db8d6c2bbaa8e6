//! Objects as a store hands them out.

use std::fmt;
use std::sync::Arc;

use kube::Resource;
use kube::core::ObjectMeta;
use serde_json::Value;

use crate::checked::ObjectRef;
use crate::kinds::{
    AddressClaim, AddressPool, Advertisement, BgpPeer, ClusterLink, ClusterNetwork, EdgeHost, NodeReport, PodPool,
    RouteServer,
};
use crate::kubernetes::{EndpointSlice, Namespace, Node, Pod, Secret, Service, ServiceCidr};

/// Declares every kind that a store can watch, once.
macro_rules! kinds {
    ($($kind:ident($type:ty), $name:literal, namespaced: $namespaced:literal;)+) => {
        /// A kind that a store can watch.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $(#[doc = concat!("`", $name, "`.")] $kind,)+
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$kind,)+];

            /// As the API writes it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)+
                }
            }

            /// The group and version as the API writes them: `v1`, `roadstead.dev/v1alpha1`.
            pub fn api_version(self) -> String {
                match self {
                    $(Self::$kind => <$type as Resource>::api_version(&()).into_owned(),)+
                }
            }

            /// The kind's name in URLs: `services`.
            pub fn plural(self) -> String {
                match self {
                    $(Self::$kind => <$type as Resource>::plural(&()).into_owned(),)+
                }
            }

            /// Whether objects of the kind live in namespaces.
            pub fn is_namespaced(self) -> bool {
                match self {
                    $(Self::$kind => $namespaced,)+
                }
            }
        }

        /// An object of one of the kinds; cheap to clone.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Object {
            $(#[doc = concat!("A `", $name, "`.")] $kind(Arc<$type>),)+
        }

        impl Object {
            /// The object's kind.
            pub fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind(_) => Kind::$kind,)+
                }
            }

            /// The object's metadata.
            pub fn metadata(&self) -> &ObjectMeta {
                match self {
                    $(Self::$kind(object) => &object.metadata,)+
                }
            }

            /// The object's metadata, for the store that sets them.
            pub(super) fn metadata_mut(&mut self) -> &mut ObjectMeta {
                match self {
                    $(Self::$kind(object) => &mut Arc::make_mut(object).metadata,)+
                }
            }

            /// Reads an object of this kind, leaving out what we do not read of it.
            pub(super) fn from_json(kind: Kind, json: Value) -> serde_json::Result<Self> {
                Ok(match kind {
                    $(Kind::$kind => Self::from(serde_json::from_value::<$type>(json)?),)+
                })
            }

            /// The object as the API writes it.
            pub(super) fn to_json(&self) -> serde_json::Result<Value> {
                let mut json = match self {
                    $(Self::$kind(object) => serde_json::to_value(object.as_ref())?,)+
                };
                json["apiVersion"] = self.kind().api_version().into();
                json["kind"] = self.kind().as_str().into();
                Ok(json)
            }
        }

        $(
            impl From<$type> for Object {
                fn from(object: $type) -> Self {
                    Self::$kind(Arc::new(object))
                }
            }
        )+
    };
}

kinds! {
    AddressPool(AddressPool), "AddressPool", namespaced: false;
    AddressClaim(AddressClaim), "AddressClaim", namespaced: false;
    BgpPeer(BgpPeer), "BGPPeer", namespaced: false;
    Advertisement(Advertisement), "Advertisement", namespaced: false;
    ClusterNetwork(ClusterNetwork), "ClusterNetwork", namespaced: false;
    ClusterLink(ClusterLink), "ClusterLink", namespaced: false;
    EdgeHost(EdgeHost), "EdgeHost", namespaced: false;
    RouteServer(RouteServer), "RouteServer", namespaced: false;
    NodeReport(NodeReport), "NodeReport", namespaced: false;
    PodPool(PodPool), "PodPool", namespaced: false;
    Service(Service), "Service", namespaced: true;
    EndpointSlice(EndpointSlice), "EndpointSlice", namespaced: true;
    Node(Node), "Node", namespaced: false;
    Namespace(Namespace), "Namespace", namespaced: false;
    Pod(Pod), "Pod", namespaced: true;
    Secret(Secret), "Secret", namespaced: true;
    ServiceCidr(ServiceCidr), "ServiceCIDR", namespaced: false;
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What tells one object from all others of its time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// The kind.
    pub kind: Kind,
    /// The namespace; empty where the kind has none.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectKey {
    /// The reference for messages.
    pub fn object(&self) -> ObjectRef {
        let namespace = (!self.namespace.is_empty()).then(|| self.namespace.clone());
        ObjectRef { kind: self.kind.as_str(), namespace, name: self.name.clone() }
    }
}

impl From<&Object> for ObjectKey {
    fn from(object: &Object) -> Self {
        let metadata = object.metadata();
        let (namespace, name) = (metadata.namespace.clone(), metadata.name.clone());
        Self { kind: object.kind(), namespace: namespace.unwrap_or_default(), name: name.unwrap_or_default() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.object().fmt(f)
    }
}
