//! The loop of the thread: waits for a packet, a deadline or a command, and does what follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info};

use super::super::sockopt;
use super::super::tasks::Input;
use super::sockets::Sockets;
use super::{BfdThreadStatus, Scheduling};
use crate::PeerKey;
use crate::bfd::{Bfd, BfdConfig, BfdEvent, BfdOutput, Datagram, Path, Port};

pub(super) enum Command {
    Set { key: PeerKey, path: Path, config: BfdConfig },
    Remove { key: PeerKey },
    KeepOnly { kept: BTreeSet<PeerKey>, told: oneshot::Sender<()> },
    Status { reply: oneshot::Sender<BfdThreadStatus> },
    Shutdown { told: oneshot::Sender<()>, ended: oneshot::Sender<()> },
}

/// So many packets are taken from a socket at once: all that its buffer holds, so that nobody is judged before he was heard.
const BATCH: usize = 512;
/// After a full batch others have their turn: in real time nobody else would stop a flood from taking the whole processor.
const BREATH: Duration = Duration::from_millis(1);
/// How long news waits that the engine had no room for.
const REDELIVERY: Duration = Duration::from_millis(10);

pub(super) struct Thread {
    machine: Bfd,
    sockets: Sockets,
    /// The paths that there are sockets for.
    served: Vec<Arc<Path>>,
    commands: Receiver<Command>,
    woken: UnixStream,
    inputs: mpsc::Sender<Input>,
    /// News that the engine has had no room for; a failure is not overwritten by what follows it.
    undelivered: BTreeMap<PeerKey, BfdEvent>,
    scheduling: Scheduling,
    ended: Option<oneshot::Sender<()>>,
}

/// Whether the thread goes on.
#[derive(PartialEq, Eq)]
enum Next {
    Wait,
    End,
}

impl Thread {
    pub(super) fn new(
        machine: Bfd,
        sockets: Sockets,
        commands: Receiver<Command>,
        woken: UnixStream,
        inputs: mpsc::Sender<Input>,
    ) -> Self {
        let (undelivered, scheduling) = (BTreeMap::new(), Scheduling::Ordinary);
        Self { machine, sockets, served: Vec::new(), commands, woken, inputs, undelivered, scheduling, ended: None }
    }

    pub(super) fn run(mut self) {
        self.scheduling = schedule();
        info!(scheduling = %self.scheduling, "BFD starts");
        loop {
            let deadlines = self.machine.next_deadline().into_iter().chain(self.sockets.next_retry());
            let deadline = deadlines.min().map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let redelivery = (!self.undelivered.is_empty()).then_some(REDELIVERY);
            self.wait(deadline.into_iter().chain(redelivery).min());
            let next = self.take_commands();
            self.receive();
            let now = Instant::now();
            self.machine.handle_timeout(now);
            self.perform(now);
            if next == Next::End || (self.ended.is_some() && self.machine.is_idle()) {
                break;
            }
        }
        if let Some(ended) = self.ended.take() {
            // The engine may have stopped waiting.
            let _ = ended.send(());
        }
    }

    fn wait(&mut self, at_most: Option<Duration>) {
        let woken = self.woken.as_fd();
        let sockets: Vec<BorrowedFd<'_>> = self.sockets.receivers().map(|(_, socket)| socket).chain([woken]).collect();
        if let Err(error) = sockopt::wait(&sockets, at_most) {
            // Only a kernel without memory does this; time goes on meanwhile, and must not be spent on asking again.
            error!(%error, "cannot wait for BFD packets");
            std::thread::sleep(BREATH);
        }
        // What it was written does not matter, nor that there may be nothing.
        let _ = self.woken.read(&mut [0; 64]);
    }

