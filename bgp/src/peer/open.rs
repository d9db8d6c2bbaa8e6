//! OPEN in both directions: what we say of ourselves, and what becomes of what the peer says (RFC 4271 sections 4.2, 6.2).

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustbgpd_wire::constants::{EXTENDED_MAX_MESSAGE_LEN, MAX_MESSAGE_LEN, capability_code};
use rustbgpd_wire::{
    AddPathFamily, AddPathMode, Afi, Capability, DecodeError, ExtendedNextHopFamily, GracefulRestartFamily,
    OpenMessage, Safi,
};

use crate::capability;
use crate::error::{FamilyList, OpenError};
use crate::next_hop::ExtendedNextHops;
use crate::{AddPathReceive, Asn, ExtendedMessages, Family, PeerAsn, PeerConfig, Role, RoleStrictness};

/// What both sides agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Negotiated {
    pub(crate) peer_asn: Asn,
    pub(crate) peer_router_id: Ipv4Addr,
    pub(crate) internal: bool,
    /// Zero: neither side sends KEEPALIVEs, and silence means nothing.
    pub(crate) hold_time: Duration,
    pub(crate) keepalive: Duration,
    pub(crate) families: BTreeSet<Family>,
    /// Both sides write AS numbers with four octets (RFC 6793).
    pub(crate) four_octet_asn: bool,
    /// The peer takes ROUTE-REFRESH (RFC 2918).
    pub(crate) route_refresh: bool,
    /// Both sides say where their answers to those begin and end (RFC 7313).
    pub(crate) enhanced_refresh: bool,
    /// The peer's, where we have one.
    pub(crate) peer_role: Option<Role>,
    /// The longest message that the peer takes, but for OPEN and KEEPALIVE (RFC 8654).
    pub(crate) max_message: u16,
    pub(crate) extended_next_hops: ExtendedNextHops,
    /// What the peer has offered, in words.
    pub(crate) capabilities: Vec<String>,
    /// Both sides have the capability (RFC 4724).
    pub(crate) graceful_restart: Option<PeerRestart>,
    /// The families of which we get several paths to a prefix (RFC 7911), and those of which the peer does.
    pub(crate) receives_several: BTreeSet<Family>,
    pub(crate) sends_several: BTreeSet<Family>,
}

/// What the peer says about its restarts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeerRestart {
    /// It says that it has restarted (R), and waits for our End-of-RIB.
    pub(crate) restarting: bool,
    /// How long we are asked to keep its routes without a session.
    pub(crate) restart_time: Duration,
    /// Both sides go on as after a lost connection when a session ends with a NOTIFICATION (RFC 8538).
    pub(crate) notification: bool,
    /// The families whose routes are to be kept, and of each whether forwarding went on during the restart before this
    /// session (F). Empty: it keeps our routes, but its own are not to be kept.
    pub(crate) forwarding: BTreeMap<Family, bool>,
}

/// Whether an OPEN says that we have restarted (R).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RestartState {
    Restarting,
    Running,
}

/// Our OPEN.
pub(crate) fn our_open(config: &PeerConfig, state: RestartState) -> OpenMessage {
    let mut capabilities: Vec<Capability> = config
        .families
        .iter()
        .map(|family| Capability::MultiProtocol { afi: family.afi(), safi: Safi::Unicast })
        .collect();
    if config.offers_extended_next_hop() {
        capabilities.push(Capability::ExtendedNextHop(vec![IPV4_OVER_IPV6]));
    }
    capabilities.push(Capability::RouteRefresh);
    // Between sides that have both capabilities, RFC 7313 section 4 puts no answer before End-of-RIB. FRR 8.4 applies it
    // to peers without graceful restart, too: it sends them no End-of-RIB, and so never answers a request.
    if config.graceful_restart.is_some() {
        capabilities.push(Capability::EnhancedRouteRefresh);
    }
    if config.extended_messages == ExtendedMessages::Offered {
        capabilities.push(Capability::ExtendedMessage);
    }
    capabilities.extend(config.role.map(|role| Capability::Role { role: role.to_wire() }));
    capabilities.push(Capability::FourOctetAs { asn: config.local_asn.0 });
    if let Some(restart) = &config.graceful_restart {
        let family = |family: &Family| GracefulRestartFamily {
            afi: family.afi(),
            safi: Safi::Unicast,
            forwarding_preserved: restart.forwarding_preserved.contains(family),
        };
        capabilities.push(Capability::GracefulRestart {
            restart_state: state == RestartState::Restarting,
            notification: restart.notification,
            restart_time: u16::try_from(restart.restart_time.as_secs()).unwrap_or(u16::MAX).min(0x0fff),
            families: config.families.iter().map(family).collect(),
        });
    }
    let mode = match (config.add_path.receive, config.add_path.send > 1) {
        (AddPathReceive::One, false) => None,
        (AddPathReceive::One, true) => Some(AddPathMode::Send),
        (AddPathReceive::Several, false) => Some(AddPathMode::Receive),
        (AddPathReceive::Several, true) => Some(AddPathMode::Both),
    };
    if let Some(send_receive) = mode {
        let entry = |family: &Family| AddPathFamily { afi: family.afi(), safi: Safi::Unicast, send_receive };
        capabilities.push(Capability::AddPath(config.families.iter().map(entry).collect()));
    }
    OpenMessage {
        version: 4,
        my_as: config.local_asn.two_octets(),
        hold_time: u16::try_from(config.hold_time.as_secs()).unwrap_or(u16::MAX),
        bgp_identifier: config.router_id,
        capabilities,
    }
}

