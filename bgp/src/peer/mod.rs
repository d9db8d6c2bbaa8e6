//! One peer: its configuration, the connections with it (none, one, or two until a collision is resolved), its routes.
//!
//! Everything that happens to a connection goes through [`Peer::apply`], which asks the table in [`state`] what to do.
//! Whatever a peer sends ends up there as one [`Input`]; nothing returns an error, because what is wrong with a session is
//! not a failure of this code but a transition of that machine. `receive` makes those inputs, `handshake`, `routes` and `ending` do
//! what the table answers, and `send` writes.
//!
//! After each input [`Peer::settle`] does what follows from the new situation rather than from the event: dial if nobody
//! does, ask for a write if something waits, note the state for the operator.

mod backoff;
mod connection;
mod ending;
mod framing;
mod handshake;
mod limit;
mod open;
mod output_buffer;
mod receive;
mod refresh;
mod restart;
mod routes;
mod send;
mod state;
mod timers;
mod view;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use rustbgpd_wire::UpdateMessage;
use rustbgpd_wire::constants::MAX_MESSAGE_LEN;
use tracing::debug;

use self::backoff::Backoff;
use self::connection::{Connection, Origin};
use self::limit::Limits;
use self::open::Negotiated;
use self::refresh::Refresh;
use self::routes::SessionCounters;
use self::state::{Event, Reaction, State, react};
use self::timers::Timer;
use crate::bfd::{BfdConfig, BfdFailure, Path};
use crate::dynamic;
use crate::exchange::{Accepted, ConnectionId, Endpoints, Output};
use crate::notification::Notification;
use crate::random::SplitMix64;
use crate::refusal::Refusals;
use crate::rib::{AdjRibOut, EndOfRib, MemberId, Rib};
use crate::{PeerConfig, PeerKey, Relay, SessionError, SessionState};

#[derive(Debug)]
pub(crate) struct Peer {
    key: PeerKey,
    config: PeerConfig,
    /// The range that it comes from; `None`: it was configured itself.
    range: Option<PeerKey>,
    random: SplitMix64,
    /// At most one dialled and one accepted; and an established one that may be dead (RFC 4724 section 4.2).
    connections: Vec<Connection>,
    /// When to dial.
    retry: Option<Instant>,
    /// Idle until then: connections are refused.
    idle_until: Option<Instant>,
    backoff: Backoff,
    /// Shut down, or closed until another configuration comes: no connection any more, in either direction.
    stopped: bool,
    /// Whose routes these are in the table of all peers.
    member: MemberId,
    /// When routes that outlived their session are dropped.
    stale_until: Option<Instant>,
    /// When routes are dropped that a refresh has not confirmed.
    refresh_until: Option<Instant>,
    /// When this engine started; with it all that was said before it has to be said again.
    started: Instant,
    /// There was a session before, so the next one does not follow our own start.
    was_established: bool,
    rib_out: AdjRibOut,
    end_of_rib: EndOfRib,
    session: SessionCounters,
    refusals: Refusals,
    limits: Limits,
    messages_in: u64,
    messages_out: u64,
    flaps: u64,
    last_error: Option<String>,
    /// The same, typed.
    ended_by: Option<SessionError>,
    /// The last error says why one side wants no session.
    explained: bool,
    state: SessionState,
    since: Instant,
}

/// What an input may reach beyond its peer.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) outputs: &'a mut VecDeque<Output>,
    pub(crate) connections: &'a mut BTreeMap<ConnectionId, PeerKey>,
    pub(crate) next_connection: &'a mut u64,
    pub(crate) routes_changed: &'a mut bool,
    pub(crate) rib: &'a mut Rib,
}

/// An event of the state machine together with what it brings.
enum Input {
    TcpEstablished(Endpoints),
    Open(Negotiated),
    Keepalive,
    Update(UpdateMessage),
    RouteRefresh(Refresh),
    KeepaliveTimerExpires,
    /// Every event that can only end the connection.
    Failed(Event, SessionError),
}

