//! The task that owns the [`Speaker`](crate::Speaker): turns commands, bytes and time into its inputs, and its outputs into socket calls.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tracing::{debug, error, warn};

use super::bfd::{BfdThread, BfdThreadStatus};
use super::listeners::{Caller, Listeners};
use super::neighbor::{self, Neighbor};
use super::recording::RecordingFile;
use super::tasks::{self, Input};
use super::{SetPeerError, closing, socket};
use crate::bfd::BfdEvent;
use crate::record::{RecordedSpeaker, RecordingEnd};
use crate::{
    Accepted, ChangedRoute, ConfigError, ConnectionId, DynamicPeers, DynamicStatus, Endpoints, Event, ExplainedPath,
    LearnedPath, NextHopRoute, Output, PeerConfig, PeerKey, PeerStatus, RouteChange, RoutePage, RouteQuery,
    SelectionDeferral, Shutdown, UnknownPeer,
};

pub(super) enum Command {
    Listen { address: SocketAddr, reply: oneshot::Sender<io::Result<SocketAddr>> },
    StopListening { address: SocketAddr, reply: oneshot::Sender<()> },
    SetPeer { key: PeerKey, config: Box<PeerConfig>, reply: oneshot::Sender<Result<(), SetPeerError>> },
    RemovePeer { key: PeerKey },
    SetDynamicPeers { key: PeerKey, peers: Box<DynamicPeers>, reply: oneshot::Sender<Result<(), SetPeerError>> },
    RemoveDynamicPeers { key: PeerKey },
    UpdateRoutes { key: PeerKey, changes: Vec<RouteChange> },
    HandleNextHopRoutes { changes: Vec<NextHopRoute> },
    InitialSetComplete { key: PeerKey },
    DeferSelection { deferral: SelectionDeferral },
    DynamicStatus { reply: oneshot::Sender<Vec<DynamicStatus>> },
    Status { reply: oneshot::Sender<Vec<PeerStatus>> },
    BfdStatus { reply: oneshot::Sender<BfdThreadStatus> },
    Learned { reply: oneshot::Sender<BTreeMap<IpNet, Vec<LearnedPath>>> },
    Routes { query: RouteQuery, reply: oneshot::Sender<Result<RoutePage, UnknownPeer>> },
    FollowRoutes,
    ChangedRoutes { limit: usize, reply: oneshot::Sender<Vec<ChangedRoute>> },
    Explain { prefix: IpNet, reply: oneshot::Sender<Vec<ExplainedPath>> },
    Shutdown { shutdown: Shutdown, reply: oneshot::Sender<()> },
}

pub(super) struct Engine {
    speaker: RecordedSpeaker,
    seed: u64,
    /// From the first peer on that wants it.
    bfd: Option<BfdThread>,
    recording: Option<RecordingFile>,
    links: BTreeMap<ConnectionId, Link>,
    /// Bound from the start; accepted from when the engine runs.
    bound: Vec<TcpListener>,
    listeners: Listeners,
    /// The routers on unnumbered links, by interface.
    neighbors: BTreeMap<String, (watch::Receiver<Neighbor>, AbortHandle)>,
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

/// So many reads wait at most, half a MiB at 16 KiB each; behind them waits each peer's own TCP window. More would not be
/// faster: a reader copies, and is ahead of the engine always.
const INPUTS: usize = 32;
/// So many inputs are taken before time and outputs have their turn again: enough that what comes in together goes out in
/// few writes, little enough to be done within some milliseconds.
const BATCH: usize = 16;
/// So many connections may be refused in words at the same time.
const MOST_FAREWELLS: usize = 128;
/// How long a shutdown may take.
const SHUTDOWN_TIME: Duration = Duration::from_secs(1);
/// How long BGP waits at the end for BFD to have sent its last packets; it takes the thread one wake-up.
const BFD_FAREWELL: Duration = Duration::from_millis(200);
/// A clock so late means that this process did not run: then peers may have spoken, and must be heard before they are
/// judged for silence.
const PAUSED: Duration = Duration::from_millis(500);

impl Engine {
    pub(super) fn new(
        seed: u64,
        recording: Option<RecordingFile>,
        listeners: Vec<TcpListener>,
        commands: mpsc::Receiver<Command>,
        events: broadcast::Sender<Event>,
    ) -> Self {
        let (input_sender, inputs) = mpsc::channel(INPUTS);
        let speaker = match &recording {
            Some(recording) => RecordedSpeaker::recorded(seed, Instant::now(), recording.limit()),
            None => RecordedSpeaker::new(seed),
        };
        Self {
            speaker,
            seed,
            bfd: None,
            recording,
            links: BTreeMap::new(),
            bound: listeners,
            listeners: Listeners::default(),
            neighbors: BTreeMap::new(),
            commands,
            inputs,
            input_sender,
            events,
            tasks: JoinSet::new(),
            closing: JoinSet::new(),
        }
    }

