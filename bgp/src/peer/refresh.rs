//! ROUTE-REFRESH from the peer: its requests (RFC 2918), and the beginning and end of its answers to ours (RFC 7313).
//!
//! Between BoRR and EoRR the peer tells everything of a family again. What it did not tell it does not have any more: a
//! withdrawal that went missing, or was never sent, is made up for.

use tracing::info;

use super::restart::LONGEST_RESYNC;
use super::{Context, Peer};
use crate::rib::{Rib, Unconfirmed};
use crate::{ConnectionId, Family};

/// What a ROUTE-REFRESH says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refresh {
    /// Tell me everything again.
    Request(Family),
    /// BoRR: now I tell you everything again.
    Begin(Family),
    /// EoRR: that was everything.
    End(Family),
    /// A family or a subtype that we do not know.
    Unknown,
}

impl Peer {
    pub(super) fn take_route_refresh(&mut self, context: &mut Context<'_>, id: ConnectionId, refresh: Refresh) {
        let Some(connection) = self.connection(id) else { return };
        connection.restart_hold_timer(context.now);
        let Some(negotiated) = &connection.negotiated else { return };
        let (enhanced, restarts) = (negotiated.enhanced_refresh, negotiated.graceful_restart.is_some());
        let known = |family: &Family| negotiated.families.contains(family);
        match refresh {
            Refresh::Request(family) if known(&family) => {
                if enhanced {
                    self.refresh(context.rib, family);
                } else {
                    self.rib_out.resend(family);
                    context.rib.resend(self.member, family);
                }
            }
            // RFC 7313 section 4: before End-of-RIB of a peer that restarts gracefully it means nothing.
            Refresh::Begin(family)
                if known(&family) && enhanced && (!restarts || self.session.end_of_rib_received.contains(&family)) =>
            {
                context.rib.doubt(self.member, Unconfirmed::Refresh, family);
                self.refresh_until = Some(context.now + LONGEST_RESYNC);
            }
            // Without a BoRR before it nothing is in doubt.
            Refresh::End(family) if enhanced => self.drop_unconfirmed_routes(context, family),
            // RFC 2918 section 4, RFC 7313 section 5: ignored.
            Refresh::Request(_) | Refresh::Begin(_) | Refresh::End(_) | Refresh::Unknown => {}
        }
    }

    pub(super) fn refresh(&mut self, rib: &mut Rib, family: Family) {
        if self.rib_out.refresh(family) {
            rib.resend(self.member, family);
        }
    }

    fn drop_unconfirmed_routes(&mut self, context: &mut Context<'_>, family: Family) {
        *context.routes_changed |= context.rib.drop_unconfirmed(self.member, Unconfirmed::Refresh, family);
        if context.rib.unconfirmed(self.member, Unconfirmed::Refresh) == 0 {
            self.refresh_until = None;
        }
    }

    pub(super) fn expire_refresh(&mut self, context: &mut Context<'_>) {
        if self.refresh_until.is_some_and(|until| until <= context.now) {
            info!(peer = %self.key, "the peer does not end its refresh: what it did not tell again is dropped");
            for family in Family::ALL {
                self.drop_unconfirmed_routes(context, family);
            }
        }
    }

    /// The session is gone, and the refresh with it.
    pub(super) fn end_refresh(&mut self, context: &mut Context<'_>) {
        context.rib.end_doubt(self.member, Unconfirmed::Refresh);
        self.refresh_until = None;
    }
}
