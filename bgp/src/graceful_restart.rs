//! Graceful restart (RFC 4724, RFC 8538): a session that is lost does not have to cost its routes.
//!
//! Two roles, and every session that has agreed on it plays both:
//!
//! - **We restart.** The peer keeps our routes for [`GracefulRestart::restart_time`] after the connection broke. We come
//!   back, say R in our OPEN, announce everything again, and say End-of-RIB; what was not said again the peer then drops.
//!   A process that ends to come back says nothing at all ([`Shutdown::Restart`]): a NOTIFICATION would take the routes
//!   with it. One that does not come back withdraws them ([`Shutdown::Leave`]).
//! - **The peer restarts.** Its routes stay, marked stale, until it has said End-of-RIB, or its restart time is over, or it
//!   comes back and says that it did not keep forwarding; `peer::restart` has the cases.
//!
//! F, per family, says that forwarding went on meanwhile. It is the embedder's to say, because this engine forwards nothing
//! and cannot know. Without it a peer keeps our routes while we are away and drops them when we are back, for the moment
//! until they are announced again; see RFC 4724 section 4.2.
//!
//! What routers do with it, as seen in their logs:
//!
//! - FRR 8.4 agrees to help without being configured to. Lost connection: the routes stay until the restart time that we
//!   asked for is over. Back with R and without F: they are dropped when the session is established and taken again from our
//!   first UPDATE ("flapped quicker than processing": with few routes nobody behind it notices). What we do not say again
//!   goes.
//! - BIRD 2.0.12 agrees to help too. Lost connection: "Neighbor graceful restart detected", and the routes stay for the
//!   restart time. Back without F: "graceful restart done" as soon as the session is established, and not at End-of-RIB.
//!
//! N (RFC 8538) extends all this to sessions that end with a NOTIFICATION or by the hold timer. It is a trade: a node that is
//! dead and not restarting keeps its routes for hold time *plus* restart time then. So it is off unless asked for.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::Family;

/// What we say about our own restarts, and that we keep a restarting peer's routes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct GracefulRestart {
    /// How long the peer is asked to keep our routes without a session: 1 s to 4095 s, whole seconds.
    pub restart_time: Duration,
    /// RFC 8538: also when the session ends with a NOTIFICATION that is not a hard reset, or by the hold timer.
    pub notification: bool,
    /// Families for which packets went on being forwarded while this process was away (F). Read whenever an OPEN is sent;
    /// a change restarts no session.
    pub forwarding_preserved: BTreeSet<Family>,
}

impl GracefulRestart {
    /// The longest time that fits into the capability: twelve bits.
    pub const LONGEST: Duration = Duration::from_secs(4095);

    /// Without N and without F.
    pub fn new(restart_time: Duration) -> Self {
        Self { restart_time, notification: false, forwarding_preserved: BTreeSet::new() }
    }
}

/// How the engine ends, and what its peers are to make of it. The text is for their operators (RFC 9003).
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub enum Shutdown {
    /// We come back: where graceful restart was agreed the connection just ends, and the peer keeps our routes; elsewhere
    /// the session ends with Cease.
    Restart(String),
    /// We do not: everything is withdrawn, then the session ends with Cease, as a hard reset where RFC 8538 is agreed.
    Leave(String),
}