    pub(super) async fn run(mut self) {
        for listener in std::mem::take(&mut self.bound) {
            if let Err(error) = self.accept_on(listener) {
                error!(%error, "cannot listen");
            }
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
            self.save_recording();
        };

        self.end_sessions(&shutdown).await;
        if let Some(recording) = self.recording.take() {
            self.speaker.end_recording(RecordingEnd::Complete);
            recording.finish(self.speaker.take_recorded()).await;
        }
        if let Some(reply) = reply {
            // Whoever asked may have stopped waiting.
            let _ = reply.send(());
        }
    }

    /// RFC 5882 section 3.2: whoever hears on BFD that we go is not to take the end of BGP for a failure of the path, so AdminDown comes
    /// first. But FRR 8.4 and BIRD 2.0 end BGP themselves when they hear it, and a peer that has agreed to keep our routes would forget
    /// them: such a peer hears it when it has seen TCP end, and keeps them already.
    async fn end_sessions(&mut self, shutdown: &Shutdown) {
        let until = tokio::time::Instant::now() + SHUTDOWN_TIME;
        let bfd = self.bfd.take();
        if let Some(bfd) = &bfd {
            farewell(bfd.keep_only(self.speaker.left_silently(shutdown))).await;
        }
        self.speaker.shutdown(Instant::now(), shutdown);
        self.perform_outputs();
        let closed = async { while self.closing.join_next().await.is_some() {} };
        if tokio::time::timeout_at(until, closed).await.is_err() {
            warn!("a peer did not take its last message within {SHUTDOWN_TIME:?}");
        }
        if let Some((told, ended)) = bfd.map(|bfd| bfd.shutdown()) {
            farewell(told).await;
            // Who has not answered by then takes our silence for it.
            let _ = tokio::time::timeout_at(until, ended).await;
        }
    }

    /// Hands over what was recorded, if the file can take it now.
    fn save_recording(&mut self) {
        if let Some(recording) = &self.recording {
            recording.save(&mut self.speaker);
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
            Command::StopListening { address, reply } => {
                self.listeners.remove(address);
                let _ = reply.send(());
            }
            Command::SetPeer { key, config, reply } => {
                let _ = reply.send(self.set_peer(now, key, *config));
            }
            Command::RemovePeer { key } => {
                if let Some(bfd) = &self.bfd {
                    bfd.remove(key.clone());
                }
                if let Err(unknown) = self.speaker.remove_peer(now, &key) {
                    debug!(%unknown, "nothing to remove");
                }
                self.forget_passwords();
                self.forget_links();
            }
            Command::SetDynamicPeers { key, peers, reply } => {
                let _ = reply.send(self.set_dynamic_peers(now, key, *peers));
            }
            Command::RemoveDynamicPeers { key } => {
                if let Err(unknown) = self.speaker.remove_dynamic_peers(now, &key) {
                    debug!(%unknown, "nothing to remove");
                }
                self.forget_passwords();
            }
            Command::UpdateRoutes { key, changes } => {
                if let Err(unknown) = self.speaker.update_routes(now, &key, changes) {
                    warn!(%unknown, "routes are dropped");
                }
            }
            Command::HandleNextHopRoutes { changes } => self.speaker.handle_next_hop_routes(now, &changes),
            Command::InitialSetComplete { key } => {
                if let Err(unknown) = self.speaker.initial_set_complete(now, &key) {
                    warn!(%unknown, "nothing to complete");
                }
            }
            Command::DeferSelection { deferral } => self.speaker.defer_selection(now, deferral),
            Command::DynamicStatus { reply } => {
                let _ = reply.send(self.speaker.dynamic_status());
            }
            Command::Status { reply } => {
                let _ = reply.send(self.speaker.status(now));
            }
            Command::BfdStatus { reply } => match &self.bfd {
                Some(bfd) => bfd.status(reply),
                None => drop(reply.send(BfdThreadStatus::default())),
            },
            Command::Learned { reply } => {
                let _ = reply.send(self.speaker.learned());
            }
            Command::Routes { query, reply } => {
                let _ = reply.send(self.speaker.routes(&query));
            }
            Command::FollowRoutes => self.speaker.follow_routes(),
            Command::ChangedRoutes { limit, reply } => {
                let _ = reply.send(self.speaker.changed_routes(limit));
            }
            Command::Explain { prefix, reply } => {
                let _ = reply.send(self.speaker.explain(&prefix));
            }
            // Taken by the loop.
            Command::Shutdown { .. } => {}
        }
    }

