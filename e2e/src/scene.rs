//! One test's stage: a directory, a name prefix, and the clean-up of everything that carries it.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::sweep;

/// How many lines of each daemon's log a failed scene prints.
const LOG_LINES_SHOWN: usize = 100;

/// Names and a directory that belong to one test.
///
/// Everything that a test creates outside its own processes is named by [`Scene::id`], so that dropping the scene can
/// remove it whatever the test was doing.
pub struct Scene {
    id: String,
    directory: PathBuf,
    started: Instant,
    sweeper: Child,
}

/// Plays one test: `body` gets a fresh scene; when it fails, the end of every log is printed.
pub fn scene(name: &str, body: impl FnOnce(&Scene) -> Result<()>) -> Result<()> {
    let scene = Scene::new(name)?;
    let outcome = body(&scene);
    if outcome.is_err() {
        scene.print_logs();
    }
    outcome
}

impl Scene {
    fn new(name: &str) -> Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        sweep::leftovers();
        let id = format!("{}{}-{}", sweep::PREFIX, std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(&id);
        fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let sweeper = Command::new(crate::product::beside_this("e2e-sweeper")?)
            .arg(&id)
            .stdin(Stdio::piped())
            // Not in the terminal's group: the Ctrl-C that ends the test must not end who cleans up after it.
            .process_group(0)
            .spawn()
            .context("cannot start the sweeper")?;
        let scene = Self { id, directory, started: Instant::now(), sweeper };
        scene.step(name);
        Ok(scene)
    }

    /// Prefix of every name that this scene gives to something the whole machine can see.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A directory that goes with the scene.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A new directory below the scene's.
    pub fn subdirectory(&self, name: &str) -> Result<PathBuf> {
        let path = self.directory.join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }

    /// Tells whoever waits how far the test is.
    #[expect(clippy::print_stderr, reason = "what a test says goes to its standard error")]
    pub fn step(&self, what: &str) {
        eprintln!("step: {:5.1} s  {what}", self.started.elapsed().as_secs_f64());
    }

    #[expect(clippy::print_stderr, reason = "what a test says goes to its standard error")]
    fn print_logs(&self) {
        let mut logs: Vec<PathBuf> = fs::read_dir(&self.directory)
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
        logs.sort();
        for log in logs {
            let bytes = fs::read(&log).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
            eprintln!("----- {} (last {} of {} lines)", log.display(), shown.len(), lines.len());
            for line in shown {
                eprintln!("{line}");
            }
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print_logs();
        }
        sweep::remove(&self.id);
        // Its work is done; closing its standard input would have it look once more.
        let _ = self.sweeper.kill();
        let _ = self.sweeper.wait();
    }
}
