//! `roadstead-cni`: standard input and environment in, the speaker asked, standard output out.

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use roadstead_cni::answer::{self, CallError};
use roadstead_cni::call::{Action, Call};
use roadstead_cni::client::ask;
use roadstead_cni::leftover;
use roadstead_cni::socket::{self, Assignment, DelRequest};
use roadstead_cni::version::Version;
use serde_json::{Map, Value};

/// The longest configuration that is read, in octets. GC names every container of a node in it.
const LONGEST: u64 = 4 << 20;

fn main() -> ExitCode {
    let result = read().and_then(|call| {
        let version = call.version;
        carry_out(call).map_err(|error| (version, error))
    });
    let (output, code) = match result {
        Ok(Some(answer)) => (answer.to_string(), ExitCode::SUCCESS),
        Ok(None) => (String::new(), ExitCode::SUCCESS),
        Err((version, error)) => (error.json(version).to_string(), ExitCode::FAILURE),
    };
    // A runtime that no longer reads has given up on the call.
    let _ = io::stdout().write_all(output.as_bytes());
    code
}

fn read() -> Result<Call, (Version, CallError)> {
    let input = |error: String| (Version::NEWEST, CallError::Input(error));
    let mut stdin = Vec::new();
    io::stdin().take(LONGEST + 1).read_to_end(&mut stdin).map_err(|error| input(error.to_string()))?;
    if stdin.len() as u64 > LONGEST {
        return Err(input(format!("it is longer than {LONGEST} octets")));
    }
    Call::read(&|name| std::env::var(name).ok(), &stdin)
}

/// The answer; GC, DEL, CHECK and STATUS that succeed have none.
fn carry_out(Call { version, socket, action }: Call) -> Result<Option<Value>, CallError> {
    match action {
        Action::Add(request) => {
            let assignment: Assignment = ask(&socket, socket::ADD, &request)?;
            return Ok(Some(answer::assigned(&assignment, version)));
        }
        Action::Del(request) => delete(&socket, &request),
        Action::Check(request) => ask::<Nothing>(&socket, socket::CHECK, &request).map(drop)?,
        Action::Status(request) => ask::<Nothing>(&socket, socket::STATUS, &request).map(drop).map_err(unavailable)?,
        Action::Gc(request) => ask::<Nothing>(&socket, socket::GC, &request).map(drop)?,
        Action::Version => return Ok(Some(answer::versions(version))),
    }
    Ok(None)
}

type Nothing = Map<String, Value>;

/// A speaker that is away serves no ADD: in an answer to STATUS that has a code of its own.
fn unavailable(error: CallError) -> CallError {
    match error {
        CallError::Speaker { .. } => {
            let (code, message) = (socket::Refusal::NOT_AVAILABLE, error.to_string());
            CallError::Refused(socket::Refusal { code, message, details: String::new() })
        }
        other => other,
    }
}

/// Never fails: what the speaker does not hear now it reads later, and what cannot even be left for it, its own comparison with the
/// pods of the node finds.
fn delete(socket: &Path, request: &DelRequest) {
    let Err(error) = ask::<Nothing>(socket, socket::DEL, request) else { return };
    let mut log = io::stderr();
    let left = leftover::leave(socket, request);
    let _ = match left {
        Ok(()) => writeln!(log, "roadstead-cni: DEL is left for later: {error}"),
        Err(left) => writeln!(log, "roadstead-cni: DEL was not heard: {error}; nor could it be left for later: {left}"),
    };
}
