//! The directory that the lab runs on: the user's, or the samples written out.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// The samples of the documentation, and what a cluster would add to them: nodes, endpoints.
const SAMPLES: [(&str, &str); 3] = [
    ("addresses.yaml", include_str!("../../../docs/samples/addresses.yaml")),
    ("routing.yaml", include_str!("../../../docs/samples/routing.yaml")),
    ("cluster.yaml", include_str!("cluster.yaml")),
];

/// Where the manifests are, and where statuses and claims go.
pub(crate) struct Manifests {
    /// The manifests.
    pub(crate) directory: PathBuf,
    /// Statuses and claims.
    pub(crate) state: PathBuf,
    kind: Kind,
}

enum Kind {
    /// Ours: stays when the lab ends, state and all, to be looked at.
    Samples,
    /// The user's: nothing is written there, and the state goes with the lab.
    Users { scratch: PathBuf },
}

impl Manifests {
    /// Takes the user's directory, or writes the samples to a new one.
    pub(crate) fn prepare(users: Option<PathBuf>) -> anyhow::Result<Self> {
        if let Some(directory) = users {
            let scratch = new_directory("roadstead-lab-state")?;
            return Ok(Self { directory, state: scratch.join("state"), kind: Kind::Users { scratch } });
        }
        let lab = new_directory("roadstead-lab")?;
        let directory = lab.join("manifests");
        fs::create_dir(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        for (name, text) in SAMPLES {
            let path = directory.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(Self { directory, state: lab.join("state"), kind: Kind::Samples })
    }

    /// Says where the manifests are. On stderr, because stdout may be read by a program.
    #[allow(clippy::print_stderr, reason = "this is the command's own word to its user, not a log line")]
    pub(crate) fn announce(&self) {
        match &self.kind {
            Kind::Samples => eprintln!(
                "Sample manifests: {}\nEdit them and watch; claims and statuses are in {}.",
                self.directory.display(),
                self.state.display()
            ),
            Kind::Users { .. } => eprintln!("Manifests: {}", self.directory.display()),
        }
    }
}

impl Drop for Manifests {
    fn drop(&mut self) {
        if let Kind::Users { scratch } = &self.kind {
            // What cannot be removed is a few small files in the directory for temporary ones.
            let _ = fs::remove_dir_all(scratch);
        }
    }
}

/// A new directory among the temporary ones; the process id keeps two labs apart.
fn new_directory(name: &str) -> anyhow::Result<PathBuf> {
    let base = std::env::temp_dir();
    let attempt = |number: u32| base.join(format!("{name}-{}-{number}", std::process::id()));
    let free = (0..1000).map(attempt).find(|path| !path.exists()).context("too many labs were here before")?;
    make_private(&free).with_context(|| format!("cannot make {}", free.display()))?;
    Ok(free)
}

/// Only for its owner: the manifests may hold passwords.
fn make_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(0o700).create(path)
}