pub(crate) fn encode_open(open: &OpenMessage) -> BytesMut {
    let mut message = BytesMut::with_capacity(open.encoded_len());
    let encoded = open.encode(&mut message);
    debug_assert!(encoded.is_ok(), "nine capabilities fit into an OPEN");
    message
}

/// What is wrong with an OPEN that the codec could not read.
pub(crate) fn malformed_open(error: DecodeError) -> OpenError {
    match error {
        DecodeError::UnsupportedVersion { version } => OpenError::Version { given: version },
        DecodeError::UnsupportedOptionalParameter { param_type } => OpenError::OptionalParameter { given: param_type },
        other => OpenError::Malformed { detail: other.to_string() },
    }
}

/// The peer's OPEN against our configuration.
pub(crate) fn negotiate(open: &OpenMessage, config: &PeerConfig) -> Result<Negotiated, OpenError> {
    let peer_asn = Asn(open.four_byte_as());
    let four_octet_asn =
        open.capabilities.iter().any(|capability| matches!(capability, Capability::FourOctetAs { .. }));
    // RFC 7607 section 2 for zero; RFC 6793 section 9: AS_TRANS is nobody's own number.
    if matches!(peer_asn, Asn(0) | Asn::TRANS) {
        return Err(OpenError::ReservedAsn { given: peer_asn });
    }
    let local = config.local_asn;
    match &config.peer_asn {
        PeerAsn::Exactly(expected) if peer_asn != *expected => {
            return Err(OpenError::PeerAsn { given: peer_asn, expected: *expected });
        }
        PeerAsn::Within(allowed) if !allowed.contains(peer_asn) => {
            return Err(OpenError::AsnNotAllowed { given: peer_asn, allowed: allowed.clone() });
        }
        PeerAsn::Internal if peer_asn != local => return Err(OpenError::NotInternal { given: peer_asn, local }),
        PeerAsn::External if peer_asn == local => return Err(OpenError::NotExternal { given: peer_asn }),
        PeerAsn::Exactly(_) | PeerAsn::Internal | PeerAsn::External | PeerAsn::Within(_) => {}
    }
    // RFC 6286 section 2: any number but zero, and different from ours inside one AS. Not necessarily a host's address.
    let internal = peer_asn == local;
    if open.bgp_identifier.is_unspecified() {
        return Err(OpenError::ZeroRouterId);
    }
    if internal && open.bgp_identifier == config.router_id {
        return Err(OpenError::SameRouterId { given: open.bgp_identifier });
    }
    if matches!(open.hold_time, 1 | 2) {
        return Err(OpenError::HoldTime { given: open.hold_time });
    }
    let offered = offered_families(open);
    let families: BTreeSet<Family> = offered.intersection(&config.families).copied().collect();
    if families.is_empty() {
        return Err(OpenError::NoCommonFamily {
            given: FamilyList(offered.into_iter().collect()),
            ours: FamilyList(config.families.iter().copied().collect()),
        });
    }

    let peer_role = peer_role(open, config)?;
    let hold_time = config.hold_time.min(Duration::from_secs(open.hold_time.into()));
    let third = hold_time / 3;
    Ok(Negotiated {
        peer_asn,
        peer_router_id: open.bgp_identifier,
        internal,
        hold_time,
        keepalive: config.keepalive.filter(|keepalive| !keepalive.is_zero()).map_or(third, |own| own.min(third)),
        peer_role,
        max_message: max_message(open, config),
        extended_next_hops: extended_next_hops(open, config),
        capabilities: capability::in_words(open),
        graceful_restart: peer_restart(open, config, &families),
        receives_several: several_paths(
            open,
            &families,
            config.add_path.receive == AddPathReceive::Several,
            AddPathMode::Send,
        ),
        sends_several: several_paths(open, &families, config.add_path.send > 1, AddPathMode::Receive),
        families,
        four_octet_asn,
        route_refresh: open.capabilities.contains(&Capability::RouteRefresh),
        enhanced_refresh: config.graceful_restart.is_some()
            && open.capabilities.contains(&Capability::EnhancedRouteRefresh),
    })
}

