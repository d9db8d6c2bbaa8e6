//! The task that owns the [`Speaker`]: turns commands, bytes and time into its inputs, and its outputs into socket calls.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tracing::{debug, error, warn};

use super::tasks::{self, Input};
use super::{SetPeerError, closing, socket};
use crate::{
    Accepted, ConnectionId, Endpoints, Event, LearnedPath, Output, PeerConfig, PeerKey, PeerStatus, RouteChange,
    Shutdown, Speaker,
};

pub(super) enum Command {
    Listen { address: SocketAddr, reply: oneshot::Sender<io::Result<SocketAddr>> },
    SetPeer { key: PeerKey, config: Box<PeerConfig>, reply: oneshot::Sender<Result<(), SetPeerError>> },
    RemovePeer { key: PeerKey },
    UpdateRoutes { key: PeerKey, changes: Vec<RouteChange> },
    InitialSetComplete { key: PeerKey },
    Status { reply: oneshot::Sender<Vec<PeerStatus>> },
    Learned { reply: oneshot::Sender<BTreeMap<IpNet, Vec<LearnedPath>>> },
    Shutdown { shutdown: Shutdown, reply: oneshot::Sender<()> },
}

pub(super) struct Engine {
    speaker: Speaker,
    links: BTreeMap<ConnectionId, Link>,
    listeners: Vec<Arc<TcpListener>>,
    commands: mpsc::Receiver<Command>,
    inputs: mpsc::Receiver<Input>,
    input_sender: mpsc::Sender<Input>,
    events: broadcast::Sender<Event>,
    /// Accepting, dialling, reading: ends with the engine.
    tasks: JoinSet<()>,
    /// Last words: waited for at the end.
    closing: JoinSet<()>,
}

enum Link {
    Dialling(AbortHandle),
    Open {
        stream: Arc<TcpStream>,
        reader: AbortHandle,
        /// Somebody waits for the socket already.
        full: bool,
    },
}

/// One read of each of a hundred peers; behind it waits the peer's own TCP window. With reads of 16 KiB 2 MiB at the most.
const INPUTS: usize = 128;
/// So many inputs are taken before time and outputs have their turn again.
const BATCH: usize = 64;
/// So many connections may be refused in words at the same time.
const MOST_FAREWELLS: usize = 128;
/// How long a shutdown may take.
const SHUTDOWN_TIME: Duration = Duration::from_secs(1);
/// A clock so late means that this process did not run: then peers may have spoken, and must be heard before they are
/// judged for silence.
const PAUSED: Duration = Duration::from_millis(500);

impl Engine {
    pub(super) fn new(
        seed: u64,
        listeners: Vec<TcpListener>,
        commands: mpsc::Receiver<Command>,
        events: broadcast::Sender<Event>,
    ) -> Self {
        let (input_sender, inputs) = mpsc::channel(INPUTS);
        Self {
            speaker: Speaker::new(seed),
            links: BTreeMap::new(),
            listeners: listeners.into_iter().map(Arc::new).collect(),
            commands,
            inputs,
            input_sender,
            events,
            tasks: JoinSet::new(),
            closing: JoinSet::new(),
        }
    }

