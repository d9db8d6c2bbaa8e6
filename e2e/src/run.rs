//! Short commands: run to the end, and an error that carries what they said.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Runs a command to its end and gives what it printed; fails when it fails, with both of its outputs.
pub fn output_of(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {}", shown(command)))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{}: {}: {}{}",
        shown(command),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim(),
        if text.is_empty() { String::new() } else { format!(" (and printed: {})", text.trim()) }
    );
    Ok(text)
}

/// Runs `program` with arguments separated by blanks: `run("ip", "link set eth0 up")`.
pub fn run(program: &str, arguments: &str) -> Result<String> {
    output_of(Command::new(program).args(arguments.split_whitespace()))
}

/// A command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|argument| argument.to_string_lossy().into_owned()));
    words.join(" ")
}
