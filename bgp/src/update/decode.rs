//! UPDATEs into routes, with the outcome that RFC 7606 asks for.
//!
//! The codec says of each attribute whether it is malformed and what that costs. Here the rest is decided: whether what
//! must be there is there, what of it belongs to a family of this session, and which outcome is the strongest (section 3
//! (h)): nothing wrong, an attribute discarded, all routes of the message withdrawn, or the session reset.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bytes::Bytes;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rustbgpd_wire::constants::attr_type;
use rustbgpd_wire::notification::update_subcode;
use rustbgpd_wire::validate::validate_as_path_ceiling;
use rustbgpd_wire::{
    Afi, AsPathSegment, DecodeError, ErrorDisposition, NlriEntry, NotificationCode, ParsedUpdate, PathAttribute,
    Prefix, Safi, UpdateDecodeError, UpdateMessage,
};

use super::aigp::Aigp;
use super::foreign::without_foreign_families;
use super::passed_on::ReceivedAttributes;
use super::quote;
use crate::next_hop::{self, ExtendedNextHops};
use crate::notification::Notification;
use crate::{Family, SessionError};

/// What of a session decides over the meaning of an UPDATE.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Import<'a> {
    pub(crate) internal: bool,
    pub(crate) four_octet_asn: bool,
    pub(crate) families: &'a BTreeSet<Family>,
    pub(crate) extended_next_hops: ExtendedNextHops,
    /// Our end of it.
    pub(crate) local_address: IpAddr,
    /// Of these prefixes come with path identifiers (RFC 7911).
    pub(crate) several_paths: &'a BTreeSet<Family>,
    /// Its accumulated metrics are heard (RFC 7311 section 3.3).
    pub(crate) aigp: bool,
}

/// A prefix as it stands in an UPDATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Nlri {
    pub(crate) prefix: IpNet,
    /// Zero without Add-Path (RFC 7911).
    pub(crate) path_id: u32,
}

/// A way to a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) nlri: Nlri,
    pub(crate) next_hop: IpAddr,
}

/// An UPDATE that the session survives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    /// To be taken before `announced`: a prefix in both is announced (RFC 4271 section 4.3).
    pub(crate) withdrawn: Vec<Nlri>,
    pub(crate) announced: Vec<Reach>,
    /// Of `announced` and `not_negotiated`; nothing is announced without.
    pub(crate) attributes: Option<ReceivedAttributes>,
    /// Announcements of families that were not negotiated. They are ignored (RFC 4760 section 6).
    pub(crate) not_negotiated: Vec<Reach>,
    pub(crate) end_of_rib: Option<Family>,
    pub(crate) disposition: Disposition,
}

/// What an UPDATE came to, short of a reset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Disposition {
    Ok,
    AttributeDiscarded {
        detail: String,
        octets: Bytes,
    },
    /// `routes` are what would have been announced; without NEXT_HOP theirs is 0.0.0.0.
    TreatedAsWithdrawn {
        detail: String,
        octets: Bytes,
        routes: Vec<Reach>,
    },
}

/// Longer paths do not occur, and would make every comparison and every message expensive.
const MAX_AS_PATH: u16 = 750;

