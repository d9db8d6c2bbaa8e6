//! The state directory: what Roadstead itself knows of objects, each in a file as `kubectl get -o yaml` would show it.
//!
//! `services/shop/front.yaml` is the Service as it was last in force, with the UID that it got here and with its status;
//! `addressclaims/203.0.113.7.yaml` is a claim. Files are written beside their place, synced and moved there, so that a crash leaves
//! the old file or the new one. A claim is moved by a hard link, which fails where the name is taken: the file system makes an
//! address unique as the API server would. Secrets, and what is as good as new after a restart (EndpointSlices, Nodes,
//! Namespaces), are not kept; Pods are, because their addresses are kept by UID.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::OpenError;
use super::manifest::is_name;
use crate::store::{Kind, Object, ObjectKey};

/// The kinds that are kept.
pub(super) const KEPT: &[Kind] = &[
    Kind::AddressClaim,
    Kind::AddressPool,
    Kind::Advertisement,
    Kind::BgpPeer,
    Kind::ClusterLink,
    Kind::ClusterNetwork,
    Kind::EdgeHost,
    Kind::RouteServer,
    Kind::NodeReport,
    Kind::PodPool,
    Kind::Pod,
    Kind::Service,
];

/// Held while a process uses the directory.
const LOCK: &str = "lock";
/// First line of each file.
const HEADING: &str = "# Written by Roadstead. To change an object, edit its manifest.\n";
/// The annotation that says which manifest an object is from.
const MANIFEST: &str = "roadstead.dev/manifest";

/// A state directory that is ours alone.
#[derive(Debug)]
pub(super) struct StateDirectory {
    root: PathBuf,
    /// Released when it is closed, also by a crash.
    _lock: File,
}

/// An object as it was kept.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) object: Object,
    /// The manifest that it was from.
    pub(super) manifest: Option<PathBuf>,
}

/// A file that could not be read, and was moved aside.
#[derive(Debug)]
pub(super) struct Corrupt {
    pub(super) file: PathBuf,
    pub(super) reason: String,
}

impl StateDirectory {
    /// Makes the directory where it is missing, and takes it.
    pub(super) fn open(root: PathBuf) -> Result<Self, OpenError> {
        let unusable = |source| OpenError::State { path: root.clone(), source };
        fs::create_dir_all(&root).map_err(unusable)?;
        let path = root.join(LOCK);
        let mut lock =
            File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
                return Err(OpenError::InUse { path: root, holder });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        let holder = format!("process {}\n", std::process::id());
        lock.set_len(0).and_then(|()| lock.write_all(holder.as_bytes())).map_err(unusable)?;
        Ok(Self { root, _lock: lock })
    }

    /// Everything that is kept. What cannot be read is set aside as `NAME.corrupt`, and told.
    pub(super) fn load(&self) -> io::Result<(Vec<Kept>, Vec<Corrupt>)> {
        let (mut kept, mut corrupt) = (Vec::new(), Vec::new());
        for kind in KEPT {
            let directory = self.root.join(kind.plural());
            let mut directories = vec![directory];
            if kind.is_namespaced() {
                directories = entries(&directories[0])?.into_iter().filter(|path| path.is_dir()).collect();
            }
            for file in directories.iter().map(|directory| entries(directory)).collect::<io::Result<Vec<_>>>()?.concat()
            {
                match file.extension().and_then(|extension| extension.to_str()) {
                    Some("yaml") => {}
                    // A write that a crash cut short.
                    Some("new") => {
                        fs::remove_file(&file)?;
                        continue;
                    }
                    _ => continue,
                }
                match read(&file, *kind) {
                    Ok(object) if self.path(&ObjectKey::from(&object.object)) == file => kept.push(object),
                    Ok(object) => corrupt
                        .push(set_aside(file, &format!("is not the file of {}", ObjectKey::from(&object.object)))?),
                    Err(reason) => corrupt.push(set_aside(file, &reason)?),
                }
            }
        }
        Ok((kept, corrupt))
    }

    /// Reads one claim as it is on disk.
    pub(super) fn claim(&self, key: &ObjectKey) -> Result<Option<Object>, String> {
        let file = self.path(key);
        if !file.exists() {
            return Ok(None);
        }
        read(&file, Kind::AddressClaim)
            .map(|kept| Some(kept.object))
            .map_err(|reason| format!("{}: {reason}", file.display()))
    }

