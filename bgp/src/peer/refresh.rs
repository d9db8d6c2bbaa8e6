//! ROUTE-REFRESH from the peer: its requests (RFC 2918), and the beginning and end of its answers to ours (RFC 7313).
//!
//! Between BoRR and EoRR the peer tells everything of a family again. What it did not tell it does not have any more: a
//! withdrawal that went missing, or was never sent, is made up for.

use tracing::info;

use super::restart::LONGEST_RESYNC;
use super::{Context, Peer};
use crate::rib::Unconfirmed;
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
            Refresh::Request(family) if known(&family) => match enhanced {
                true => self.rib_out.refresh(family),
                false => self.rib_out.resend(family),
            },
            // RFC 7313 section 4: before End-of-RIB of a peer that restarts gracefully it means nothing.
            Refresh::Begin(family)
                if known(&family) && enhanced && (!restarts || self.session.end_of_rib_received.contains(&family)) =>
            {
                self.rib_in.doubt(Unconfirmed::Refresh, family);
                self.refresh_until = Some(context.now + LONGEST_RESYNC);
            }
            // Without a BoRR before it nothing is in doubt.
            Refresh::End(family) if enhanced => self.drop_unconfirmed_routes(context, family),
            // RFC 2918 section 4, RFC 7313 section 5: ignored.
            Refresh::Request(_) | Refresh::Begin(_) | Refresh::End(_) | Refresh::Unknown => {}
        }
    }

    fn drop_unconfirmed_routes(&mut self, context: &mut Context<'_>, family: Family) {
        *context.routes_changed |= self.rib_in.drop_unconfirmed(Unconfirmed::Refresh, family);
        if self.rib_in.unconfirmed(Unconfirmed::Refresh) == 0 {
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
    pub(super) fn end_refresh(&mut self) {
        self.rib_in.end_doubt(Unconfirmed::Refresh);
        self.refresh_until = None;
    }
}
