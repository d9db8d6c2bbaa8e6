//! `roadstead status`: every session in a line, or one with all that is known of it.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::ensure;
use roadstead_speaker::local::{self, SessionView, StatusView};

use super::table::{Table, duration, or_dash};
use super::{Form, Looking};

/// Show the sessions of the speaker on this machine.
///
/// Each in a line; with a name everything about that one: timers, what both sides offered, counters, limits, and the last routes that
/// were refused and why.
#[derive(clap::Args)]
pub(crate) struct StatusFlags {
    /// The BGPPeer's name
    #[arg(value_name = "PEER")]
    peer: Option<String>,

    #[command(flatten)]
    looking: Looking,
}

/// Asks and prints.
#[allow(clippy::print_stdout, reason = "the answer of a command is its output")]
pub(crate) fn status(flags: &StatusFlags) -> anyhow::Result<ExitCode> {
    let mut status: StatusView = local::get(&flags.looking.socket, "/v1/status")?;
    if let Some(peer) = &flags.peer {
        status.sessions.retain(|session| session.peer == *peer);
        ensure!(!status.sessions.is_empty(), "the speaker of {} has no peer {peer}", status.node);
    }
    match (flags.looking.output, &flags.peer) {
        (Form::Json, _) => println!("{}", serde_json::to_string_pretty(&status)?),
        (Form::Table, None) => print!("{}", all(&status)),
        (Form::Table, Some(_)) => status.sessions.iter().for_each(|session| print!("{}", whole(session))),
    }
    Ok(ExitCode::SUCCESS)
}

fn all(status: &StatusView) -> String {
    let mut table =
        Table::new(&["PEER", "ADDRESS", "ASN", "STATE", "FOR", "SENT", "ACCEPTED", "REFUSED", "FLAPS", "LAST ERROR"]);
    for session in &status.sessions {
        let refused: u64 = session.refused.values().sum();
        table.row(vec![
            session.peer.clone(),
            session.remote.clone(),
            or_dash(session.remote_asn.map(|asn| asn.to_string()).unwrap_or_default()),
            session.state.clone(),
            or_dash(session.uptime_seconds.map(duration).unwrap_or_default()),
            session.prefixes_sent.to_string(),
            session.prefixes_accepted.to_string(),
            refused.to_string(),
            session.flaps.to_string(),
            or_dash(session.last_error.clone().unwrap_or_default()),
        ]);
    }
    table.print()
}

fn whole(session: &SessionView) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{:<24}{value}", format!("{name}:"));
        }
    };
    let optional = |value: Option<String>| value.unwrap_or_default();
    let seconds = |value: Option<u64>| optional(value.map(|seconds| format!("{seconds} s")));
    line("peer", session.peer.clone());
    let since = optional(session.since.as_ref().map(|since| format!(" since {since}")));
    line("state", format!("{}{since}", session.state));
    line("last error", optional(session.last_error.clone()));
    line("next attempt in", seconds(session.next_attempt_seconds.filter(|_| session.uptime_seconds.is_none())));
    line("addresses", format!("{} to {}", or_dash(optional(session.local.clone())), session.remote));
    let asn = |asn: Option<u32>| or_dash(optional(asn.map(|asn| asn.to_string())));
    line("ASNs", format!("ours {}, theirs {}", asn(session.local_asn), asn(session.remote_asn)));
    line("their router ID", optional(session.remote_router_id.clone()));
    line("their role", optional(session.remote_role.clone()));
    line("hold time", seconds(session.hold_seconds));
    line("keepalive time", seconds(session.keepalive_seconds));
    line("families", session.families.join(", "));
    line("withheld, no next hop", session.withheld.join(", "));
    line("we offered", session.capabilities_sent.join(", "));
    line("they offered", session.capabilities_received.join(", "));
    line("messages", format!("{} in, {} out", session.messages_in, session.messages_out));
    line("sessions lost", session.flaps.to_string());
    line(
        "prefixes out",
        format!(
            "{} sent of {}{}",
            session.prefixes_sent,
            session.prefixes_wanted,
            if session.prefixes_too_large > 0 {
                format!(", {} too large for a message", session.prefixes_too_large)
            } else {
                String::new()
            }
        ),
    );
    let stale = session.prefixes_stale;
    let stale = if stale > 0 { format!(", {stale} of them stale") } else { String::new() };
    line(
        "prefixes in",
        format!("{} announcements, {} accepted{stale}", session.prefixes_received, session.prefixes_accepted),
    );
    for limit in &session.limits {
        let state = match limit.state.as_str() {
            "Warned" => ", which is near",
            "Dropping" => ", further ones are refused",
            _ => "",
        };
        line(&format!("{} limit", limit.family), format!("{} of {}{state}", limit.accepted, limit.limit));
    }
    line(
        "malformed UPDATEs",
        format!(
            "{} lost an attribute, {} their routes",
            session.updates_with_discarded_attributes, session.updates_treated_as_withdrawn
        ),
    );
    if let Some(malformed) = &session.last_malformed {
        line("last malformed", format!("{} {}: {}", malformed.at, malformed.outcome, malformed.detail));
        line("its octets", malformed.octets.clone());
    }
    for (reason, count) in &session.refused {
        line("refused", format!("{count} {reason}"));
    }
    for refusal in &session.last_refusals {
        let next_hop = optional(refusal.next_hop.as_ref().map(|next_hop| format!(" by {next_hop}")));
        let path = if refusal.as_path.is_empty() { String::new() } else { format!(", path {}", refusal.as_path) };
        line(&format!("  {}", refusal.at), format!("{}{next_hop}{path}: {}", refusal.prefix, refusal.reason));
    }
    text
}