    pub(super) async fn run(mut self) {
        for listener in &self.listeners {
            self.tasks.spawn(tasks::accept(Arc::clone(listener), self.input_sender.clone()));
        }
        let (shutdown, reply) = loop {
            let deadline = self.speaker.next_deadline();
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(Command::Shutdown { shutdown, reply }) => break (shutdown, Some(reply)),
                    Some(command) => self.command(command),
                    None => break (Shutdown::Leave(String::new()), None),
                },
                // The engine holds a sender itself, so there is always a next one.
                Some(input) = self.inputs.recv() => self.input(input),
                () = sleep_until(deadline) => {
                    if deadline.is_some_and(|deadline| deadline.elapsed() > PAUSED) {
                        self.hear_everybody().await;
                    }
                }
                // Nothing depends on the end of these but the memory that they take.
                Some(_) = self.closing.join_next() => {}
                Some(_) = self.tasks.join_next() => {}
            }
            for _ in 0..BATCH {
                let Ok(input) = self.inputs.try_recv() else { break };
                self.input(input);
            }
            let now = Instant::now();
            if self.speaker.next_deadline().is_some_and(|deadline| deadline <= now) {
                self.speaker.handle_timeout(now);
            }
            self.perform_outputs();
        };

        self.speaker.shutdown(Instant::now(), &shutdown);
        self.perform_outputs();
        let closed = async { while self.closing.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_TIME, closed).await.is_err() {
            warn!("a peer did not take its last message within {SHUTDOWN_TIME:?}");
        }
        if let Some(reply) = reply {
            // Whoever asked may have stopped waiting.
            let _ = reply.send(());
        }
    }

    /// Lets the readers bring what was in the sockets while nobody ran.
    async fn hear_everybody(&mut self) {
        for _ in 0..=self.links.len() {
            tokio::task::yield_now().await;
            while let Ok(input) = self.inputs.try_recv() {
                self.input(input);
            }
        }
    }

    fn command(&mut self, command: Command) {
        let now = Instant::now();
        // An answer that nobody waits for any more is dropped.
        match command {
            Command::Listen { address, reply } => {
                let _ = reply.send(self.listen(address));
            }
            Command::SetPeer { key, config, reply } => {
                let _ = reply.send(self.set_peer(now, key, *config));
            }
            Command::RemovePeer { key } => {
                if let Some(config) = self.speaker.config(&key) {
                    self.forget_password(config);
                }
                if let Err(unknown) = self.speaker.remove_peer(now, &key) {
                    debug!(%unknown, "nothing to remove");
                }
            }
            Command::UpdateRoutes { key, changes } => {
                if let Err(unknown) = self.speaker.update_routes(now, &key, changes) {
                    warn!(%unknown, "routes are dropped");
                }
            }
            Command::InitialSetComplete { key } => {
                if let Err(unknown) = self.speaker.initial_set_complete(now, &key) {
                    warn!(%unknown, "nothing to complete");
                }
            }
            Command::Status { reply } => {
                let _ = reply.send(self.speaker.status(now));
            }
            Command::Learned { reply } => {
                let _ = reply.send(self.speaker.learned());
            }
            // Taken by the loop.
            Command::Shutdown { .. } => {}
        }
    }

    fn listen(&mut self, address: SocketAddr) -> io::Result<SocketAddr> {
        if self.listeners.iter().any(|listener| listener.local_addr().is_ok_and(|bound| bound == address)) {
            return Ok(address);
        }
        let listener = Arc::new(socket::listen(address)?);
        for (_, config) in self.speaker.configs() {
            let transport = &config.transport;
            if config.connect.listens() && transport.password.is_some() && serves(&listener, config) {
                socket::set_password(&*listener, transport.remote.ip(), transport.password.as_ref())?;
            }
        }
        let bound = listener.local_addr()?;
        self.tasks.spawn(tasks::accept(Arc::clone(&listener), self.input_sender.clone()));
        self.listeners.push(listener);
        Ok(bound)
    }

    fn set_peer(&mut self, now: Instant, key: PeerKey, config: PeerConfig) -> Result<(), SetPeerError> {
        config.check()?;
        if let Some(previous) = self.speaker.config(&key)
            && (previous.transport.remote.ip(), previous.connect) != (config.transport.remote.ip(), config.connect)
        {
            self.forget_password(previous);
        }
        // Before the speaker starts, so that the peer's first SYN is met with the key that it is signed with.
        if config.connect.listens() {
            self.set_password(&config)?;
            if !self.listeners.iter().any(|listener| serves(listener, &config)) {
                warn!(peer = %key, remote = %config.transport.remote, "peer is waited for, but nothing listens for it");
            }
        }
        Ok(self.speaker.set_peer(now, key, config)?)
    }

    /// RFC 2385 keys belong to the listening socket, by peer address: the SYN must be signed already.
    fn set_password(&self, config: &PeerConfig) -> Result<(), SetPeerError> {
        for listener in self.listeners.iter().filter(|listener| serves(listener, config)) {
            let remote = config.transport.remote.ip();
            let had_password = self
                .speaker
                .configs()
                .any(|(_, other)| other.transport.remote.ip() == remote && other.transport.password.is_some());
            if config.transport.password.is_none() && !had_password {
                continue;
            }
            socket::set_password(&**listener, config.transport.remote.ip(), config.transport.password.as_ref())
                .map_err(|source| SetPeerError::Password {
                    listen: listener.local_addr().unwrap_or(config.transport.remote),
                    remote: config.transport.remote,
                    source,
                })?;
        }
        Ok(())
    }

    fn forget_password(&self, config: &PeerConfig) {
        if config.transport.password.is_none() || !config.connect.listens() {
            return;
        }
        for listener in self.listeners.iter().filter(|listener| serves(listener, config)) {
            if let Err(error) = socket::set_password(&**listener, config.transport.remote.ip(), None) {
                warn!(remote = %config.transport.remote, %error, "the password of a removed peer stays on the listener");
            }
        }
    }

    fn input(&mut self, input: Input) {
        let now = Instant::now();
        match input {
            Input::Accepted(stream, remote) => self.accepted(now, stream, remote),
            Input::Dialled(id, Ok(stream)) => match socket::endpoints(&stream) {
                Ok(endpoints) => {
                    if self.links.contains_key(&id) {
                        self.open(id, stream);
                        self.speaker.handle_dialled(now, id, endpoints);
                    }
                }
                Err(error) => self.speaker.handle_closed(now, id, Some(error.to_string())),
            },
            Input::Dialled(id, Err(error)) => {
                self.links.remove(&id);
                self.speaker.handle_closed(now, id, Some(error.to_string()));
            }
            Input::Bytes(id, bytes) => self.speaker.handle_bytes(now, id, &bytes),
            Input::Closed(id, reason) => self.speaker.handle_closed(now, id, reason),
            Input::Writable(id) => {
                if let Some(Link::Open { full, .. }) = self.links.get_mut(&id) {
                    *full = false;
                    self.write(id);
                }
            }
        }
        self.perform_outputs();
    }

    fn accepted(&mut self, now: Instant, stream: TcpStream, remote: SocketAddr) {
        let endpoints: Endpoints = match socket::endpoints(&stream) {
            Ok(endpoints) => endpoints,
            Err(error) => {
                debug!(%remote, %error, "a connection was gone before it was looked at");
                return;
            }
        };
        match self.speaker.handle_accepted(now, endpoints) {
            Accepted::Refused(last) => {
                debug!(%remote, "connection refused");
                // Beyond that somebody is knocking to make us work, and gets no last words.
                if self.closing.len() < MOST_FAREWELLS {
                    self.closing.spawn(closing::close(Arc::new(stream), last));
                }
            }
            Accepted::Connection(id, key) => {
                let prepared = match self.speaker.config(&key) {
                    Some(config) => socket::prepare_accepted(&stream, config),
                    None => Ok(()),
                };
                match prepared {
                    Ok(()) => self.open(id, stream),
                    Err(error) => {
                        error!(peer = %key, %error, "connection cannot be used");
                        self.speaker.handle_closed(now, id, Some(error.to_string()));
                    }
                }
            }
        }
    }

    fn open(&mut self, id: ConnectionId, stream: TcpStream) {
        let stream = Arc::new(stream);
        let reader = self.tasks.spawn(tasks::read(id, Arc::clone(&stream), self.input_sender.clone()));
        self.links.insert(id, Link::Open { stream, reader, full: false });
    }

    fn perform_outputs(&mut self) {
        while let Some(output) = self.speaker.poll_output() {
            match output {
                Output::Dial { connection, peer } => self.dial(connection, &peer),
                Output::Write { connection } => self.write(connection),
                Output::Close { connection, last } => self.close(connection, last),
                // Nobody may be listening.
                Output::Event(event) => drop(self.events.send(event)),
            }
        }
    }

    fn dial(&mut self, id: ConnectionId, peer: &PeerKey) {
        let Some(config) = self.speaker.config(peer).cloned() else { return };
        let dialling = self.tasks.spawn(tasks::dial(id, config, self.input_sender.clone()));
        self.links.insert(id, Link::Dialling(dialling));
    }

    /// Writes until there is nothing left or the socket is full.
    fn write(&mut self, id: ConnectionId) {
        let Some(Link::Open { stream, full, .. }) = self.links.get_mut(&id) else { return };
        while !*full {
            let now = Instant::now();
            let pending = self.speaker.pending_write(now, id);
            if pending.is_empty() {
                return;
            }
            match stream.try_write(pending) {
                Ok(count) => self.speaker.handle_written(now, id, count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    *full = true;
                    self.tasks.spawn(tasks::wait_for_room(id, Arc::clone(stream), self.input_sender.clone()));
                }
                // The reader sees the same end, and after it whatever the peer had still to say.
                Err(error) => {
                    debug!(connection = id.0, %error, "write failed");
                    *full = true;
                }
            }
        }
    }

    fn close(&mut self, id: ConnectionId, last: Vec<u8>) {
        match self.links.remove(&id) {
            Some(Link::Dialling(task)) => task.abort(),
            Some(Link::Open { stream, reader, .. }) => {
                reader.abort();
                self.closing.spawn(closing::close(stream, last));
            }
            None => {}
        }
    }
}

fn serves(listener: &TcpListener, config: &PeerConfig) -> bool {
    listener.local_addr().is_ok_and(|address| address.is_ipv4() == config.transport.remote.is_ipv4())
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