/// RFC 4760 section 8; without any such capability a peer speaks IPv4, as everybody did before there was one.
fn offered_families(open: &OpenMessage) -> BTreeSet<Family> {
    let mut multiprotocol = false;
    let mut families = BTreeSet::new();
    for capability in &open.capabilities {
        match capability {
            Capability::MultiProtocol { afi, safi } => {
                multiprotocol = true;
                families.extend(Family::from_wire(*afi, *safi));
            }
            // The codec leaves AFIs that it does not know as they came.
            Capability::Unknown { code: 1, .. } => multiprotocol = true,
            _ => {}
        }
    }
    if multiprotocol { families } else { BTreeSet::from([Family::Ipv4Unicast]) }
}

/// RFC 9234 section 4.2. The same role twice is one; several, or one that does not exist, match nothing.
fn peer_role(open: &OpenMessage, config: &PeerConfig) -> Result<Option<Role>, OpenError> {
    let Some(ours) = config.role else { return Ok(None) };
    let given: BTreeSet<Result<Role, Bytes>> = open
        .capabilities
        .iter()
        .filter_map(|capability| match capability {
            Capability::Role { role } => {
                Some(Role::from_wire(*role).ok_or_else(|| Bytes::copy_from_slice(&[role.to_u8()])))
            }
            Capability::Unknown { code: capability_code::BGP_ROLE, data } => Some(Err(data.clone())),
            _ => None,
        })
        .collect();
    let expected = ours.counterpart();
    if given.is_empty() {
        return match config.role_strictness {
            RoleStrictness::Lenient => Ok(Some(expected)),
            RoleStrictness::Strict => Err(OpenError::NoRole { ours }),
        };
    }
    if given.iter().all(|role| *role == Ok(expected)) {
        return Ok(Some(expected));
    }
    let name = |role: &Result<Role, Bytes>| match role {
        Ok(role) => role.to_string(),
        Err(octets) => format!("unknown role {:02x?}", &octets[..]),
    };
    let given: Vec<String> = given.iter().map(name).collect();
    Err(OpenError::RoleMismatch { ours, given: given.join(" and ") })
}

/// RFC 8654 section 4: a long message may be sent to those who say that they take it.
fn max_message(open: &OpenMessage, config: &PeerConfig) -> u16 {
    match config.extended_messages {
        ExtendedMessages::Offered if open.capabilities.contains(&Capability::ExtendedMessage) => {
            EXTENDED_MAX_MESSAGE_LEN
        }
        ExtendedMessages::Offered | ExtendedMessages::Withheld => MAX_MESSAGE_LEN,
    }
}

/// RFC 7911 section 4: the families in which we do one thing, and the peer the other. Of several entries for a family the
/// first counts.
fn several_paths(
    open: &OpenMessage,
    negotiated: &BTreeSet<Family>,
    ours: bool,
    theirs: AddPathMode,
) -> BTreeSet<Family> {
    let entries = open.capabilities.iter().flat_map(|capability| match capability {
        Capability::AddPath(entries) => entries.as_slice(),
        _ => &[],
    });
    let mut modes = BTreeMap::new();
    for entry in entries {
        if let Some(family) = Family::from_wire(entry.afi, entry.safi) {
            modes.entry(family).or_insert(entry.send_receive);
        }
    }
    let both = |family: &&Family| modes.get(family).is_some_and(|mode| [theirs, AddPathMode::Both].contains(mode));
    negotiated.iter().filter(|_| ours).filter(both).copied().collect()
}

/// RFC 8950 section 4.
const IPV4_OVER_IPV6: ExtendedNextHopFamily =
    ExtendedNextHopFamily { nlri_afi: Afi::Ipv4, nlri_safi: Safi::Unicast, next_hop_afi: Afi::Ipv6 };

fn extended_next_hops(open: &OpenMessage, config: &PeerConfig) -> ExtendedNextHops {
    let takes_ours = |capability: &Capability| match capability {
        Capability::ExtendedNextHop(families) => families.contains(&IPV4_OVER_IPV6),
        // The codec leaves the whole list as it came if it does not know one of the families.
        Capability::Unknown { code: capability_code::EXTENDED_NEXT_HOP, data } => {
            data.chunks_exact(6).any(|entry| entry == [0, 1, 0, 1, 0, 2])
        }
        _ => false,
    };
    match config.offers_extended_next_hop() && open.capabilities.iter().any(takes_ours) {
        true => ExtendedNextHops::Agreed,
        false => ExtendedNextHops::No,
    }
}

/// RFC 4724 section 3. Of several such capabilities the last counts, and a family that is not negotiated does not.
fn peer_restart(open: &OpenMessage, config: &PeerConfig, negotiated: &BTreeSet<Family>) -> Option<PeerRestart> {
    let ours = config.graceful_restart.as_ref()?;
    open.capabilities.iter().rev().find_map(|capability| match capability {
        Capability::GracefulRestart { restart_state, notification, restart_time, families } => Some(PeerRestart {
            restarting: *restart_state,
            restart_time: Duration::from_secs((*restart_time).into()),
            notification: *notification && ours.notification,
            forwarding: families
                .iter()
                .filter_map(|entry| Some((Family::from_wire(entry.afi, entry.safi)?, entry.forwarding_preserved)))
                .filter(|(family, _)| negotiated.contains(family))
                .collect(),
        }),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
