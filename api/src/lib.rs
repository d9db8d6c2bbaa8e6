//! The objects of Roadstead: what users write, what is checked of it, and where it lives.
//!
//! - [`kinds`]: our own kinds as users write them (serde, schema, CEL rules).
//! - [`kubernetes`]: Kubernetes' kinds, reduced to the fields that we read.
//! - [`checked`]: both, after every field was checked. The rest of Roadstead works with these alone.
//! - [`overlap`]: who holds which addresses, and what of it is held twice, in one cluster and in several.
//! - [`store`]: where objects live, the Kubernetes API or a directory of manifests, behind one interface.

pub mod checked;
pub mod kinds;
pub mod kubernetes;
pub mod overlap;
pub mod store;

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