    fn take_commands(&mut self) -> Next {
        loop {
            let now = Instant::now();
            match self.commands.try_recv() {
                Ok(Command::Set { key, path, config }) => self.machine.set_session(now, key, path, config),
                Ok(Command::Remove { key }) => {
                    self.undelivered.remove(&key);
                    self.machine.remove_session(now, &key);
                }
                Ok(Command::KeepOnly { kept, told }) => {
                    self.machine.keep_only(now, &kept);
                    self.perform(now);
                    // The engine may have stopped waiting.
                    let _ = told.send(());
                }
                Ok(Command::Status { reply }) => {
                    // Whoever asked may have stopped waiting.
                    let _ = reply.send(self.status());
                }
                Ok(Command::Shutdown { told, ended }) => {
                    self.machine.shutdown(now);
                    self.perform(now);
                    let _ = told.send(());
                    self.ended = Some(ended);
                }
                Err(TryRecvError::Empty) => return Next::Wait,
                Err(TryRecvError::Disconnected) => {
                    // The engine is gone, and waits for nothing.
                    self.machine.shutdown(now);
                    return Next::End;
                }
            }
        }
    }

    fn receive(&mut self) {
        let mut buffer = [0; 128];
        let mut flooded = false;
        for (port, socket) in self.sockets.receivers() {
            let mut taken = 0;
            while taken < BATCH && receive_one(&mut self.machine, port, socket, &mut buffer) {
                taken += 1;
            }
            flooded |= taken == BATCH;
        }
        if flooded {
            std::thread::sleep(BREATH);
        }
    }

    fn perform(&mut self, now: Instant) {
        let changed = !self.machine.paths().eq(self.served.iter());
        if changed || self.sockets.next_retry().is_some_and(|retry| retry <= now) {
            self.served = self.machine.paths().cloned().collect();
            self.sockets.serve(now, self.machine.paths());
        }
        while let Some(output) = self.machine.poll_output() {
            match output {
                BfdOutput::Send { path, packet } => self.sockets.send(&path, &packet),
                BfdOutput::Event { peer, event } => {
                    let kept = self.undelivered.entry(peer).or_insert(event);
                    if !matches!(kept, BfdEvent::Down(_)) {
                        *kept = event;
                    }
                }
            }
        }
        if changed {
            // The last packet of a session that is gone leaves from where the others did.
            self.sockets.forget_senders(&self.served);
        }
        while let Some((key, event)) = self.undelivered.pop_first() {
            match self.inputs.try_send(Input::Bfd(key, event)) {
                Ok(()) => {}
                Err(TrySendError::Full(Input::Bfd(key, event))) => {
                    self.undelivered.insert(key, event);
                    break;
                }
                // The engine is gone; its end of the commands tells the same.
                Err(_) => break,
            }
        }
    }

    fn status(&self) -> BfdThreadStatus {
        let mut bfd = self.machine.status();
        for session in bfd.sessions.values_mut() {
            session.obstacle = self.sockets.obstacle(&session.path);
        }
        BfdThreadStatus { bfd, scheduling: Some(self.scheduling) }
    }
}

/// Whether there was one.
fn receive_one(machine: &mut Bfd, port: Port, socket: BorrowedFd<'_>, buffer: &mut [u8]) -> bool {
    // An error is of a packet that is gone (an ICMP answer to one of ours), or says that there is none.
    let Ok(received) = sockopt::receive(socket, buffer) else { return false };
    // Most sessions do not care which interface it was, and so the kernel is not asked for its name.
    let interface = machine.paths().any(|path| path.interface.is_some());
    let interface = interface.then(|| sockopt::interface_name(received.interface_index)).flatten();
    let datagram = Datagram {
        source: received.source,
        destination: received.destination,
        interface_index: received.interface_index,
        interface: interface.as_deref(),
        ttl: received.ttl,
        port,
        payload: buffer.get(..received.length).unwrap_or_default(),
    };
    // What is thrown away is counted by the machine.
    let _ = machine.handle_datagram(Instant::now(), datagram);
    true
}

fn schedule() -> Scheduling {
    if sockopt::schedule_in_real_time().is_ok() {
        Scheduling::RealTime
    } else if sockopt::schedule_before_others().is_ok() {
        Scheduling::Preferred
    } else {
        Scheduling::Ordinary
    }
}
