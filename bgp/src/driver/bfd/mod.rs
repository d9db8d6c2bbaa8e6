//! Hands for BFD: a thread of its own.
//!
//! ```text
//!  engine --commands (64), a byte to wake--> [ thread: owns Bfd, its sockets, its timers ] --inputs--> engine
//! ```
//!
//! BGP may be late by a second and nobody notices; BFD may not. So it shares nothing with the runtime that BGP runs on: it
//! waits in `ppoll` for its own sockets and deadlines, takes no lock, and waits for nobody. Where the process may, the thread
//! is scheduled in real time, else before ordinary threads, else as one of them; [`Scheduling`] says which it came to.
//!
//! It starts with the first session that is asked for, and ends with the engine.

mod sockets;
mod thread;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::SyncSender;
use std::thread as threads;

use tokio::sync::{mpsc, oneshot};

use self::sockets::Sockets;
use self::thread::Command;
use super::tasks::Input;
use crate::PeerKey;
use crate::bfd::{Bfd, BfdConfig, BfdStatus, Path};

/// All of BFD, and how its thread is scheduled; `None` when there is no thread, because nobody has asked for a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BfdThreadStatus {
    pub bfd: BfdStatus,
    pub scheduling: Option<Scheduling>,
}

/// How much the kernel lets the thread have of a busy processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheduling {
    /// `SCHED_FIFO`: before everything that is not (needs CAP_SYS_NICE, or an `RLIMIT_RTPRIO`).
    RealTime,
    /// Nice -20: the most of what ordinary threads get (needs CAP_SYS_NICE, or an `RLIMIT_NICE`).
    Preferred,
    /// As any other thread.
    Ordinary,
}

impl fmt::Display for Scheduling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RealTime => "real-time",
            Self::Preferred => "preferred",
            Self::Ordinary => "ordinary",
        })
    }
}

/// A command is taken within a wake-up of the thread; so many wait if every peer is set at once.
const COMMANDS: usize = 64;

/// The engine's end of the thread. Dropping it ends the thread.
pub(super) struct BfdThread {
    commands: SyncSender<Command>,
    waker: UnixStream,
}

impl BfdThread {
    pub(super) fn start(seed: u64, inputs: mpsc::Sender<Input>) -> io::Result<Self> {
        let (waker, woken) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let (commands, inbox) = std::sync::mpsc::sync_channel(COMMANDS);
        let (machine, sockets) = (Bfd::new(seed), Sockets::new(!seed));
        threads::Builder::new()
            .name("bfd".to_owned())
            .spawn(move || thread::Thread::new(machine, sockets, inbox, woken, inputs).run())?;
        Ok(Self { commands, waker })
    }

    /// See [`Bfd::set_session`].
    pub(super) fn set(&self, key: PeerKey, path: Path, config: BfdConfig) {
        self.tell(Command::Set { key, path, config });
    }

    /// See [`Bfd::remove_session`].
    pub(super) fn remove(&self, key: PeerKey) {
        self.tell(Command::Remove { key });
    }

    /// See [`Bfd::keep_only`]. The answer comes when the others were told.
    pub(super) fn keep_only(&self, kept: BTreeSet<PeerKey>) -> oneshot::Receiver<()> {
        let (told, when_told) = oneshot::channel();
        self.tell(Command::KeepOnly { kept, told });
        when_told
    }

    pub(super) fn status(&self, reply: oneshot::Sender<BfdThreadStatus>) {
        self.tell(Command::Status { reply });
    }

    /// See [`Bfd::shutdown`]. The first answer comes when every peer was told, the second when all have heard of it.
    pub(super) fn shutdown(&self) -> (oneshot::Receiver<()>, oneshot::Receiver<()>) {
        let (told, when_told) = oneshot::channel();
        let (ended, when_ended) = oneshot::channel();
        self.tell(Command::Shutdown { told, ended });
        (when_told, when_ended)
    }

    /// The thread waits for nothing but its sockets, so there is room within a wake-up of it.
    fn tell(&self, command: Command) {
        // A thread that has ended has nothing left to do.
        let _ = self.commands.send(command);
        // A full pipe wakes as well as one more byte.
        let _ = (&self.waker).write(&[0]);
    }
}
