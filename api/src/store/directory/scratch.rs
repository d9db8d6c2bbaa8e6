//! A pair of directories for a test, gone with it.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// Manifests and state below a directory of their own.
pub(super) struct Scratch {
    root: PathBuf,
}

impl Scratch {
    pub(super) fn new() -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("roadstead-api-{}-{number}", std::process::id()));
        fs::create_dir_all(root.join("manifests")).unwrap();
        Self { root }
    }

    pub(super) fn manifests(&self) -> PathBuf {
        self.root.join("manifests")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    pub(super) fn put(&self, name: &str, text: &str) {
        let path = self.manifests().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(super) fn remove(&self, name: &str) {
        fs::remove_file(self.manifests().join(name)).unwrap();
    }

    /// The text of a state file.
    pub(super) fn kept(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.state().join(name)).ok()
    }

    /// A text without this test's own paths.
    pub(super) fn relative(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.root.display()), "")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}
