//! One command under a name.
//!
//! Its output goes to `target/xtask/<name>.log`. The terminal shows the lines that the step wants shown, a sign of life
//! every half minute, how long it took, and on failure the end of the output.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, Write};
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long a step may be silent before a line says that it still runs.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);
/// How much of a failed step's output is shown; the log has all of it.
const SHOWN_ON_FAILURE: usize = 300;
/// Lines that may wait between the reader and the printer. A printer that stands still stops the reader, and so the
/// command, instead of filling memory.
const LINES_IN_FLIGHT: usize = 1024;

/// Which lines of a step's output are shown while it runs.
pub(crate) type Show = fn(&str) -> bool;

/// Shows nothing: for steps whose success says it all.
pub(crate) fn nothing(_line: &str) -> bool {
    false
}

/// Shows every line.
pub(crate) fn everything(_line: &str) -> bool {
    true
}

/// Shows what libtest says about each group of tests.
pub(crate) fn test_results(line: &str) -> bool {
    line.starts_with("test result:") || line.starts_with("     Running ") || line.starts_with("   Doc-tests ")
}

/// Shows each single test and its steps as well: for groups in which every test takes seconds.
pub(crate) fn each_test(line: &str) -> bool {
    // A test's verdict stands alone in its line when the test has said something before.
    test_results(line)
        || ["test ", "step: "].iter().any(|start| line.starts_with(start))
        || ["ok", "FAILED"].contains(&line)
}

/// One line to the person who waits.
#[expect(clippy::print_stdout, reason = "this program is its output")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Runs `command` to its end under `name`.
pub(crate) fn run(name: &str, show: Show, command: &mut Command) -> Result<()> {
    let log = crate::target().join("xtask").join(format!("{}.log", name.replace(' ', "-")));
    if let Some(directory) = log.parent() {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    }
    let mut file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    say(&format!("=====>  {name}"));
    let started = Instant::now();

    // One pipe for both streams, so that the log has them in the order in which they were written.
    let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    command.stdout(writer.try_clone().context("cannot share a pipe")?).stderr(writer).current_dir(crate::workspace());
    let mut child = command.spawn().with_context(|| format!("cannot start {}", shown(command)))?;
    // The command holds the pipe's writing ends too: without them the reader would never see the end.
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());

    let (sender, lines) = mpsc::sync_channel(LINES_IN_FLIGHT);
    let reading = std::thread::spawn(move || read_lines(reader, &sender));
    let mut last_lines = VecDeque::new();
    let mut last_said = Instant::now();
    loop {
        if last_said.elapsed() >= SIGN_OF_LIFE {
            let latest = last_lines.back().map_or("no output yet", |line: &String| line.trim());
            say(&format!("   ...  {name}, {}: {latest}", elapsed(started)));
            last_said = Instant::now();
        }
        match lines.recv_timeout(SIGN_OF_LIFE.saturating_sub(last_said.elapsed())) {
            Ok(line) => {
                writeln!(file, "{line}").with_context(|| format!("cannot write {}", log.display()))?;
                if show(&line) {
                    say(&format!("        {}", line.trim_start()));
                    last_said = Instant::now();
                }
                if last_lines.len() == SHOWN_ON_FAILURE {
                    last_lines.pop_front();
                }
                last_lines.push_back(line);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = child.wait().with_context(|| format!("cannot wait for {}", shown(command)))?;
    drop(reading);
    if status.success() {
        say(&format!("    ok  {name}, {}", elapsed(started)));
        return Ok(());
    }
    for line in &last_lines {
        say(line);
    }
    bail!("{name}: {} ended with {status}; all of its output is in {}", shown(command), log.display())
}

/// Runs a check of our own under `name`, with the same look as a command.
pub(crate) fn check(name: &str, body: impl FnOnce() -> Result<()>) -> Result<()> {
    say(&format!("=====>  {name}"));
    let started = Instant::now();
    body().with_context(|| name.to_owned())?;
    say(&format!("    ok  {name}, {}", elapsed(started)));
    Ok(())
}

/// The cargo that runs this program, with colours off because its output goes to a file.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).env("CARGO_TERM_COLOR", "never").env("CARGO_TERM_PROGRESS_WHEN", "never");
    command
}

fn read_lines(reader: PipeReader, sender: &mpsc::SyncSender<String>) {
    let mut reader = BufReader::new(reader);
    let mut bytes = Vec::new();
    // Bytes and not `lines()`: a daemon's log need not be UTF-8, and a broken line must not end the reading.
    while let Ok(1..) = reader.read_until(b'\n', &mut bytes) {
        let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        if sender.send(line).is_err() {
            return;
        }
        bytes.clear();
    }
}

fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|argument| argument.to_string_lossy().into_owned()));
    words.join(" ")
}

fn elapsed(started: Instant) -> String {
    let seconds = started.elapsed().as_secs_f64();
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{} min {:02} s", seconds as u64 / 60, seconds as u64 % 60)
    }
}
