//! The state machine of one connection, as a table.
//!
//! RFC 4271 section 8 describes one machine per peer and then allows two connections (section 6.8), of which each needs its
//! own. Here the machine belongs to the connection, and has the four states in which there is one; Idle and Active are
//! what a [`Peer`](super::Peer) is in without. [`react`] is total: every event has its cell in every state, and a cell
//! says what to do, not whether it is allowed.

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// Dialled, and not answered yet.
    Connect,
    /// Up, our OPEN is on its way.
    OpenSent,
    /// The peer's OPEN was good; waiting for the KEEPALIVE that says the same of ours.
    OpenConfirm,
    Established,
}

/// What can happen to a connection. The numbers are those of RFC 4271 section 8.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// 2: the session was shut down, removed or changed.
    Stop,
    /// 9, as far as a dialled connection is concerned: nobody answers.
    ConnectTimerExpires,
    /// 10.
    HoldTimerExpires,
    /// 11.
    KeepaliveTimerExpires,
    /// 29 (RFC 9687).
    SendHoldTimerExpires,
    /// 16 and 17.
    TcpEstablished,
    /// 18.
    TcpFails,
    /// 19.
    Open,
    /// 21.
    HeaderInvalid,
    /// 22.
    OpenInvalid,
    /// 23: the other connection with this peer is kept.
    CollisionLost,
    /// 24 and 25.
    Notification,
    /// 26.
    Keepalive,
    /// 27.
    Update,
    /// 28, as far as RFC 7606 left of it.
    UpdateInvalid,
    /// RFC 2918.
    RouteRefresh,
    /// RFC 7313 section 5.
    RouteRefreshInvalid,
    /// More prefixes than the import policy allows (RFC 4486).
    TooManyPrefixes,
    /// RFC 5882 section 3.2: the path has failed. It ends a session and keeps none from being tried: a peer that restarts may lose
    /// BFD before BGP (section 4.3.2), and whether the path is back is found out by trying.
    BfdDown,
}

/// What is to be done about an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reaction {
    Ignore,
    /// Send OPEN, and wait for the peer's with the large hold time.
    SendOpen,
    /// Resolve a collision if there is one; send KEEPALIVE, and wait for the peer's.
    AcceptOpen,
    /// The session is up.
    Establish,
    /// The peer is alive: start the hold timer anew.
    KeepAlive,
    SendKeepalive,
    TakeUpdate,
    TakeRouteRefresh,
    /// Close for the reason that came with the event, with the NOTIFICATION that belongs to it.
    Close,
    /// Close with an FSM error (RFC 6608): this message has no place in this state.
    Unexpected,
}

pub(crate) const fn react(state: State, event: Event) -> Reaction {
    use Event as E;
    use Reaction as R;
    match state {
        // No byte has been exchanged, so there is nobody to tell anything and nothing that could be received.
        State::Connect => match event {
            E::TcpEstablished => R::SendOpen,
            E::Stop | E::ConnectTimerExpires | E::TcpFails | E::CollisionLost => R::Close,
            E::HoldTimerExpires
            | E::KeepaliveTimerExpires
            | E::SendHoldTimerExpires
            | E::Open
            | E::HeaderInvalid
            | E::OpenInvalid
            | E::Notification
            | E::Keepalive
            | E::Update
            | E::UpdateInvalid
            | E::RouteRefresh
            | E::RouteRefreshInvalid
            | E::TooManyPrefixes
            | E::BfdDown => R::Ignore,
        },
        State::OpenSent => match event {
            E::Open => R::AcceptOpen,
            E::Stop
            | E::HoldTimerExpires
            | E::SendHoldTimerExpires
            | E::TcpFails
            | E::HeaderInvalid
            | E::OpenInvalid
            | E::CollisionLost
            | E::Notification => R::Close,
            E::Keepalive | E::Update | E::UpdateInvalid | E::RouteRefresh | E::RouteRefreshInvalid => R::Unexpected,
            E::ConnectTimerExpires | E::KeepaliveTimerExpires | E::TcpEstablished | E::TooManyPrefixes | E::BfdDown => {
                R::Ignore
            }
        },
        State::OpenConfirm => match event {
            E::Keepalive => R::Establish,
            E::KeepaliveTimerExpires => R::SendKeepalive,
            E::Stop
            | E::HoldTimerExpires
            | E::SendHoldTimerExpires
            | E::TcpFails
            | E::HeaderInvalid
            | E::CollisionLost
            | E::Notification => R::Close,
            E::Open | E::OpenInvalid | E::Update | E::UpdateInvalid | E::RouteRefresh | E::RouteRefreshInvalid => {
                R::Unexpected
            }
            E::ConnectTimerExpires | E::TcpEstablished | E::TooManyPrefixes | E::BfdDown => R::Ignore,
        },
        State::Established => match event {
            E::Keepalive => R::KeepAlive,
            E::Update => R::TakeUpdate,
            E::RouteRefresh => R::TakeRouteRefresh,
            E::KeepaliveTimerExpires => R::SendKeepalive,
            E::Stop
            | E::HoldTimerExpires
            | E::SendHoldTimerExpires
            | E::TcpFails
            | E::HeaderInvalid
            | E::CollisionLost
            | E::Notification
            | E::UpdateInvalid
            | E::RouteRefreshInvalid
            | E::TooManyPrefixes
            | E::BfdDown => R::Close,
            E::Open | E::OpenInvalid => R::Unexpected,
            E::ConnectTimerExpires | E::TcpEstablished => R::Ignore,
        },
    }
}