/// Decodes the body of an UPDATE. An error is a reset of the session, with the NOTIFICATION to send.
pub(crate) fn decode_update(message: &UpdateMessage, session: Import<'_>) -> Result<Received, SessionError> {
    // RFC 4724 section 2. Taken from the bytes and not from what was understood of them, or a message of nothing but
    // malformed attributes could pass for one.
    let is_empty = |bytes: &Bytes| bytes.is_empty();
    if is_empty(&message.withdrawn_routes) && is_empty(&message.path_attributes) && is_empty(&message.nlri) {
        return Ok(Received { end_of_rib: Some(Family::Ipv4Unicast), ..Received::nothing() });
    }

    let several_paths: Vec<(Afi, Safi)> =
        session.several_paths.iter().map(|family| (family.afi(), Safi::Unicast)).collect();
    let classic_paths = session.several_paths.contains(&Family::Ipv4Unicast);
    let parsed = message.parse_revised_observed_with_error_context(
        session.four_octet_asn,
        session.internal,
        classic_paths,
        &several_paths,
    );
    if parsed.is_err()
        && let Some(ours) = without_foreign_families(message, session.families)
    {
        return decode_update(&ours, session);
    }
    let (parsed, _) = parsed.map_err(|error| reset(&error, message))?;
    let mut outcome = Outcome::default();
    for malformed in &parsed.malformed {
        outcome.add(malformed.disposition, Some(malformed.type_code), || {
            format!("attribute {}: {}", malformed.type_code, malformed.error)
        });
    }

    let mut routes = Routes::collect(&parsed.update, session);
    if routes.announces_something(&parsed.update) {
        check_semantics(&parsed.update, session, &mut outcome);
    }
    if outcome.worst == Some(ErrorDisposition::TreatAsWithdraw) && !routes.announces_something(&parsed.update) {
        // RFC 7606 section 5.2: there is nothing that could be withdrawn instead, so nobody knows what was meant.
        return Err(SessionError::Update {
            notification: update_error(update_subcode::MALFORMED_ATTRIBUTE_LIST, Bytes::new()),
            detail: outcome.details(),
            octets: quote::attribute(message, outcome.to_blame),
        });
    }

    let disposition = match outcome.worst {
        None => Disposition::Ok,
        Some(ErrorDisposition::AttributeDiscard) => Disposition::AttributeDiscarded {
            detail: outcome.details(),
            octets: quote::attribute(message, outcome.to_blame),
        },
        Some(_) => {
            let refused = std::mem::take(&mut routes.announced);
            routes.withdrawn.extend(refused.iter().map(|reach| reach.nlri));
            let octets = quote::attribute(message, outcome.to_blame);
            Disposition::TreatedAsWithdrawn { detail: outcome.details(), octets, routes: refused }
        }
    };
    let end_of_rib = (disposition == Disposition::Ok).then(|| end_of_rib(&parsed.update)).flatten();
    let nothing = match disposition {
        Disposition::TreatedAsWithdrawn { .. } => true,
        _ => routes.announced.is_empty() && routes.not_negotiated.is_empty(),
    };
    let aigp = || Aigp::find(&message.path_attributes).filter(|_| session.aigp);
    let attributes = (!nothing).then(|| ReceivedAttributes::new(parsed.update.attributes, session.internal, aigp()));
    Ok(Received {
        withdrawn: routes.withdrawn,
        announced: routes.announced,
        attributes,
        not_negotiated: routes.not_negotiated,
        end_of_rib,
        disposition,
    })
}

impl Received {
    const fn nothing() -> Self {
        Self {
            withdrawn: Vec::new(),
            announced: Vec::new(),
            attributes: None,
            not_negotiated: Vec::new(),
            end_of_rib: None,
            disposition: Disposition::Ok,
        }
    }
}

/// The strongest disposition so far, and what led to it.
#[derive(Default)]
struct Outcome {
    worst: Option<ErrorDisposition>,
    /// The type of the attribute that it was first, if it was one.
    to_blame: Option<u8>,
    details: Vec<String>,
}

impl Outcome {
    fn add(&mut self, disposition: ErrorDisposition, type_code: Option<u8>, detail: impl FnOnce() -> String) {
        if self.worst < Some(disposition) {
            self.worst = Some(disposition);
            self.to_blame = type_code;
        }
        // A message can hold thousands of malformed attributes; the first few tell what is going on.
        if self.details.len() < 4 {
            self.details.push(detail());
        }
    }

    fn withdraw(&mut self, type_code: Option<u8>, detail: impl Into<String>) {
        self.add(ErrorDisposition::TreatAsWithdraw, type_code, || detail.into());
    }