impl Input {
    const fn event(&self) -> Event {
        match self {
            Self::TcpEstablished(_) => Event::TcpEstablished,
            Self::Open(_) => Event::Open,
            Self::Keepalive => Event::Keepalive,
            Self::Update(_) => Event::Update,
            Self::RouteRefresh(_) => Event::RouteRefresh,
            Self::KeepaliveTimerExpires => Event::KeepaliveTimerExpires,
            Self::Failed(event, _) => *event,
        }
    }
}

impl Peer {
    pub(crate) fn new(
        key: PeerKey,
        config: PeerConfig,
        range: Option<PeerKey>,
        seed: u64,
        started: Instant,
        context: &mut Context<'_>,
    ) -> Self {
        let mut peer = Self {
            random: SplitMix64::new(seed),
            connections: Vec::with_capacity(2),
            retry: None,
            idle_until: None,
            backoff: Backoff::default(),
            stopped: false,
            member: context.rib.add_member(key.clone(), config.relay),
            stale_until: None,
            refresh_until: None,
            started,
            was_established: false,
            rib_out: AdjRibOut::default(),
            end_of_rib: first_end_of_rib(config.relay),
            session: SessionCounters::default(),
            refusals: Refusals::default(),
            limits: Limits::default(),
            messages_in: 0,
            messages_out: 0,
            flaps: 0,
            last_error: None,
            ended_by: None,
            explained: false,
            state: SessionState::Idle,
            since: context.now,
            key,
            config,
            range,
        };
        peer.settle(context);
        peer
    }

    pub(crate) fn member(&self) -> MemberId {
        self.member
    }

    pub(crate) fn config(&self) -> &PeerConfig {
        &self.config
    }

    pub(crate) fn is_established(&self) -> bool {
        self.connections.iter().any(Connection::is_established)
    }

    /// Between which ends BFD is to watch it now, and how.
    pub(crate) fn watched(&self) -> Option<(Path, BfdConfig)> {
        let (bfd, transport) = (self.config.bfd?, &self.config.transport);
        if self.range.is_none() && transport.unnumbered().is_none() {
            return Some((Path::of(transport, bfd.hops), bfd));
        }
        let established = self.connections.iter().find(|connection| connection.is_established())?;
        Some((Path::between(established.endpoints?, transport, bfd.hops), bfd))
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let timers = self.connections.iter().filter_map(|connection| connection.timers.next_deadline());
        let resting = self.retry.into_iter().chain(self.idle_until).chain(self.limits.next_deadline());
        timers.chain(resting).chain(self.stale_until).chain(self.refresh_until).min()
    }

    /// Ends whatever there is, for good: the peer was removed, or all is shut down.
    pub(crate) fn stop(&mut self, context: &mut Context<'_>, error: &SessionError) {
        self.stopped = true;
        self.close_all(context, error);
        self.drop_routes(context);
        self.settle(context);
    }

    /// Ends whatever there is, such that the peer keeps our routes if it has agreed to.
    pub(crate) fn stop_to_restart(&mut self, context: &mut Context<'_>, text: &str) {
        let error = if self.restarts_silently() {
            SessionError::Restarting
        } else {
            SessionError::Shutdown { text: text.to_owned() }
        };
        self.stop(context, &error);
    }

    /// Whether the peer keeps our routes when we restart, so that nothing is to tell it that we go.
    pub(crate) fn restarts_silently(&self) -> bool {
        let agreed = |connection: &Connection| match &connection.negotiated {
            Some(negotiated) if connection.is_established() => negotiated.graceful_restart.is_some(),
            // The peer may still have our routes from an earlier session.
            _ => true,
        };
        self.config.graceful_restart.is_some() && self.connections.iter().all(agreed)
    }