    fn listen(&mut self, address: SocketAddr) -> io::Result<SocketAddr> {
        if self.listeners.has(address) {
            return Ok(address);
        }
        self.accept_on(socket::listen(address)?)
    }

    fn accept_on(&mut self, listener: TcpListener) -> io::Result<SocketAddr> {
        let callers: Vec<Caller> = self.callers().collect();
        let listener = self.listeners.add(listener, &callers)?;
        let address = listener.local_addr()?;
        let accepting = self.tasks.spawn(tasks::accept(listener, self.input_sender.clone()));
        self.listeners.accept_by(address, accepting);
        Ok(address)
    }

    fn set_peer(&mut self, now: Instant, key: PeerKey, config: PeerConfig) -> Result<(), SetPeerError> {
        config.check()?;
        Caller::counterpart(&key, &config).check_signature()?;
        if let Some(interface) = config.transport.unnumbered() {
            self.watch_link(interface);
        }
        let others = self.peers_that_call(Some(&key)).chain(self.ranges_that_call(None)).collect();
        let caller = Caller::peer(&key, &config);
        let set = self.with_passwords(caller, others, |speaker| speaker.set_peer(now, key.clone(), config));
        self.forget_links();
        set?;
        self.watch(key);
        Ok(())
    }

    /// Has BFD watch this peer, if it is to, and where its session is known to lead.
    fn watch(&mut self, key: PeerKey) {
        let Some((path, wanted)) = self.speaker.watched(&key) else {
            if let Some(bfd) = &self.bfd {
                bfd.remove(key);
            }
            return;
        };
        if self.bfd.is_none() {
            match BfdThread::start(self.seed, self.input_sender.clone()) {
                Ok(thread) => self.bfd = Some(thread),
                Err(error) => {
                    error!(peer = %key, %error, "BFD cannot start: the peer is watched by its hold timer alone")
                }
            }
        }
        if let Some(bfd) = &self.bfd {
            bfd.set(key, path, wanted);
        }
    }

    fn watch_link(&mut self, interface: &str) {
        if !self.neighbors.contains_key(interface) {
            let unknown = Neighbor::Unknown(format!("{interface} has not been looked at yet"));
            let (sender, known) = watch::channel(unknown);
            let task = self.tasks.spawn(neighbor::watch(interface.to_owned(), sender));
            self.neighbors.insert(interface.to_owned(), (known, task));
        }
    }

    /// Says and hears nothing any more where no peer is unnumbered.
    fn forget_links(&mut self) {
        let speaker = &self.speaker;
        self.neighbors.retain(|interface, (_, task)| {
            let wanted = speaker.configs().any(|(_, config)| config.transport.unnumbered() == Some(interface));
            if !wanted {
                task.abort();
            }
            wanted
        });
    }