    fn details(&self) -> String {
        self.details.join("; ")
    }
}

/// The routes in an UPDATE, of the session's families.
struct Routes {
    withdrawn: Vec<Nlri>,
    announced: Vec<Reach>,
    not_negotiated: Vec<Reach>,
}

impl Routes {
    fn collect(update: &ParsedUpdate, session: Import<'_>) -> Self {
        let families = session.families;
        let mut routes = Self { withdrawn: Vec::new(), announced: Vec::new(), not_negotiated: Vec::new() };
        let mut next_hop = None;
        for attribute in &update.attributes {
            match attribute {
                PathAttribute::NextHop(address) => next_hop = Some(IpAddr::V4(*address)),
                PathAttribute::MpReachNlri(reach) => {
                    let next_hop = next_hop::received(reach.next_hop, reach.link_local_next_hop, session.local_address);
                    let agreed = |family| {
                        Family::of_address(&next_hop) == family
                            || session.extended_next_hops == ExtendedNextHops::Agreed
                    };
                    let list = match Family::from_wire(reach.afi, reach.safi) {
                        Some(family) if families.contains(&family) && agreed(family) => &mut routes.announced,
                        _ => &mut routes.not_negotiated,
                    };
                    list.extend(reach.announced.iter().map(|entry| Reach { nlri: nlri(entry), next_hop }));
                }
                PathAttribute::MpUnreachNlri(unreach)
                    if Family::from_wire(unreach.afi, unreach.safi)
                        .is_some_and(|family| families.contains(&family)) =>
                {
                    routes.withdrawn.extend(unreach.withdrawn.iter().map(nlri));
                }
                _ => {}
            }
        }
        let classic = |entry: &rustbgpd_wire::Ipv4NlriEntry| {
            nlri(&NlriEntry { path_id: entry.path_id, prefix: Prefix::V4(entry.prefix) })
        };
        // Without NEXT_HOP the routes still have to be known, because they will be treated as withdrawn.
        let next_hop = next_hop.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
        let announced = update.announced.iter().map(|entry| Reach { nlri: classic(entry), next_hop });
        if families.contains(&Family::Ipv4Unicast) {
            routes.withdrawn.extend(update.withdrawn.iter().map(classic));
            routes.announced.extend(announced);
        } else {
            routes.not_negotiated.extend(announced);
        }
        routes
    }

    fn announces_something(&self, update: &ParsedUpdate) -> bool {
        !self.announced.is_empty() || !self.not_negotiated.is_empty() || !update.announced.is_empty()
    }
}

