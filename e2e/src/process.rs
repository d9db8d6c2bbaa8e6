//! A program that runs beside the test, with its output in a file of the scene.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::run::{run, shown};
use crate::scene::Scene;
use crate::wait::wait_until;

/// A running program; ends when dropped.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, both outputs into `<name>.log`. It dies when the thread that calls this ends, even by SIGKILL.
    pub fn start(scene: &Scene, name: &str, command: &Command) -> Result<Self> {
        let log = unused_path(scene.directory(), name);
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let also = file.try_clone().with_context(|| format!("cannot share {}", log.display()))?;
        let child = dying_with_parent(command)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(also)
            .spawn()
            .with_context(|| format!("cannot start {name}: {}", shown(command)))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that it has written.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits for a line of its log that contains `text`, and gives that line.
    pub fn wait_for_log(&mut self, text: &str, limit: Duration) -> Result<String> {
        let log = self.log.clone();
        self.wait_until(&format!("a log line with {text:?}"), limit, || {
            let bytes = fs::read(&log).unwrap_or_default();
            let all = String::from_utf8_lossy(&bytes);
            all.lines().find(|line| line.contains(text)).map(str::to_owned).context("no such line")
        })
    }

    /// As [`wait_until`], but fails at once when the program has ended: nothing more will come of it.
    pub fn wait_until<T>(&mut self, what: &str, limit: Duration, mut probe: impl FnMut() -> Result<T>) -> Result<T> {
        let name = self.name.clone();
        let mut ended = None;
        let outcome = wait_until(what, limit, || {
            if let Some(status) = self.child.try_wait().with_context(|| format!("cannot ask after {name}"))? {
                ended = Some(status);
                return Ok(None);
            }
            probe().map(Some)
        })?;
        match outcome {
            Some(value) => Ok(value),
            None => bail!("{name} ended with {ended:?} while waiting for: {what}; it wrote: {}", self.log().trim()),
        }
    }

    /// Sends a signal by its name: `TERM`, `INT`.
    pub fn signal(&self, signal: &str) -> Result<()> {
        run("kill", &format!("-{signal} {}", self.id())).map(drop)
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let name = self.name.clone();
        wait_until(&format!("{name} to end"), limit, || {
            self.child.try_wait().context("cannot ask")?.context("still running")
        })
    }

    /// Asks it to end with SIGTERM and waits for that.
    pub fn terminate(mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal("TERM")?;
        self.wait(limit)
    }

    /// The most memory it ever had, in KiB (`VmHWM`).
    pub fn peak_memory(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.id());
        let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let words = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM in its status")?;
        words.split_whitespace().next().context("VmHWM is empty")?.parse().context("VmHWM is no number")
    }

    /// How many files and sockets it has open.
    pub fn open_files(&self) -> Result<usize> {
        let path = format!("/proc/{}/fd", self.id());
        Ok(fs::read_dir(&path).with_context(|| format!("cannot read {path}"))?.count())
    }

    /// The processor time of its living threads since each began.
    pub fn processor_time(&self) -> Result<Duration> {
        let path = format!("/proc/{}/task", self.id());
        let threads = fs::read_dir(&path).with_context(|| format!("cannot read {path}"))?;
        let nanoseconds = threads.flatten().map(|thread| {
            // A thread that has ended meanwhile counts for nothing; the first number is nanoseconds on a processor.
            let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
            text.split_whitespace().next().and_then(|first| first.parse::<u64>().ok()).unwrap_or_default()
        });
        Ok(Duration::from_nanos(nanoseconds.sum()))
    }

    /// Fails when it has ended.
    pub fn ensure_running(&mut self) -> Result<()> {
        let status = self.child.try_wait().context("cannot ask")?;
        ensure!(status.is_none(), "{} ended with {status:?}; it wrote: {}", self.name, self.log().trim());
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same command through `setpriv`, which asks the kernel to kill it when its parent dies, and becomes it.
fn dying_with_parent(command: &Command) -> Command {
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--pdeathsig", "KILL"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        wrapped.current_dir(directory);
    }
    wrapped
}

/// `<name>.log`, or `<name>-2.log` when a test starts the same program again: both logs matter when it fails.
fn unused_path(directory: &Path, name: &str) -> PathBuf {
    let first = directory.join(format!("{name}.log"));
    if !first.exists() {
        return first;
    }
    (2..).map(|count| directory.join(format!("{name}-{count}.log"))).find(|path| !path.exists()).unwrap_or(first)
}
