//! Capabilities in words, for the operator who compares what both sides have offered.

use rustbgpd_wire::{AddPathMode, Afi, Capability, OpenMessage, Safi};

use crate::{Family, Role};

/// More of them in one OPEN explain nothing, and a peer decides how many there are.
const MOST: usize = 64;

/// The capabilities of an OPEN, in its order, each named once.
pub(crate) fn in_words(open: &OpenMessage) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for capability in &open.capabilities {
        let word = describe(capability);
        if words.len() < MOST && !words.contains(&word) {
            words.push(word);
        }
    }
    words
}

fn describe(capability: &Capability) -> String {
    match capability {
        Capability::MultiProtocol { afi, safi } => family(*afi, *safi),
        Capability::ExtendedNextHop(_) => "extended next hop".to_owned(),
        Capability::GracefulRestart { restart_state, notification, restart_time, families } => {
            let preserved: Vec<String> = families
                .iter()
                .filter(|entry| entry.forwarding_preserved)
                .map(|entry| family(entry.afi, entry.safi))
                .take(MOST)
                .collect();
            let mut text = format!("graceful restart {restart_time} s");
            if *notification {
                text += ", with NOTIFICATION";
            }
            if *restart_state {
                text += ", restarted";
            }
            if !preserved.is_empty() {
                text += &format!(", forwarding kept for {}", preserved.join(" and "));
            }
            text
        }
        Capability::RouteRefresh => "route refresh".to_owned(),
        Capability::EnhancedRouteRefresh => "enhanced route refresh".to_owned(),
        Capability::ExtendedMessage => "extended messages".to_owned(),
        Capability::LinkLocalNextHop => "link-local next hop".to_owned(),
        Capability::LongLivedGracefulRestart(_) => "long-lived graceful restart".to_owned(),
        Capability::AddPath(entries) => {
            let entry = |entry: &rustbgpd_wire::AddPathFamily| {
                let mode = match entry.send_receive {
                    AddPathMode::Receive => "receives",
                    AddPathMode::Send => "sends",
                    AddPathMode::Both => "sends and receives",
                };
                format!("{mode} {}", family(entry.afi, entry.safi))
            };
            let entries: Vec<String> = entries.iter().take(MOST).map(entry).collect();
            format!("several paths: {}", entries.join(", "))
        }
        Capability::PathsLimit(_) => "paths limit".to_owned(),
        Capability::OutboundRouteFilter(_) => "outbound route filtering".to_owned(),
        Capability::FourOctetAs { asn } => format!("four-octet AS {asn}"),
        Capability::Role { role } => {
            Role::from_wire(*role).map_or_else(|| format!("role {}", role.to_u8()), |role| format!("role {role}"))
        }
        // The codec may learn names for more of them.
        other => format!("code {}", other.code()),
    }
}

fn family(afi: Afi, safi: Safi) -> String {
    Family::from_wire(afi, safi)
        .map_or_else(|| format!("AFI {} SAFI {}", afi as u16, safi as u8), |family| family.to_string())
}

#[cfg(test)]
mod tests {
    use rustbgpd_wire::GracefulRestartFamily;

    use super::*;

    #[test]
    fn each_is_named_once_and_unknown_ones_by_their_code() {
        let restart = Capability::GracefulRestart {
            restart_state: true,
            notification: true,
            restart_time: 120,
            families: vec![GracefulRestartFamily { afi: Afi::Ipv6, safi: Safi::Unicast, forwarding_preserved: true }],
        };
        let unknown = |code| Capability::Unknown { code, data: bytes::Bytes::new() };
        let mut capabilities = vec![
            Capability::MultiProtocol { afi: Afi::Ipv4, safi: Safi::Unicast },
            Capability::RouteRefresh,
            Capability::RouteRefresh,
            Capability::FourOctetAs { asn: 64512 },
            restart,
            unknown(77),
        ];
        let open = |capabilities| OpenMessage {
            version: 4,
            my_as: 64512,
            hold_time: 90,
            bgp_identifier: std::net::Ipv4Addr::new(10, 0, 0, 1),
            capabilities,
        };
        let expected = [
            "IPv4 unicast",
            "route refresh",
            "four-octet AS 64512",
            "graceful restart 120 s, with NOTIFICATION, restarted, forwarding kept for IPv6 unicast",
            "code 77",
        ];
        assert_eq!(in_words(&open(capabilities.clone())), expected);
        capabilities.extend((80..=255).map(unknown));
        assert_eq!(in_words(&open(capabilities)).len(), MOST);
    }
}