    /// Takes over another configuration; the session goes down only if it has to.
    pub(crate) fn reconfigure(&mut self, context: &mut Context<'_>, config: PeerConfig) {
        if self.config == config {
            return;
        }
        let previous = std::mem::replace(&mut self.config, config);
        self.stopped = false;
        if previous.import != self.config.import && !self.is_established() {
            // A session that was closed for its prefixes is worth another try at once.
            (self.idle_until, self.retry) = (None, None);
        }
        if previous.needs_restart(&self.config) {
            self.close_all(context, &SessionError::ConfigurationChanged);
            self.drop_routes(context);
            context.rib.set_relay(self.member, self.config.relay);
            if self.config.relay != Relay::Nothing {
                self.end_of_rib = EndOfRib::Release;
            }
            // What went wrong before went wrong with another configuration.
            self.backoff = Backoff::default();
            self.last_error = None;
            self.explained = false;
        } else {
            self.apply_next_hops();
            if previous.import != self.config.import {
                self.apply_import(context);
            }
        }
        self.settle(context);
    }

    fn close_all(&mut self, context: &mut Context<'_>, error: &SessionError) {
        while let Some(connection) = self.connections.first() {
            self.apply(context, connection.id, Input::Failed(Event::Stop, error.clone()));
        }
        self.retry = None;
        self.idle_until = None;
    }

    /// A connection came in from this peer's address.
    pub(crate) fn accept(&mut self, context: &mut Context<'_>, endpoints: Endpoints) -> Accepted {
        let refuse = |notification: Notification| Accepted::Refused(notification.encode(MAX_MESSAGE_LEN).to_vec());
        if self.stopped || !self.config.connect.listens() {
            return refuse(Notification::connection_rejected());
        }
        if self.idle_until.is_some() {
            // RFC 4271 section 8.2.2: in Idle a connection is refused, and there is no session that could be notified.
            return Accepted::Refused(Vec::new());
        }
        let restarted = self.may_have_restarted(context.now);
        if self.is_established() && !restarted {
            // Section 6.8 lets the new connection send its OPEN first; the outcome would be the same.
            return refuse(Notification::collision());
        }
        let pending = |connection: &&Connection| connection.origin == Origin::Accepted && !connection.is_established();
        match self.connections.iter().find(pending) {
            Some(earlier) if earlier.state == State::OpenSent => {
                // The peer has given its first attempt up, or would not make a second.
                self.apply(context, earlier.id, Input::Failed(Event::CollisionLost, SessionError::Collision));
            }
            Some(_) => return refuse(Notification::collision()),
            None => {}
        }
        let id = self.add_connection(context, Origin::Accepted);
        self.apply(context, id, Input::TcpEstablished(endpoints));
        self.settle(context);
        Accepted::Connection(id, self.key.clone())
    }

    pub(crate) fn handle_dialled(&mut self, context: &mut Context<'_>, id: ConnectionId, endpoints: Endpoints) {
        self.apply(context, id, Input::TcpEstablished(endpoints));
        self.settle(context);
    }

    /// A connection failed to come up, or is gone. `reason` is `None` when the peer has closed it in order.
    pub(crate) fn handle_closed(&mut self, context: &mut Context<'_>, id: ConnectionId, reason: Option<String>) {
        let Some(connection) = self.connection(id) else { return };
        let error = match (connection.state, reason) {
            (State::Connect, reason) => SessionError::DialFailed { reason: reason.unwrap_or_default() },
            (_, Some(reason)) => SessionError::ConnectionLost { reason },
            (state, None) => SessionError::ClosedByPeer { established: state == State::Established },
        };
        self.apply(context, id, Input::Failed(Event::TcpFails, error));
        self.settle(context);
    }

    /// BFD has lost the peer.
    pub(crate) fn handle_bfd_down(&mut self, context: &mut Context<'_>, failure: BfdFailure) {
        let ids: Vec<ConnectionId> = self.connections.iter().map(|connection| connection.id).collect();
        for id in ids {
            self.apply(context, id, Input::Failed(Event::BfdDown, SessionError::BfdDown { failure }));
        }
        self.settle(context);
    }