    fn set_dynamic_peers(&mut self, now: Instant, key: PeerKey, peers: DynamicPeers) -> Result<(), SetPeerError> {
        peers.check()?;
        let others = self.peers_that_call(None).chain(self.ranges_that_call(Some(&key))).collect();
        let caller = Caller::range(&key, &peers);
        caller.check_signature()?;
        self.with_passwords(Some(caller), others, |speaker| speaker.set_dynamic_peers(now, key.clone(), peers))?;
        for member in self.speaker.members(&key) {
            self.watch(member);
        }
        Ok(())
    }

    /// Puts the keys on the sockets before the speaker starts, so that the first SYN is met with the key that it is signed
    /// with.
    fn with_passwords(
        &mut self,
        caller: Option<Caller>,
        mut callers: Vec<Caller>,
        set: impl FnOnce(&mut RecordedSpeaker) -> Result<(), ConfigError>,
    ) -> Result<(), SetPeerError> {
        if let Some(caller) = caller {
            self.listeners.check(&caller, &callers)?;
            if !self.listeners.may_be_reached_by(&caller) {
                warn!(peer = %caller.name(), "peer is waited for, but nothing listens for it");
            }
            callers.push(caller);
        }
        let set = match self.listeners.set_keys(&callers) {
            Ok(()) => set(&mut self.speaker).map_err(SetPeerError::from),
            Err(error) => Err(error),
        };
        if set.is_err() {
            self.forget_passwords();
        }
        set
    }

    /// Leaves the keys on the sockets that the peers have now.
    fn forget_passwords(&mut self) {
        let callers: Vec<Caller> = self.callers().collect();
        if let Err(error) = self.listeners.set_keys(&callers) {
            warn!(%error, "a password that nobody has any more may stay on a listener");
        }
    }

    fn callers(&self) -> impl Iterator<Item = Caller> {
        self.peers_that_call(None).chain(self.ranges_that_call(None))
    }

    fn peers_that_call(&self, but: Option<&PeerKey>) -> impl Iterator<Item = Caller> {
        let configs = self.speaker.configs().filter(move |(key, _)| Some(*key) != but);
        configs.filter_map(|(key, config)| Caller::peer(key, config))
    }

    fn ranges_that_call(&self, but: Option<&PeerKey>) -> impl Iterator<Item = Caller> {
        let ranges = self.speaker.dynamic_peers().filter(move |(key, _)| Some(*key) != but);
        ranges.map(|(key, peers)| Caller::range(key, peers))
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
            Input::Bfd(key, event) => {
                // The peer may have been removed meanwhile.
                if let BfdEvent::Down(failure) = event
                    && let Err(unknown) = self.speaker.handle_bfd_down(now, &key, failure)
                {
                    debug!(%unknown, "BFD has lost it");
                }
                // Nobody may be listening.
                let _ = self.events.send(Event::BfdChanged { peer: key });
            }
        }
    }

    fn accepted(&mut self, now: Instant, stream: TcpStream, remote: SocketAddr) {
        let endpoints: Endpoints = match socket::endpoints(&stream) {
            Ok(endpoints) => endpoints,
            Err(error) => {
                debug!(%remote, %error, "a connection was gone before it was looked at");
                return;
            }
        };
        let accepted = match socket::link(endpoints.remote) {
            Some(link) => self.speaker.handle_accepted_on_link(now, &link, endpoints),
            None => self.speaker.handle_accepted(now, endpoints),
        };
        match accepted {
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
                Output::Event(event) => {
                    if let Event::SessionUp { peer } | Event::SessionDown { peer, .. } = &event {
                        self.watch(peer.clone());
                    }
                    // Nobody may be listening.
                    let _ = self.events.send(event);
                }
            }
        }
    }

    fn dial(&mut self, id: ConnectionId, peer: &PeerKey) {
        let Some(config) = self.speaker.config(peer).cloned() else { return };
        let neighbor = config.transport.unnumbered().and_then(|interface| self.neighbors.get(interface));
        let neighbor = neighbor.map(|(known, _)| known.clone());
        let dialling = self.tasks.spawn(tasks::dial(id, config, neighbor, self.input_sender.clone()));
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

async fn farewell(told: oneshot::Receiver<()>) {
    if tokio::time::timeout(BFD_FAREWELL, told).await.is_err() {
        warn!("BFD was not heard to say farewell within {BFD_FAREWELL:?}");
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
