//! Our binaries, and a directory of manifests as a user keeps it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::network::Namespace;
use crate::process::Process;
use crate::run::output_of;
use crate::scene::Scene;

/// How long our own binaries may take to end after SIGTERM.
pub const GRACE: Duration = Duration::from_secs(5);

/// The path of one of our binaries: in `ROADSTEAD_BIN`, else where cargo puts them.
pub fn binary(name: &str) -> Result<PathBuf> {
    match std::env::var_os("ROADSTEAD_BIN") {
        Some(directory) => Ok(PathBuf::from(directory).join(name)),
        None => beside_this(name),
    }
}

/// The path of a program in the directory that cargo built this one into.
pub(crate) fn beside_this(name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe().context("cannot tell where this program lies")?;
    let directory = this.parent().context("this program lies nowhere")?;
    // Tests lie in target/debug/deps, programs in target/debug.
    let directory = if directory.ends_with("deps") { directory.parent().unwrap_or(directory) } else { directory };
    let path = directory.join(name);
    ensure!(path.exists(), "no {}: build it with `cargo build --workspace --bins`", path.display());
    Ok(path)
}

/// A command of one of our binaries, here or on a machine of the scene.
pub fn command(name: &str, machine: Option<&Namespace>) -> Result<Command> {
    let path = binary(name)?;
    let mut command = machine.map_or_else(|| Command::new(&path), |machine| machine.command(&path));
    command.env("RUST_LOG", "info,roadstead=debug,roadstead_api=debug,roadstead_bgp=debug,roadstead_controller=debug,roadstead_speaker=debug");
    command.env("RUST_BACKTRACE", "1").env("NO_COLOR", "1");
    Ok(command)
}

/// A directory of manifests.
pub struct Manifests {
    directory: PathBuf,
}

impl Manifests {
    /// An empty one.
    pub fn new(scene: &Scene, label: &str) -> Result<Self> {
        Ok(Self { directory: scene.subdirectory(label)? })
    }

    /// One that holds these files.
    pub fn with(scene: &Scene, label: &str, files: &[(&str, &str)]) -> Result<Self> {
        let manifests = Self::new(scene, label)?;
        for (name, text) in files {
            manifests.write(name, text)?;
        }
        Ok(manifests)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// Writes a file as editors do: beside its place, then renamed into it.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let (path, beside) = (self.directory.join(name), self.directory.join(format!(".{name}.new")));
        fs::write(&beside, text).with_context(|| format!("cannot write {}", beside.display()))?;
        fs::rename(&beside, &path).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Removes a file.
    pub fn remove(&self, name: &str) -> Result<()> {
        let path = self.directory.join(name);
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
    }
}

/// `roadstead run` on a machine, with its state beside the manifests.
pub fn run(scene: &Scene, machine: Option<&Namespace>, manifests: &Manifests, node: &str) -> Result<Process> {
    let state = scene.subdirectory(&format!("state-{node}"))?;
    let mut command = command("roadstead", machine)?;
    command.arg("run").arg("--manifests").arg(manifests.path()).args(["--node", node]).arg("--state").arg(state);
    Process::start(scene, &format!("roadstead-{node}"), &command)
}

/// What `roadstead` answers to somebody who looks at the speaker that [`run`] started for `node`: `status`, `routes`, `explain`.
pub fn look(scene: &Scene, node: &str, arguments: &[&str]) -> Result<String> {
    let socket = scene.subdirectory(&format!("state-{node}"))?.join("speaker.sock");
    output_of(command("roadstead", None)?.args(arguments).arg("--socket").arg(socket))
}

/// The same as JSON.
pub fn look_json(scene: &Scene, node: &str, arguments: &[&str]) -> Result<Value> {
    let answer = look(scene, node, &[arguments, &["-o", "json"]].concat())?;
    serde_json::from_str(&answer).with_context(|| format!("roadstead {} answered: {answer}", arguments.join(" ")))
}

/// A user with no rights: what must not need root is run as this one, also when the tests are root.
const NOBODY: &str = "65534";

/// The same command as somebody without any rights.
pub fn as_nobody(command: &Command) -> Command {
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--inh-caps=-all"]);
    wrapped.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        wrapped.env(name, value.unwrap_or_default());
    }
    wrapped
}