impl State {
    pub(crate) const fn session_state(self) -> crate::SessionState {
        match self {
            Self::Connect => crate::SessionState::Connect,
            Self::OpenSent => crate::SessionState::OpenSent,
            Self::OpenConfirm => crate::SessionState::OpenConfirm,
            Self::Established => crate::SessionState::Established,
        }
    }
}

impl Event {
    /// The message that the event stands for, as RFC 4271 writes it.
    pub(crate) const fn message(self) -> &'static str {
        match self {
            Self::Open | Self::OpenInvalid => "OPEN",
            Self::Update | Self::UpdateInvalid => "UPDATE",
            Self::Keepalive => "KEEPALIVE",
            Self::RouteRefresh | Self::RouteRefreshInvalid => "ROUTE-REFRESH",
            Self::Notification => "NOTIFICATION",
            Self::Stop
            | Self::ConnectTimerExpires
            | Self::HoldTimerExpires
            | Self::KeepaliveTimerExpires
            | Self::SendHoldTimerExpires
            | Self::TcpEstablished
            | Self::TcpFails
            | Self::HeaderInvalid
            | Self::CollisionLost
            | Self::TooManyPrefixes
            | Self::BfdDown => "nothing",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole table, in a form that can be compared with the RFC: one row per event, columns Connect, OpenSent,
    /// OpenConfirm, Established. `-` ignore, `X` close, `!` FSM error.
    const TABLE: &[(Event, [&str; 4])] = &[
        (Event::Stop, ["X", "X", "X", "X"]),
        (Event::ConnectTimerExpires, ["X", "-", "-", "-"]),
        (Event::HoldTimerExpires, ["-", "X", "X", "X"]),
        (Event::KeepaliveTimerExpires, ["-", "-", "keepalive", "keepalive"]),
        (Event::SendHoldTimerExpires, ["-", "X", "X", "X"]),
        (Event::TcpEstablished, ["open", "-", "-", "-"]),
        (Event::TcpFails, ["X", "X", "X", "X"]),
        (Event::Open, ["-", "confirm", "!", "!"]),
        (Event::HeaderInvalid, ["-", "X", "X", "X"]),
        (Event::OpenInvalid, ["-", "X", "!", "!"]),
        (Event::CollisionLost, ["X", "X", "X", "X"]),
        (Event::Notification, ["-", "X", "X", "X"]),
        (Event::Keepalive, ["-", "!", "up", "alive"]),
        (Event::Update, ["-", "!", "!", "update"]),
        (Event::UpdateInvalid, ["-", "!", "!", "X"]),
        (Event::RouteRefresh, ["-", "!", "!", "refresh"]),
        (Event::RouteRefreshInvalid, ["-", "!", "!", "X"]),
        (Event::TooManyPrefixes, ["-", "-", "-", "X"]),
        (Event::BfdDown, ["-", "-", "-", "X"]),
    ];

    #[test]
    fn every_event_has_its_reaction_in_every_state() {
        for (event, cells) in TABLE {
            let states = [State::Connect, State::OpenSent, State::OpenConfirm, State::Established];
            for (state, expected) in states.into_iter().zip(cells) {
                let reaction = match react(state, *event) {
                    Reaction::Ignore => "-",
                    Reaction::SendOpen => "open",
                    Reaction::AcceptOpen => "confirm",
                    Reaction::Establish => "up",
                    Reaction::KeepAlive => "alive",
                    Reaction::SendKeepalive => "keepalive",
                    Reaction::TakeUpdate => "update",
                    Reaction::TakeRouteRefresh => "refresh",
                    Reaction::Close => "X",
                    Reaction::Unexpected => "!",
                };
                assert_eq!(reaction, *expected, "{event:?} in {state:?}");
            }
        }
    }
}