    pub(crate) fn handle_timeout(&mut self, context: &mut Context<'_>) {
        let now = context.now;
        if self.idle_until.is_some_and(|until| until <= now) {
            self.idle_until = None;
        }
        self.expire_stale_routes(context);
        self.expire_refresh(context);
        let ids: Vec<ConnectionId> = self.connections.iter().map(|connection| connection.id).collect();
        for id in ids {
            while let Some(timer) = self.connection(id).and_then(|connection| connection.timers.take_expired(now)) {
                let input = self.expiry(id, timer);
                self.apply(context, id, input);
            }
        }
        if self.retry.is_some_and(|retry| retry <= now) {
            self.retry = None;
            // A session that is about to come up over the other connection needs no second one.
            let hopeful = self.connections.iter().any(|connection| connection.state >= State::OpenConfirm);
            let dialling = self.connections.iter().any(|connection| connection.origin == Origin::Dialled);
            if !hopeful && !dialling && self.config.connect.dials() && !self.stopped {
                self.dial(context);
            }
        }
        self.settle(context);
    }

    fn expiry(&self, id: ConnectionId, timer: Timer) -> Input {
        let connection = self.connections.iter().find(|connection| connection.id == id);
        let negotiated = connection.and_then(|connection| connection.negotiated.as_ref());
        match timer {
            Timer::Connect => Input::Failed(
                Event::ConnectTimerExpires,
                SessionError::DialTimeout {
                    after: self.connect_time(),
                    signed: self.config.transport.password.is_some(),
                },
            ),
            Timer::Hold => {
                let open_time = connection.map_or(connection::LARGE_HOLD_TIME, |connection| connection.open_time);
                let hold = negotiated.map_or(open_time, |negotiated| negotiated.hold_time);
                Input::Failed(Event::HoldTimerExpires, SessionError::HoldTimerExpired { hold })
            }
            Timer::SendHold => {
                let send_hold = connection.map(|connection| connection.send_hold_time(self.config.send_hold));
                let send_hold = send_hold.unwrap_or_default();
                Input::Failed(Event::SendHoldTimerExpires, SessionError::SendHoldTimerExpired { send_hold })
            }
            Timer::Keepalive => Input::KeepaliveTimerExpires,
        }
    }

    /// The one place where the state machine is driven.
    fn apply(&mut self, context: &mut Context<'_>, id: ConnectionId, input: Input) {
        let Some(connection) = self.connection(id) else { return };
        let (state, event) = (connection.state, input.event());
        let reaction = react(state, event);
        debug!(peer = %self.key, connection = id.0, ?state, ?event, ?reaction);
        match (reaction, input) {
            (Reaction::SendOpen, Input::TcpEstablished(endpoints)) => self.send_open(context, id, endpoints),
            (Reaction::AcceptOpen, Input::Open(negotiated)) => self.accept_open(context, id, negotiated),
            (Reaction::Establish, _) => self.establish(context, id),
            (Reaction::KeepAlive, _) => {
                if let Some(connection) = self.connection(id) {
                    connection.restart_hold_timer(context.now);
                }
            }
            (Reaction::SendKeepalive, _) => self.send_keepalive(context, id),
            (Reaction::TakeUpdate, Input::Update(update)) => self.take_update(context, id, &update),
            (Reaction::TakeRouteRefresh, Input::RouteRefresh(refresh)) => self.take_route_refresh(context, id, refresh),
            (Reaction::Close, Input::Failed(_, error)) => self.close(context, id, error),
            (Reaction::Unexpected, _) => {
                let state = state.session_state().name();
                self.close(context, id, SessionError::UnexpectedMessage { message: event.message(), state });
            }
            // Inputs and reactions come in pairs: what is left are events without consequence in this state.
            (_, _) => {}
        }
    }

