//! Roles (RFC 9234): both ends of a session say what they are to each other, and routes that must only go down to customers
//! carry a mark (ONLY_TO_CUSTOMER, OTC), so that a leak is seen where it arrives.
//!
//! | we are | peer is | in | out |
//! |---|---|---|---|
//! | Customer | Provider | mark what has none | withhold what is marked |
//! | RouteServerClient | RouteServer | mark what has none | withhold what is marked |
//! | Peer | Peer | refuse another's mark, mark what has none | withhold what is marked, mark the rest |
//! | Provider | Customer | refuse what is marked | mark what has none |
//! | RouteServer | RouteServerClient | refuse what is marked | mark what has none |
//!
//! That is for routes of our own, none of which comes with a mark, and for those that are passed on
//! ([`Relay`](crate::Relay)).

use std::fmt;

use rustbgpd_wire::BgpRole;

use crate::{Asn, RefusalReason};

/// What one end of an external session is to the other (RFC 9234 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub enum Role {
    /// Sells transit to the other.
    Provider,
    RouteServer,
    RouteServerClient,
    /// Buys transit from the other.
    Customer,
    /// Exchanges its own and its customers' routes with the other.
    Peer,
}

/// What becomes of a peer that says nothing of its role.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub enum RoleStrictness {
    /// It is taken to be what our role implies.
    #[default]
    Lenient,
    /// No session (RFC 9234 section 4.2).
    Strict,
}

impl Role {
    /// RFC 9234 section 4.2, table 2: what the other end has to be.
    pub const fn counterpart(self) -> Self {
        match self {
            Self::Provider => Self::Customer,
            Self::RouteServer => Self::RouteServerClient,
            Self::RouteServerClient => Self::RouteServer,
            Self::Customer => Self::Provider,
            Self::Peer => Self::Peer,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Provider => "Provider",
            Self::RouteServer => "RouteServer",
            Self::RouteServerClient => "RouteServerClient",
            Self::Customer => "Customer",
            Self::Peer => "Peer",
        }
    }

    /// RFC 9234 section 5, ingress, in our role: the mark that a route has from here on, or that it was leaked.
    pub(crate) fn receive(self, mark: Option<Asn>, peer: Asn) -> Result<Option<Asn>, RefusalReason> {
        match (self, mark) {
            (Self::Provider | Self::RouteServer, Some(_)) => Err(RefusalReason::RouteLeak),
            (Self::Provider | Self::RouteServer, None) => Ok(None),
            (Self::Peer, Some(mark)) if mark != peer => Err(RefusalReason::RouteLeak),
            (Self::Peer | Self::Customer | Self::RouteServerClient, mark) => Ok(Some(mark.unwrap_or(peer))),
        }
    }

    /// RFC 9234 section 5, egress, in our role: what goes to customers, peers and route server clients is marked.
    pub(crate) const fn marks(self) -> bool {
        matches!(self, Self::Provider | Self::Peer | Self::RouteServer)
    }

    /// RFC 9234 section 5, egress, in our role: what is marked goes to no provider, peer or route server.
    pub(crate) const fn withholds_marked(self) -> bool {
        matches!(self, Self::Customer | Self::Peer | Self::RouteServerClient)
    }

    pub(crate) const fn to_wire(self) -> BgpRole {
        match self {
            Self::Provider => BgpRole::Provider,
            Self::RouteServer => BgpRole::RouteServer,
            Self::RouteServerClient => BgpRole::RouteServerClient,
            Self::Customer => BgpRole::Customer,
            Self::Peer => BgpRole::Peer,
        }
    }

    pub(crate) const fn from_wire(role: BgpRole) -> Option<Self> {
        match role {
            BgpRole::Provider => Some(Self::Provider),
            BgpRole::RouteServer => Some(Self::RouteServer),
            BgpRole::RouteServerClient => Some(Self::RouteServerClient),
            BgpRole::Customer => Some(Self::Customer),
            BgpRole::Peer => Some(Self::Peer),
            _ => None,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_judged_by_our_role() {
        const LEAK: Result<Option<Asn>, RefusalReason> = Err(RefusalReason::RouteLeak);
        let (peer, other) = (Asn(64512), Asn(65001));
        // Our role; what becomes of a route without a mark, with the peer's, with another's.
        let cases = [
            (Role::Provider, Ok(None), LEAK, LEAK),
            (Role::RouteServer, Ok(None), LEAK, LEAK),
            (Role::RouteServerClient, Ok(Some(peer)), Ok(Some(peer)), Ok(Some(other))),
            (Role::Customer, Ok(Some(peer)), Ok(Some(peer)), Ok(Some(other))),
            (Role::Peer, Ok(Some(peer)), Ok(Some(peer)), LEAK),
        ];
        for (role, none, from_peer, from_other) in cases {
            assert_eq!(role.receive(None, peer), none, "{role} without");
            assert_eq!(role.receive(Some(peer), peer), from_peer, "{role}, the peer's");
            assert_eq!(role.receive(Some(other), peer), from_other, "{role}, another's");
            assert_eq!(role.counterpart().counterpart(), role);
            assert_eq!(Role::from_wire(role.to_wire()), Some(role));
        }
    }
}
