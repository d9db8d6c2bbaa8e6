use std::net::IpAddr;
use std::path::PathBuf;

use tokio::sync::mpsc;

use super::{Event, Notice, Status, Watch, WriteError};
use crate::checked::ServiceKey;
use crate::kinds::{AddressClaim, NodeReport};

/// A directory of manifests.
#[derive(Clone)]
pub struct DirectoryStore {}

/// Why a directory cannot be a store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {}

impl DirectoryStore {
    /// A store on the manifests in one directory, with its state in another.
    pub fn open(_manifests: PathBuf, _state: PathBuf) -> Result<Self, OpenError> {
        todo!()
    }

    pub(super) fn watch(&self, _watches: Vec<Watch>) -> mpsc::Receiver<Event> {
        todo!()
    }
    pub(super) async fn create_claim(&self, _claim: &AddressClaim) -> Result<AddressClaim, WriteError> {
        todo!()
    }
    pub(super) async fn claim(&self, _name: &str) -> Result<Option<AddressClaim>, WriteError> {
        todo!()
    }
    pub(super) async fn replace_claim(&self, _claim: &AddressClaim) -> Result<AddressClaim, WriteError> {
        todo!()
    }
    pub(super) async fn delete_claim(
        &self,
        _name: &str,
        _uid: &str,
        _resource_version: &str,
    ) -> Result<(), WriteError> {
        todo!()
    }
    pub(super) async fn write_service_status(
        &self,
        _service: &ServiceKey,
        _uid: &str,
        _resource_version: &str,
        _addresses: &[IpAddr],
    ) -> Result<(), WriteError> {
        todo!()
    }
    pub(super) async fn write_status(&self, _name: &str, _status: &Status) -> Result<(), WriteError> {
        todo!()
    }
    pub(super) async fn write_node_report(&self, _report: &NodeReport) -> Result<(), WriteError> {
        todo!()
    }
    pub(super) async fn notify(&self, _notice: &Notice) {
        todo!()
    }
}