    /// Writes an object in place of what is there.
    pub(super) fn replace(&self, object: &Object, manifest: Option<&Path>) -> io::Result<()> {
        let path = self.path(&ObjectKey::from(object));
        let beside = write_beside(&path, object, manifest)?;
        fs::rename(&beside, &path).map_err(|error| named(&path, error))
    }

    /// Writes an object whose name must be free; false: it is taken.
    pub(super) fn create(&self, object: &Object) -> io::Result<bool> {
        let path = self.path(&ObjectKey::from(object));
        let beside = write_beside(&path, object, None)?;
        let linked = fs::hard_link(&beside, &path);
        fs::remove_file(&beside).map_err(|error| named(&beside, error))?;
        match linked {
            Ok(()) => sync_directory(&path).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(named(&path, error)),
        }
    }

    /// Removes what is kept of an object.
    pub(super) fn remove(&self, key: &ObjectKey) -> io::Result<()> {
        let path = self.path(key);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(named(&path, error)),
            Ok(()) => sync_directory(&path),
        }
    }

    fn path(&self, key: &ObjectKey) -> PathBuf {
        // Names are checked wherever one comes in; here a wrong one would be a way out of the directory.
        debug_assert!(is_name(&key.name), "{key}");
        let mut path = self.root.join(key.kind.plural());
        if key.kind.is_namespaced() {
            path.push(&key.namespace);
        }
        path.join(format!("{}.yaml", key.name))
    }
}

/// The entries of a directory in order; none where there is no directory.
fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(named(directory, error)),
        Ok(entries) => entries,
    };
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn read(file: &Path, kind: Kind) -> Result<Kept, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("cannot be read: {error}"))?;
    let mut json: Value = serde_saphyr::from_str(&text)
        .map_err(|error| format!("not YAML: {}", error.without_snippet().to_string().replace('\n', " ")))?;
    if json["kind"] != kind.as_str() || json["apiVersion"] != kind.api_version() {
        return Err(format!("is not a {} of {}", kind, kind.api_version()));
    }
    let annotations = json.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
    let manifest = annotations.and_then(|annotations| annotations.remove(MANIFEST));
    let manifest = manifest.as_ref().and_then(Value::as_str).map(PathBuf::from);
    if json.pointer("/metadata/annotations").and_then(Value::as_object).is_some_and(serde_json::Map::is_empty) {
        json["metadata"].as_object_mut().map(|metadata| metadata.remove("annotations"));
    }
    let object = Object::from_json(kind, json).map_err(|error| error.to_string())?;
    let metadata = object.metadata();
    let named = [&metadata.name, &metadata.namespace].into_iter().flatten().all(|name| is_name(name));
    if !named || metadata.name.is_none() || metadata.uid.is_none() || metadata.resource_version.is_none() {
        return Err("metadata must have name, uid and resourceVersion".to_owned());
    }
    Ok(Kept { object, manifest })
}

/// Writes an object beside its place, complete and synced.
fn write_beside(path: &Path, object: &Object, manifest: Option<&Path>) -> io::Result<PathBuf> {
    let mut json = object.to_json().map_err(io::Error::other)?;
    if let Some(manifest) = manifest {
        json["metadata"]["annotations"][MANIFEST] = manifest.to_string_lossy().into();
    }
    let yaml = serde_saphyr::to_string(&json).map_err(io::Error::other)?;
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(|error| named(directory, error))?;
    }
    let beside = path.with_extension("new");
    let write = || {
        let mut file = File::create(&beside)?;
        file.write_all(HEADING.as_bytes())?;
        file.write_all(yaml.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error| named(&beside, error))?;
    Ok(beside)
}

/// Makes a name that came or went outlive a power cut.
fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn set_aside(file: PathBuf, reason: &str) -> io::Result<Corrupt> {
    let aside = file.with_extension("yaml.corrupt");
    fs::rename(&file, &aside).map_err(|error| named(&file, error))?;
    Ok(Corrupt { reason: format!("{reason}; set aside as {}", aside.display()), file })
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