/// What no single attribute can be blamed for: RFC 4271 section 6.3 with the dispositions of RFC 7606 section 3 (d) and (i).
fn check_semantics(update: &ParsedUpdate, session: Import<'_>, outcome: &mut Outcome) {
    let has = |wanted: fn(&PathAttribute) -> bool| update.attributes.iter().any(wanted);
    let mandatory = [
        ("ORIGIN", has(|attribute| matches!(attribute, PathAttribute::Origin(_)))),
        ("AS_PATH", has(|attribute| matches!(attribute, PathAttribute::AsPath(_)))),
        // RFC 4760 section 3: MP_REACH_NLRI brings its own.
        ("NEXT_HOP", update.announced.is_empty() || has(|attribute| matches!(attribute, PathAttribute::NextHop(_)))),
        ("LOCAL_PREF", !session.internal || has(|attribute| matches!(attribute, PathAttribute::LocalPref(_)))),
    ];
    for (name, present) in mandatory {
        if !present {
            outcome.withdraw(None, format!("mandatory attribute {name} is missing"));
        }
    }
    for attribute in &update.attributes {
        match attribute {
            PathAttribute::Unknown(raw) if raw.flags & 0x80 == 0 => {
                let detail = format!("attribute {} claims to be well-known and is not", raw.type_code);
                outcome.withdraw(Some(raw.type_code), detail);
            }
            PathAttribute::AsPath(path) => {
                let empty = |segment: &AsPathSegment| match segment {
                    AsPathSegment::AsSet(asns) | AsPathSegment::AsSequence(asns) => asns.is_empty(),
                };
                if path.segments.iter().any(empty) {
                    outcome.withdraw(Some(attr_type::AS_PATH), "AS_PATH has an empty segment");
                }
                // RFC 4271 section 5.1.2: whoever passes a route to another AS puts his own number in front.
                if !session.internal && path.segments.is_empty() {
                    outcome.withdraw(Some(attr_type::AS_PATH), "AS_PATH of an external peer is empty");
                }
            }
            // RFC 7606 sections 7.5, 7.9, 7.10: what goes on inside our AS is not for external peers to say.
            PathAttribute::LocalPref(_) | PathAttribute::OriginatorId(_) | PathAttribute::ClusterList(_)
                if !session.internal =>
            {
                outcome.add(ErrorDisposition::AttributeDiscard, Some(attribute.type_code()), || {
                    format!("attribute {} from an external peer", attribute.type_code())
                });
            }
            _ => {}
        }
    }
    if validate_as_path_ceiling(&update.attributes, MAX_AS_PATH).is_err() {
        outcome.withdraw(Some(attr_type::AS_PATH), format!("AS_PATH has more than {MAX_AS_PATH} AS numbers"));
    }
}

/// RFC 4724 section 2, for the families in MP_UNREACH_NLRI: that, empty, and nothing else.
fn end_of_rib(update: &ParsedUpdate) -> Option<Family> {
    match update.attributes.as_slice() {
        [PathAttribute::MpUnreachNlri(unreach)]
            if unreach.withdrawn.is_empty() && update.announced.is_empty() && update.withdrawn.is_empty() =>
        {
            Family::from_wire(unreach.afi, unreach.safi)
        }
        _ => None,
    }
}

fn nlri(entry: &NlriEntry) -> Nlri {
    // The codec has checked the lengths and zeroed the host bits, so neither constructor falls back to the host route.
    let prefix = match entry.prefix {
        Prefix::V4(net) => IpNet::V4(Ipv4Net::new(net.addr, net.len).unwrap_or_else(|_| net.addr.into())),
        Prefix::V6(net) => IpNet::V6(Ipv6Net::new(net.addr, net.len).unwrap_or_else(|_| net.addr.into())),
    };
    Nlri { prefix, path_id: entry.path_id }
}

fn update_error(subcode: u8, data: Bytes) -> Notification {
    Notification::new(NotificationCode::UpdateMessage, subcode, data)
}

/// The NOTIFICATION for what cannot be survived.
fn reset(error: &UpdateDecodeError, message: &UpdateMessage) -> SessionError {
    let (_, codec_subcode, data) = error.error.to_notification();
    // RFC 4760 section 7: whatever is wrong inside MP_REACH_NLRI and MP_UNREACH_NLRI is an Optional Attribute Error. That
    // there are two of them, or that their flags are wrong, is wrong around them (RFC 4271 section 6.3).
    let subcode = match (error.type_code, &error.error) {
        (
            Some(14 | 15),
            DecodeError::UpdateAttributeError {
                subcode: around @ (update_subcode::MALFORMED_ATTRIBUTE_LIST | update_subcode::ATTRIBUTE_FLAGS_ERROR),
                ..
            },
        ) => *around,
        (Some(14 | 15), _) => update_subcode::OPTIONAL_ATTRIBUTE_ERROR,
        _ => codec_subcode,
    };
    let octets = match error.type_code {
        Some(type_code) => quote::attribute(message, Some(type_code)),
        None => quote::prefixes(message),
    };
    SessionError::Update { notification: update_error(subcode, data), detail: error.to_string(), octets }
}

#[cfg(test)]
mod tests;
