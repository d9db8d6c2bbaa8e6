//! `roadstead-cni`: standard input and environment in, the speaker asked, standard output out.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use roadstead_cni::answer::{self, CallError};
use roadstead_cni::call::{Action, Call, Chained};
use roadstead_cni::client::ask;
use roadstead_cni::install::Install;
use roadstead_cni::leftover;
use roadstead_cni::reach::{ReachError, Ways};
use roadstead_cni::socket::{self, Assignment, DelRequest, Reach, ReachRequest};
use roadstead_cni::version::Version;
use serde_json::{Map, Value};

/// The longest configuration that is read, in octets. GC names every container of a node in it.
const LONGEST: u64 = 4 << 20;
/// How long a runtime may take to say what it wants.
const STDIN_PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "install") {
        return put_on_the_node(arguments);
    }
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

/// Not a call of a runtime, which gives no arguments.
fn put_on_the_node(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let done = Install::read(arguments).and_then(|install| install.run(Path::new("/proc/self/exe")));
    let mut log = io::stderr();
    let _ = match &done {
        Ok(written) if written.is_empty() => writeln!(log, "roadstead-cni: everything is there already"),
        Ok(written) => written.iter().try_for_each(|path| writeln!(log, "roadstead-cni: wrote {}", path.display())),
        Err(error) => writeln!(log, "roadstead-cni: {error}"),
    };
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn read() -> Result<Call, (Version, CallError)> {
    let input = |error: String| (Version::NEWEST, CallError::Input(error));
    let stdin = read_stdin().map_err(|error| input(error.to_string()))?;
    if stdin.len() as u64 > LONGEST {
        return Err(input(format!("it is longer than {LONGEST} octets")));
    }
    Call::read(&|name| std::env::var(name).ok(), &stdin)
}

/// All of standard input, by a thread of its own: nothing else ends a read of what never comes.
fn read_stdin() -> io::Result<Vec<u8>> {
    let (done, all) = mpsc::channel();
    thread::spawn(move || {
        let mut stdin = Vec::new();
        let read = io::stdin().take(LONGEST + 1).read_to_end(&mut stdin);
        // Whoever waited may have given up.
        let _ = done.send(read.map(|_| stdin));
    });
    all.recv_timeout(STDIN_PATIENCE).unwrap_or_else(|_| {
        let words = format!("it has not ended within {} s", STDIN_PATIENCE.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, words))
    })
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
        Action::Chained(chained) => return carry_out_chained(&socket, chained),
        Action::Version => return Ok(Some(answer::versions(version))),
    }
    Ok(None)
}

/// As a plugin in a list: its ADD answers what the one before it answered, because no address and no route of its result changes.
fn carry_out_chained(socket: &Path, call: Chained) -> Result<Option<Value>, CallError> {
    let fails = |of: String| |source: ReachError| CallError::Ways { of, source };
    match call {
        Chained::Add { network, attachment, netns, interface, cluster, previous } => {
            if let Some(interface) = interface {
                let cluster = cluster.map_or_else(|| behind_the_node(socket, &network), Ok)?;
                let ways = Ways { network: &network, attachment: &attachment };
                ways.make(&netns, &interface, &cluster)
                    .map_err(fails(format!("interface {}", attachment.interface)))?;
            }
            return Ok(Some(previous));
        }
        Chained::Del { network, attachment, netns } => {
            // Never fails, or the plugins before it would not be told. What is left goes with the network namespace, or by GC.
            if let Err(error) = (Ways { network: &network, attachment: &attachment }).remove(netns.as_deref()) {
                let _ = writeln!(io::stderr(), "roadstead-cni: DEL of {}: {error}", attachment.interface);
            }
        }
        Chained::Check { network, attachment, netns, interface } => {
            if let Some(interface) = interface {
                let ways = Ways { network: &network, attachment: &attachment };
                ways.check(&netns, &interface).map_err(fails(format!("interface {}", attachment.interface)))?;
            }
        }
        Chained::Status { network, needs_speaker } => {
            if needs_speaker {
                behind_the_node(socket, &network).map_err(unavailable)?;
            }
        }
        Chained::Gc { network, valid } => {
            Ways::collect(&network, &valid).map_err(fails(format!("interfaces of network {network}")))?;
        }
    }
    Ok(None)
}

fn behind_the_node(socket: &Path, network: &str) -> Result<Vec<ipnet::IpNet>, CallError> {
    let request = ReachRequest { network: network.to_owned() };
    ask::<Reach>(socket, socket::REACH, &request).map(|reach| reach.cluster_cidrs)
}

type Nothing = Map<String, Value>;

/// A speaker that is away, or that has just started, serves no ADD: in an answer to STATUS that has a code of its own.
fn unavailable(error: CallError) -> CallError {
    match error {
        CallError::Speaker { .. } => {
            let (code, message) = (socket::Refusal::NOT_AVAILABLE, error.to_string());
            CallError::Refused(socket::Refusal { code, message, details: String::new() })
        }
        CallError::Refused(refusal) => {
            CallError::Refused(socket::Refusal { code: socket::Refusal::NOT_AVAILABLE, ..refusal })
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