    fn dial(&mut self, context: &mut Context<'_>) {
        let id = self.add_connection(context, Origin::Dialled);
        let connect_time = self.connect_time();
        if let Some(connection) = self.connection(id) {
            connection.timers.start(Timer::Connect, context.now, connect_time);
        }
        context.outputs.push_back(Output::Dial { connection: id, peer: self.key.clone() });
    }

    /// How long a dial may take.
    fn connect_time(&self) -> Duration {
        self.config.connect_retry.max(SHORTEST_CONNECT_TIME)
    }

    fn add_connection(&mut self, context: &mut Context<'_>, origin: Origin) -> ConnectionId {
        let id = ConnectionId(*context.next_connection);
        *context.next_connection += 1;
        context.connections.insert(id, self.key.clone());
        let open_time = if self.range.is_some() { dynamic::OPEN_TIME } else { connection::LARGE_HOLD_TIME };
        self.connections.push(Connection::new(id, origin, open_time));
        id
    }

    fn connection(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|connection| connection.id == id)
    }

    /// What follows from where things stand now.
    fn settle(&mut self, context: &mut Context<'_>) {
        if self.connections.is_empty() && self.retry.is_none() && self.config.connect.dials() && !self.stopped {
            self.dial(context);
        }
        self.tend_limit(context);
        self.request_writes(context);
        let state = self.connections.iter().map(|connection| connection.state).max().map_or_else(
            || if self.stopped || self.idle_until.is_some() { SessionState::Idle } else { SessionState::Active },
            State::session_state,
        );
        if state != self.state {
            (self.state, self.since) = (state, context.now);
        }
    }

    /// Whether it is about to tell, or is telling, what it has: RFC 4724 section 4.1 lets a choice wait for that.
    pub(crate) fn is_awaited(&self) -> bool {
        self.config.relay != Relay::Nothing
            && self.connections.iter().any(|connection| match (connection.state, &connection.negotiated) {
                (State::OpenSent | State::OpenConfirm, _) => true,
                (State::Established, Some(negotiated)) => {
                    let will_say = negotiated.graceful_restart.as_ref().is_some_and(|restart| !restart.restarting);
                    will_say && !negotiated.families.is_subset(&self.session.end_of_rib_received)
                }
                (State::Connect | State::Established, _) => false,
            })
    }

    pub(crate) fn remote_ip(&self) -> IpAddr {
        self.config.transport.remote.ip().to_canonical()
    }

    pub(crate) fn local_ip(&self) -> Option<IpAddr> {
        self.connections.iter().find_map(|connection| connection.endpoints).map(|endpoints| endpoints.local.ip())
    }

    pub(crate) fn range(&self) -> Option<&PeerKey> {
        self.range.as_ref()
    }

    pub(crate) fn was_established(&self) -> bool {
        self.was_established
    }

    /// Why the last session ended or did not come up.
    pub(crate) fn ended_by(&self) -> Option<&SessionError> {
        self.ended_by.as_ref()
    }

    /// Until when connections are refused.
    pub(crate) fn idle_until(&self) -> Option<Instant> {
        self.idle_until
    }

    /// It came from a range, and there is neither a connection with it nor a route that waits for its restart.
    pub(crate) fn is_spent(&self) -> bool {
        self.range.is_some() && self.connections.is_empty() && self.stale_until.is_none()
    }
}

/// A route server has nothing of its own to say before a first dump is complete.
const fn first_end_of_rib(relay: Relay) -> EndOfRib {
    match relay {
        Relay::Nothing => EndOfRib::Withhold,
        Relay::RouteServerClient | Relay::ReflectorClient { .. } | Relay::ReflectorPeer { .. } => EndOfRib::Release,
    }
}

/// A SYN that got lost is sent again after one second, and after three.
const SHORTEST_CONNECT_TIME: Duration = Duration::from_secs(2);

/// RFC 4271 section 4.4: a header and nothing behind it.
const KEEPALIVE: [u8; 19] =
    [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 19, 4];
