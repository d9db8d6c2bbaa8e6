//! Graceful restart of the peer (RFC 4724 section 4.2, RFC 8538 section 4): which routes outlive their session, and until
//! when.
//!
//! ```text
//!                    TCP fails, peer reconnects;
//!                    with N: NOTIFICATION, hold timer
//!    session up ------------------------------------> routes stale, restart timer of the peer
//!        ^                                                  |                     |
//!        |  F not set, no capability: drop them             | OPEN with F         | timer: drop them
//!        |                                                  v                     v
//!        '------- End-of-RIB, or timer: drop what is still stale              no routes
//! ```
//!
//! Every other end of a session takes its routes with it at once. A route that is announced again is not stale any more.

use std::time::{Duration, Instant};

use rustbgpd_wire::notification::cease_subcode;
use tracing::info;

use super::open::Negotiated;
use super::{Context, Peer};
use crate::rib::Unconfirmed;
use crate::{Family, SessionError};

/// How long a peer that is back may take for its End-of-RIB, or for the end of a refresh. RFC 4724 section 4.2 and RFC 7313
/// section 4 allow for an upper bound and name none; a full table over a slow line is told in less.
pub(super) const LONGEST_RESYNC: Duration = Duration::from_secs(360);
/// A second connection soon after the first belongs to a collision (RFC 4271 section 6.8) and not to a restart: the peer
/// dialled before it knew of the session.
const COLLISION_TIME: Duration = Duration::from_secs(5);

impl Peer {
    /// The session is gone; `negotiated` is what it had agreed on.
    pub(super) fn keep_or_drop_routes(
        &mut self,
        context: &mut Context<'_>,
        negotiated: Option<&Negotiated>,
        error: &SessionError,
    ) {
        let restart = negotiated.and_then(|negotiated| negotiated.graceful_restart.as_ref());
        let Some(restart) = restart.filter(|restart| error.leaves_routes(restart.notification)) else {
            self.drop_routes(context);
            return;
        };
        self.end_refresh(context);
        let mut kept = 0;
        for family in Family::ALL {
            if restart.forwarding.contains_key(&family) {
                // What was stale already goes: RFC 4724 section 4.2, consecutive restarts.
                *context.routes_changed |= context.rib.drop_unconfirmed(self.member, Unconfirmed::Restart, family);
                kept += context.rib.doubt(self.member, Unconfirmed::Restart, family);
            } else {
                *context.routes_changed |= context.rib.drop_family(self.member, family);
            }
        }
        *context.routes_changed |= kept > 0;
        self.stale_until = (kept > 0).then(|| context.now + restart.restart_time);
        if kept > 0 {
            info!(peer = %self.key, routes = kept, restart_time = ?restart.restart_time, "routes are kept for the peer's restart");
        }
    }

    /// A session is up: whose routes may wait for their confirmation?
    pub(super) fn confirm_stale_routes(&mut self, context: &mut Context<'_>, negotiated: &Negotiated) {
        let Some(until) = &mut self.stale_until else { return };
        *until = context.now + LONGEST_RESYNC;
        let forwarding = negotiated.graceful_restart.as_ref().map(|restart| &restart.forwarding);
        for family in Family::ALL {
            let preserved = forwarding.and_then(|forwarding| forwarding.get(&family)) == Some(&true);
            if !preserved || !negotiated.families.contains(&family) {
                self.drop_stale_routes(context, family);
            }
        }
    }

    /// End-of-RIB: what was not announced again is not there any more.
    pub(super) fn drop_stale_routes(&mut self, context: &mut Context<'_>, family: Family) {
        *context.routes_changed |= context.rib.drop_unconfirmed(self.member, Unconfirmed::Restart, family);
        if context.rib.unconfirmed(self.member, Unconfirmed::Restart) == 0 {
            self.stale_until = None;
        }
    }

    pub(super) fn expire_stale_routes(&mut self, context: &mut Context<'_>) {
        if self.stale_until.is_some_and(|until| until <= context.now) {
            info!(peer = %self.key, routes = context.rib.unconfirmed(self.member, Unconfirmed::Restart), "the peer's restart took too long: its routes are dropped");
            for family in Family::ALL {
                self.drop_stale_routes(context, family);
            }
        }
    }

    pub(super) fn drop_routes(&mut self, context: &mut Context<'_>) {
        *context.routes_changed |= context.rib.clear(self.member);
        self.stale_until = None;
        self.refresh_until = None;
    }

    /// RFC 4724 sections 4.2 and 5: whether another connection of the peer means that it has restarted and its session is gone. As
    /// nobody has told us, this is how we learn of it.
    pub(super) fn may_have_restarted(&self, now: Instant) -> bool {
        let established = self.connections.iter().find(|connection| connection.is_established());
        established.is_some_and(|connection| {
            let settled = connection.established_at.is_some_and(|since| now >= since + COLLISION_TIME);
            let agreed = connection.negotiated.as_ref().and_then(|negotiated| negotiated.graceful_restart.as_ref());
            settled && agreed.is_some_and(|restart| !restart.forwarding.is_empty())
        })
    }
}

impl SessionError {
    /// Whether a session that ends so leaves its routes behind: where TCP just ended; `with_notification` (RFC 8538 section
    /// 4) where one side has ended it in words too, unless those are a hard reset. What we end ourselves because the session
    /// is not wanted any more, or not so, leaves nothing.
    fn leaves_routes(&self, with_notification: bool) -> bool {
        match self {
            Self::ClosedByPeer { .. } | Self::ConnectionLost { .. } | Self::PeerRestarted => true,
            Self::NotificationReceived { notification, .. } => {
                with_notification && (notification.code, notification.subcode) != (6, cease_subcode::HARD_RESET)
            }
            Self::HoldTimerExpired { .. }
            | Self::SendHoldTimerExpired { .. }
            | Self::Header { .. }
            | Self::Update { .. }
            | Self::RouteRefresh { .. }
            | Self::UnexpectedMessage { .. } => with_notification,
            Self::DialFailed { .. }
            | Self::DialTimeout { .. }
            | Self::Open(_)
            | Self::MaxPrefixes { .. }
            | Self::Collision
            | Self::ConfigurationChanged
            | Self::Deconfigured
            | Self::Shutdown { .. }
            // What BFD has seen fail is the path itself, and not only our conversation about it.
            | Self::BfdDown { .. }
            | Self::Restarting => false,
        }
    }
}
